"""Recipes for an ablation of a blend: each member and each group of views left out once, each other probe added.

    uv run python benchmarks/ablation.py FOLDER [--of probes]
    atha bench run --method atha:probes,$(cat FOLDER/methods.txt) --store STORE ...
    atha bench compare STORE --baseline atha:probes

With `--of auto` what is adapted is also put in without its alignment. Views are left out of all six, which is one more
recipe, NAME-all-views: where they are left to `auto`, what would be missing is not known.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from atha.methods.probes import PROBES
from atha.recipe import ADAPTED, Recipe

VIEWS = ("flip", "quarter-turns", "scales")


def variants(whole: Recipe) -> Iterator[Recipe]:
    """All that is to be compared with a blend."""
    assert whole.blend is not None

    def changed(what: str, **changes: object) -> Recipe:
        return Recipe.load(whole, {key.replace("__", "."): value for key, value in changes.items()} | {"name": what})

    name, members = whole.name, whole.blend.members
    for member in members:
        left = [other for other in members if other != member]
        yield changed(f"{name}-without-{member}", blend__members=left)
    if ADAPTED in members:
        yield changed(f"{name}-without-alignment", alignment=None)
    yield changed(f"{name}-all-views", blend__views=list(VIEWS))
    for view in VIEWS:
        yield changed(f"{name}-without-{view}", blend__views=[other for other in VIEWS if other != view])
    yield changed(f"{name}-plain", blend__views=["plain"])
    for one in PROBES:
        if one not in members:
            yield changed(f"{name}-with-{one}", blend__members=[*members, one])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--of", default="probes", help="a preset or a recipe file that is a blend")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    methods = []
    for recipe in variants(Recipe.load(options.of)):
        file = options.folder / f"{recipe.name.rstrip('+')}.json"
        content = recipe.model_dump(mode="json") | {"name": file.stem}
        file.write_text(json.dumps(content, indent=2))
        methods.append(f"atha:{file}")
    (options.folder / "methods.txt").write_text(",".join(methods))


if __name__ == "__main__":
    main()
