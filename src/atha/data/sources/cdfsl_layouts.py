"""The layouts of the four benchmarks: what their archives hold, and how images and labels are found in it."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from atha.data.finding import IMAGE_SUFFIXES, is_hidden, kind_of, unlistable, walk_files
from atha.data.pool import Pool, listing_hash
from atha.data.sources.rows import read_rows
from atha.data.survey import Benchmark, Survey
from atha.errors import DataError

ISIC_LABELS = "ISIC2018_Task3_Training_GroundTruth.csv"
ISIC_IMAGES = "ISIC2018_Task3_Training_Input"
ISIC_LESIONS = "ISIC2018_Task3_Training_LesionGroupings.csv"
CHESTX_LABELS = "Data_Entry_2017.csv"
CHESTX_OTHER_LABELS = "Data_Entry_2017_v2020.csv"
#: Id, file, label, group.
Row = tuple[str, Path, str, str]


def entries(folder: Path) -> list[Path]:
    """What is in a folder and is not hidden, sorted by name."""
    try:
        return sorted((entry for entry in folder.iterdir() if not is_hidden(entry.name)), key=lambda path: path.name)
    except OSError as error:
        raise unlistable(folder, error) from error


# Class folders


def _has_class_folder(benchmark: Benchmark, place: Path) -> bool:
    return any(kind_of(place / label) == "folder" for label in benchmark.texts)


def _survey_folders(benchmark: Benchmark, found: Survey, home: Path) -> Pool:
    inside = entries(home)
    folders = {entry.name: entry for entry in inside if kind_of(entry) == "folder"}
    beside = [entry.name for entry in inside if entry.name not in folders]
    found.extra_folders = tuple(name for name in folders if name not in benchmark.texts)
    found.missing_folders = tuple(label for label in benchmark.texts if label not in folders)
    if found.missing_folders:
        found.problems += (
            f"{_many(len(found.missing_folders), 'class folder')} missing in '{home}': {some(found.missing_folders)}; "
            "unpack the archive again",
        )
    if found.extra_folders:
        found.problems += (
            f"{_many(len(found.extra_folders), 'folder')} in '{home}' and no class of {benchmark.name}: "
            f"{some(found.extra_folders)}; move what is not of the archive elsewhere",
        )
    others, rows = 0, list[Row]()
    for label in benchmark.texts:
        files = walk_files(folders[label]) if label in folders else []
        images = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
        others += len(files) - len(images)
        rows += [(path.relative_to(home).as_posix(), path, label, "") for path in images]
        if label in folders and not images:
            found.problems += (f"the class folder '{folders[label]}' holds no image; unpack the archive again",)
    if beside:
        found.notes += (f"beside the class folders and not used: {some(beside)}",)
    if others:
        found.notes += (f"{_many(others, 'file')} in the class folders without the name of an image, and not used",)
    return make_pool(benchmark, rows)


# ISIC 2018


def _isic_labels(place: Path) -> list[Path]:
    """The label file's path where the archives put it: alone, or in a folder of its own."""
    return [path for path in (place / ISIC_LABELS, place / Path(ISIC_LABELS).stem / ISIC_LABELS) if path.is_file()]


def _survey_isic(benchmark: Benchmark, found: Survey, home: Path) -> Pool:
    found.label_file = _isic_labels(home)[0]
    table, digest = _read_label_file(found, found.label_file, ["image", *benchmark.texts])
    if table is None:
        return make_pool(benchmark, labels_hash=digest)
    lesions = _read_lesions(found, home)
    unknown = [name for name in table.header if name and name not in {"image", *benchmark.texts}]
    if unknown:
        found.notes += (f"columns of {found.label_file.name} that are no class and are not used: {some(unknown)}",)
    listed: list[tuple[str, str, str]] = []
    bad: list[str] = []
    for number, row in table.rows:
        name = table.value(row, "image")
        if not _is_plain(name):
            bad.append(f"row {number} has the image '{name}', which is not the plain name of a file")
            continue
        values = {label: table.value(row, label) for label in benchmark.texts}
        hot = [label for label, value in values.items() if _number(value) == 1]
        if len(hot) != 1 or any(_number(value) not in (0, 1) for value in values.values()):
            bad.append(f"row {number} ('{name}') has {' '.join(values.values())} and must have one 1 among zeros")
            continue
        listed.append((f"{name}.jpg", hot[0], (lesions or {}).get(name, "")))
    _report_rows(found, bad)
    _report_repeated(found, [name for name, _, _ in listed])
    folder = home / ISIC_IMAGES
    rows = _take(found, listed, _index([folder])[0], f"'{folder}'")
    grouped = "" if lesions is None else "lesion"
    if lesions and any(not group for _, _, _, group in rows):
        grouped = ""
        found.notes += (f"{ISIC_LESIONS} leaves images out, so it is not used: support and query may share a lesion",)
    return make_pool(benchmark, rows, grouped, digest)


