"""How a blend is decided from the support images alone: which aspects, which weights.

- Probes are fitted without a fold of the images and asked about it, where classes have two images or more; class texts
  have learned nothing and can always be asked; what is adapted is trained on halves, and probes on the same halves, so
  that like is compared with like.
- Weights are those that make these answers likely, drawn to a prior (`atha.methods.evidence.weigh`). Where class texts
  are right, the prior of probes is smaller; with one image a class, class texts alone have any evidence. From two on,
  class texts count only where they say clearly more than chance: held-out answers of probes that are often wrong make
  the weights of these small, and beside small weights a weight of texts that is due to a few images outvotes them.
- What is adapted has a prior that grows with the number of images, as it learns most from more of them, and where class
  texts tell the images apart and are wrong about them; what it answers when trained on halves says little more.
- Aspects are the plain one, its mirror image and a nearer one; quarter turns are added where turned support images are
  still nearest to their own class and class texts, which were learned from upright photographs, say little. From two
  images a class on, held-out answers decide where they differ by more than a standard error.

The numbers below were set on isic2018, RSSCN7, corn leaves, EuroSAT and Tiny-ImageNet with `nano`: see docs/results.md.

Shapes: n support images, N classes, E joint width.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float, Int

from atha.data.aspects import TURNS, aspects_of
from atha.methods.base import Fitted, Support, unit
from atha.methods.blend import Blend, Part, joined
from atha.methods.evidence import (
    FOLDS,
    GIVE_WAY,
    TEXT_EARNS,
    TEXT_SPREAD,
    above_chance,
    accuracy_of,
    folds,
    held_out,
    log_likelihood,
    weigh,
)
from atha.methods.examples import Examples
from atha.methods.probes import PROBES
from atha.methods.prototypes import prototypes
from atha.methods.scores import OnFeatures, centred, scale_of
from atha.methods.zero_shot import zero_shot
from atha.recipe import ADAPTED, TEXT, BlendRecipe

#: Of the decisions, and part of what defines results: it changes with what is decided.
RULE = 2
#: Scores of a member, whose scale is 1, are likely to be multiplied by this.
_PRIOR, _SPREAD = 1.0, 0.4
#: Of what is adapted at one image a class, the power of their number by which it grows, and what the sum of all others
#: is multiplied by beside it.
_ADAPTED, _GROWTH, _BESIDE = 0.5, 0.3, 0.75
#: What is added to the first, and taken from the last as a share, where there is all to find; see `_to_find`.
_ADAPTED_FINDS, _BESIDE_FINDS = 1.25, 0.8
#: Spread of each of the two, and of both at once.
_SPREAD_BESIDE, _TOGETHER = 0.2, 0.3
#: Standard deviation of logits over the classes, of class texts that say nothing of the images, and of such that do;
#: it counts for no more than this times that over the images, as what is said of all images tells none apart.
_VAGUE, _SHARP, _OF_IMAGES = 1.0, 1.5, 2.5
#: Turned support images of which this share is nearest to its own class say that the domain has no upright.
_TURNED = 0.7
_UPRIGHT_TEXTS = 0.5
_UPRIGHT, _ANY_WAY_UP = aspects_of(["flip", "scales"]), aspects_of(["flip", "quarter-turns", "scales"])

_UNASKED = "it cannot be asked at one image a class"


@dataclass(frozen=True)
class _Task:
    """A support set as its features by aspect, at unit length."""

    features: dict[str, Float[np.ndarray, "n E"]]
    labels: Int[np.ndarray, "n"]
    texts: Float[np.ndarray, "N E"]
    scale: float
    seed: int
    _asked: dict[tuple[str, tuple[str, ...], int], Float[np.ndarray, "n N"]] = field(default_factory=dict)

    @classmethod
    def of(cls, support: Support, aspects: Sequence[str]) -> "_Task":
        features = {name: unit(support.images.aspect(name).features.astype(np.float64)) for name in aspects}
        texts = unit(support.text_features.astype(np.float64))
        return cls(features, support.labels, texts, support.frozen.logit_scale, support.seed)

    @property
    def classes(self) -> int:
        return len(self.texts)

    def seen(self, aspects: Sequence[str]) -> Examples:
        features = joined([self.features[name] for name in aspects])
        return Examples(features, self.labels, self.texts, self.scale)

    def folds(self, count: int) -> Int[np.ndarray, "n"]:
        return folds(self.labels, count, self.seed)

    def held_out(self, name: str, aspects: tuple[str, ...], count: int) -> Float[np.ndarray, "n N"]:
        """A probe's answers; which aspects to look at and what weight to give are asked of the same ones."""
        key = name, aspects, count
        if key not in self._asked:
            self._asked[key] = held_out(partial(scaled, name), self.seen(aspects), self.folds(count))
        return self._asked[key]


