"""Dotted keys of nested pydantic models: listed, overridden, and named in one sentence where they are wrong."""

import difflib
import json
import types
import typing
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ValidationError

from atha.errors import RecipeError
from atha.texts import parse_json

Model = type[BaseModel]


def merged(defaults: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Values over defaults, section by section: a section that is given in part keeps its own default for the rest."""
    made = dict(defaults)
    for key, value in values.items():
        both = isinstance(value, dict) and isinstance(made.get(key), dict)
        made[key] = merged(made[key], value) if both else value
    return made


def split_override(text: str) -> tuple[str, Any]:
    """Key and value of a ``key=value`` text.

    Raises:
        RecipeError: it is none.
    """
    key, found, value = text.partition("=")
    if not found or not key.strip():
        raise RecipeError(f"'{text}' is no override, write it as key=value, for example training.steps=50")
    value = value.strip()
    try:
        return key.strip(), None if value.lower() in {"none", "null"} else parse_json(value)
    except ValueError:
        lowered = {"true": True, "false": False}
        return key.strip(), lowered.get(value.lower(), value)


def override(root: Model, values: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key. The key is checked here, before validation, as a section may be absent.

    Args:
        root: the model that values are of.
        values: are changed.
        key: dotted.
        value: any.

    Raises:
        RecipeError: there is no such key.
    """
    *sections, last = key.split(".")
    model: Model | None = root
    for section in sections:
        if model is None or section not in model.model_fields:
            raise RecipeError(unknown_key(root, key))
        model = section_of(model, section)
    if model is None or last not in model.model_fields:
        raise RecipeError(unknown_key(root, key))
    for section in sections:
        if not isinstance(values.get(section), dict):
            values[section] = {}
        values = values[section]
    values[last] = value


def section_of(model: Model, field: str) -> Model | None:
    """The model that a field is, where it is one; None of a plain value."""
    annotation = model.model_fields[field].annotation
    options = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    return next((option for option in options if isinstance(option, type) and issubclass(option, BaseModel)), None)


def keys_of(model: Model, before: str = "") -> Iterable[str]:
    """All dotted keys of a model, each section before what is in it."""
    for field in model.model_fields:
        yield before + field
        if (section := section_of(model, field)) is not None:
            yield from keys_of(section, f"{before}{field}.")


def unknown_key(root: Model, key: str) -> str:
    """A sentence on a key that there is not, with the nearest that there is."""

    def likeness(valid: str) -> float:
        leaf = difflib.SequenceMatcher(None, key.rsplit(".", maxsplit=1)[-1], valid.rsplit(".", maxsplit=1)[-1]).ratio()
        return leaf + difflib.SequenceMatcher(None, key, valid).ratio()

    return f"recipes have no key '{key}', the nearest is '{max(keys_of(root), key=likeness)}'"


def explain(root: Model, error: ValidationError) -> str:
    """The first problem of a failed validation, as one sentence."""
    details = error.errors(include_url=False)
    first = details[0]
    key = _key_of(root, first["loc"])
    if first["type"] == "extra_forbidden":
        return unknown_key(root, key)
    # A key of several types reports one problem for each: say them all.
    messages = dict.fromkeys(
        detail["msg"].removeprefix("Value error, ") for detail in details if _key_of(root, detail["loc"]) == key
    )
    expected = " or ".join(message[0].lower() + message[1:] for message in messages)
    return (
        f"recipe key '{key}' cannot be {json.dumps(first['input'])}: {expected}"
        if key
        else f"the recipe is not valid: {expected}"
    )


def _key_of(root: Model, location: tuple[int | str, ...]) -> str:
    """The dotted key of a validation error's location, without the names of a union's branches."""
    model: Model | None = root
    parts: list[str] = []
    for part in map(str, location):
        if model is None:
            break
        if part in model.model_fields:
            parts.append(part)
            model = section_of(model, part)
        elif "[" not in part and part != location[-1]:
            continue
        else:
            parts.append(part)
            break
    return ".".join(parts)