def _read_lesions(found: Survey, home: Path) -> dict[str, str] | None:
    """The lesion of each image; None if they are not known."""
    places = (home / ISIC_LESIONS, home / Path(ISIC_LABELS).stem / ISIC_LESIONS, home / ISIC_IMAGES / ISIC_LESIONS)
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        found.notes += (f"{ISIC_LESIONS} is not there, so lesions are not known: support and query may share a lesion",)
        return None
    table, _ = _read_label_file(found, path, ["image", "lesion_id"])
    if table is None:
        return None
    return {table.value(row, "image"): table.value(row, "lesion_id") for _, row in table.rows}


# ChestX


def _chestx_labels(place: Path) -> list[Path]:
    return [path for path in (place / CHESTX_LABELS, place / CHESTX_OTHER_LABELS) if path.is_file()]


def _survey_chestx(benchmark: Benchmark, found: Survey, home: Path) -> Pool:
    found.label_file = _chestx_labels(home)[0]
    both = len(_chestx_labels(home)) > 1
    if found.label_file.name == CHESTX_OTHER_LABELS:
        found.problems += (
            f"'{home}' has {CHESTX_OTHER_LABELS} and no {CHESTX_LABELS}: that is a later labelling, which gives "
            f"another choice of images than the protocol's; get {CHESTX_LABELS}",
        )
    elif both:
        found.notes += (f"{CHESTX_OTHER_LABELS}, another labelling, is there too and is not used",)
    table, digest = _read_label_file(found, found.label_file, ["Image Index", "Finding Labels"])
    if table is None:
        return make_pool(benchmark, labels_hash=digest)
    listed: list[tuple[str, str, str]] = []
    bad: list[str] = []
    passed: Counter[str] = Counter()
    for number, row in table.rows:
        name, findings = table.value(row, "Image Index"), table.value(row, "Finding Labels").split("|")
        if not _is_plain(name):
            bad.append(f"row {number} has the image '{name}', which is not the plain name of a file")
        elif len(findings) > 1:
            passed["several findings"] += 1
        elif findings[0] not in benchmark.texts:
            passed["no finding" if findings[0] == "No Finding" else "another finding"] += 1
        else:
            listed.append((name, findings[0], table.value(row, "Patient ID")))
    if not all(patient for _, _, patient in listed):
        # Every official file name starts with the patient's number, in eight digits. One source for all rows: a number
        # and a name's digits are written differently.
        listed = [(name, finding, name[:8]) for name, finding, _ in listed]
    if passed:
        found.notes += ("rows passed over: " + ", ".join(f"{passed[why]:,} with {why}" for why in sorted(passed)),)
    _report_rows(found, bad)
    _report_repeated(found, [name for name, _, _ in listed])
    folders = [home / "images"]
    folders += [home / f"images_{number:03}" / "images" for number in range(1, 13)]
    images, twice = _index(folders)
    if twice:
        found.notes += (f"{_many(len(twice), 'image')} in two of the image folders, the first is '{twice[0]}'",)
    rows = _take(found, listed, images, f"'{home / 'images'}' or images_001/images to images_012/images beside it")
    return make_pool(benchmark, rows, "patient", digest)


# Label files


@dataclass(frozen=True)
class _Table:
    header: list[str]
    rows: list[tuple[int, list[str]]]

    def value(self, row: Sequence[str], column: str) -> str:
        """The value of a row in the column of that name; empty if there is none."""
        index = self.header.index(column) if column in self.header else len(row)
        return row[index] if index < len(row) else ""