def scaled(name: str, examples: Examples) -> Callable[[Float[np.ndarray, "Q E"]], Float[np.ndarray, "Q N"]]:
    """A probe whose centred scores have standard deviation 1 on what it was fitted to."""
    probe = PROBES[name](examples)
    scale = scale_of(probe.score(examples.features))
    return lambda other: centred(probe.score(other)) / scale


class Train(Protocol):
    """Fits what is adapted."""

    def __call__(self, supports: Sequence[Support], *, on_halves: bool) -> Iterable[Fitted]:
        """Train on each support set; on halves of one for fewer steps, as the answers alone are wanted."""


def fit_blend(recipe: BlendRecipe, support: Support, train: Train) -> Blend:
    """Fit the members, and decide on what a recipe leaves open.

    Args:
        recipe: of the blend.
        support: what to learn from.
        train: fits what is adapted.
    """
    probes = [name for name in recipe.members if name in PROBES]
    looked_at = views_of(recipe)
    task = _Task.of(support, looked_at)
    text = zero_shot(support.text_features, 1.0)
    if not isinstance(recipe.views, str):
        aspects, why = looked_at, "as the recipe says"
    elif probes:
        aspects, why = _choose_aspects(task, text, probes)
    else:
        aspects, why = looked_at, "there are no probes"
    seen = task.seen(aspects)
    members, scales = _on_features(recipe, seen, text)
    if ADAPTED in recipe.members:
        (members[ADAPTED],) = train([support], on_halves=False)
        scales[ADAPTED] = scale_of(members[ADAPTED].scores(support.images))
    asked = centred(text.score(seen.features)) / scales[TEXT] if TEXT in recipe.members else None
    answers: np.ndarray | None = None
    if isinstance(recipe.weights, str):
        weights = _decide(task, aspects, probes, asked)
        if ADAPTED in recipe.members:
            weights, answers = _decide_adapted(task, aspects, weights, asked, support, train)
        else:
            answers = _answers(task, aspects, weights, asked, FOLDS)
    else:
        weights = {name: _Weight(weight, why="as the recipe says") for name, weight in recipe.weights.items()}
        if ADAPTED not in recipe.members:
            answers = _answers(task, aspects, weights, asked, FOLDS)
    parts: dict[str, Part] = {}
    for name in recipe.members:
        one = weights[name]
        parts[name] = Part(members[name], one.weight, scales[name], one.accuracy, one.images, one.why)
    return Blend(parts, aspects, why, answers)


def fit_on_features(recipe: BlendRecipe, seen: Examples, seed: int) -> Blend:
    """`fit_blend` of members on frozen features, of which the plain view's are all that is looked at.

    Args:
        recipe: of the blend, without an adapted member.
        seen: the support set.
        seed: of the folds.
    """
    task = _Task({"plain": seen.features}, seen.labels, seen.texts, seen.scale, seed)
    text = zero_shot(seen.texts, 1.0)
    members, scales = _on_features(recipe, seen, text)
    asked = centred(text.score(seen.features)) / scales[TEXT] if TEXT in recipe.members else None
    weights = _decide(task, ("plain",), [name for name in recipe.members if name in PROBES], asked)
    parts = {
        name: Part(members[name], one.weight, scales[name], one.accuracy, one.images, one.why)
        for name, one in weights.items()
    }
    answers = _answers(task, ("plain",), weights, asked, FOLDS)
    return Blend(parts, ("plain",), "features of the plain view are all that is known", answers)


def refit_blend(recipe: BlendRecipe, blend: Blend, support: Support) -> Blend:
    """Fit a blend anew to a support set that has grown, as far as features of the images alone allow.

    Without an adapted member that is all, as in `fit_blend`. Beside one, which stays as it was trained, views and
    weights stay too: what it is worth cannot be asked without the images.

    Args:
        recipe: of the blend.
        blend: that was fitted to some of the images.
        support: all of them, of which features of the aspects are known that the recipe may look at.
    """
    if ADAPTED not in blend.parts:
        return fit_blend(recipe, support, _trains_nothing)
    task = _Task.of(support, blend.aspects)
    text = zero_shot(support.text_features, 1.0)
    members, scales = _on_features(recipe, task.seen(blend.aspects), text)
    renewed = {name: replace(blend.parts[name], fitted=members[name], scale=scales[name]) for name in members}
    return replace(blend, parts={**blend.parts, **renewed}, answers=None)


