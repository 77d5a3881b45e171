"""Suites: whole tables by one name, as data (``suites/*.toml``)."""

import difflib
import tomllib
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from atha.errors import DataError
from atha.recipe import Precision, Transform


class Suite(BaseModel):
    """What a suite fixes; the command line can change each.

    Attributes:
        summary: one line.
        datasets: names.
        methods: names.
        model: the backbone.
        episodes: shots -> number of episodes.
        way: classes per episode.
        query: query images per class.
        seed: of the episodes.
        transform: geometry of the plain view.
        precision: of forward passes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    summary: str
    datasets: list[str]
    methods: list[str]
    model: str
    episodes: dict[int, Annotated[int, Field(gt=0)]]
    way: int
    query: int
    seed: int
    transform: Transform
    precision: Precision


def suites() -> list[str]:
    """Names of the suites that come with the package."""
    return sorted(entry.name.removesuffix(".toml") for entry in _folder().iterdir() if entry.name.endswith(".toml"))


def load_suite(name: str) -> Suite:
    """A suite by its name.

    Raises:
        DataError: there is none of this name.
    """
    if name not in suites():
        near = difflib.get_close_matches(name, suites(), n=1)
        hint = f" (did you mean '{near[0]}'?)" if near else ""
        raise DataError(f"there is no suite '{name}'{hint}, the suites are {', '.join(suites())}")
    return Suite.model_validate(tomllib.loads((_folder() / f"{name}.toml").read_text("utf-8")))


def _folder() -> Traversable:
    return resources.files("atha") / "bench" / "suites"
