"""What to do next, from what an evaluation shows: which classes to label more of, and whether to adapt at all."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from atha.evaluation import Evaluation
from atha.recipe import ADAPTED
from atha.statistics import Share, Z, by_interval

#: The most support images of a class that the method is meant for.
_MOST = 20
#: How to have a baseline alone.
_ALONE = {
    "linear probe": "--recipe logistic --set 'blend.views=[\"plain\"]'",
    "zero-shot": "--recipe probes --set 'blend.members=[\"text\"]'",
}


@dataclass(frozen=True)
class ClassNeed:
    """One class, and what it costs.

    Attributes:
        label: the class.
        support: labelled images it was learned from.
        recall: its test images that were classified right.
        mistakes: test images that are its own and were missed, or another's and were taken for it.
        taken_for: the class it is most often taken for; empty where it never is.
        unsure: mean probability that the model gives to other classes than the one it predicts, on its images.
    """

    label: str
    support: int | None
    recall: Share
    mistakes: int
    taken_for: str
    unsure: float


def class_needs(result: Evaluation, support: Mapping[str, int]) -> list[ClassNeed]:
    """Classes by how many mistakes they are part of, for each of their test images and false alarms; worst first."""
    matrix = result.confusion
    needs = []
    for index, label in enumerate(result.classes):
        mine = result.truth == index
        others = matrix[index].copy()
        others[index] = 0
        unsure = 1 - result.probabilities[mine].max(axis=1).mean() if mine.any() else float("nan")
        needs.append(
            ClassNeed(
                label,
                support.get(label),
                result.per_class[label],
                int(others.sum() + matrix[:, index].sum() - matrix[index, index]),
                result.classes[int(others.argmax())] if others.any() else "",
                float(unsure),
            )
        )
    return sorted(needs, key=_need, reverse=True)


def _need(one: ClassNeed) -> tuple[float, int]:
    """Rate of mistakes, drawn towards a half where few images speak of it."""
    total = one.recall.total + one.mistakes - (one.recall.total - one.recall.successes)
    return (one.mistakes + 1) / (total + 2), one.mistakes


def model_word(own: str) -> str:
    """What a classifier is, for what it is called beside baselines; see `atha.adapter.record.Record.named`."""
    return "adapted model" if own == ADAPTED else own


def next_steps(evaluations: Mapping[str, Evaluation], own: str, needs: list[ClassNeed]) -> list[str]:
    """Sentences, the most useful first.

    Args:
        evaluations: of the classifier and of baselines.
        own: which of them is the classifier's.
        needs: of its classes.
    """
    result = evaluations[own]
    steps = []
    blend = "with --recipe auto, which blends what is adapted with probes, or " if own == ADAPTED else ""
    for name, options in _ALONE.items():
        if name in evaluations:
            mean, half = result.minus(evaluations[name])
            if by_interval(mean, half) == "worse":
                steps.append(
                    f"Fit again {blend}with {options}, which is the {name} alone: on these images it is better than "
                    f"the {model_word(own)} by {-100 * mean:.1f} ± {100 * half:.1f} points."
                )
    worst = [one for one in needs if one.mistakes and one.recall.total and (one.support or 0) < _MOST][:3]
    for one in worst:
        had = f"it has {one.support} now" if one.support is not None else "how many it has is not known"
        pair = f", most often taken for '{one.taken_for}'" if one.taken_for else ""
        steps.append(
            f"Label more images of '{one.label}' ({had}): {one.recall.total - one.recall.successes} of its "
            f"{one.recall.total} test images are classified wrong{pair}"
            + ("; label both of these classes where they look alike." if one.taken_for else ".")
        )  # fmt: skip
    unseen = [one.label for one in needs if not one.recall.total]
    if unseen:
        steps.append(f"Find test images of {', '.join(unseen[:10])}: there are none, and nothing is known of them.")
    total, share = len(result.truth), result.accuracy
    wanted = int(np.ceil(Z**2 * max(share * (1 - share), 0.05) / 0.03**2))
    if total < wanted:
        steps.append(
            f"Label more test images: {total} leave the accuracy open by "
            f"{50 * (result.interval[1] - result.interval[0]):.1f} points either way; "
            f"about {wanted} would bring that to 3."
        )
    steps.append(
        "Repeat with another support set: the intervals are over test images, and other support images of the same "
        "number can change the result by more than they say."
    )
    return steps
