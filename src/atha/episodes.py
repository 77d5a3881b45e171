"""Episodes: small classification tasks drawn from a pool, the same on every platform and for every method.

Each episode has a generator of its own, keyed by what defines it, so that neither the number of workers, nor the order
of work, nor what a method draws at random can change which images it holds. "Support" is learned from, "query" is
classified; way is the number of classes, shot and query the images of each.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from atha.data.drawing import Shuffler
from atha.data.pool import Pool
from atha.documents import escaping
from atha.errors import DataError
from atha.files import write_whole
from atha.texts import LISTS, TextError, json_table, read_text

#: Of the rule by which episodes are drawn, and of the file; a change of either changes this number.
VERSION = 1
_FORMAT = "atha-episodes"
# Draws of one episode before it is given up: with groups, not every support set leaves enough query images.
_ATTEMPTS = 1000


@dataclass(frozen=True)
class EpisodeSpec:
    """What defines a sequence of episodes, of any length.

    Attributes:
        dataset: name of the data set.
        labels_hash: SHA-256 of its labels.
        classes: the labels to draw from, in the order of the data set's classes.
        groups: SHA-256 of which image is of which group, where support and query must not share one; else False.
        way: classes per episode.
        shot: support images per class.
        query: query images per class.
        seed: of the sequence.
    """

    dataset: str
    labels_hash: str
    classes: tuple[str, ...]
    groups: str | Literal[False]
    way: int
    shot: int
    query: int
    seed: int

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the specification."""
        return _sha256({"rule": VERSION, **asdict(self)})


