"""The layouts of the four benchmarks: what their archives hold, and how images and labels are found in it."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from atha.data.finding import IMAGE_SUFFIXES, is_hidden, kind_of, unlistable, walk_files
from atha.data.pool import Pool, listing_hash
from atha.data.sources.table import read_rows
from atha.errors import DataError

ISIC_LABELS = "ISIC2018_Task3_Training_GroundTruth.csv"
ISIC_IMAGES = "ISIC2018_Task3_Training_Input"
ISIC_LESIONS = "ISIC2018_Task3_Training_LesionGroupings.csv"
CHESTX_LABELS = "Data_Entry_2017.csv"
CHESTX_OTHER_LABELS = "Data_Entry_2017_v2020.csv"


@dataclass(frozen=True)
class Benchmark:
    """What the published protocol expects of a data set.

    Attributes:
        name: such as ``eurosat``.
        title: its name in full.
        reader: how it is laid out: ``folders``, ``isic`` or ``chestx``.
        texts: label -> class text, in the order of the classes.
        texts_source: where the texts come from.
        total: how many images there should be.
        approximate: whether the total is known only roughly.
        counts: how many of each class, where that is published; else empty.
        folders: names that the data set's folder may have, in any case.
        inner: the folder below it that holds the data; may be empty.
        source: where the official archives are.
        layout: what the files are called.
    """

    name: str
    title: str
    reader: str
    texts: Mapping[str, str]
    texts_source: str
    total: int
    folders: tuple[str, ...]
    inner: str
    source: str
    layout: str
    approximate: bool = False
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass
class Survey:
    """All that is there of a benchmark, right or wrong.

    Attributes:
        benchmark: what is expected.
        home: the folder that holds class folders or label file; None if it was not found.
        pool: the images that are there and are labelled.
        missing: ids of images that the label file lists and that are not there.
        label_file: the file of labels; None if folders are the labels.
        extra_folders: folders that are no class.
        missing_folders: classes without a folder.
        problems: sentences, each of which makes the data another than the protocol's or unusable.
        notes: sentences about what was passed over.
    """

    benchmark: Benchmark
    home: Path | None
    pool: Pool
    missing: tuple[str, ...] = ()
    label_file: Path | None = None
    extra_folders: tuple[str, ...] = ()
    missing_folders: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass
class Facts:
    """What a reader gathers."""

    benchmark: Benchmark
    rows: list[tuple[str, Path, str, str]] = field(default_factory=list)  # id, file, label, group
    missing: list[str] = field(default_factory=list)
    grouped: str = ""
    label_file: Path | None = None
    labels_hash: str = ""
    extra_folders: tuple[str, ...] = ()
    missing_folders: tuple[str, ...] = ()
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def take(self, rows: Iterable[tuple[str, str, str]], images: Mapping[str, Path], where: str) -> None:
        """Takes the rows (file name, label, group) of a label file whose images are there, and names the others."""
        listed: set[str] = set()
        for name, label, group in rows:
            if name in listed:
                continue
            listed.add(name)
            if name in images:
                self.rows.append((name, images[name], label, group))
            else:
                self.missing.append(name)
        if self.missing:
            self.problems.append(
                f"{_many(len(self.missing), 'image')} of {self.label_file} not in {where}, the first is "
                f"'{min(self.missing)}': unpack the archive of images again"
            )

    def survey(self, home: Path | None) -> Survey:
        """The facts in their final form and order."""
        order = {label: index for index, label in enumerate(self.benchmark.texts)}
        rows = sorted(self.rows, key=lambda row: (order[row[2]], row[0]))
        ids, files, labels, groups = zip(*rows, strict=True) if rows else ((), (), (), ())
        pool = Pool(
            name=self.benchmark.name,
            ids=ids,
            files=files,
            labels=labels,
            texts=dict(self.benchmark.texts),
            texts_source=self.benchmark.texts_source,
            labels_hash=self.labels_hash or listing_hash(ids, labels),
            groups=groups if self.grouped else None,
            group_kind=self.grouped,
            notes=tuple(self.notes),
        )
        return Survey(
            self.benchmark,
            home,
            pool,
            missing=tuple(sorted(self.missing)),
            label_file=self.label_file,
            extra_folders=self.extra_folders,
            missing_folders=self.missing_folders,
            problems=tuple(self.problems),
            notes=tuple(self.notes),
        )


def entries(folder: Path) -> list[Path]:
    """What is in a folder and is not hidden, sorted by name."""
    try:
        return sorted((entry for entry in folder.iterdir() if not is_hidden(entry.name)), key=lambda path: path.name)
    except OSError as error:
        raise unlistable(folder, error) from error


# Class folders


def _has_class_folder(benchmark: Benchmark, place: Path) -> bool:
    return any(kind_of(place / label) == "folder" for label in benchmark.texts)


def _survey_folders(facts: Facts, home: Path) -> None:
    inside = entries(home)
    folders = {entry.name: entry for entry in inside if kind_of(entry) == "folder"}
    beside = [entry.name for entry in inside if entry.name not in folders]
    facts.extra_folders = tuple(name for name in folders if name not in facts.benchmark.texts)
    facts.missing_folders = tuple(label for label in facts.benchmark.texts if label not in folders)
    if facts.missing_folders:
        facts.problems.append(
            f"{_many(len(facts.missing_folders), 'class folder')} missing in '{home}': {some(facts.missing_folders)}; "
            "unpack the archive again"
        )
    if facts.extra_folders:
        facts.problems.append(
            f"{_many(len(facts.extra_folders), 'folder')} in '{home}' and no class of {facts.benchmark.name}: "
            f"{some(facts.extra_folders)}; move what is not of the archive elsewhere"
        )
    others = 0
    for label in facts.benchmark.texts:
        files = walk_files(folders[label]) if label in folders else []
        images = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
        others += len(files) - len(images)
        facts.rows += [(path.relative_to(home).as_posix(), path, label, "") for path in images]
        if label in folders and not images:
            facts.problems.append(f"the class folder '{folders[label]}' holds no image; unpack the archive again")
    if beside:
        facts.notes.append(f"beside the class folders and not used: {some(beside)}")
    if others:
        facts.notes.append(f"{_many(others, 'file')} in the class folders without the name of an image, and not used")


# ISIC 2018


def _isic_labels(place: Path) -> list[Path]:
    """The label file's path where the archives put it: alone, or in a folder of its own."""
    return [path for path in (place / ISIC_LABELS, place / Path(ISIC_LABELS).stem / ISIC_LABELS) if path.is_file()]


