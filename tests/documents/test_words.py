"""Figures in words."""

import math

import pytest

from atha.documents.words import duration, mean_percent, p_value, paired_sentence, points, share_percent
from atha.statistics import Mean, Share


def test_figures():
    assert mean_percent(Mean(400, 0.5183, 0.0066)) == "51.83 ± 0.66"
    assert points(0.015, 0.0042) == "+1.50 ± 0.42"
    assert share_percent(Share(9, 10)) == ("90.0%", "59.6 to 98.2")
    assert share_percent(Share(0, 0)) == ("-", "-")
    assert (p_value(0.04321), p_value(math.nan)) == ("0.043", "-")


@pytest.mark.parametrize(
    ("mean", "half", "verdict"),
    [(0.03, 0.01, "better"), (-0.03, 0.01, "worse"), (0.01, 0.01, "no difference can be told")],
)
def test_paired_sentence(mean, half, verdict):
    made = paired_sentence("lora", "linear probe", mean, half)
    assert made == f"lora minus linear probe, image by image: {100 * mean:+.1f} ± 1.0 points (95%): {verdict}."


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.1, "1 second"),
        (89, "89 seconds"),
        (100, "2 minutes"),
        (5390, "90 minutes"),
        (5500, "1.5 hours"),
        (100_000, "28 hours"),
        (1e6, "12 days"),
    ],
)
def test_duration(seconds, said):
    assert duration(seconds) == said
