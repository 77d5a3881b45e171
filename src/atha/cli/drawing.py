"""The options of ``atha bench`` that say on what data and which episodes, and what they mean."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atha.cli import common
from atha.errors import DataError

if TYPE_CHECKING:
    from atha.data import Selection
    from atha.data.pool import Pool
    from atha.episodes import EpisodeSet

DATA_PANEL = "Data"
EPISODES_PANEL = "Episodes"

Dataset = Annotated[
    list[str] | None,
    typer.Option(
        "--dataset",
        help="eurosat, cropdiseases, isic2018 or chestx (with --root); class folders, a CSV or hf:ORG/NAME of your "
        "own. Several: repeat, or with commas.",
        rich_help_panel=DATA_PANEL,
    ),
]
Root = Annotated[Path | None, typer.Option(help="Folder that holds the benchmark's files.", rich_help_panel=DATA_PANEL)]
Texts = Annotated[
    str | None,
    typer.Option(
        "--classes",
        help="Texts of your own data's classes: a JSON file (label -> text), or the benchmark whose labels they are.",
        rich_help_panel=DATA_PANEL,
    ),
]
Without = Annotated[
    list[str] | None,
    typer.Option(help="Labels to leave out. Several: repeat, or with commas.", rich_help_panel=DATA_PANEL),
]
Keep = Annotated[
    Path | None,
    typer.Option(
        help="CSV of the images to use, as atha data check --write-list makes it.", rich_help_panel=DATA_PANEL
    ),
]
GroupPattern = Annotated[
    str | None,
    typer.Option(
        help="Regular expression for file names whose first group says of what patient, lesion or object an image "
        "is: support and query then share none.",
        rich_help_panel=DATA_PANEL,
    ),
]
IgnoreGroups = Annotated[
    bool,
    typer.Option(
        "--ignore-groups",
        help="Let support and query share a patient, as published runs do.",
        rich_help_panel=DATA_PANEL,
    ),
]
Way = Annotated[int | None, typer.Option(help="Classes per episode. (default: 5)", rich_help_panel=EPISODES_PANEL)]
Shot = Annotated[
    str | None,
    typer.Option(help="Support images per class; several with commas. (default: 5)", rich_help_panel=EPISODES_PANEL),
]
Query = Annotated[
    int | None, typer.Option(help="Query images per class. (default: 15)", rich_help_panel=EPISODES_PANEL)
]
Episodes = Annotated[
    int | None,
    typer.Option(help="How many; more can be added later. (default: 400)", rich_help_panel=EPISODES_PANEL),
]
Seed = Annotated[int | None, typer.Option(help="Of the episodes. (default: 1)", rich_help_panel=EPISODES_PANEL)]


class Wanted:
    """Which episodes of which data sets."""

    def __init__(self, datasets: list[str], way: int, query: int, seed: int, shots: dict[int, int]) -> None:
        self.datasets, self.way, self.query, self.seed, self.shots = datasets, way, query, seed, shots
        if not datasets:
            raise DataError("say on what data: --dataset isic2018 --root DIR, or --dataset FOLDER of class folders")

    def draw(
        self,
        root: Path | None,
        classes: str | None,
        without: list[str],
        keep: Path | None,
        group_pattern: str | None,
        ignore_groups: bool,
        file: Path | None,
        selection: "Selection | None" = None,
    ) -> list[tuple["Pool", "EpisodeSet"]]:
        from atha.data import Selection
        from atha.data.opening import open_pool
        from atha.episodes import draw_episodes, read_episodes

        if file is not None and len(self.datasets) > 1:
            raise DataError(f"{file} holds episodes of one data set: give one --dataset")
        sources = []
        for name in dict.fromkeys(self.datasets):
            pool = open_pool(
                name, root, classes=_texts(classes), group_pattern=group_pattern, without=without, keep=keep,
                ignore_groups=ignore_groups, selection=selection or Selection(),
            )  # fmt: skip
            for note in pool.notes:
                common.warn(f"{pool.name}: {note}")
            _hint_at_texts(pool, classes)
            if file is not None:
                sources.append((pool, read_episodes(file, pool)))
                continue
            for shot, number in self.shots.items():
                sources.append((pool, draw_episodes(pool, self.way, shot, self.query, number, self.seed)))
        return sources


def _texts(given: str | None) -> Any:
    """``--classes``: a file, or the benchmark whose texts are meant."""
    from atha.data.sources.cdfsl import benchmarks

    known = benchmarks()
    if given is not None and given in known:
        return dict(known[given].texts)
    return common.read_classes(None if given is None else Path(given))


def _hint_at_texts(pool: "Pool", classes: str | None) -> None:
    """Codes say nothing to a text tower: they cost points, and nobody notices."""
    from atha.data.sources.cdfsl import benchmarks

    for name, known in benchmarks().items():
        codes = known.texts != pool.texts and set(pool.classes) <= set(known.texts)
        if classes is None and pool.name != name and codes:
            common.warn(f"{pool.name}: the classes are those of {name}, --classes {name} gives them its texts")


def listed(values: list[str] | None) -> list[str]:
    """Repeated options, and commas within them."""
    return [part.strip() for value in values or () for part in value.split(",") if part.strip()]


def shots_of(given: str | None, episodes: int | None, default: dict[int, int]) -> dict[int, int]:
    """Shots -> number of episodes."""
    try:
        shots = list(default) if given is None else [int(part) for part in given.split(",")]
    except ValueError:
        raise DataError(f"--shot is '{given}', it must be a number or several with commas, such as 1,5") from None
    return {shot: or_default(episodes, default.get(shot, 400)) for shot in shots}


def or_default(value: int | None, default: int) -> int:
    return default if value is None else value


def distinct(sources: list[tuple["Pool", "EpisodeSet"]]) -> list["Pool"]:
    return list({id(pool): pool for pool, _ in sources}.values())
