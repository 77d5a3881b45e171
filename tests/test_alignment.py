"""Properties of one alignment step and of the anchors."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from atha.alignment import TailHeadAlignment, align_tokens, select_tokens, selected_count
from atha.anchors import adjoint_anchors, inverse_anchors, projection_inverse

shapes = st.tuples(st.integers(1, 3), st.integers(0, 2), st.integers(1, 12), st.integers(2, 6), st.integers(1, 4))
ratios = st.sampled_from([0.0, 0.1, 0.3, 0.5, 1.0])


def draw(shape, seed):
    images, prefix, patches, width, classes = shape
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(images, prefix + patches, width, generator=generator)
    return tokens, torch.randn(classes, width, generator=generator), prefix


@settings(deadline=None)
@given(shapes, ratios, ratios, st.integers(0, 1000))
def test_only_selected_patches_move_and_by_the_formula(shape, rho, gamma, seed):
    tokens, anchors, prefix = draw(shape, seed)
    out = align_tokens(tokens, anchors, 0.7, 0.3, rho, gamma, prefix)
    # The same, token by token, from the definition.
    expected = tokens.clone()
    patches = tokens.shape[1] - prefix
    for image in range(len(tokens)):
        similarity = torch.stack(
            [torch.nn.functional.cosine_similarity(tokens[image, prefix:], anchor[None]) for anchor in anchors], dim=1
        )
        order = similarity.amax(dim=1).argsort()
        for token in order[patches - selected_count(patches, rho) :].tolist():
            expected[image, prefix + token] += 0.7 * anchors[similarity[token].argmax()]
        for token in order[: selected_count(patches, gamma)].tolist():
            expected[image, prefix + token] -= 0.3 * anchors[similarity[token].argmin()]
    torch.testing.assert_close(out, expected, atol=1e-6, rtol=0)
    assert torch.equal(out[:, :prefix], tokens[:, :prefix])


@settings(deadline=None)
@given(shapes, st.integers(0, 1000))
def test_strengths_at_zero_change_nothing(shape, seed):
    tokens, anchors, prefix = draw(shape, seed)
    assert torch.equal(align_tokens(tokens, anchors, 0.0, 0.0, 0.5, 0.5, prefix), tokens)


def test_gradients_reach_tokens_anchors_and_strengths():
    tokens, anchors, prefix = draw((2, 1, 6, 4, 3), 3)
    inputs = [value.double().requires_grad_() for value in (tokens, anchors, torch.tensor(0.8), torch.tensor(0.2))]
    assert gradcheck(lambda t, a, pull, push: align_tokens(t, a, pull, push, 0.5, 0.5, prefix), inputs)


def test_counts_are_exact_for_decimal_ratios():
    assert selected_count(100, 0.29) == 29  # 100 * 0.29 is 28.999999999999996
    assert selected_count(196, 0.1) == 19
    assert selected_count(9, 0.1) == 0


def test_selection_does_not_depend_on_autocast():
    tokens, anchors, _ = draw((2, 1, 50, 32, 5), 0)
    plain = select_tokens(tokens, anchors, 0.3, 0.2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = select_tokens(tokens, anchors, 0.3, 0.2)
    assert all(torch.equal(one, other) for one, other in zip(plain, cast, strict=True))


@pytest.mark.parametrize("ratio", [-0.1, 1.1])
def test_ratio_out_of_range(ratio):
    with pytest.raises(ValueError, match="between 0 and 1"):
        align_tokens(torch.zeros(1, 3, 2), torch.ones(1, 2), 1.0, 1.0, head_ratio=ratio)


def test_widths_that_differ():
    with pytest.raises(ValueError, match="width 2 and anchors 3"):
        align_tokens(torch.zeros(1, 3, 2), torch.ones(1, 3), 1.0, 1.0)


def test_released_mode_puts_a_copy_of_cls_in_front():
    tokens, anchors, _ = draw((2, 1, 6, 4, 3), 3)
    aligned = TailHeadAlignment([0.8], [0.1], 1.0, 1.0, keep_prefix_out=False)(tokens, anchors, 0)
    assert aligned.shape[1] == tokens.shape[1] + 1
    assert torch.equal(aligned[:, 0], tokens[:, 0])
    assert not torch.equal(aligned[:, 1], tokens[:, 0])  # CLS competes, and is moved


def test_inverse_anchor_is_the_token_that_projects_onto_the_text():
    generator = torch.Generator().manual_seed(0)
    texts, projection, weight, bias = (torch.randn(size, generator=generator) for size in ((3, 4), (8, 4), (8,), (8,)))
    anchors = inverse_anchors(texts, projection, weight, bias)
    torch.testing.assert_close((anchors * weight + bias) @ projection, texts, atol=1e-4, rtol=0)
    given_inverse = inverse_anchors(texts, projection, weight, bias, projection_inverse(projection))
    assert torch.equal(anchors, given_inverse)


def test_adjoint_anchor_is_the_gradient_of_the_score():
    generator = torch.Generator().manual_seed(0)
    texts, projection = torch.randn(3, 4, generator=generator), torch.randn(8, 4, generator=generator)
    token = torch.randn(8, generator=generator, requires_grad=True)
    normed = torch.nn.functional.layer_norm(texts, (4,))
    (gradient,) = torch.autograd.grad((token @ projection) @ normed[1], token)
    torch.testing.assert_close(adjoint_anchors(texts, projection)[1], gradient, atol=1e-5, rtol=0)