def _read_label_file(found: Survey, path: Path, needed: Sequence[str]) -> tuple[_Table | None, str]:
    """The table, or None and a problem; and the file's SHA-256, empty if it is no table.

    Columns go by their names, whatever their order.
    """
    try:
        (_, header), *rows = read_rows(path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except DataError as error:
        found.problems += (str(error),)
        return None, ""
    lacking = [name for name in needed if name not in header]
    twice = [name for name in needed if header.count(name) > 1]
    if lacking or twice:
        what = f"no column {some(lacking)}" if lacking else f"two columns {some(twice)}"
        found.problems += (f"{path}: the header has {what}, only {some(header, 20)}; get the file again",)
        return None, digest
    return _Table(header, rows), digest


def _take(found: Survey, listed: Iterable[tuple[str, str, str]], images: Mapping[str, Path], where: str) -> list[Row]:
    """The rows (file name, label, group) of the label file whose images are there; the others are named."""
    rows: dict[str, Row] = {}
    missing: dict[str, None] = {}
    for name, label, group in listed:
        if name in images:
            rows.setdefault(name, (name, images[name], label, group))
        else:
            missing[name] = None
    found.missing = tuple(sorted(missing))
    if missing:
        found.problems += (
            f"{_many(len(missing), 'image')} of {found.label_file} not in {where}, the first is "
            f"'{found.missing[0]}': unpack the archive of images again",
        )
    return list(rows.values())


def make_pool(benchmark: Benchmark, rows: Iterable[Row] = (), grouped: str = "", labels_hash: str = "") -> Pool:
    """The rows in the order of the classes, then of the ids. ``grouped``: what a group is, if groups are known."""
    order = {label: index for index, label in enumerate(benchmark.texts)}
    in_order = sorted(rows, key=lambda row: (order[row[2]], row[0]))
    ids, files, labels, groups = zip(*in_order, strict=True) if in_order else ((), (), (), ())
    return Pool(
        name=benchmark.name,
        ids=ids,
        files=files,
        labels=labels,
        texts=dict(benchmark.texts),
        texts_source=benchmark.texts_source,
        labels_hash=labels_hash or listing_hash(ids, labels),
        groups=groups if grouped else None,
        group_kind=grouped,
    )


def _report_rows(found: Survey, bad: Sequence[str]) -> None:
    if bad:
        more = f" (and {len(bad) - 1:,} more rows are like it)" if len(bad) > 1 else ""
        found.problems += (f"{found.label_file}: {bad[0]}{more}; get the file again",)


def _report_repeated(found: Survey, names: Sequence[str]) -> None:
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        found.problems += (
            f"{found.label_file} lists {_many(len(twice), 'image')} more than once, the first is '{twice[0]}'; "
            "get the file again",
        )


def _index(folders: Sequence[Path]) -> tuple[dict[str, Path], list[str]]:
    """The files in some folders by name, each folder listed once, and the names that are there twice."""
    files: dict[str, Path] = {}
    twice: list[str] = []
    for folder in folders:
        if kind_of(folder) != "folder":
            continue
        try:
            names = sorted(os.listdir(folder))  # noqa: PTH208 - a Path for each of 112,120 names takes long
        except OSError as error:
            raise unlistable(folder, error) from error
        for name in names:
            if name in files:
                twice.append(name)
            else:
                files[name] = folder / name
    return files, twice


def _is_plain(name: str) -> bool:
    """Whether a name from a label file is that of a file and leads nowhere else."""
    return bool(name) and not is_hidden(name) and not set(name) & {"/", "\\", ":", "\0"}


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _many(count: int, what: str) -> str:
    return f"{count:,} {what} is" if count == 1 else f"{count:,} {what}s are"


def some(names: Sequence[str], limit: int = 5) -> str:
    return ", ".join([f"'{name}'" for name in names[:limit]] + [f"... ({len(names)} in all)"] * (len(names) > limit))


@dataclass(frozen=True)
class Layout:
    """What shows that a folder is a benchmark's, and what reads it: fills the survey in and gives the images."""

    what: str
    marks: Callable[[Benchmark, Path], bool]
    survey: Callable[[Benchmark, Survey, Path], Pool]


LAYOUTS: Mapping[str, Layout] = {
    "folders": Layout("a folder of a class of it", _has_class_folder, _survey_folders),
    "isic": Layout(ISIC_LABELS, lambda _, place: bool(_isic_labels(place)), _survey_isic),
    "chestx": Layout(CHESTX_LABELS, lambda _, place: bool(_chestx_labels(place)), _survey_chestx),
}
