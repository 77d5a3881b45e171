"""What the study of the tail compares: one recipe with its alignment changed, and nothing else."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from atha.errors import DataError
from atha.recipe import Recipe

#: Which question a variant answers: the size of the push, the share of tokens pushed, or the method itself.
Series = Literal["push", "ratio", "method"]

NONE = "no alignment"
PUSH_ONLY = "push only, learned"


@dataclass(frozen=True)
class Variant:
    """One setting of the study.

    Attributes:
        name: for people; unique among the variants.
        series: the questions it answers.
        x: where it stands on their axis: signed strength, or signed share of the tokens. None: nowhere.
        recipe: what is trained, whole.
    """

    name: str
    series: tuple[Series, ...]
    x: dict[Series, float]
    recipe: Recipe

    @property
    def slug(self) -> str:
        """For a file's name."""
        return "".join(letter if letter.isalnum() or letter in "+-." else "_" for letter in self.name)


def variants(base: Recipe, pushes: Sequence[float], ratios: Sequence[float], strength: float) -> list[Variant]:
    """The settings of the accuracy part: strengths are fixed, the same at every block, and never learned.

    The axis of the push runs over ``pushes`` at the recipe's own tail ratio, without a pull; a negative push pulls the
    tail towards the class text that it is farthest from. The axis of the ratio runs from pulling every token to its
    nearest class text (-1), over doing nothing (0), to pushing more and more of the tail.

    Args:
        base: with an alignment; its other parts are the same in all variants.
        pushes: strengths to try; 0 is always there.
        ratios: shares of the tokens to push with ``strength``.
        strength: of the push on the ratio's axis, and of the pull of every token.

    Raises:
        DataError: the recipe has no alignment, or a number is out of its range.
    """
    if base.alignment is None:
        raise DataError(f"the study changes a recipe's alignment, and {base.name} has none: give --recipe paper")
    if strength <= 0:
        raise DataError(f"the strength on the ratio's axis is {strength}, it must be above 0")
    for ratio in ratios:
        if not 0 < ratio <= 1:
            raise DataError(f"a tail ratio is {ratio}, it must be above 0 and at most 1")
    own = base.alignment.tail_ratio
    return [
        _made(base, NONE, ("push", "ratio", "method"), {"push": 0.0, "ratio": 0.0}, alignment=None),
        *(
            _fixed(base, f"tail {_verb(push)} {abs(push):g}", ("push",), {"push": push}, push=push)
            for push in _sorted(pushes)
            if push and not (push == strength and own in ratios)
        ),
        *(
            _fixed(
                base, f"{share(ratio)} pushed {strength:g}", ("ratio", "push") if ratio == own else ("ratio",),
                {"ratio": ratio, "push": strength} if ratio == own else {"ratio": ratio},
                push=strength, tail_ratio=ratio,
            )
            for ratio in _sorted(ratios)
        ),
        _fixed(base, f"every token pulled {strength:g}", ("ratio",), {"ratio": -1.0}, pull=strength, head_ratio=1.0),
        Variant(base.name, ("method",), {}, base),
    ]  # fmt: skip


def states(base: Recipe) -> list[Variant]:
    """The adaptations whose insides are looked at: fine-tuned, push only, and the recipe as it is.

    Raises:
        DataError: the recipe has no alignment.
    """
    if base.alignment is None:
        raise DataError(f"the study changes a recipe's alignment, and {base.name} has none: give --recipe paper")
    return [
        _made(base, NONE, ("method",), {}, alignment=None),
        _made(base, PUSH_ONLY, ("method",), {}, **{"alignment.pull": 0.0, "alignment.head_ratio": 0.0}),
        Variant(base.name, ("method",), {}, base),
    ]


def share(ratio: float) -> str:
    """``30% of tokens``."""
    return f"{100 * ratio:g}% of tokens"


def _verb(push: float) -> str:
    return "pushed" if push > 0 else "pulled"


def _sorted(values: Iterable[float]) -> list[float]:
    return sorted(set(values))


def _fixed(base: Recipe, name: str, series: tuple[Series, ...], x: dict[Series, float], **changes: float) -> Variant:
    keys = {"pull": 0.0, "pull_block": None, "push": 0.0, "push_block": None, "head_ratio": 0.0, "learn": False}
    if "head_ratio" in changes:
        keys["tail_ratio"] = 0.0
    return _made(base, name, series, x, **{f"alignment.{key}": value for key, value in (keys | changes).items()})


def _made(base: Recipe, name: str, series: tuple[Series, ...], x: dict[Series, float], **changes: Any) -> Variant:
    recipe = Recipe.load(base, changes).model_copy(update={"name": name})
    return Variant(name, series, x, recipe)
