"""Anchors: class texts carried from the joint embedding space into the space of the vision tower's patch tokens.

Source: "Adaptive Tail-Head Alignment" (ATHA), arXiv 2605.29776. The paper's map is `adjoint_anchors`; the code that
was released with it uses `inverse_anchors`. N classes, E joint width, D token width. The vision tower ends with
``features = post_norm(token) @ projection``.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn


def adjoint_anchors(
    text_features: Float[Tensor, "N E"], projection: Float[Tensor, "D E"], eps: float = 1e-5
) -> Float[Tensor, "N D"]:
    """A = LayerNorm(T) W^T: the direction in token space along which each class's score grows fastest.

    Args:
        text_features: T, class text features, not normalised.
        projection: W, the visual projection.
        eps: of the LayerNorm over E, which has no affine parameters.
    """
    return nn.functional.layer_norm(text_features, text_features.shape[-1:], eps=eps) @ projection.T


def inverse_anchors(
    text_features: Float[Tensor, "N E"],
    projection: Float[Tensor, "D E"],
    norm_weight: Float[Tensor, "D"],
    norm_bias: Float[Tensor, "D"],
    inverse: Float[Tensor, "E D"] | None = None,
) -> Float[Tensor, "N D"]:
    """A = (Z - b) / w, Z the minimum-norm solution of Z W = T: the token that would be projected onto the text.

    Args:
        text_features: T, class text features, not normalised.
        projection: W, the visual projection.
        norm_weight: w, of the vision tower's last LayerNorm.
        norm_bias: b, of the vision tower's last LayerNorm.
        inverse: the pseudo-inverse of W from `projection_inverse`, where it is at hand: it depends on the model only.
    """
    if inverse is None:
        inverse = projection_inverse(projection)
    return (text_features @ inverse - norm_bias) / norm_weight


def projection_inverse(projection: Float[Tensor, "D E"]) -> Float[Tensor, "E D"]:
    """The pseudo-inverse of W, in float64 as W may be ill-conditioned, returned in W's dtype."""
    inverse: Tensor = torch.linalg.pinv(projection.detach().double())
    return inverse.to(projection.dtype)
