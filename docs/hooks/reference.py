"""Pages of the reference, made of what the code itself says: commands, recipe keys, files, public names."""

import re
import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import atha
from atha import serving
from atha.adapter import files as adapter
from atha.adapter import record
from atha.adapter.support import SupportRecord
from atha.bench import store_file
from atha.cli import app
from atha.recipe import Recipe
from atha.recipe_keys import section_of


def pages() -> dict[str, str]:
    """Content by path in the documents."""
    return {
        "reference/python.md": python_page(),
        "reference/commands.md": commands_page(),
        "reference/recipe-keys.md": recipe_page(),
        "reference/files.md": files_page(),
    }


# Python


def python_page() -> str:
    """Public names, for mkdocstrings to fill in."""
    names = "\n\n".join(f"::: atha.{name}" for name in atha.__all__)
    served = "\n\n".join(f"::: atha.serving.{name}" for name in serving.__all__)
    more = "\n\n".join(f"::: {name}" for name in BEHIND)
    return (
        "# Python\n\nWhat `import atha` has. [Which convention a thing follows](../concepts/conventions.md).\n\n"
        f"## In `atha`\n\n{names}\n\n## In `atha.serving`\n\n{served}\n\n## What these give and take\n\n{more}\n"
    )


#: Classes that public names hand out or take, by where they are.
BEHIND = (
    "atha.classes.Classes",
    "atha.explain.Explanation",
    "atha.explain.TokenMaps",
    "atha.export.exporting.Exported",
    "atha.auditing.audit.Photo",
    "atha.auditing.audit.Doubtful",
    "atha.auditing.audit.Copies",
    "atha.auditing.audit.Odd",
    "atha.labelling.estimate.Estimate",
    "atha.labelling.session.Session",
    "atha.labelling.session.Pick",
    "atha.data.LabelledImages",
    "atha.data.Sample",
    "atha.data.Selection",
    "atha.data.read_labelled",
    "atha.data.reading.Reading",
    "atha.data.deciding.decide_reading",
    "atha.errors.DataError",
    "atha.errors.RecipeError",
    "atha.errors.BackboneError",
    "atha.errors.AdapterError",
    "atha.errors.ExportError",
    "atha.errors.TrainingError",
)


# Commands


def commands() -> Iterator[tuple[str, Any]]:
    """All commands with their full names, groups before what is in them."""

    def walk(name: str, command: Any) -> Iterator[tuple[str, Any]]:
        yield name, command
        if is_group(command):
            for key, one in command.commands.items():
                yield from walk(f"{name} {key}", one)

    return walk("atha", typer.main.get_command(app))


def is_group(command: Any) -> bool:
    """Whether a command has commands of its own. typer may have a click of its own, so no class is asked for."""
    return hasattr(command, "commands")


def commands_page() -> str:
    """Every command with its arguments and options."""
    parts = ["# Commands\n\nExit code 0: done; 2: a mistake in what was given, said in a sentence; 1: a fault of ours."]
    for name, command in commands():
        if name == "atha":
            continue
        parts.append(f"{'##' if name.count(' ') == 1 else '###'} {name}\n\n{_text(command.help or '')}")
        if is_group(command):
            continue
        arguments = [one.name.upper() for one in command.params if one.param_type_name == "argument"]
        usage = " ".join([name, "[OPTIONS]", *arguments])
        parts.append(f"```text\n{usage}\n```")
        rows = [_option(one) for one in command.params if not getattr(one, "hidden", False)]
        parts.append(_table(("Option", "Default", "Meaning"), rows))
        if command.epilog:
            lines = [line for line in command.epilog.split("\n\n") if line.startswith("$ ")]
            parts.append("```console\n" + "\n".join(lines) + "\n```")
    return "\n\n".join(parts) + "\n"


def _option(one: Any) -> tuple[str, str, str]:
    names = ", ".join(f"`{name}`" for name in (*one.opts, *one.secondary_opts))
    if one.param_type_name == "argument":
        names = f"`{one.name.upper()}`"
    help_text = str(getattr(one, "help", "") or "")
    said = re.search(r" ?\(default: (.*)\)$", help_text)
    if one.required:
        default = "required"
    elif said:
        default, help_text = said[1], help_text[: said.start()]
    elif one.default is None or one.default is False or one.default == () or callable(one.default):
        default = ""
    else:
        default = f"`{one.default}`" if not str(one.default).startswith("Sentinel") else ""
    return names, _cell(default), _text(help_text)


# Recipes


def recipe_page() -> str:
    """Every key with its type, default and meaning."""
    parts = [
        "# Recipe keys\n\nFrom the schema that recipes are checked by. How to write and override them: "
        "[recipes](../how-to/recipes.md). For editors, the same as JSON Schema: "
        "`schema/recipe.json` beside these pages, or `atha info --schema`.\n\n"
        "The default is the value of a key that a file leaves out; presets set many keys otherwise."
    ]
    for title, model, shown in _sections(Recipe, "", Recipe()):
        heading = "Top level" if not title else f"`{title}`"
        parts.append(f"## {heading}\n\n{_text(_summary(model))}")
        rows = [
            (f"`{name}`", _type(field), _default(getattr(shown, name)), _text(field.description or ""))
            for name, field in model.model_fields.items()
        ]
        parts.append(_table(("Key", "Type", "Default", "Meaning"), rows))
    return "\n\n".join(parts) + "\n"


def _sections(
    model: type[BaseModel], title: str, values: BaseModel
) -> Iterator[tuple[str, type[BaseModel], BaseModel]]:
    yield title, model, values
    for name in model.model_fields:
        if (section := section_of(model, name)) is not None:
            found = getattr(values, name)
            yield from _sections(section, f"{title}.{name}".strip("."), section() if found is None else found)


