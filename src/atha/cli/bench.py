"""``atha bench``: run methods on the same episodes, compare them in pairs, report."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from atha import defaults
from atha.cli import common, selecting
from atha.cli.bench_episodes import episodes
from atha.cli.common import verb
from atha.cli.drawing import (
    EPISODES_PANEL,
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
    distinct,
    listed,
    or_default,
    shots_of,
)
from atha.cli.running import RUN_PANEL, Threads, Together, Workers, check_store, choose_executor
from atha.errors import DataError

if TYPE_CHECKING:
    from atha.bench.report import Arena
    from atha.bench.runner import Summary
    from atha.documents.tables import Table

app = typer.Typer(
    help="Compare methods on identical episodes, with paired differences.", no_args_is_help=True, add_completion=False
)
app.command()(episodes)

StoreFile = Annotated[Path, typer.Argument(help="Store made by atha bench run.")]
OutputFormat = Annotated[
    Literal["table", "markdown", "latex", "csv", "json"], typer.Option("--format", help="How to print.")
]
Methods = Annotated[list[str] | None, typer.Option("--method", help="Only these. Several: repeat, or with commas.")]
Datasets = Annotated[list[str] | None, typer.Option("--dataset", help="Only these. Several: repeat, or with commas.")]


@app.command()
@verb
def run(
    store: Annotated[Path, typer.Option(help="File for the results; a run goes on where the file ends.")],
    dataset: Dataset = None,
    root: Root = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            help="zero-shot, prototypes, gaussian, linear-probe, tip-adapter, tip-adapter-f, gda, proker, "
            "lp-plus-plus, clap, lora, clip-lora, atha:PRESET, atha:RECIPE.toml or FILE.py:CLASS. "
            "Several: repeat, or with commas.",
        ),
    ] = None,
    suite: Annotated[str | None, typer.Option(help="A whole table: paper. Other options change parts of it.")] = None,
    model: Annotated[
        str | None, typer.Option(help=f"As of atha fit; see atha info --models. (default: {defaults.MODEL})")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Commit, branch or tag of a hub model.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one key of all recipes.")
    ] = None,
    template: Annotated[str | None, typer.Option(help="Of class texts, with {} for the name.")] = None,
    transform: Annotated[
        Literal["cdfsl", "processor"] | None,
        typer.Option(help="Geometry: as published (squeezed to a square), or the model's own. (default: cdfsl)"),
    ] = None,
    classes: Texts = None,
    image_column: selecting.ImageColumn = None,
    label_column: selecting.LabelColumn = None,
    images: selecting.Images = None,
    split: selecting.Split = None,
    without: Without = None,
    keep: Keep = None,
    group_pattern: GroupPattern = None,
    ignore_groups: IgnoreGroups = False,
    bands: common.Bands = None,
    max_pixels: common.MaxPixels = defaults.MAX_PIXELS,
    way: Way = None,
    shot: Shot = None,
    query: Query = None,
    episodes: Episodes = None,
    seed: Seed = None,
    episodes_file: Annotated[
        Path | None,
        typer.Option(help="Episodes from a file of atha bench episodes.", rich_help_panel=EPISODES_PANEL),
    ] = None,
    workers: Workers = None,
    threads: Threads = 1,
    together: Together = 1,
    executor: Annotated[
        Literal["local", "ray"], typer.Option(help="This machine, or a Ray cluster.", rich_help_panel=RUN_PANEL)
    ] = "local",
    ray_address: Annotated[
        str | None, typer.Option(help="Of the cluster; auto finds one.", rich_help_panel=RUN_PANEL)
    ] = None,
    shard: Annotated[
        str, typer.Option(metavar="I/N", help="Only the I-th of N parts.", rich_help_panel=RUN_PANEL)
    ] = "1/1",
    precision: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"] | None,
        typer.Option(help="Of forward passes; auto: by the device. (default: auto)", rich_help_panel=RUN_PANEL),
    ] = None,
    device: common.Device = "auto",
    cache_size: Annotated[
        float, typer.Option(min=0, help="GB on disk for features and decoded images.", rich_help_panel=RUN_PANEL)
    ] = 2.0,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Do results again that are damaged in the store.", rich_help_panel=RUN_PANEL),
    ] = False,
    json: common.Json = False,
    debug: common.Debug = False,
) -> None:
    """Run methods on the same episodes. Stopped or killed, the same command goes on where it stopped."""
    from atha.bench.suites import load_suite
    from atha.files import cache_folder

    fixed = load_suite(suite) if suite else None
    names = listed(method) or (fixed.methods if fixed else [])
    if not names:
        raise DataError("say what to compare: --method zero-shot,linear-probe,lora, or --suite paper")
    if len(set(names)) < len(names):
        raise DataError(f"a method is named twice in {', '.join(names)}: name each once")
    drawn = {"--way": way, "--shot": shot, "--query": query, "--episodes": episodes, "--seed": seed}
    for option, value in drawn.items():
        if episodes_file is not None and value is not None:
            raise DataError(
                f"{option} {value} is for drawing, and --episodes-file {episodes_file} is drawn: leave it out"
            )
    wanted = Wanted(
        datasets=listed(dataset) or (fixed.datasets if fixed else []),
        way=or_default(way, fixed.way if fixed else 5),
        query=or_default(query, fixed.query if fixed else 15),
        seed=or_default(seed, fixed.seed if fixed else 1),
        shots=shots_of(shot, episodes, fixed.episodes if fixed else {5: 400}),
    )
    part = _shard(shard)
    wanted_bands = common.read_bands(bands)
    if ray_address is not None and executor != "ray":
        raise DataError("--ray-address is for --executor ray: add it, or leave the address out")
    check_store(store)
    from atha.data import Selection

    selection = Selection("all", image_column, label_column, images, split)
    sources = wanted.draw(root, classes, listed(without), keep, group_pattern, ignore_groups, episodes_file, selection)
    common.say("Loading libraries ...")
    from atha.bench.plan import make_plan
    from atha.bench.runner import run_plan
    from atha.bench.store import Store
    from atha.cli.live import Live
    from atha.methods import METHODS, Options

    chosen = model or (fixed.model if fixed else defaults.MODEL)
    options = Options(
        transform or (fixed.transform if fixed else "cdfsl"), template=template, overrides=tuple(set_ or ())
    )
    if set_ and all(name in METHODS and not METHODS[name].uses_recipe for name in names):
        raise DataError(f"--set {set_[0]} is for recipes, and none of {', '.join(names)} has one: leave it out")
    common.say(f"Loading {chosen}, looking at {sum(len(pool.ids) for pool in distinct(sources)):,} images ...")
    with common.stages() as advance:
        plan, backbone = make_plan(
            sources, names, chosen, revision=revision, options=options,
            precision=precision or (fixed.precision if fixed else "auto"), device=device,
            threads=threads, together=together, cache=cache_folder() / "bench.db" if cache_size else None,
            cache_limit=int(cache_size * 1e9), progress=lambda done, total: advance("Images", done, total),
            bands=wanted_bands, max_pixels=max_pixels,
        )  # fmt: skip
    for sentence in dict.fromkeys(
        f"{setting.pool.name}: {said}" for setting in plan.settings for said in setting.reader.reading.describe()
    ):
        common.say(sentence)
    run_jobs = choose_executor(executor, ray_address, workers, plan.device, backbone)
    live = Live()
    try:
        with Store(store, create=True) as results, live:
            summary = run_plan(plan, results, run_jobs, part, live, repair)
    except KeyboardInterrupt:
        common.say(f"{live.done()} results are in {store}; the same command goes on.")
        raise
    with Store(store) as results:
        _conclude(results, [one for row in plan.experiments for one in row], summary, json, wide=suite is not None)


@app.command()
@verb
def compare(
    store: StoreFile,
    baseline: Annotated[str, typer.Option(help="The method that the others are compared with.")],
    method: Methods = None,
    dataset: Datasets = None,
    output: OutputFormat = "table",
    json: common.Json = False,
    debug: common.Debug = False,
) -> None:
    """Paired differences of all methods to a baseline, on the episodes that both have, with intervals."""
    from atha.bench.compare import READ_ME, comparison_tables
    from atha.bench.compare import compare as compare_with

    found = _arenas(store, listed(dataset), [])
    made = compare_with(found, baseline)
    if asked := listed(method):
        made = [one for one in made if {one.label, one.arena.experiments[one.label].method} & set(asked)]
        if not made:
            raise DataError(f"the store has no comparison of {', '.join(asked)} with {baseline}: check the names")
    values = [one.to_dict() for one in made]
    _print(comparison_tables(made), [READ_ME], values, "json" if json else output)


@app.command()
@verb
def report(
    store: StoreFile,
    method: Methods = None,
    dataset: Datasets = None,
    output: Annotated[
        Literal["table", "markdown", "latex", "csv", "json", "html"], typer.Option("--format", help="How to print.")
    ] = "table",
    out: Annotated[Path | None, typer.Option(help="File for --format html. (default: STORE.html)")] = None,
    baseline: Annotated[
        str | None, typer.Option(help="For --format html: the method that the others are compared with.")
    ] = None,
    wide: Annotated[bool, typer.Option("--wide", help="Methods by data sets, as papers have it.")] = False,
    per_class: Annotated[bool, typer.Option("--per-class", help="Accuracy of each class too.")] = False,
    time: Annotated[bool, typer.Option("--time", help="Seconds and memory too.")] = False,
    overwrite: common.Overwrite = False,
    json: common.Json = False,
    debug: common.Debug = False,
) -> None:
    """Mean accuracy of each method with its interval, and calibration; --format html: everything, in one file."""
    from atha.bench.report import report_tables, rows, wide_table

    form = "json" if json else output
    if form == "html":
        if wide or per_class:
            raise DataError("--format html has tables of its own: leave out --wide and --per-class")
        _write_html(store, listed(dataset), listed(method), out or store.with_suffix(".html"), baseline, overwrite)
        return
    for option, given in (("--out", out is not None), ("--baseline", baseline is not None), ("--overwrite", overwrite)):
        if given:
            raise DataError(f"{option} is for --format html: add it, or leave {option} out")
    found = _arenas(store, listed(dataset), listed(method))
    if wide and form in ("json", "csv"):
        raise DataError(f"--wide is for people, and {form} has a row for each result: leave --wide out")
    if wide and (per_class or time):
        raise DataError("--wide has accuracies alone: leave out --per-class and --time, or --wide")
    tables = [wide_table(found)] if wide else report_tables(found, time, per_class)
    values = [row.to_dict(time, per_class) for row in rows(found)] if form in ("json", "csv") else []
    _print(tables, [], values, form)


def _write_html(
    store: Path, datasets: list[str], methods: list[str], out: Path, baseline: str | None, overwrite: bool
) -> None:
    from atha.files import check_free, write_whole

    if out.suffix.lower() not in (".html", ".htm"):
        raise DataError(f"--out {out} must end in .html: give it such a name")
    check_free(out, overwrite)
    found = _arenas(store, datasets, methods)
    from atha.reports.benchmark import benchmark_report

    html = benchmark_report(found, store.name, baseline)
    write_whole(out, html, overwrite)
    common.print_text(f"Report in {out}, {len(html.encode()) / 1e6:.1f} MB")


@app.command()
@verb
def merge(
    stores: Annotated[list[Path], typer.Argument(help="Stores to take results from; they stay as they are.")],
    store: Annotated[Path, typer.Option(help="Store to put them in, made if it is not there.")],
    debug: common.Debug = False,
) -> None:
    """Bring the results of several stores together, such as those of shards."""
    from atha.bench.store import Store

    for path in stores:
        if path.resolve() == store.resolve():
            raise DataError(f"{path} is to be merged into itself: give another --store")
        Store(path).close()  # all must be there before the first is taken
    with Store(store, create=True) as target:
        for path in stores:
            with Store(path) as source:
                new, known = target.merge(source)
            common.print_text(f"{path}: {new} results are new, {known} were here already")


@app.command()
@verb
def copy(
    store: StoreFile,
    out: Annotated[Path, typer.Option(help="File to write.")],
    overwrite: common.Overwrite = False,
    debug: common.Debug = False,
) -> None:
    """Copy a store as it is now, whole, also while a run writes to it."""
    from atha.bench.store import Store
    from atha.files import check_free, whole_file

    check_free(out, overwrite, "--out")
    with Store(store) as source, whole_file(out, overwrite, "--out") as new:
        source.copy(new)
    common.print_text(f"{store} is copied to {out}, {out.stat().st_size / 1e6:.1f} MB")


def _shard(given: str) -> tuple[int, int]:
    part, found, parts = given.partition("/")
    if not (found and part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise DataError(f"--shard is '{given}', it must be such as 1/2: the first of two parts")
    return int(part), int(parts)


def _conclude(store: Any, experiments: list[str], summary: "Summary", json: bool, wide: bool) -> None:
    """What the run's experiments look like now."""
    from atha.bench.report import arenas, report_tables, rows, wide_table

    found = arenas([one for one in store.experiments() if one.hash in experiments])
    if json:
        content = {"written": summary.written, "known": summary.known, "seconds": summary.seconds}
        common.print_json({**content, "store": str(store.path), "results": [row.to_dict() for row in rows(found)]})
        return
    common.say(
        f"{summary.written} results written in {summary.seconds:.0f} s, {summary.known} were there already; "
        f"store {store.path}"
    )
    _print([wide_table(found)] if wide else report_tables(found), [], [], "table")


