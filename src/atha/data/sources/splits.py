"""Folders that may be no classes: splits, domains, and folders around the class folders.

Told by structure: class folders hold images, at whatever depth, and splits hold folders of the same names. Names alone
are no proof: a class may be called ``test`` or ``train``, if not all of them are called so.
"""

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path

from atha.data.finding import IMAGE_SUFFIXES
from atha.prompts import split_camel_case

_IMAGES = re.compile(r"(image|img|photo|picture)s?", re.IGNORECASE)
_LEARN = "train"
# Words for parts of a data set, by what they mean.
_PARTS = {
    _LEARN: ("train", "training", "trn", "labeled", "labelled"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "tst", "eval", "evaluation", "holdout"),
    "other": ("pred", "predict", "prediction", "unlabeled", "unlabelled"),
}
_PART_OF = {word: part for part, words in _PARTS.items() for word in words}
# What such names have besides, run together with the word or not.
_FILLING = ("set", "sets", "data", "dataset", "split", "images", "image", "imgs", "img", "folder", "files")
_WORD = re.compile(rf"({'|'.join(sorted(_PART_OF, key=len, reverse=True))})({'|'.join(_FILLING)})?")


@dataclass(frozen=True)
class _Folder:
    """A folder beside others.

    Attributes:
        path: of the folder, or of the one within it that it only wraps.
        name: of the folder.
        files: relative to ``path``.
        deep: whether all its images are in folders within it.
    """

    path: Path
    name: str
    files: tuple[Path, ...] = ()
    deep: bool = False

    @classmethod
    def of(cls, folder: Path, files: Sequence[Path]) -> "_Folder":
        """Goes down while there is but one folder and no image, if that ends at several."""
        path, inside = folder, tuple(file.relative_to(folder) for file in files)
        deep, whole = not _images(inside), inside
        while len(inner := _within(inside)) == 1 and not _images(inside):
            (only,) = inner.values()
            path, inside = path / only, tuple(file.relative_to(only) for file in inside if len(file.parts) > 1)
        several = len(inner) > 1 and not _images(inside)
        return cls(path if several else folder, folder.name, inside if several else whole, deep)

    @cached_property
    def inner(self) -> dict[str, str]:
        """The names of the folders that hold all images, by their small letters; none if there is but one."""
        found = _within(self.files)
        return {} if len(found) < 2 or _images(self.files) else found

    @property
    def part(self) -> str:
        """The part of a data set that its name means, or nothing."""
        return part_of(self.name)[0]


def doubt(root: Path, files: Mapping[Path, Sequence[Path]]) -> str:
    """Why the folders in a folder may be no classes by what they hold, with what to give.

    Args:
        root: the folder.
        files: the folders in it, and all files below each.

    Returns:
        A sentence; empty where there is no doubt.
    """
    folders = [_Folder.of(path, inside) for path, inside in files.items()]
    nested = [folder for folder in folders if folder.inner]
    if len(folders) == 1:
        return _wrapped(root, folders[0])
    parts = _family(folders)
    if parts and any(folder.deep for folder in parts):
        return f"the folders of '{root}' ({_listed(folders)}) are splits, not classes: {_way(parts)}"
    if within := next((folder for folder in nested if _alike(folder.inner, _names(folders, folder))), None):
        return (
            f"'{within.path}' holds folders of the same names as those beside it ({_listed(within.inner.values())}), "
            f"so it is no class: move it out of '{root}', and give it as a test set if it is one"
        )
    same = [
        folder for folder in nested if any(_alike(folder.inner, other.inner) for other in nested if other != folder)
    ]
    if len(same) < 2 or 2 * len(nested) < len(folders):
        return ""
    return _same(root, same)


def doubt_of_names(root: Path, folders: Sequence[Path], tables: Sequence[Path]) -> str:
    """Why folders of images may be no classes where all of them, and not one, are called as parts of one data set are.

    Args:
        root: the folder.
        folders: in it.
        tables: right in these.

    Returns:
        A sentence; empty where there is no doubt.
    """
    found = [_Folder(path, path.name) for path in folders]
    if len(found) < 2 or len(_family(found)) < len(found):
        return ""
    if tables:
        by_part = sorted(tables, key=lambda table: list(_PARTS).index(part_of(table.parent.name)[0]))
        tests = [table for table in by_part if table.parent != by_part[0].parent]
        tests.sort(key=lambda table: part_of(table.parent.name)[0] != "test")
        return (
            f"the folders of '{root}' ({_listed(found)}) are splits, not classes: give a table in them, as atha fit "
            + _quoted(by_part[0])
            + (f" --eval {_quoted(tests[0])}" if tests else "")
        )
    return (
        f"the folders of '{root}' ({_listed(found)}) have the names of splits and hold no class folders: put the "
        f"images in one folder per class, or list images and labels in a table; {_all_the_same(root)}"
    )


