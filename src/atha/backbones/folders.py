"""What is read of a model's folder: files that lie in it, after links are followed, and no key that names others."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atha.errors import BackboneError

#: Keys of configurations that name code, or files that are not read here. What they would change, nobody sees.
REFUSED = ("auto_map", "configuration_files", "custom_pipelines", "quantization_config", "transformers_weights")


def is_inside(folder: Path, file: str) -> bool:
    """Whether what a name in a folder leads to lies in it; what is not there does."""
    try:
        home = folder.resolve()
        # The hub's cache keeps a model's files beside its commits, and links to them.
        homes = [home, home.parents[1] / "blobs"] if home.parent.name == "snapshots" else [home]
        target = (folder / file).resolve()
        return not target.exists() or any(target.is_relative_to(one) for one in homes)
    except (OSError, RuntimeError, ValueError):  # links in a circle, names that are too long
        return False


def check_inside(folder: Path, file: str, what: str) -> None:
    """See to it that a file lies in its folder.

    Args:
        folder: of the model.
        file: its name there.
        what: the folder is, for errors.

    Raises:
        BackboneError: a link leads elsewhere.
    """
    if not is_inside(folder, file):
        raise BackboneError(f"{what} has a link '{file}' that leads outside itself: put the file there in its place")


def check_keys(said: Mapping[str, Any], file: str, what: str) -> None:
    """See to it that settings name neither code nor files.

    Args:
        said: what a file holds; parts of it are looked at, too.
        file: its name.
        what: the folder is, for errors.

    Raises:
        BackboneError: they do.
    """
    for part in (said, *(value for value in said.values() if isinstance(value, dict))):
        for key in REFUSED:
            if part.get(key):
                raise BackboneError(
                    f"{what} has {key} in its {file}, which names code or files that are never read: get the model "
                    "from a source you trust, saved without it"
                )
