"""``atha info``: what an adapter, a model or a recipe is."""

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atha import defaults
from atha.cli import common
from atha.cli.common import verb
from atha.documents.tables import Table
from atha.errors import AthaError

if TYPE_CHECKING:
    from atha.adapter.files import Saved


@verb
def info(
    target: Annotated[
        str | None,
        typer.Argument(help="An adapter (a folder or hub:ORG/NAME), a model, or a recipe; nothing: this installation."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="A model, in any of the forms that --models lists, and nothing else.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Commit, branch or tag of a hub model.")] = None,
    models: Annotated[bool, typer.Option("--models", help="List the model families, with what --model takes.")] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of recipe files, by which editors complete them.")
    ] = False,
    json: common.Json = False,
    debug: common.Debug = False,
) -> None:
    """Say what TARGET is: classes, recipe, backbone, what was trained, sizes."""
    from atha.adapter.files import is_adapter, read_adapter
    from atha.adapter.members import members_table
    from atha.recipe import Recipe, presets

    if (target is not None) + (model is not None) + models + schema > 1:
        raise AthaError("TARGET, --model, --models and --schema are four questions: ask one of them")
    if revision is not None and model is None:
        raise AthaError(f"--revision {revision} is of a hub model: name it with --model")
    if schema:
        common.print_json(Recipe.schema_of_files())
        return
    members = None
    if models:
        content = _families()
    elif model is not None:
        content = _backbone(model, revision)
    elif target is None:
        content = _installation()
    elif is_adapter(target):
        saved = read_adapter(target)
        content, members = _adapter(saved), members_table(saved.record)
    elif target in presets() or target.endswith((".toml", ".json")):
        content = {"recipe": Recipe.load(target).model_dump(mode="json")}
    elif near := _meant(target, [*presets(), defaults.NANO]):
        raise AthaError(f"there is no '{target}', did you mean '{near}'?")
    else:
        content = _backbone(target, None)
    if json:
        common.print_json(content)
        return
    for title, values in content.items():
        table = Table(title.capitalize(), ["", ""], _flat(values), numbers=False)
        common.print_table((members if title == "fitted" else None) or table)


def _backbone(model: str, revision: str | None) -> dict[str, Any]:
    from atha.backbones import licence, load_backbone
    from atha.devices import resolve_device, resolve_precision
    from atha.memory import estimate_memory

    backbone = load_backbone(model, revision)
    precision = resolve_precision("auto", resolve_device("cpu"))
    estimate = {
        f"to {name}": f"about {value / 1e9:.1f} GB"
        for name, value in zip(
            ("predict", "fit with 5 images a step", "fit with 100 and more"),
            vars(estimate_memory(backbone, precision)).values(),
            strict=True,
        )
    }
    described = {"licence": licence(backbone) or "unknown", **backbone.describe()}
    return {"backbone": described, f"memory on a CPU in {precision}": estimate}


def _families() -> dict[str, Any]:
    from atha.backbones import FAMILIES, LOADERS, NANO

    rows = {
        **{name: {"what": family.about, "--model": ", ".join(family.examples)} for name, family in FAMILIES.items()},
        **{loader.family: {"what": loader.about, "--model": ", ".join(loader.examples)} for loader in LOADERS.values()},
    }
    rows["clip"]["--model"] += f", {NANO} (built in)"
    return rows


def _meant(target: str, names: list[str]) -> str | None:
    """The name that was mistyped, if ``target`` is neither one itself nor a folder."""
    if target in names or Path(target).exists():
        return None
    return next(iter(difflib.get_close_matches(target, names, n=1, cutoff=0.7)), None)


def _adapter(saved: "Saved") -> dict[str, Any]:
    record = saved.record
    counts, evaluation = record.support.counts, record.evaluation
    classes = {
        label: f"{text} ({counts[label]} support images)"
        for label, text in zip(saved.classes.labels, saved.classes.texts, strict=True)
    }
    sizes = {path.name: f"{path.stat().st_size:,} bytes" for path in sorted(saved.folder.iterdir()) if path.is_file()}
    unsaid = {"losses", *(() if record.run.lora_layers else ("lora_layers",))}
    return {
        "classes": classes,
        **({"support images": drawn.describe()} if (drawn := record.support.drawn) is not None else {}),
        "backbone": record.backbone.model_dump(),
        **({"fitted": record.fitted} if record.fitted is not None else {}),
        **({"images": " ".join(said)} if (said := record.read_as.describe()) else {}),
        "run": record.run.model_dump(exclude=unsaid, exclude_none=True),
        **({"strengths": _strengths(saved.tensors)} if "strengths.pull" in saved.tensors else {}),
        **({"evaluation": evaluation.model_dump(exclude={"confusion"})} if evaluation is not None else {}),
        "recipe": saved.recipe.model_dump(mode="json"),
        "files": sizes,
    }


def _strengths(tensors: dict[str, Any]) -> dict[str, str]:
    found = {name: tensors[f"strengths.{name}"].flatten().tolist() for name in ("pull", "push")}
    return {name: " ".join(f"{value:.4f}" for value in values) for name, values in found.items()}


def _installation() -> dict[str, Any]:
    from importlib.metadata import version

    from atha.backbones import FAMILIES, LOADERS, NANO
    from atha.bench.suites import suites
    from atha.data.sources.cdfsl import benchmarks
    from atha.devices import resolve_device, resolve_precision
    from atha.methods import METHODS
    from atha.recipe import presets

    device = resolve_device()
    return {
        "installation": {
            **{name: version(name) for name in ("atha", "torch", "transformers")},
            "device": str(device),
            "precision": resolve_precision("auto", device),
            "recipes": ", ".join(presets()),
            "methods to compare": ", ".join(METHODS),
            "benchmarks": ", ".join(benchmarks()),
            "suites": ", ".join(suites()),
            "model families": ", ".join([*FAMILIES, *(loader.family for loader in LOADERS.values())]),
            "model that is built in": NANO,
        }
    }


def _flat(values: Any, before: str = "") -> list[tuple[str, str]]:
    if isinstance(values, dict):
        return [
            pair for key, value in values.items() for pair in _flat(value, f"{before}.{key}" if before else str(key))
        ]
    return [(before, ", ".join(map(str, values)) if isinstance(values, list) else str(values))]
