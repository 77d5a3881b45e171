"""A blend: a classifier whose members are classifiers. Their scores are centred, scaled, weighted and added.

Members on frozen features see the mean of several aspects of an image; what is adapted sees the plain one.

Shapes: Q images, N classes, E joint width.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from atha.alignment import Watcher
from atha.data.aspects import ASPECTS
from atha.methods.base import Counterpart, Fitted, restore, unit
from atha.methods.images import Images
from atha.methods.probes import PROBES
from atha.methods.scores import OnFeatures, centred
from atha.methods.zero_shot import zero_shot
from atha.models.frozen import Frozen
from atha.models.graph import FrozenFeatures
from atha.probability import softmax
from atha.recipe import ADAPTED, TEXT, Recipe
from atha.tensors import check_no_others
from atha.tuners import Tuners


@dataclass(frozen=True)
class Part:
    """A member of a blend.

    Attributes:
        fitted: the member.
        weight: of its scores, after they are divided by ``scale``.
        scale: mean standard deviation of its scores over the classes, on the support images.
        accuracy: on support images that it did not learn from; None where there are none.
        images: their number.
        why: in words, how the weight came about.
    """

    fitted: Fitted
    weight: float
    scale: float
    accuracy: float | None = None
    images: int = 0
    why: str = ""


@dataclass(frozen=True)
class Blend(Fitted, kind="blend"):
    """The sum of members.

    Attributes:
        parts: by name.
        aspects: that members on frozen features see of an image.
        why: in words, how they were chosen.
        answers: its scores of the support images by members that did not learn from them, not numbers of those that
            none can be asked about; None where there are none, and of a blend that was saved.
    """

    parts: Mapping[str, Part]
    aspects: tuple[str, ...] = ("plain",)
    why: str = ""
    answers: Float[np.ndarray, "n N"] | None = field(default=None, compare=False, repr=False)

    def scores(self, images: Images) -> Float[np.ndarray, "Q N"]:
        """The weighted sum."""
        return self.look(images)

    def look(self, images: Images, watch: Watcher | None = None) -> Float[np.ndarray, "Q N"]:
        """See `Fitted`; what is adapted is watched, if there is such a member."""
        found = self._members(images, watch)
        return np.asarray(sum(part.weight / part.scale * found[name] for name, part in self.parts.items()))

    def votes(self, images: Images) -> dict[str, Float[np.ndarray, "Q N"]]:
        """What each member makes of images by itself: probabilities, as sure as its weight in the sum makes it."""
        found = self._members(images, None)
        return {name: softmax(part.weight / part.scale * found[name]) for name, part in self.parts.items()}

    def graph(self, frozen: Frozen) -> nn.Module:
        """See `Fitted`."""
        on_features = {name: part for name, part in self.parts.items() if isinstance(part.fitted, OnFeatures)}
        members = {
            name: part.fitted.on_features() if isinstance(part.fitted, OnFeatures) else part.fitted.graph(frozen)
            for name, part in self.parts.items()
        }
        factors = {name: part.weight / part.scale for name, part in self.parts.items()}
        return BlendGraph(FrozenFeatures(frozen.backbone, self.aspects), members, factors, on_features.keys())

    def counterpart(self, frozen: Frozen) -> Counterpart:
        """See `Fitted`: what is adapted, else the class texts."""
        name = next((name for name in (ADAPTED, TEXT) if name in self.parts and self.parts[name].weight), None)
        if name is None:
            return super().counterpart(frozen)
        own = self.parts[name]
        others = [other for other, part in self.parts.items() if part.weight and other != name]
        # The scores of texts in a blend are bare cosines.
        texts = Counterpart(Tuners(), frozen.logit_scale if others else 1.0)
        nearest = texts if name == TEXT else own.fitted.counterpart(frozen)
        left_out = [*nearest.left_out, *([f"the members {', '.join(others)} are left out"] if others else [])]
        if name == TEXT and self.aspects != ("plain",):
            left_out.append("views but the plain one are left out")
        # By itself, as sure as it is in the sum; beside others, as sure as it is by itself.
        factor = 1.0 if others else own.weight / own.scale
        return Counterpart(nearest.tuners, factor * nearest.scale, tuple(left_out))

    def with_texts(self, frozen: Frozen, texts: Sequence[str], template: str) -> "Blend":
        """See `Fitted`; of its members."""
        made = {name: part.fitted.with_texts(frozen, texts, template) for name, part in self.parts.items()}
        if TEXT in made:
            made[TEXT] = zero_shot(frozen.text_features(texts, template), 1.0)
        return replace(self, parts={name: replace(part, fitted=made[name]) for name, part in self.parts.items()})

    def plain(self) -> "Blend":
        """The same blend, looking at the plain aspect alone: as many forward passes fewer."""
        return replace(self, aspects=("plain",), why="plain was asked for")

    def _members(self, images: Images, watch: Watcher | None) -> dict[str, Float[np.ndarray, "Q N"]]:
        features, found = None, {}
        if watch is not None and ADAPTED not in self.parts:
            images.frozen.features(images.plain(), images.views(), watch)
        for name, part in self.parts.items():
            if isinstance(part.fitted, OnFeatures):
                features = features_of(images, self.aspects) if features is None else features
                scores = part.fitted.score(features)
            else:
                scores = part.fitted.look(images, watch)
            found[name] = centred(scores.astype(np.float64))
        return found

    def state(self) -> dict[str, Tensor]:
        """Those of what is adapted under their own names, of other members behind ``blend.NAME.``."""
        found: dict[str, Tensor] = {}
        for name, part in self.parts.items():
            before = "" if name == ADAPTED else _prefix(name)
            found |= {f"{before}{key}": value for key, value in part.fitted.state().items()}
        return found

    def definition(self) -> dict[str, Any]:
        """Members, weights, aspects, and the reasons."""
        parts = {
            name: {
                "fitted": part.fitted.definition(),
                **{key: getattr(part, key) for key in ("weight", "scale", "accuracy", "images", "why")},
            }
            for name, part in self.parts.items()
        }
        return super().definition() | {"members": parts, "aspects": list(self.aspects), "why": self.why}

    @classmethod
    def restore(
        cls, definition: Mapping[str, Any], tensors: Mapping[str, Tensor], recipe: Recipe, frozen: Frozen
    ) -> "Blend":
        """See `Fitted`."""
        left, parts = dict(tensors), {}
        for name, saved in definition["members"].items():
            own = {key: left.pop(key) for key in tuple(left) if key.startswith(_prefix(name))}
            own = {key.removeprefix(_prefix(name)): value for key, value in own.items()}
            if name == ADAPTED:
                own = {key: left.pop(key) for key in tuple(left) if not key.startswith(_prefix())}
            numbers = {key: saved[key] for key in ("weight", "scale", "accuracy", "images", "why")}
            parts[name] = Part(restore(saved["fitted"], own, recipe, frozen), **numbers)
        check_no_others(left, ())
        aspects = tuple(definition["aspects"])
        if not aspects or not set(aspects) <= ASPECTS.keys() or len(set(aspects)) < len(aspects):
            raise ValueError(f"aspects are {aspects}")
        if len(counts := {part.fitted.classes for part in parts.values()} - {None}) > 1:
            raise ValueError(f"its members have {' and '.join(map(str, sorted(filter(None, counts))))} classes")
        return cls(parts, aspects, str(definition["why"]))

    @property
    def classes(self) -> int | None:
        """See `Fitted`; of its members."""
        return next((part.fitted.classes for part in self.parts.values() if part.fitted.classes is not None), None)

    @property
    def _adapted(self) -> Fitted | None:
        part = self.parts.get(ADAPTED)
        return None if part is None else part.fitted

    @property
    def tuners(self) -> Tuners:
        """See `Fitted`."""
        return Tuners() if self._adapted is None else self._adapted.tuners

    @property
    def trained(self) -> dict[str, int]:
        """See `Fitted`."""
        found = {} if self._adapted is None else self._adapted.trained
        probes = {name: part.fitted.trained for name, part in self.parts.items() if name in PROBES}
        return found | {name: sum(counts.values()) for name, counts in probes.items()}

    @property
    def losses(self) -> list[float]:
        """See `Fitted`."""
        return [] if self._adapted is None else self._adapted.losses

    def anchors(
        self, frozen: Frozen, texts: Sequence[str], template: str, kind: Literal["adjoint", "inverse"]
    ) -> Float[Tensor, "N D"]:
        """See `Fitted`."""
        if self._adapted is not None:
            return self._adapted.anchors(frozen, texts, template, kind)
        return super().anchors(frozen, texts, template, kind)

    def release(self) -> None:
        """See `Fitted`."""
        for part in self.parts.values():
            part.fitted.release()


class BlendGraph(nn.Module):
    """`Blend.scores` as a module.

    Args:
        features: of images, those of several aspects.
        members: to scores, of features or of images.
        factors: of each member's centred scores; one of weight 0 is left out.
        on_features: which members are of features.
    """

    def __init__(
        self,
        features: nn.Module,
        members: Mapping[str, nn.Module],
        factors: Mapping[str, float],
        on_features: Container[str],
    ) -> None:
        super().__init__()
        self.features, self.factors = features, [factor for factor in factors.values() if factor]
        self.members = nn.ModuleList(members[name] for name, factor in factors.items() if factor)
        self.on_features = [name in on_features for name, factor in factors.items() if factor]

    def forward(self, pixels: Float[Tensor, "Q 3 H W"]) -> Float[Tensor, "Q N"]:
        features = self.features(pixels) if any(self.on_features) else pixels
        found = [
            factor * centre(member(features if of_features else pixels))
            for member, factor, of_features in zip(self.members, self.factors, self.on_features, strict=True)
        ]
        total: Tensor = torch.stack(found).sum(0)
        return total


def centre(scores: Float[Tensor, "Q N"]) -> Float[Tensor, "Q N"]:
    """`centred`, of a tensor."""
    return scores - scores.mean(dim=1, keepdim=True)


def features_of(images: Images, aspects: Sequence[str]) -> Float[np.ndarray, "Q E"]:
    """Frozen features at unit length; see `joined`."""
    return joined([unit(images.aspect(name).features.astype(np.float64)) for name in aspects])


def joined(features: Sequence[Float[np.ndarray, "Q E"]]) -> Float[np.ndarray, "Q E"]:
    """The mean over aspects, at unit length; of one aspect its own features, which are so."""
    return features[0] if len(features) == 1 else unit(np.mean(features, axis=0))


def _prefix(name: str = "") -> str:
    return f"blend.{name}." if name else "blend."