def views_of(recipe: BlendRecipe) -> tuple[str, ...]:
    """Aspects of the support images that `fit_blend` may look at."""
    if not isinstance(recipe.views, str):
        return aspects_of(recipe.views)
    return _ANY_WAY_UP if set(recipe.members) & PROBES.keys() else ("plain",)


def _on_features(recipe: BlendRecipe, seen: Examples, text: OnFeatures) -> tuple[dict[str, Fitted], dict[str, float]]:
    """The members that see features alone, and the scales of their scores."""
    members: dict[str, OnFeatures] = {name: PROBES[name](seen) for name in recipe.members if name in PROBES}
    if TEXT in recipe.members:
        members[TEXT] = text
    return dict(members), {name: scale_of(member.score(seen.features)) for name, member in members.items()}


def _trains_nothing(supports: Sequence[Support], *, on_halves: bool) -> Iterable[Fitted]:
    raise AssertionError("the recipe has an adapted member and the blend has none")


def halves(labels: Int[np.ndarray, "n"], seed: int) -> list[Bool[np.ndarray, "n"]]:
    """Which images each half is asked about, when what is adapted is trained on all others; none at one image a class.

    Args:
        labels: class indices.
        seed: of the support set.
    """
    where = folds(labels, 2, seed)
    return [where == fold for fold in np.unique(where[where >= 0])]


def needs_halves(recipe: BlendRecipe) -> bool:
    """Whether `fit_blend` trains what is adapted on `halves`, too."""
    return isinstance(recipe.weights, str) and ADAPTED in recipe.members and len(recipe.members) > 1


@dataclass(frozen=True)
class _Weight:
    weight: float
    accuracy: float | None = None
    images: int = 0
    why: str = ""


def _choose_aspects(task: _Task, text: OnFeatures, probes: Sequence[str]) -> tuple[tuple[str, ...], str]:
    plain = task.features["plain"]
    trust = above_chance(text.score(plain), task.labels)
    own = prototypes(plain, task.labels, task.classes)
    kept = float(np.mean([(own.score(task.features[name]).argmax(1) == task.labels).mean() for name in TURNS]))
    turns = kept >= _TURNED and trust < _UPRIGHT_TEXTS
    why = f"{100 * kept:.0f}% of the support images, turned, are nearest to their own class"
    rows = task.folds(FOLDS) >= 0
    if rows.any():
        likely = []
        for aspects in (_UPRIGHT, _ANY_WAY_UP):
            scores = np.sum([task.held_out(name, aspects, FOLDS)[rows] for name in probes], axis=0)
            likely.append(log_likelihood(scores, task.labels[rows]))
        gain = likely[1] - likely[0]
        error = float(gain.std(ddof=1) / np.sqrt(len(gain)))
        if abs(gain.mean()) > error:
            turns = bool(gain.mean() > 0)
            why = f"held-out log-likelihood with quarter turns {gain.mean():+.3f} ± {error:.3f} an image"
    return (_ANY_WAY_UP if turns else _UPRIGHT), why


def _decide(
    task: _Task, aspects: tuple[str, ...], probes: Sequence[str], asked: Float[np.ndarray, "n N"] | None
) -> dict[str, _Weight]:
    """Weights of probes, and of class texts where there are scores of theirs."""
    labels, rows = task.labels, task.folds(FOLDS) >= 0
    trust = 0.0 if asked is None else above_chance(asked, labels)
    likely = _PRIOR * (1 - GIVE_WAY * trust)
    found: dict[str, _Weight] = {}
    if asked is not None:
        weight = float(weigh(asked[None], labels, [0.0], [TEXT_SPREAD])[0])
        earned = float((log_likelihood(weight * asked, labels) + np.log(task.classes)).sum())
        if not probes:  # the only one to answer, if need be
            weight = max(weight, 1e-3)
        found[TEXT] = _Weight(weight, accuracy_of(asked, labels), len(labels), "by its answers on the support images")
    if rows.any() and probes:
        scores = {name: task.held_out(name, aspects, FOLDS)[rows] for name in probes}
        prior, spread = [likely] * len(probes), [_SPREAD] * len(probes)
        if asked is not None:
            accuracy, why = accuracy_of(asked[rows], labels[rows]), "it says too little"
            found[TEXT] = _Weight(0.0, accuracy, int(rows.sum()), why)
            if earned >= TEXT_EARNS:
                scores[TEXT], prior, spread = asked[rows], [*prior, 0.0], [*spread, TEXT_SPREAD]
        weights = weigh(np.stack(list(scores.values())), labels[rows], prior, spread)
        for weight, (name, one) in zip(weights.tolist(), scores.items(), strict=True):
            found[name] = _Weight(weight, accuracy_of(one, labels[rows]), len(one), "by held-out answers")
        return found
    for name in probes:
        why = "the prior, less where class texts are right" if trust else "the prior"
        found[name] = _Weight(likely, why=f"{why}: {_UNASKED}")
    return found