def _survey_isic(facts: Facts, home: Path) -> None:
    facts.label_file = _isic_labels(home)[0]
    table = _read_label_file(facts, facts.label_file, ["image", *facts.benchmark.texts])
    if table is None:
        return
    lesions = _read_lesions(facts, home)
    unknown = [name for name in table.header if name and name not in {"image", *facts.benchmark.texts}]
    if unknown:
        facts.notes.append(f"columns of {facts.label_file.name} that are no class and are not used: {some(unknown)}")
    listed: list[tuple[str, str, str]] = []
    bad: list[str] = []
    for number, row in table.rows:
        name = table.value(row, "image")
        if not _is_plain(name):
            bad.append(f"row {number} has the image '{name}', which is not the plain name of a file")
            continue
        values = {label: table.value(row, label) for label in facts.benchmark.texts}
        hot = [label for label, value in values.items() if _number(value) == 1]
        if len(hot) != 1 or any(_number(value) not in (0, 1) for value in values.values()):
            bad.append(f"row {number} ('{name}') has {' '.join(values.values())} and must have one 1 among zeros")
            continue
        listed.append((f"{name}.jpg", hot[0], lesions.get(name, "")))
    _report_rows(facts, bad)
    _report_repeated(facts, [name for name, _, _ in listed])
    folder = home / ISIC_IMAGES
    facts.take(listed, _index([folder])[0], f"'{folder}'")
    if lesions and facts.grouped and any(not group for _, _, _, group in facts.rows):
        facts.grouped = ""
        facts.notes.append(f"{ISIC_LESIONS} leaves images out, so it is not used: support and query may share a lesion")


def _read_lesions(facts: Facts, home: Path) -> dict[str, str]:
    """The lesion of each image; empty if they are not known."""
    places = (home / ISIC_LESIONS, home / Path(ISIC_LABELS).stem / ISIC_LESIONS, home / ISIC_IMAGES / ISIC_LESIONS)
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        facts.notes.append(
            f"{ISIC_LESIONS} is not there, so lesions are not known: support and query may share a lesion"
        )
        return {}
    table = _read_label_file(facts, path, ["image", "lesion_id"], labels=False)
    if table is None:
        return {}
    facts.grouped = "lesion"
    return {table.value(row, "image"): table.value(row, "lesion_id") for _, row in table.rows}


# ChestX


def _chestx_labels(place: Path) -> list[Path]:
    return [path for path in (place / CHESTX_LABELS, place / CHESTX_OTHER_LABELS) if path.is_file()]


