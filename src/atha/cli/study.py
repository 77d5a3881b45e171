"""``atha study``: the paper's findings as experiments on one's own data."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from atha import defaults
from atha.cli import common
from atha.cli.common import verb
from atha.cli.drawing import (
    DATA_PANEL,
    EPISODES_PANEL,
    Query,
    Root,
    Seed,
    Wanted,
    Way,
    listed,
    or_default,
)
from atha.cli.running import RUN_PANEL, Threads, Together, Workers, check_store, choose_executor
from atha.errors import DataError

if TYPE_CHECKING:
    from atha.data.pool import Pool
    from atha.episodes import EpisodeSet

app = typer.Typer(help="Test the method's findings on your own data.", no_args_is_help=True, add_completion=False)

_TRY = "What to try"


@app.callback()
def _study() -> None:
    """Test the method's findings on your own data."""


@app.command()
@verb
def tail(
    data: Annotated[
        list[str],
        typer.Option(
            "--data", "--dataset",
            help="Target images: class folders, a CSV, hf:ORG/NAME, or a benchmark with --root. Several: repeat.",
            rich_help_panel=DATA_PANEL,
        ),
    ],
    model: common.Model = defaults.MODEL,
    out: Annotated[Path, typer.Option(help="Folder for study.html, .md, .json and figures.")] = Path("study-tail"),
    source: Annotated[
        str | None,
        typer.Option(
            help="Images like those of pre-training, as class folders, such as Tiny-ImageNet's validation images; "
            "without them there is no CKA.",
            rich_help_panel=DATA_PANEL,
        ),
    ] = None,
    root: Root = None,
    classes: Annotated[
        list[str] | None,
        typer.Option(
            "--classes",
            help="Texts of the classes: a JSON file, or the benchmark whose labels they are; - for the labels "
            "themselves. Several: repeat, in the order of --data.",
            rich_help_panel=DATA_PANEL,
        ),
    ] = None,
    recipe: Annotated[str, typer.Option(help="A preset or file with alignment.", rich_help_panel=_TRY)] = "paper",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one key of the recipe.", rich_help_panel=_TRY),
    ] = None,
    push: Annotated[
        str, typer.Option(help="Strengths of the tail push, with commas; negative pulls.", rich_help_panel=_TRY)
    ] = "-0.3,-0.1,0.1,0.3",
    ratio: Annotated[
        str, typer.Option(help="Shares of the tokens to push, with commas.", rich_help_panel=_TRY)
    ] = "0.1,0.3,1",
    strength: Annotated[float, typer.Option(help="Of the push for --ratio.", rich_help_panel=_TRY)] = 0.1,
    inside: Annotated[
        int, typer.Option(min=0, help="Episodes of each data set to look inside the model.", rich_help_panel=_TRY)
    ] = 5,
    way: Way = None,
    shot: Annotated[int, typer.Option(min=1, help="Support images per class.", rich_help_panel=EPISODES_PANEL)] = 1,
    query: Query = None,
    episodes: Annotated[int, typer.Option(min=1, help="Of each data set.", rich_help_panel=EPISODES_PANEL)] = 40,
    seed: Seed = None,
    transform: Annotated[
        Literal["cdfsl", "processor"], typer.Option(help="Geometry: as published, or the model's own.")
    ] = "cdfsl",
    store: Annotated[
        Path | None,
        typer.Option(help="File for the accuracies; a study goes on where it ends. (default: OUT/study.db)",
                     rich_help_panel=RUN_PANEL),
    ] = None,
    workers: Workers = None,
    threads: Threads = 1,
    together: Together = 1,
    precision: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"],
        typer.Option(help="Of forward passes; auto: by the device.", rich_help_panel=RUN_PANEL),
    ] = "auto",
    revision: Annotated[str | None, typer.Option(help="Commit, branch or tag of a hub model.")] = None,
    device: common.Device = "auto",
    json: common.Json = False,
    debug: common.Debug = False,
) -> None:  # fmt: skip
    """Does pushing tail tokens away help? Accuracy by push and ratio on paired episodes, and what goes on inside.

    Stopped or killed, the same command goes on where it stopped.
    """
    from atha.cli.live import Live

    pushes, ratios = _numbers("--push", push), _numbers("--ratio", ratio)
    results = store or out / "study.db"
    _check_folder(out)
    if store is not None:
        check_store(store)
    sources = _draw(data, listed(classes), root, way, shot, query, episodes, seed)
    origin = _source(source)
    common.say("Loading libraries ...")
    from atha.files import write_whole
    from atha.recipe import Recipe
    from atha.study.tail import Design, look_inside, prepare, run_accuracy, source_episodes, to_dict

    design = Design(Recipe.load(recipe, set_ or ()), pushes, ratios, strength, inside)
    _ = design.variants
    if origin is not None:
        source_episodes(origin, sources)
    common.say(f"Loading {model}, looking at {sum(len(pool.ids) for pool, _ in sources):,} images ...")
    with common.stages() as advance:
        plan, backbone = prepare(
            design, sources, model, out, revision=revision, transform=transform, precision=precision, device=device,
            threads=threads, together=together, cache=out / "cache.db",
            progress=lambda done, total: advance("Images", done, total),
        )  # fmt: skip
    live = Live()
    with live:
        found = run_accuracy(
            design, plan, results, choose_executor("local", None, workers, plan.device, backbone), live
        )
    if inside:
        with common.stages() as advance:
            look_inside(
                design, found, plan, backbone, origin, out / "inside",
                lambda done, total: advance("Looking inside", done, total),
            )  # fmt: skip
    from json import dumps

    from atha.reports.study import verdict, write_study

    content = to_dict(design, found)
    write_whole(out / "study.json", dumps(content, indent=1, ensure_ascii=True) + "\n", overwrite=True)
    written = write_study(design, found, out)
    if json:
        common.print_json(content)
        return
    for one in found:
        common.print_text(f"{one.dataset}: {verdict(one)}")
    common.print_text(f"Written: {written[0]}, {written[1]}, {out / 'study.json'} and {len(written) - 2} figures")