def _default(value: Any) -> str:
    if isinstance(value, BaseModel):
        return "its own"
    if value is None:
        return "null"
    return f"`{value}`" if isinstance(value, str) else f"`{_toml(value)}`"


def _toml(value: Any) -> str:
    import json

    return json.dumps(value)


# Files


def files_page() -> str:
    """Formats of adapters and stores."""
    parts = [
        "# Files\n\nWhat is written, field by field. The promise: what a release wrote, every later release of the "
        "same major version reads, to the same numbers. A change of a format raises its number; a file with a higher "
        "number than is known is refused in a sentence and left alone. Fields that are not known are kept.",
        f"## Adapter: formats {' and '.join(map(str, record.FORMATS))}\n\n"
        f"A folder of these files, all safetensors, JSON or Markdown:\n\n```text\n{_listing()}\n```",
        f"### `{record.RECORD}`",
    ]
    parts += [_fields(model) for model in _models(record.Record)]
    parts.append(f"### `{record.RECIPE}`\n\nA whole recipe, see [recipe keys](recipe-keys.md).")
    parts.append(f"### `{record.CLASSES}`\n\nOne table: label to class text, in the order of the model's outputs.")
    parts.append(f"### `{record.SUPPORT}`\n\n{_support()}")
    parts.append(
        f"### `{record.LORA_FILES[0]}`, `{record.LORA_FILES[1]}`\n\nAs PEFT writes LoRA; `PeftModel.from_pretrained` "
        "reads them."
    )
    parts.append(
        f"## Store of benchmark results: format {store_file.VERSION}\n\nAn SQLite file with `application_id` "
        f'0x{store_file.APPLICATION_ID:08x} ("atha") and `user_version` {store_file.VERSION}; format 1 has the same '
        "tables. Arrays are little-endian and in row order.\n\n"
        f"```sql\n{store_file.SCHEMA.strip()}\n```"
    )
    return "\n\n".join(parts) + "\n"


def _listing() -> str:
    """The table of the module that writes it."""
    return "\n".join(line for line in (adapter.__doc__ or "").splitlines()[2:] if line.strip())


def _support() -> str:
    lines = (SupportRecord.__doc__ or "").split("Attributes:")[1].strip().splitlines()
    text = " ".join(line.strip() for line in lines)
    tensors = "`features` and `features.VIEW` (n, E) float32, `labels` (n) int64, `pictures` bytes, `picture_ends` and "
    return f"{tensors}`shown` (p) int64. {_text(text)}"


def _models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """A model, then those that its fields are made of, each once."""
    found: dict[type[BaseModel], None] = {}

    def walk(one: type[BaseModel]) -> None:
        if one in found:
            return
        found[one] = None
        for field in one.model_fields.values():
            for part in _inner(field.annotation):
                walk(part)

    walk(model)
    for more in (record.BlendRecord,):
        walk(more)
    return iter(found)


def _inner(annotation: Any) -> Iterable[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from _inner(part)


def _fields(model: type[BaseModel]) -> str:
    rows = [
        (
            f"`{name}`",
            _type(field),
            "always" if field.is_required() else "may be absent",
            _text(field.description or ""),
        )
        for name, field in model.model_fields.items()
    ]
    title = "All of the file" if model is record.Record else f"`{model.__name__}`"
    return f"#### {title}\n\n{_text(_summary(model))}\n\n{_table(('Field', 'Type', 'Presence', 'Meaning'), rows)}"


# Shared


def _type(field: FieldInfo) -> str:
    limits = {}
    for one in field.metadata:
        limits |= {key: getattr(one, key) for key in ("gt", "ge", "lt", "le", "min_length") if hasattr(one, key)}
    return _cell(_named(field.annotation) + _limited(limits))


def _limited(limits: dict[str, Any]) -> str:
    signs = {"gt": "> ", "ge": "≥ ", "lt": "< ", "le": "≤ "}
    said = [f"{signs[key]}{value:g}" for key, value in limits.items() if key in signs and value is not None]
    if limits.get("min_length"):
        said.append("not empty")
    return f", {', '.join(said)}" if said else ""


_WORDS = {str: "text", int: "whole number", float: "number", bool: "true or false", type(None): "null", Any: "any"}


def _named(annotation: Any) -> str:  # noqa: PLR0911 - a table of cases
    origin, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in _WORDS:
        return _WORDS[annotation]
    if origin is typing.Literal:
        return " or ".join(f"`{value}`" for value in inside)
    if origin is typing.Annotated:
        if any(type(one).__name__ == "InstanceOf" for one in inside[1:]):
            return _named(inside[0])
        limits: dict[str, Any] = {}
        for one in inside[1:]:
            metadata = getattr(one, "metadata", [one])
            for item in metadata:
                limits |= {
                    key: getattr(item, key) for key in ("gt", "ge", "lt", "le", "min_length") if hasattr(item, key)
                }
        return _named(inside[0]) + _limited(limits)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_named(one) for one in inside)
    if origin in (list, Sequence) or (origin is tuple and inside[-1] is ...):
        return f"list of {_named(inside[0])}"
    if origin is dict:
        return f"table of {_named(inside[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"table `{annotation.__name__}`"
    return str(getattr(annotation, "__name__", annotation))


def _summary(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").split())


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(text: str) -> str:
    """Help or a docstring as Markdown: what stands in double ticks is code, and nothing is markup."""
    plain = re.sub(r"``(.+?)``", r"`\1`", " ".join(text.split()))
    return _cell(plain.replace("<", "&lt;").replace("[", "\\["))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*")