def _survey_chestx(facts: Facts, home: Path) -> None:
    facts.label_file = _chestx_labels(home)[0]
    both = len(_chestx_labels(home)) > 1
    if facts.label_file.name == CHESTX_OTHER_LABELS:
        facts.problems.append(
            f"'{home}' has {CHESTX_OTHER_LABELS} and no {CHESTX_LABELS}: that is a later labelling, which gives "
            f"another choice of images than the protocol's; get {CHESTX_LABELS}"
        )
    elif both:
        facts.notes.append(f"{CHESTX_OTHER_LABELS}, another labelling, is there too and is not used")
    table = _read_label_file(facts, facts.label_file, ["Image Index", "Finding Labels"])
    if table is None:
        return
    facts.grouped = "patient"
    listed: list[tuple[str, str, str]] = []
    bad: list[str] = []
    passed: Counter[str] = Counter()
    for number, row in table.rows:
        name, findings = table.value(row, "Image Index"), table.value(row, "Finding Labels").split("|")
        if not _is_plain(name):
            bad.append(f"row {number} has the image '{name}', which is not the plain name of a file")
        elif len(findings) > 1:
            passed["several findings"] += 1
        elif findings[0] not in facts.benchmark.texts:
            passed["no finding" if findings[0] == "No Finding" else "another finding"] += 1
        else:
            listed.append((name, findings[0], table.value(row, "Patient ID")))
    if not all(patient for _, _, patient in listed):
        # Every official file name starts with the patient's number, in eight digits. One source for all rows: a number
        # and a name's digits are written differently.
        listed = [(name, finding, name[:8]) for name, finding, _ in listed]
    if passed:
        facts.notes.append("rows passed over: " + ", ".join(f"{passed[why]:,} with {why}" for why in sorted(passed)))
    _report_rows(facts, bad)
    _report_repeated(facts, [name for name, _, _ in listed])
    folders = [home / "images"]
    folders += [home / f"images_{number:03}" / "images" for number in range(1, 13)]
    images, twice = _index(folders)
    if twice:
        facts.notes.append(f"{_many(len(twice), 'image')} in two of the image folders, the first is '{twice[0]}'")
    facts.take(listed, images, f"'{home / 'images'}' or images_001/images to images_012/images beside it")


# Label files


@dataclass(frozen=True)
class _Table:
    header: list[str]
    rows: list[tuple[int, list[str]]]

    def value(self, row: Sequence[str], column: str) -> str:
        """The value of a row in the column of that name; empty if there is none."""
        index = self.header.index(column) if column in self.header else len(row)
        return row[index] if index < len(row) else ""


def _read_label_file(facts: Facts, path: Path, needed: Sequence[str], labels: bool = True) -> _Table | None:
    """The table, or None and a problem. Columns go by their names, whatever their order."""
    try:
        (_, header), *rows = read_rows(path)
        if labels:
            facts.labels_hash = hashlib.sha256(path.read_bytes()).hexdigest()
    except DataError as error:
        facts.problems.append(str(error))
        return None
    lacking = [name for name in needed if name not in header]
    twice = [name for name in needed if header.count(name) > 1]
    if lacking or twice:
        what = f"no column {some(lacking)}" if lacking else f"two columns {some(twice)}"
        facts.problems.append(f"{path}: the header has {what}, only {some(header, 20)}; get the file again")
        return None
    return _Table(header, rows)


def _report_rows(facts: Facts, bad: Sequence[str]) -> None:
    if bad:
        more = f" (and {len(bad) - 1:,} more rows are like it)" if len(bad) > 1 else ""
        facts.problems.append(f"{facts.label_file}: {bad[0]}{more}; get the file again")


def _report_repeated(facts: Facts, names: Sequence[str]) -> None:
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        facts.problems.append(
            f"{facts.label_file} lists {_many(len(twice), 'image')} more than once, the first is '{twice[0]}'; "
            "get the file again"
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
    """What shows that a folder is a benchmark's, and what reads it."""

    what: str
    marks: Callable[[Benchmark, Path], bool]
    survey: Callable[[Facts, Path], None]


LAYOUTS: Mapping[str, Layout] = {
    "folders": Layout("a folder of a class of it", _has_class_folder, _survey_folders),
    "isic": Layout(ISIC_LABELS, lambda _, place: bool(_isic_labels(place)), _survey_isic),
    "chestx": Layout(CHESTX_LABELS, lambda _, place: bool(_chestx_labels(place)), _survey_chestx),
}
