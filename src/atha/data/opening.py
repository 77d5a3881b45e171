"""The one door through which a benchmark's images come: by a name, from a folder, a table, or a hub."""

import difflib
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePath

from atha.classes import Classes
from atha.data import LabelledImages, Selection, read_labelled
from atha.data.finding import did_you_mean, kind_of
from atha.data.pool import Pool, listing_hash
from atha.data.sources import hub as hubs
from atha.data.sources.cdfsl import benchmarks, read
from atha.data.sources.columns import IMAGE_COLUMNS, LABEL_COLUMNS
from atha.data.sources.naming import matching
from atha.data.sources.rows import read_rows
from atha.errors import DataError
from atha.files import cache_folder
from atha.prompts import name_classes

Texts = Mapping[str, str] | Sequence[str]


def open_pool(
    dataset: str,
    root: Path | None = None,
    *,
    classes: Texts | None = None,
    group_pattern: str | None = None,
    without: Sequence[str] = (),
    keep: Path | None = None,
    ignore_groups: bool = False,
    selection: Selection = Selection(),  # noqa: B008 - frozen
) -> Pool:
    """Opens the images that episodes are drawn from. The images themselves are not decoded.

    Args:
        dataset: ``eurosat``, ``cropdiseases``, ``isic2018`` or ``chestx``; ``hf:ORG/NAME@SPLIT`` or ``hf:FOLDER``; or
            the path of class folders, or of a table with columns of paths, of labels and, if it has one, of groups.
        root: where the benchmark lies; for ``hf:``, where images are written; for a path that does not exist as it
            is, what it is relative to.
        classes: class texts by label, or all of them as a list. Otherwise a benchmark has its own, and other data
            have their labels, cleaned.
        group_pattern: a regular expression that is searched in each file's name; its first group, or all that it
            matches, is what the image is of. It replaces groups that the data have.
        without: labels of classes to leave out.
        keep: a list of images as ``atha data check --write-list`` writes it; all others are left out.
        ignore_groups: whether images of one patient or lesion may be in support and query.
        selection: which rows of a table are wanted, and where it has what.

    Returns:
        The pool, by class and then by id.

    Raises:
        DataError: the data cannot be found or read, or an option does not fit them.
    """
    if dataset in benchmarks():
        if selection.given:
            raise DataError(f"{selection.given[0]} is for tables, and {dataset} is a benchmark; leave it out")
        pool = _benchmark(dataset, root, classes)
    elif dataset.startswith(hubs.PREFIX):
        images = hubs.fetch(dataset, root or cache_folder() / "hub", selection)
        pool = _own(images.name, images.table, classes, Selection())
    else:
        path = own_path(dataset, root)
        pool = _own(_name(path), path, classes, selection)
    if keep is not None:
        pool = _kept(pool, keep)
    if without:
        pool = pool.without(without)
    grouped = pool if group_pattern is None else _grouped(pool, group_pattern)
    return pool.without_groups() if ignore_groups else grouped


def own_path(dataset: str, root: Path | None) -> Path:
    """The path that a data set of the user's own is at.

    Raises:
        DataError: nothing is there; the message names the benchmark that may have been meant.
    """
    path = Path(dataset)
    if root is not None and not kind_of(path):
        path = root / dataset
    if not dataset or not kind_of(path):
        names = list(benchmarks())
        near = difflib.get_close_matches(dataset.casefold(), names, n=1)
        hint = f" (did you mean '{near[0]}'?)" if near else did_you_mean(path) if dataset else ""
        raise DataError(
            f"there is no data set '{dataset}'{hint}; give {', '.join(names)}, class folders, a table, or hf:ORG/NAME"
        )
    return path


def _benchmark(name: str, root: Path | None, classes: Texts | None) -> Pool:
    if root is None:
        raise DataError(f"{name} needs the folder that it lies in, as --root DIR (a folder of your own: ./{name})")
    pool = read(benchmarks()[name], root)
    if classes is None:
        return pool
    texts = name_classes(pool.classes, classes)
    if isinstance(classes, Mapping):
        # A class that the mapping leaves out keeps its own text. No two classes have one text, so a text tells whether
        # it is from the mapping.
        given = {str(text) for text in classes.values()}
        texts = {label: text if text in given else pool.texts[label] for label, text in texts.items()}
        texts = name_classes(pool.classes, texts)
    return replace(pool, texts=texts, texts_source="the user")


