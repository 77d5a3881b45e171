"""What a store holds: each method's accuracy with its interval, per class, and calibration."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from atha.bench.results import Experiment, definition_hash
from atha.calibration import calibration_error
from atha.documents.tables import Table
from atha.documents.words import mean_percent
from atha.errors import DataError
from atha.statistics import Mean, mean_interval, per_class

#: What every accuracy of a report is, in one sentence.
READ_ME = "Mean accuracy over episodes in %, ± 1.96 std / sqrt(n) (95%); inductive: queries are classified one by one."


@dataclass(frozen=True)
class Arena:
    """Experiments on the same images, texts, episodes and backbone: what may be compared.

    Attributes:
        title: what it is, in one line, not the same as any other's.
        definition: what the experiments share.
        experiments: method label -> experiment. A label is the method's name, with what tells it from its namesakes.
    """

    title: str
    definition: Mapping[str, Any]
    experiments: Mapping[str, Experiment]

    @property
    def dataset(self) -> str:
        """Name of the data set."""
        return str(self.definition["dataset"]["name"])

    @property
    def shot(self) -> int:
        """Support images per class."""
        return int(self.definition["episodes"]["shot"])


def arenas(experiments: Iterable[Experiment], datasets: Sequence[str] = (), methods: Sequence[str] = ()) -> list[Arena]:
    """Put together what may be compared.

    Args:
        experiments: of a store.
        datasets: names of those to keep; all by default.
        methods: names, or labels, of those to keep; all by default.

    Raises:
        DataError: a name that nothing has.
    """
    grouped: dict[str, list[Experiment]] = {}
    for one in experiments:
        grouped.setdefault(definition_hash(_shared(one.definition)), []).append(one)
    groups = list(grouped.values())
    titles = _told_apart([_title(group[0]) for group in groups], [_shared(group[0].definition) for group in groups])
    made = []
    for title, group in zip(titles, groups, strict=True):
        labels = _told_apart([one.method for one in group], [one.definition["method"] for one in group])
        made.append(Arena(title, _shared(group[0].definition), dict(zip(labels, group, strict=True))))
    for kind, asked, there in (
        ("data set", datasets, {arena.dataset for arena in made}),
        (
            "method",
            methods,
            {name for arena in made for label, one in arena.experiments.items() for name in (label, one.method)},
        ),
    ):
        for name in asked:
            if name not in there:
                raise DataError(f"the store has no {kind} '{name}', it has {', '.join(sorted(there)) or 'no results'}")
    kept = []
    for arena in made:
        found = {
            label: one
            for label, one in arena.experiments.items()
            if not methods or label in methods or one.method in methods
        }
        if found and (not datasets or arena.dataset in datasets):
            kept.append(Arena(arena.title, arena.definition, found))
    return kept


@dataclass(frozen=True)
class Row:
    """One method in one arena.

    Attributes:
        arena: where.
        label: the method.
        accuracy: over episodes, 0 to 1.
        calibration_error: of all queries, 15 bins.
        brier: mean Brier score.
    """

    arena: Arena
    label: str
    accuracy: Mean
    calibration_error: float
    brier: float

    @property
    def experiment(self) -> Experiment:
        """The episodes behind it."""
        return self.arena.experiments[self.label]

    def to_dict(self, time: bool = False, classes: bool = False) -> dict[str, Any]:
        """All figures in plain types. ``time``: seconds and memory too; ``classes``: per-class accuracy too."""
        episodes, one = self.arena.definition["episodes"], self.experiment
        made: dict[str, Any] = {
            "dataset": self.arena.dataset,
            **{key: episodes[key] for key in ("way", "shot", "query", "seed")},
            "model": one.model,
            "setting": self.arena.title,
            "method": self.label,
            "episodes": self.accuracy.n,
            "accuracy": self.accuracy.mean,
            "half_width95": self.accuracy.half,
            "calibration_error": self.calibration_error,
            "brier": self.brier,
            "experiment": one.hash,
        }
        if time:
            made |= {"seconds_median": float(np.median(one.seconds)), "seconds_total": float(one.seconds.sum())}
            made["peak_memory_bytes"] = None if np.isnan(one.memory).all() else int(np.nanmax(one.memory))
        if classes:
            made["per_class"] = per_class_rows(self)
        return made


def rows(found: Iterable[Arena]) -> list[Row]:
    """One row for each method of each arena."""
    return [
        Row(
            arena,
            label,
            mean_interval(one.accuracy),
            calibration_error(one.calibration),
            float(np.mean(one.brier)),
        )
        for arena in found
        for label, one in arena.experiments.items()
    ]


def report_tables(found: Sequence[Arena], time: bool = False, classes: bool = False) -> list[Table]:
    """A table for each arena, and per-class tables where asked for."""
    tables = []
    for arena in found:
        here = rows([arena])
        headers = ["method", "episodes", "accuracy", "ECE", "Brier", *(["s / episode", "peak MB"] if time else [])]
        body = [
            [
                row.label,
                str(row.accuracy.n),
                mean_percent(row.accuracy),
                f"{row.calibration_error:.3f}",
                f"{row.brier:.3f}",
                *(_time_cells(row) if time else []),
            ]
            for row in here
        ]
        tables.append(Table(arena.title, headers, body, _notes(here)))
        if classes:
            tables.append(_class_table(arena, here))
    return tables


def wide_table(found: Sequence[Arena]) -> Table:
    """Methods by data sets, one block per number of shots, with the mean over data sets: the papers' form.

    Raises:
        DataError: two arenas would be in one cell.
    """
    columns = list(dict.fromkeys(arena.dataset for arena in found))
    cells: dict[tuple[int, str], dict[str, Row]] = {}
    for row in rows(found):
        line = cells.setdefault((row.arena.shot, row.label), {})
        if row.arena.dataset in line:
            raise DataError(
                f"{row.label} has two results on {row.arena.dataset} at {row.arena.shot} shots ({row.arena.title}): "
                "leave --wide out, or choose with --method and --dataset"
            )
        line[row.arena.dataset] = row
    body = []
    for (shot, label), line in sorted(cells.items(), key=lambda item: item[0][0]):
        values = [mean_percent(line[name].accuracy) if name in line else "-" for name in columns]
        whole = len(line) == len(columns)
        mean = f"{100 * np.mean([row.accuracy.mean for row in line.values()]):.2f}" if whole else "-"
        body.append([f"{label}, {shot}-shot", *values, mean])
    return Table("", ["method", *columns, "mean"], body, [READ_ME])


def per_class_rows(row: Row) -> list[dict[str, Any]]:
    """Accuracy of each class with its Wilson interval over queries."""
    classes = row.arena.definition["dataset"]["classes"]
    query = int(row.arena.definition["episodes"]["query"])
    found = per_class(row.experiment.classes, row.experiment.correct, query)
    return [
        {
            "class": classes[index][0],
            "text": classes[index][1],
            "episodes": one.episodes,
            "accuracy": one.accuracy,
            "interval95": list(one.interval),
        }
        for index, one in found.items()
    ]


def _notes(here: Sequence[Row]) -> list[str]:
    notes = [READ_ME]
    sets = {row.experiment.hashes for row in here}
    if len(sets) > 1:
        notes.append("The methods have different episodes: their means do not compare, atha bench compare does.")
    return notes


def _time_cells(row: Row) -> list[str]:
    memory = row.experiment.memory
    peak = "-" if np.isnan(memory).all() else f"{np.nanmax(memory) / 1e6:.0f}"
    return [f"{np.median(row.experiment.seconds):.3g}", peak]


def _class_table(arena: Arena, here: Sequence[Row]) -> Table:
    found = {row.label: {one["class"]: one for one in per_class_rows(row)} for row in here}
    body = [
        [
            label if label == text else f"{label} ({text})",
            *(
                f"{100 * there[label]['accuracy']:.1f} ({there[label]['episodes']})" if label in there else "-"
                for there in found.values()
            ),
        ]
        for label, text in arena.definition["dataset"]["classes"]
    ]
    return Table(f"{arena.title}: per class", ["class", *found], body, ["Accuracy in % (episodes with the class)."])


def _shared(definition: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in definition.items() if key != "method"}


def _title(one: Experiment) -> str:
    episodes = one.definition["episodes"]
    apart = ", groups apart" if episodes["groups"] else ""
    return (
        f"{one.definition['dataset']['name']}, {episodes['way']}-way {episodes['shot']}-shot, "
        f"{episodes['query']} queries{apart}, {one.model}"
    )


def _told_apart(names: Sequence[str], definitions: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names with what tells them from their namesakes, such as ``lora (recipe.training.precision=float32)``."""
    made = []
    flat = [dict(_flat(definition)) for definition in definitions]
    for name, values in zip(names, flat, strict=True):
        namesakes = [other for other_name, other in zip(names, flat, strict=True) if other_name == name]
        if len(namesakes) == 1:
            made.append(name)
            continue
        keys = [key for key in values if any(other.get(key) != values[key] for other in namesakes)]
        words = dict.fromkeys(_in_words(key, values) for key in keys)
        made.append(f"{name} ({', '.join(list(words)[:4]) or 'without'})")
    # Where that is not enough, the definition's hash is.
    return [
        label if made.count(label) == 1 else f"{label} {definition_hash(definition)[:8]}"
        for label, definition in zip(made, definitions, strict=True)
    ]


# Keys that say little by themselves -> what to say for all of them.
_WORDS = {
    "dataset.classes": "other class texts",
    "dataset.": "{images} images",
    "episodes.key": "episodes {episodes.key:.6}",
    "episodes.groups": "groups {episodes.groups:.6}",
    "backbone.": "backbone {backbone.content:.6}",
}


def _in_words(key: str, values: Mapping[str, str]) -> str:
    """What a key that differs means to a reader."""
    known = next((words for start, words in _WORDS.items() if key.startswith(start)), None)
    if known is None:
        return f"{key.rpartition('.')[2] if key.startswith('episodes.') else key}={_short(values[key])}"
    images = sum(int(count) for name, count in values.items() if name.startswith("dataset.counts."))
    for name, value in {**values, "images": str(images)}.items():
        known = known.replace(f"{{{name}}}", value).replace(f"{{{name}:.6}}", value[:6])
    return known


def _flat(values: Any, before: str = "") -> Iterable[tuple[str, str]]:
    if isinstance(values, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in values):
        values = dict(values)  # classes and texts
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from _flat(value, f"{before}.{key}" if before else str(key))
    else:
        yield before, str(values)


def _short(value: str) -> str:
    return value if len(value) <= 16 else value[:12]