def _wrapped(root: Path, folder: _Folder) -> str:
    """Of the one folder that there is."""
    if not folder.inner:
        return ""
    groups: dict[Path, list[Path]] = {}
    for file in folder.files:
        if len(file.parts) > 1:
            groups.setdefault(folder.path / file.parts[0], []).append(folder.path / file)
    return doubt(folder.path, groups) or (
        f"the one folder in '{root}' holds folders ({_listed(folder.inner.values())}): if these are the classes, give "
        f"{_quoted(folder.path)}; if '{folder.name}' is one, add a folder for each other class"
    )


def _family(folders: Sequence[_Folder]) -> list[_Folder]:
    """Folders that are different parts of one data set by their names, such as ``seg_train`` and ``seg_test``."""
    named = [folder for folder in folders if folder.part]
    stems = Counter(stem for stem, _ in {part_of(folder.name)[::-1] for folder in named})
    found = [folder for folder in named if stems[part_of(folder.name)[1]] > 1]
    # Beside one other folder, what holds the classes to learn needs no second split.
    if not found and len(folders) == 2 and len(named) == 1 and named[0].part == _LEARN and named[0].inner:
        return named
    return found


def part_of(name: str) -> tuple[str, str]:
    """The part of a data set that a name means, or nothing; and what else the name says."""
    words = re.findall(r"[^\W\d_]+", split_camel_case(name).casefold())
    for word in words:
        if match := _WORD.fullmatch(word):
            return _PART_OF[match[1]], " ".join(other for other in words if other not in (word, *_FILLING))
    return "", name


def _way(parts: Sequence[_Folder]) -> str:
    """What to give in place of splits."""
    learn, *others = sorted(parts, key=lambda folder: (not folder.deep, list(_PARTS).index(folder.part)))
    tests = sorted((one for one in others if _alike(one.inner, learn.inner)), key=lambda one: one.part != "test")
    command = f"atha fit {_quoted(learn.path)}" + (f" --eval {_quoted(tests[0].path)}" if tests else "")
    flat = next((folder for folder in parts if not folder.deep), None)
    more = f" ('{flat.path}' holds no class folders, so atha predict takes it)" if flat else ""
    return f"give one of them, such as {command}{more}"


def _same(root: Path, folders: Sequence[_Folder]) -> str:
    """Of folders that hold the same folders."""
    first, second = next((a, b) for a, b in combinations(folders, 2) if _alike(a.inner, b.inner))
    common = [first.inner[name] for name in sorted(first.inner.keys() & second.inner.keys())]
    told = f"the folders of '{root}' ({_listed(folders)}) hold folders of the same names ({_listed(common)})"
    if all(part_of(name)[0] for name in common):
        return (
            f"{told}, which are splits: put the splits above the classes, as {_quoted(root / common[0] / first.name)}, "
            "or list the images in a table"
        )
    if kept := next((name for name in common if _IMAGES.fullmatch(name)), None):
        return (
            f"{told}, of which '{kept}' may hold the images, and the others what belongs to them, such as masks: move "
            f"the others out; if all are images, {_all_the_same(root)}"
        )
    # What has the name of images is more likely to hold them than masks or notes beside it.
    best = next((folder for folder in folders if "image" in folder.name.casefold()), first)
    other = next(folder for folder in folders if folder is not best)
    return (
        f"{told}, so either can be the classes: if {_listed(common, 2)} are, give one of the folders, such as atha fit "
        f"{_quoted(best.path)}, and another where it is a test set, such as --eval {_quoted(other.path)}; "
        f"{_all_the_same(root, folders)}"
    )


def _all_the_same(root: Path, folders: Sequence[_Folder] = ()) -> str:
    """What to give where the folders are the classes whatever was said of them."""
    those = _listed(folders, 2) or "they"
    return (
        f"if {those} are the classes, atha data classes {_quoted(root)} --out classes.json lists them for atha fit "
        f"{_quoted(root)} --classes classes.json"
    )


def _names(folders: Sequence[_Folder], but: _Folder) -> dict[str, str]:
    return {folder.name.casefold(): folder.name for folder in folders if folder is not but}


def _within(files: Sequence[Path]) -> dict[str, str]:
    """The names of the folders that files are in, by their small letters."""
    return {file.parts[0].casefold(): file.parts[0] for file in files if len(file.parts) > 1}


def _alike(first: Mapping[str, str], second: Mapping[str, str]) -> bool:
    """Whether two sets of names are much the same: at least two in common, and half of the smaller set."""
    common = len(first.keys() & second.keys())
    return common >= 2 and 2 * common >= min(len(first), len(second))


def _images(files: Sequence[Path]) -> bool:
    """Whether there are images right here; a file without an ending, or with a number for one, may be DICOM."""
    suffixes = [file.suffix.lower() for file in files if len(file.parts) == 1]
    return any(suffix in IMAGE_SUFFIXES or not re.search(r"[^\W\d_]", suffix) for suffix in suffixes)


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _listed(those: Iterable[_Folder | str], limit: int = 5) -> str:
    names = [one if isinstance(one, str) else one.name for one in those]
    return ", ".join(names[:limit] + ["..."] * (len(names) > limit))