def _own(name: str, path: Path, classes: Texts | None, selection: Selection) -> Pool:
    """Class folders or a table as a pool."""
    images = read_labelled(path, selection)
    whole = kind_of(path) == "file" and not selection.given
    labels_hash = hashlib.sha256(path.read_bytes()).hexdigest() if whole else ""
    task = Classes.of_support(images, classes)  # refuses what fit refuses
    texts = name_classes(images.labels, classes)
    order = {label: index for index, label in enumerate(texts)}
    groups = images.groups or ("",) * len(images.samples)
    rows = sorted(
        (order[sample.label], _id(Path(str(sample.image)), images.base or path), str(sample.image), sample.label, group)
        for sample, group in zip(images.samples, groups, strict=True)
    )
    ids = tuple(row[1] for row in rows)
    _check_unique(images, ids)
    labels = tuple(row[3] for row in rows)
    return Pool(
        name=name,
        ids=ids,
        files=tuple(Path(row[2]) for row in rows),
        labels=labels,
        texts=texts,
        texts_source="the labels, cleaned" if classes is None else "the user",
        labels_hash=labels_hash or listing_hash(ids, labels),
        groups=None if images.groups is None else tuple(row[4] for row in rows),
        group_kind=images.group_kind,
        notes=(*images.ignored, *filter(None, [task.wordless(images.source)])),
    )


def _name(path: Path) -> str:
    """The folder's name, or the table's without its ending."""
    named = path if path.name not in ("", "..") else path.resolve()
    return (named.name if kind_of(path) == "folder" else named.stem) or "images"


def _id(image: Path, base: Path) -> str:
    """The path relative to the data set, the same wherever that lies and whoever asks."""
    return PurePath(os.path.relpath(image, base)).as_posix()


def _check_unique(images: LabelledImages, ids: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in ids:
        if name in seen:
            raise DataError(f"{images.source} has the image '{name}' twice; keep one of the two")
        seen.add(name)


def _kept(pool: Pool, listed: Path) -> Pool:
    """The pool cut down to a list, whose labels must be the pool's."""
    if kind_of(listed) != "file":
        raise DataError(
            f"there is no list '{listed}'{did_you_mean(listed)}; make one with atha data check --write-list"
        )
    (_, header), *rows = read_rows(listed)
    columns = matching(header, IMAGE_COLUMNS)[:1] + matching(header, LABEL_COLUMNS)[:1]
    if len(columns) < 2:
        raise DataError(f"{listed}: has no columns 'path' and 'label'; make it with atha data check --write-list")
    cells = ([row[column] for column in columns] for _, row in rows if len(row) > max(columns))
    listing = {os.path.normpath(path): label for path, label in cells}
    cut = pool.only(listing, str(listed))
    for name, label in zip(cut.ids, cut.labels, strict=True):
        if listing[name] != label:
            raise DataError(
                f"{listed} gives '{name}' the label '{listing[name]}' and {pool.name} has '{label}': make the list "
                "from this data set"
            )
    return cut


def _grouped(pool: Pool, pattern: str) -> Pool:
    """The pool with groups from file names, which change what episodes there can be and so the hash of the labels."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise DataError(f"the group pattern '{pattern}' is no regular expression ({error}); correct it") from error
    groups: list[str] = []
    for name, file in zip(pool.ids, pool.files, strict=True):
        found = compiled.search(file.name)
        group = found and found.group(1 if compiled.groups else 0)
        if not group:
            raise DataError(
                f"the group pattern '{pattern}' finds no group in the file name of '{name}'; "
                "give one that fits all names"
            )
        groups.append(group)
    labels_hash = listing_hash([pool.labels_hash, *pool.ids], ["", *groups])
    return replace(pool, groups=tuple(groups), group_kind="group", labels_hash=labels_hash)