@dataclass(frozen=True)
class Episode:
    """One task: ids of support and query images, class by class.

    Attributes:
        index: its place in the sequence.
        classes: labels, in the order in which they were drawn.
        support: for each class, ids of its support images.
        query: for each class, ids of its query images.
    """

    index: int
    classes: tuple[str, ...]
    support: tuple[tuple[str, ...], ...]
    query: tuple[tuple[str, ...], ...]

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the content, the index left out."""
        return _sha256([self.classes, self.support, self.query])

    @property
    def seed(self) -> int:
        """For whatever a method draws at random: of the episode, the same for every method."""
        return int(self.hash[:8], 16) & 0x7FFFFFFF


@dataclass(frozen=True)
class EpisodeSet:
    """Episodes and what defines them.

    Attributes:
        spec: what they are drawn by, or were said to be drawn by.
        key: SHA-256 of the sequence: of the specification; for episodes from a file that no specification gives, of
            the episodes themselves.
        episodes: the episodes at hand.
    """

    spec: EpisodeSpec
    key: str
    episodes: tuple[Episode, ...]

    @property
    def hash(self) -> str:
        """SHA-256 of the episodes and their numbers, in order."""
        return _sha256([[episode.index, episode.hash] for episode in self.episodes])


def draw_episodes(pool: Pool, way: int, shot: int, query: int, episodes: int, seed: int = 0) -> EpisodeSet:
    """Draw episodes from a pool.

    Classes and images are drawn uniformly, without repetition. Where the pool knows groups, an episode's support and
    query images share none: support sets are uniform over those that leave enough query images, and query images
    over those that are left.

    Args:
        pool: what to draw from.
        way: classes per episode.
        shot: support images per class.
        query: query images per class.
        episodes: how many; the first ones of a longer sequence are those of a shorter one.
        seed: of the sequence.

    Raises:
        DataError: there are fewer classes than ``way``, a class has fewer than ``shot + query`` images (none is ever
            taken twice), or too few groups to keep support and query apart; with the counts.
    """
    for name, value, least in (("way", way, 2), ("shot", shot, 1), ("query", query, 1), ("episodes", episodes, 1)):
        if value < least:
            raise DataError(f"{name} is {value}, it must be at least {least}")
    if seed < 0:
        raise DataError(f"the seed is {seed}, it must not be negative")
    _check_counts(pool, way, shot, query)
    spec = EpisodeSpec(pool.name, pool.labels_hash, pool.classes, _groups_hash(pool), way, shot, query, seed)
    images = _Images(pool)
    return EpisodeSet(spec, spec.hash, tuple(_draw(spec, images, index) for index in range(episodes)))


def write_episodes(path: Path, episodes: EpisodeSet, overwrite: bool = False) -> None:
    """Write episodes to a JSON file, whole or not at all.

    Raises:
        DataError: there is a file already, or it cannot be written.
    """
    content = {
        "format": _FORMAT,
        "version": VERSION,
        "spec": asdict(episodes.spec),
        "hash": episodes.hash,
        "episodes": [
            {"index": one.index, "classes": one.classes, "support": one.support, "query": one.query}
            for one in episodes.episodes
        ],
    }
    write_whole(path, escaping.json(json.dumps(content, ensure_ascii=False, indent=1)) + "\n", overwrite)


def read_episodes(path: Path, pool: Pool) -> EpisodeSet:
    """Read episodes from a file and check them against the pool.

    Raises:
        DataError: the file cannot be read, is not of this format or was changed without its hash; or an episode holds
            an image or class that the pool does not have, an image twice, or a group on both sides.
    """
    try:
        content = json_table(read_text(path, LISTS, "surrogateescape"))
    except TextError as error:
        raise DataError(f"{path} {error}: {error.mend}, or write it again with atha bench episodes") from None
    if content.get("format") != _FORMAT or content.get("version") != VERSION:
        raise DataError(f"{path} holds no episodes of version {VERSION}, write it with atha bench episodes")
    try:
        spec = EpisodeSpec(**{**content["spec"], "classes": tuple(content["spec"]["classes"])})
        _check_types(spec)
        episodes = tuple(_parse(item) for item in content["episodes"])
        stated = content["hash"]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise DataError(f"{path} is damaged, its episodes are not as written: write it again") from None
    found = EpisodeSet(spec, spec.hash, episodes)
    if found.hash != stated:
        raise DataError(
            f"{path} was changed, its hash is no longer {str(stated)[:12]}: write it again, or, if this is meant, "
            f"set hash to {found.hash}"
        )
    _check_against(found, pool, path)
    drawn = _redrawn(found, pool)
    return found if drawn else EpisodeSet(spec, found.hash, episodes)


def _draw(spec: EpisodeSpec, images: "_Images", index: int) -> Episode:
    generator = Shuffler(_sha256({"rule": VERSION, **asdict(spec), "index": index}))
    classes = tuple(generator.shuffled(spec.classes)[: spec.way])  # once: a class that is hard to draw must not vanish
    for _ in range(_ATTEMPTS):
        drawn = images.draw(classes, spec, generator)
        if drawn is not None:
            return Episode(index, classes, *drawn)
    counts = ", ".join(f"{label} {images.describe(label)}" for label in spec.classes)
    raise DataError(
        f"episode {index} cannot be drawn from {spec.dataset}: {spec.shot} support and {spec.query} query images of "
        f"each class, without a group on both sides, were not found in {_ATTEMPTS} attempts ({counts}): lower --shot "
        "or --query, or leave the smallest class out with --without"
    )


class _Images:
    """A pool's images by class."""

    def __init__(self, pool: Pool) -> None:
        self._by_class: dict[str, list[str]] = {label: [] for label in pool.classes}
        for name, label in zip(pool.ids, pool.labels, strict=True):
            self._by_class[label].append(name)
        for names in self._by_class.values():
            names.sort()  # the pool's order must not matter
        self._groups = None if pool.groups is None else dict(zip(pool.ids, pool.groups, strict=True))

    def draw(
        self, classes: Sequence[str], spec: EpisodeSpec, generator: Shuffler
    ) -> tuple[tuple[tuple[str, ...], ...], tuple[tuple[str, ...], ...]] | None:
        """Support and query ids of each class, or None if groups leave too few query images."""
        shuffled = [generator.shuffled(self._by_class[label]) for label in classes]
        support = tuple(tuple(names[: spec.shot]) for names in shuffled)
        rest: Iterator[list[str]] = (names[spec.shot :] for names in shuffled)
        if self._groups is not None:
            groups = self._groups
            taken = {groups[name] for names in support for name in names}
            rest = ([name for name in names if groups[name] not in taken] for names in rest)
        query = tuple(tuple(names[: spec.query]) for names in rest)
        return (support, query) if all(len(names) == spec.query for names in query) else None

    def describe(self, label: str) -> str:
        names = self._by_class[label]
        if self._groups is None:
            return f"{len(names)}"
        return f"{len(names)} in {len({self._groups[name] for name in names})} groups"


