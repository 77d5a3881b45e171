"""CKA against known values and invariances; the modality gap and similarity curves against hand-made cases."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atha.study.features import domain_cka, linear_cka, modality_gap, sorted_similarity


def reference(one, other):
    """The formula of Song et al. 2012, eq. 5, written out with its traces."""

    def hsic(a, b):
        n = len(a)
        a, b = a - np.diag(np.diag(a)), b - np.diag(np.diag(b))
        ones = np.ones(n)
        return (
            np.trace(a @ b)
            + (ones @ a @ ones) * (ones @ b @ ones) / ((n - 1) * (n - 2))
            - 2 / (n - 2) * (ones @ a @ b @ ones)
        ) / (n * (n - 3))

    a, b = one @ one.T, other @ other.T
    return hsic(a, b) / np.sqrt(hsic(a, a) * hsic(b, b))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(5, 40), p=st.integers(1, 30), q=st.integers(1, 30))
def test_equals_the_published_formula(seed, n, p, q):
    rng = np.random.default_rng(seed)
    one, other = rng.normal(size=(n, p)), rng.normal(size=(n, q))
    mixed = other + one @ rng.normal(size=(p, q))
    wanted = reference(one, mixed)
    if np.isfinite(wanted):
        assert linear_cka(one, mixed) == pytest.approx(wanted, rel=1e-6, abs=1e-8)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(1e-3, 1e3), shift=st.floats(-10, 10))
def test_does_not_change_with_rotation_scale_and_shift(seed, scale, shift):
    rng = np.random.default_rng(seed)
    one = rng.normal(size=(30, 12))
    other = one @ rng.normal(size=(12, 8)) + rng.normal(size=(30, 8))
    rotation = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    plain = linear_cka(one, other)
    assert linear_cka(one, scale * other @ rotation + shift) == pytest.approx(plain, abs=1e-9)
    assert linear_cka(other, one) == pytest.approx(plain, abs=1e-12)
    assert linear_cka(one, scale * one @ np.linalg.qr(rng.normal(size=(12, 12)))[0]) == pytest.approx(1, abs=1e-9)
    assert plain <= 1 + 1e-12


def test_other_linear_maps_do_change_it():
    rng = np.random.default_rng(0)
    one = rng.normal(size=(200, 10))
    assert linear_cka(one, one @ np.diag([100.0] + [1.0] * 9)) < 0.5


def test_independent_features_give_nought_however_wide():
    rng = np.random.default_rng(0)
    values = [linear_cka(rng.normal(size=(40, 500)), rng.normal(size=(40, 500))) for _ in range(40)]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(40) + 1e-3
    assert abs(np.mean(values)) < 0.02  # without debiasing it is above 0.9


def test_known_value_of_half_shared_features():
    rng = np.random.default_rng(0)
    shared, mine, yours = (rng.normal(size=(4000, 1)) for _ in range(3))
    # Kernel s s' + m m' and s s' + y y': covariance of the kernels is half their variance.
    assert linear_cka(np.hstack([shared, mine]), np.hstack([shared, yours])) == pytest.approx(0.5, abs=0.03)


def test_constant_features_have_no_value_and_wrong_ones_are_refused():
    assert np.isnan(linear_cka(np.ones((8, 3)), np.random.default_rng(0).normal(size=(8, 2))))
    for one, other, words in (
        (np.ones((5, 2)), np.ones((6, 2)), "of n examples"),
        (np.ones((3, 2)), np.ones((3, 2)), "at least 4"),
        (np.full((5, 2), np.nan), np.ones((5, 2)), "not finite"),
    ):
        with pytest.raises(ValueError, match=words):
            linear_cka(one, other)


def test_domains_of_one_distribution_are_alike_and_of_others_are_not():
    rng = np.random.default_rng(0)
    mix, other = rng.normal(size=(6, 48)), rng.normal(size=(6, 48))

    def images(mixing, n):
        return rng.normal(size=(n, 6)) @ mixing

    assert domain_cka(images(mix, 300), images(mix, 200)) > 0.9
    assert abs(domain_cka(images(mix, 300), images(other, 200))) < 0.3
    same = images(mix, 50)
    assert domain_cka(same, 7 * same[::-1]) == pytest.approx(1)


def test_gap_and_curves_by_hand():
    images, texts = np.array([[2.0, 0.0], [5.0, 0.0]]), np.array([[0.0, 3.0]])
    assert modality_gap(images, texts) == pytest.approx(np.sqrt(2))
    assert modality_gap(images, images[:1]) == pytest.approx(0)
    similarity = np.array([[[0.1, 0.3], [0.5, 0.2]], [[0.9, 0.0], [0.4, 0.7]]])
    assert sorted_similarity(similarity).tolist() == pytest.approx([(0.3 + 0.7) / 2, (0.5 + 0.9) / 2])
