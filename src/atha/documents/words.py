"""How figures and their uncertainty are put into words: the same in tables, on pages and in the terminal."""

import math

from atha.statistics import Mean, Share, by_interval


def mean_percent(mean: Mean) -> str:
    """A mean over episodes with its interval, in percent: ``51.83 ± 0.66``."""
    return f"{100 * mean.mean:.2f} ± {100 * mean.half:.2f}"


def share_percent(share: Share) -> tuple[str, str]:
    """A share of images and its interval, as two cells: ``91.2%`` and ``88.4 to 93.4``; dashes of nothing."""
    low, high = share.interval
    return (f"{100 * share.value:.1f}%", f"{100 * low:.1f} to {100 * high:.1f}") if share.total else ("-", "-")


def points(mean: float, half: float) -> str:
    """A difference over episodes with its interval, in points of a hundred: ``+1.50 ± 0.42``."""
    return f"{100 * mean:+.2f} ± {100 * half:.2f}"


def p_value(p: float) -> str:
    """With two digits; a dash where there was no test."""
    return "-" if math.isnan(p) else f"{p:.2g}"


def paired_sentence(name: str, baseline: str, mean: float, half: float) -> str:
    """One sentence on a difference over the same test images, see `atha.evaluation.Evaluation.minus`."""
    verdict = by_interval(mean, half).replace("not resolved", "no difference can be told")
    return f"{name} minus {baseline}, image by image: {100 * mean:+.1f} ± {100 * half:.1f} points (95%): {verdict}."


def duration(seconds: float) -> str:
    """A time that is known roughly: ``40 seconds``, ``3 minutes``, ``2.5 hours``, ``4 days``."""
    for unit, size, until in (("second", 1, 90), ("minute", 60, 90), ("hour", 3600, 48), ("day", 86400, math.inf)):
        number = seconds / size
        if number < until:
            shown = f"{number:.1f}" if unit == "hour" and number < 10 else f"{max(1, round(number))}"
            return f"{shown} {unit}" + ("" if shown == "1" else "s")
    raise ValueError(seconds)
