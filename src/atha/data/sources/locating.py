"""Finding the images that a table names: in which folder, with which ending, and where else they may be."""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path, PurePosixPath

from atha.data.finding import IMAGE_SUFFIXES, is_hidden, kind_of, walk_files
from atha.errors import DataError

# How far images that are not there are looked for elsewhere, for a message.
_DEEP, _ENTRIES = 3, 20_000
_LOOKED_AT = 5
_MOST_DROPPED = 16


@dataclass(frozen=True)
class Files:
    """The images below a folder, found by what a table calls them.

    A name is a path, with the ending or without, as long as one file alone fits. Backslashes stand between folders
    where no file has them in its name.

    Attributes:
        base: what paths are relative to.
        dropped: how many leading parts of the table's paths are not looked at.
        deep: whether paths may begin in any folder below the base.
    """

    base: Path
    dropped: int = 0
    deep: bool = False
    _stems: dict[Path, dict[str, list[str]]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def below(cls, base: Path, values: Sequence[str]) -> "Files":
        """Images below a folder that a user named, where a table may have been made beside other folders.

        Args:
            base: the folder.
            values: some of the table's paths, among others. As many leading parts are left out as it takes to find
                most of them.

        Raises:
            DataError: there is no such folder.
        """
        if kind_of(base) != "folder":
            raise DataError(f"--images {base} is no folder; give the one that the paths of the table are relative to")
        longest = max((len(_parts(value)) for value in values), default=1)
        tried = [cls(base, dropped, deep=True) for dropped in range(min(longest, _MOST_DROPPED))]
        return max(tried, key=lambda files: sum(map(files.has, values)))

    def find(self, value: str) -> Path | None:
        """The file that a value of a table means; None if there is none.

        Raises:
            DataError: a name without an ending fits several files.
        """
        spelled = [self.path(form) for form in dict.fromkeys((value, value.replace("\\", "/")))]
        for path in spelled:
            if kind_of(path) == "file":
                return path
        for path in spelled:
            names = self._with_endings(path)
            if len(names) > 1:
                raise DataError(
                    f"'{value}' can be {names[0]} or {names[1]} in '{path.parent}'; write the ending in the table"
                )
            if names:
                return path.with_name(names[0])
        return self._find_below(value) if self.deep else None

    def has(self, value: str) -> bool:
        """Whether a value is the name of a file, or of several."""
        try:
            return self.find(value) is not None
        except DataError:
            return True

    def path(self, value: str) -> Path:
        """Where a value of a table leads, whether anything is there or not."""
        return self.base / (PurePosixPath(*self._kept(value)) if self.dropped else value)

    def _kept(self, value: str) -> tuple[str, ...]:
        """The parts of a path that are looked at: of a short one the last."""
        parts = _parts(value)
        return parts[min(self.dropped, len(parts) - 1) :]

    def _with_endings(self, path: Path) -> list[str]:
        """Names of the images in the folder of a path that are called as it is, but for an ending."""
        folder = path.parent
        if folder not in self._stems:
            stems: dict[str, list[str]] = {}
            try:
                for name in sorted(os.listdir(folder)):  # noqa: PTH208 - of a million names, each Path costs
                    stem, suffix = os.path.splitext(name)  # noqa: PTH122 - the same
                    if suffix.lower() in IMAGE_SUFFIXES:
                        stems.setdefault(stem, []).append(name)
            except (OSError, ValueError):
                pass
            self._stems[folder] = stems
        return self._stems[folder].get(path.name, [])

    def _find_below(self, value: str) -> Path | None:
        """The one file in any folder whose path ends as a value does."""
        *folders, name = self._kept(value)
        stem = os.path.splitext(name)[0]  # noqa: PTH122 - as of the index
        exact = [path for path in self._stem_index.get(stem, ()) if path.name == name]
        other = [path for path in self._stem_index.get(name, ()) if path.suffix.lower() in IMAGE_SUFFIXES]
        found = [path for path in exact or other if list(path.parts[-1 - len(folders) : -1]) == folders]
        if len(found) > 1:
            raise DataError(f"'{value}' can be '{found[0]}' or '{found[1]}'; write more of the path in the table")
        return found[0] if found else None

    @cached_property
    def _stem_index(self) -> dict[str, list[Path]]:
        """All files below the base, by their names without an ending."""
        found: dict[str, list[Path]] = {}
        for path in walk_files(self.base):
            found.setdefault(path.stem, []).append(path)
        return found

    def mend(self, values: Sequence[str]) -> str:
        """What to do about images that are not there, for a message."""
        first = values[0]
        if "://" in first:
            return "download the images and give a table of files"
        forms = (first, first.replace("\\", "/"))
        for path in map(self.path, forms):
            other = self._with_endings(path.with_suffix("")) if path.suffix else []
            if other:
                return f"there is {other[0]}: correct the ending in the table"
        if (folder := self.elsewhere(values[:_LOOKED_AT])) is not None:
            return f"give the folder that its paths are relative to (did you mean --images '{folder}'?)"
        return "correct the paths, or give the folder that they are relative to with --images DIR"

    def elsewhere(self, values: Sequence[str]) -> Path | None:
        """A folder near by below which all of some values are found."""
        parts = _parts(values[0])
        for root in dict.fromkeys((self.base, self.base.parent, Path())):
            seen: set[str] = set()
            for folder, names in _walk(root):
                there = {*names, *(os.path.splitext(name)[0] for name in names)}  # noqa: PTH122 - as of a name
                seen |= there
                if parts[-1] not in there:
                    continue
                here = folder
                for part in reversed(parts[:-1]):
                    if here.name != part:
                        break
                    here = here.parent
                matched = len(folder.parts) - len(here.parts)
                if all(map(Files(here, len(parts) - 1 - matched).has, values)):
                    return here
            if all(_parts(value)[-1] in seen for value in values):
                return root
        return None


def _parts(value: str) -> tuple[str, ...]:
    """The parts of a path, whichever system wrote it."""
    return PurePosixPath(value.replace("\\", "/")).parts or (value,)


def _walk(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Folders at and below one, with the names of files in them, but no more than can be looked at in a moment."""
    left, waiting = _ENTRIES, deque([(root, 0)])
    while waiting and left > 0:
        here, deep = waiting.popleft()
        try:
            with os.scandir(here) as entries:
                found = sorted(islice(entries, left), key=lambda entry: entry.name)
        except OSError:
            continue
        left -= len(found)
        names = [entry.name for entry in found if not _is_folder(entry)]
        yield here, names
        if deep < _DEEP:
            waiting += [
                (here / entry.name, deep + 1) for entry in found if _is_folder(entry) and not is_hidden(entry.name)
            ]


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False