def _answers(
    task: _Task,
    aspects: tuple[str, ...],
    weights: Mapping[str, _Weight],
    asked: Float[np.ndarray, "n N"] | None,
    count: int,
) -> Float[np.ndarray, "n N"]:
    """The sum of members' scores for images that they did not learn from; not numbers of the only one of a class."""
    found = np.zeros((len(task.labels), task.classes))
    for name, one in weights.items():
        scores = asked if name == TEXT else task.held_out(name, aspects, count)
        assert scores is not None
        found += one.weight * scores
    return found


def _decide_adapted(
    task: _Task,
    aspects: tuple[str, ...],
    others: Mapping[str, _Weight],
    asked: Float[np.ndarray, "n N"] | None,
    support: Support,
    train: Train,
) -> tuple[dict[str, _Weight], Float[np.ndarray, "n N"] | None]:
    """Weights of all, what is adapted beside the sum of the others: by answers of both when trained on halves.

    Returns:
        The weights, and the blend's answers on images that it did not learn from, where there are any.
    """
    if not others:
        return {ADAPTED: _Weight(_PRIOR, why="it is the only member")}, None
    labels, parts = task.labels, halves(task.labels, task.seed)
    prior = _beside_each_other(task, aspects)
    if not parts:
        own = _Weight(prior[1], why=f"the prior: {_UNASKED}")
        beside = {name: replace(one, weight=one.weight * prior[0]) for name, one in others.items()}
        return beside | {ADAPTED: own}, None
    mine = np.full((len(labels), task.classes), np.nan)
    sets = [support.take(np.flatnonzero(~part).tolist()) for part in parts]
    for part, learned, half in zip(parts, sets, train(sets, on_halves=True), strict=True):
        out = np.flatnonzero(part).tolist()
        scale = scale_of(half.scores(learned.images))
        mine[out] = centred(half.scores(support.images.take(out))) / scale
        half.release()
    rows, rest = np.any(parts, axis=0), _answers(task, aspects, others, asked, 2)
    both = np.stack([rest[rows], mine[rows]])
    size, weight = weigh(both, labels[rows], prior, [_SPREAD_BESIDE] * 2, _TOGETHER)
    why = "by answers of each half on the other"
    own = _Weight(float(weight), accuracy_of(mine[rows], labels[rows]), int(rows.sum()), why)
    weights = {name: replace(one, weight=one.weight * float(size)) for name, one in others.items()} | {ADAPTED: own}
    return weights, float(size) * rest + float(weight) * mine


def _beside_each_other(task: _Task, aspects: tuple[str, ...]) -> tuple[float, float]:
    """Prior of what the sum of all others is multiplied by, and of the weight of what is adapted."""
    finds, shot = _to_find(task, aspects), len(task.labels) / task.classes
    return _BESIDE * (1 - _BESIDE_FINDS * finds), _ADAPTED * shot**_GROWTH + _ADAPTED_FINDS * finds


def _to_find(task: _Task, aspects: tuple[str, ...]) -> float:
    """How much training is likely to find that no other member knows, 0 to 1.

    Training starts from class texts. Where these are sure of images, and not of the same class for all, the model knows
    the classes; as far as it is wrong all the same, it is their domain that it does not know, and that can be learned
    from few images. Where class texts say nothing, training starts from nothing, and where they are right, they are a
    member already.
    """
    logits = centred(task.scale * task.seen(aspects).features @ task.texts.T)
    between_images = float(np.sqrt(logits.var(axis=0, ddof=1).mean()))
    sure = min(scale_of(logits), _OF_IMAGES * between_images)
    return float(np.clip((sure - _VAGUE) / (_SHARP - _VAGUE), 0, 1)) * (1 - above_chance(logits, task.labels))