def _arenas(path: Path, datasets: list[str], methods: list[str]) -> list["Arena"]:
    from atha.bench.report import arenas
    from atha.bench.store import Store

    with Store(path) as store:
        found = arenas(store.experiments(), datasets, methods)
    if not found:
        raise DataError(f"{path} has no results yet: run atha bench run --store {path}")
    return found


def _print(tables: list["Table"], notes: list[str], values: list[dict[str, Any]], form: str) -> None:
    from atha.documents.escaping import latex, markdown
    from atha.documents.tables import to_csv, to_latex, to_markdown

    if form == "json":
        common.print_json(values)
    elif form == "csv":
        flat = [row for one in values for row in _long(one)]
        common.write(to_csv(list(flat[0]), [list(one.values()) for one in flat]))
    elif form == "table":
        for table in tables:
            common.print_table(table, whole=True)
        for note in notes:
            common.print_text(note)
    else:
        made = [to_markdown(table) if form == "markdown" else to_latex(table) for table in tables]
        made += [markdown(note) + "\n" if form == "markdown" else f"% {latex(note)}\n" for note in notes]
        common.write("\n".join(made))


def _long(row: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for CSV; with per-class accuracies, one for each class."""
    classes = row.pop("per_class", None)
    if classes is None:
        return [row]
    return [
        row | {"class": one["class"], "class_episodes": one["episodes"], "class_accuracy": one["accuracy"]}
        for one in classes
    ]
