"""``atha bench episodes``: which images are support and query."""

from pathlib import Path
from typing import Annotated

import typer

from atha.cli import common, selecting
from atha.cli.common import verb
from atha.cli.drawing import (
    Dataset,
    Episodes,
    GroupPattern,
    IgnoreGroups,
    Keep,
    Query,
    Root,
    Seed,
    Shot,
    Texts,
    Wanted,
    Way,
    Without,
    listed,
    or_default,
    shots_of,
)
from atha.errors import DataError


@verb
def episodes(
    out: Annotated[Path, typer.Option(help="JSON file to write.")],
    dataset: Dataset = None,
    root: Root = None,
    classes: Texts = None,
    image_column: selecting.ImageColumn = None,
    label_column: selecting.LabelColumn = None,
    images: selecting.Images = None,
    split: selecting.Split = None,
    without: Without = None,
    keep: Keep = None,
    group_pattern: GroupPattern = None,
    ignore_groups: IgnoreGroups = False,
    way: Way = None,
    shot: Shot = None,
    query: Query = None,
    episodes: Episodes = None,
    seed: Seed = None,
    overwrite: common.Overwrite = False,
    debug: common.Debug = False,
) -> None:
    """Write the episodes that bench run would use: which images, by id, are support and query."""
    from atha.data import Selection
    from atha.episodes import write_episodes

    wanted = Wanted(
        listed(dataset),
        or_default(way, 5),
        or_default(query, 15),
        or_default(seed, 1),
        shots_of(shot, episodes, {5: 400}),
    )
    selection = Selection("all", image_column, label_column, images, split)
    sources = wanted.draw(root, classes, listed(without), keep, group_pattern, ignore_groups, None, selection)
    if len(sources) != 1:
        raise DataError(f"a file holds one sequence and these are {len(sources)}: give one --dataset and one --shot")
    write_episodes(out, sources[0][1], overwrite)
    common.print_text(f"{len(sources[0][1].episodes)} episodes in {out}, hash {sources[0][1].hash}")