def _numbers(option: str, given: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in given.split(",") if part.strip())
    except ValueError:
        raise DataError(f"{option} is '{given}', it must be numbers with commas") from None
    if not values or not all(abs(value) < 1e6 for value in values):
        raise DataError(f"{option} is '{given}', it must be finite numbers with commas")
    return values


def _check_folder(out: Path) -> None:
    from atha.files import check_free

    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file, choose another --out for the study's folder")
    if out.is_dir() and any(out.iterdir()) and not (out / "recipes").is_dir():
        raise DataError(f"{out} is not empty and no study, choose another --out: nothing there is touched")
    check_free(out / "study.html", overwrite=True)


def _draw(
    data: list[str],
    classes: list[str],
    root: Path | None,
    way: int | None,
    shot: int,
    query: int | None,
    episodes: int,
    seed: int | None,
) -> "list[tuple[Pool, EpisodeSet]]":
    names = listed(data)
    if len(classes) not in (0, 1, len(names)):
        raise DataError(
            f"there are {len(classes)} --classes for {len(names)} --data: give one for all, or one for each"
        )
    if len(set(names)) < len(names):
        raise DataError(f"a data set is named twice in {', '.join(names)}: name each once")
    made = []
    for number, name in enumerate(names):
        texts = classes[number if len(classes) > 1 else 0] if classes else None
        wanted = Wanted([name], or_default(way, 5), or_default(query, 15), or_default(seed, 1), {shot: episodes})
        made += wanted.draw(root, None if texts == "-" else texts, [], None, None, False, None)
    return made


def _source(given: str | None) -> "Pool | None":
    from atha.data.opening import open_pool

    if given is None:
        common.warn("no --source images: CKA between source and target is left out.")
        return None
    return open_pool(given)
