"""Measures of features: how alike two representations are, how far images are from texts.

Shapes: n examples, p and q features, E joint width.
"""

import numpy as np
from jaxtyping import Float


def linear_cka(one: Float[np.ndarray, "n p"], other: Float[np.ndarray, "n q"]) -> float:
    """Linear centred kernel alignment of two representations of the same examples, debiased.

    Debiased means that independent features give 0 on average and not a number that grows with their width; so small
    negative values occur. It does not change when features are turned (orthogonal maps), shifted, or scaled as a
    whole, and is 1 for features that are equal up to these.

    Args:
        one: rows are examples.
        other: the same examples in the same order.

    Returns:
        About 0 (nothing in common) to 1; NaN where a representation is constant.

    Raises:
        ValueError: other shapes, fewer than 4 examples, or numbers that are not finite.

    Source: Kornblith et al. 2019 (arXiv:1905.00414); the unbiased estimate of HSIC: Song et al. 2012, JMLR 13.
    """
    one, other = (np.asarray(values, dtype=np.float64) for values in (one, other))
    if one.ndim != 2 or other.ndim != 2 or len(one) != len(other):
        raise ValueError(f"features have shapes {one.shape} and {other.shape}, give (n, p) and (n, q) of n examples")
    if len(one) < 4:
        raise ValueError(f"there are {len(one)} examples, debiased CKA needs at least 4")
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        raise ValueError("features hold numbers that are not finite")
    first, second = (_centred_gram(values) for values in (one, other))
    own = [float((gram * gram).sum()) for gram in (first, second)]
    scale = [float((values**2).sum() ** 2) for values in (one, other)]
    if any(value <= 1e-24 * size for value, size in zip(own, scale, strict=True)):
        return float("nan")
    return float((first * second).sum() / np.sqrt(own[0] * own[1]))


def _centred_gram(values: Float[np.ndarray, "n p"]) -> Float[np.ndarray, "n n"]:
    """U-centred inner products: the unbiased HSIC of two is the sum of their products over n (n - 3)."""
    values = values - values.mean(axis=0)  # changes nothing below but the rounding
    gram = values @ values.T
    count = len(gram)
    np.fill_diagonal(gram, 0.0)
    means = gram.sum(axis=0) / (count - 2)
    means -= means.sum() / (2 * (count - 1))
    gram -= means[:, None] + means[None, :]
    np.fill_diagonal(gram, 0.0)
    return np.asarray(gram)


def domain_cka(source: Float[np.ndarray, "n E"], target: Float[np.ndarray, "m E"]) -> float:
    """How alike the feature spaces of two sets of images are, though no image is in both.

    CKA compares two representations of the same examples. Images of two domains have no such pairs, but what the model
    says of them has: each of its E features is an example here, described by its values on the images of a domain. So
    1 means that features go together on the one domain as they do on the other, and 0 that they do not.
    Images are taken at length 1, as the model classifies by cosine. Numbers of images may differ.

    Args:
        source: features of n images.
        target: features, by the same model in the same state, of m images.

    Returns:
        `linear_cka` over the E features.

    Raises:
        ValueError: see `linear_cka`.
    """
    return linear_cka(_unit(source).T, _unit(target).T)


def modality_gap(images: Float[np.ndarray, "n E"], texts: Float[np.ndarray, "N E"]) -> float:
    """Distance of the mean image feature from the mean text feature, all at length 1: 0 to 2.

    Source: Liang et al. 2022, "Mind the gap" (arXiv:2203.02053).
    """
    return float(np.linalg.norm(_unit(images).mean(axis=0) - _unit(texts).mean(axis=0)))


def sorted_similarity(similarity: Float[np.ndarray, "n L N"]) -> Float[np.ndarray, "L"]:
    """Similarity of each patch to its nearest class, sorted from tail to head within an image, mean over images.

    Args:
        similarity: of n images' L patches to N class anchors.
    """
    return np.asarray(np.sort(similarity.max(axis=2), axis=1).mean(axis=0))


def _unit(values: Float[np.ndarray, "n E"]) -> Float[np.ndarray, "n E"]:
    values = np.asarray(values, dtype=np.float64)
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True).clip(1e-12))