def _check_counts(pool: Pool, way: int, shot: int, query: int) -> None:
    counts = pool.counts
    if len(counts) < way:
        raise DataError(f"{pool.name} has {len(counts)} classes and --way is {way}: lower it to {len(counts)}")
    small = {label: count for label, count in counts.items() if count < shot + query}
    if small:
        listed = ", ".join(f"{label} {count}" for label, count in small.items())
        raise DataError(
            f"classes of {pool.name} have fewer than {shot} + {query} = {shot + query} images ({listed}), and none is "
            "taken twice: lower --shot or --query, or leave these classes out with --without"
        )


def _parse(item: dict[str, Any]) -> Episode:
    sides = []
    for side in ("support", "query"):
        sides.append(tuple(tuple(str(name) for name in names) for names in item[side]))
        if len(sides[-1]) != len(item["classes"]) or not all(sides[-1]):
            raise ValueError(side)
    return Episode(int(item["index"]), tuple(map(str, item["classes"])), *sides)


def _check_against(found: EpisodeSet, pool: Pool, path: Path) -> None:
    label_of = dict(zip(pool.ids, pool.labels, strict=True))
    group_of = None if pool.groups is None else dict(zip(pool.ids, pool.groups, strict=True))
    if found.spec.labels_hash != pool.labels_hash:
        raise DataError(
            f"{path} was made from other labels of {found.spec.dataset} (hash {found.spec.labels_hash[:12]}) than "
            f"{pool.name} has here ({pool.labels_hash[:12]}): write it again from this data set"
        )
    if len({episode.index for episode in found.episodes}) != len(found.episodes) or not found.episodes:
        raise DataError(f"{path} holds no episode, or an index twice: write it again")
    for one in found.episodes:
        where = f"episode {one.index} of {path}"
        sizes = {len(row) for row in one.support}, {len(row) for row in one.query}, len(one.classes)
        if sizes != ({found.spec.shot}, {found.spec.query}, found.spec.way):
            raise DataError(f"{where} has another way, shot or query than the file says: write it again")
        names = [name for side in (one.support, one.query) for row in side for name in row]
        if len(set(names)) != len(names) or len(set(one.classes)) != len(one.classes):
            raise DataError(f"{where} holds an image or a class twice: write it again")
        for side in (one.support, one.query):
            for label, row in zip(one.classes, side, strict=True):
                wrong = [name for name in row if label_of.get(name) != label]
                if wrong:
                    raise DataError(f"{where} has '{wrong[0]}' as {label}, which {pool.name} does not: write it again")
        if group_of is not None and found.spec.groups:
            groups = [{group_of[name] for row in side for name in row} for side in (one.support, one.query)]
            if shared := groups[0] & groups[1]:
                raise DataError(f"{where} has {pool.group_kind} '{min(shared)}' in support and query: write it again")


def _redrawn(found: EpisodeSet, pool: Pool) -> bool:
    """Whether the specification gives just these episodes."""
    spec = found.spec
    if (spec.dataset, spec.classes, spec.groups) != (pool.name, pool.classes, _groups_hash(pool)):
        return False
    try:
        _check_counts(pool, spec.way, spec.shot, spec.query)
        images = _Images(pool)
        return all(_draw(spec, images, one.index) == one for one in found.episodes)
    except DataError:
        return False


def _groups_hash(pool: Pool) -> str | Literal[False]:
    return False if pool.groups is None else _sha256(sorted(zip(pool.ids, pool.groups, strict=True)))


def _check_types(spec: EpisodeSpec) -> None:
    numbers = (spec.way, spec.shot, spec.query, spec.seed)
    texts = (spec.dataset, spec.labels_hash, *spec.classes)
    if not all(type(number) is int for number in numbers) or not all(isinstance(text, str) for text in texts):
        raise TypeError("spec")


def _sha256(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
