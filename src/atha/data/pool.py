"""A pool: all images of a data set that episodes are drawn from, with labels, class texts and groups."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from atha.errors import DataError


@dataclass(frozen=True)
class Pool:
    """Labelled images, keyed by ids and label names that do not depend on where the data lie.

    Attributes:
        name: of the data set, such as ``eurosat``, or of the user's folder or table.
        ids: one name per image, unique: its path relative to the data set, or its file name where that is unique.
        files: where each image is.
        labels: the label of each image, by name.
        texts: label -> text that the model reads; its order is the order of the classes.
        texts_source: where the texts come from.
        labels_hash: SHA-256, in hexadecimal, of the label file, or of the list of ids and labels.
        groups: what each image is of (a patient, a lesion), where the data set knows.
        group_kind: ``patient``, ``lesion``, or ``group``.
        notes: sentences about what was passed over.
    """

    name: str
    ids: tuple[str, ...]
    files: tuple[Path, ...]
    labels: tuple[str, ...]
    texts: Mapping[str, str]
    texts_source: str
    labels_hash: str
    groups: tuple[str, ...] | None = None
    group_kind: str = ""
    notes: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels, in the order of the classes."""
        return tuple(self.texts)

    @property
    def counts(self) -> dict[str, int]:
        """Images of each class, in the order of the classes."""
        counter = Counter(self.labels)
        return {label: counter[label] for label in self.texts}

    def without_groups(self) -> "Pool":
        """The same images, each on its own, as the published protocols have it."""
        return replace(self, groups=None, group_kind="")

    def without(self, classes: Iterable[str]) -> "Pool":
        """The pool without some classes.

        Raises:
            DataError: one of them is no class of the pool, or fewer than two are left.
        """
        dropped = set(classes)
        for label in sorted(dropped):
            if label not in self.texts:
                raise DataError(f"{self.name} has no class '{label}', its classes are {', '.join(self.texts)}")
        left = {label: text for label, text in self.texts.items() if label not in dropped}
        if len(left) < 2:
            raise DataError(f"{self.name} has {len(left)} class left without {', '.join(sorted(dropped))}, leave two")
        return self._select([label in left for label in self.labels], left)

    def only(self, ids: Iterable[str], source: str) -> "Pool":
        """The pool cut down to the images that a list names, such as the de-duplicated list of ``atha data check``.

        Args:
            ids: of the images to keep.
            source: what lists them, for the message.

        Raises:
            DataError: the list names images that the pool does not have.
        """
        wanted = set(ids)
        foreign = sorted(wanted - set(self.ids))
        if foreign:
            raise DataError(
                f"{source} lists {len(foreign)} images that {self.name} does not have, the first is '{foreign[0]}': "
                "make the list from this data set"
            )
        cut = self._select([name in wanted for name in self.ids], dict(self.texts))
        listing = "".join(f"{name}\t{label}\n" for name, label in zip(cut.ids, cut.labels, strict=True))
        return replace(cut, labels_hash=_sha256(self.labels_hash + "\n" + listing))

    def _select(self, keep: list[bool], texts: Mapping[str, str]) -> "Pool":
        chosen = [index for index, kept in enumerate(keep) if kept]
        return replace(
            self,
            ids=tuple(self.ids[index] for index in chosen),
            files=tuple(self.files[index] for index in chosen),
            labels=tuple(self.labels[index] for index in chosen),
            groups=None if self.groups is None else tuple(self.groups[index] for index in chosen),
            texts=texts,
        )


def listing_hash(ids: Iterable[str], labels: Iterable[str]) -> str:
    """SHA-256 of sorted ids and labels: the label hash of a data set that has no label file."""
    lines = sorted(f"{name}\t{label}\n" for name, label in zip(ids, labels, strict=True))
    return _sha256("".join(lines))


def _sha256(text: str) -> str:
    # Names of files need not be UTF-8.
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
