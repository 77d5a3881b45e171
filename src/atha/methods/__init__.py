"""What an adaptation is compared with: methods by name. A new one is a sub-class of `Method` and a line here.

A method outside the package is named by its file and class, ``path/to/file.py:ClassName``.
"""

import difflib
import hashlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

from atha.errors import DataError
from atha.methods.base import Fitted, Method, Options, Support, restore
from atha.methods.clap import Clap
from atha.methods.gaussian import Gaussian
from atha.methods.gda import Gda
from atha.methods.images import FileImages, Images, ViewedImages
from atha.methods.linear_probe import LinearProbe
from atha.methods.lp_plus_plus import LpPlusPlus
from atha.methods.proker import Proker
from atha.methods.prototypes import Prototypes
from atha.methods.scores import ByScores, LinearScores
from atha.methods.tip_adapter import TipAdapter, TipAdapterF
from atha.methods.tuned import ClipLora, Lora, Tuned
from atha.methods.zero_shot import ZeroShot

METHODS: dict[str, type[Method]] = {
    "zero-shot": ZeroShot,
    "prototypes": Prototypes,
    "gaussian": Gaussian,
    "linear-probe": LinearProbe,
    "tip-adapter": TipAdapter,
    "tip-adapter-f": TipAdapterF,
    "gda": Gda,
    "proker": Proker,
    "lp-plus-plus": LpPlusPlus,
    "clap": Clap,
    "lora": Lora,
    "clip-lora": ClipLora,
    "atha": Tuned,
}

__all__ = [
    "METHODS",
    "ByScores",
    "FileImages",
    "Fitted",
    "Images",
    "LinearScores",
    "Method",
    "Options",
    "Support",
    "ViewedImages",
    "make_method",
    "restore",
]


def make_method(name: str, options: Options = Options()) -> tuple[Method, dict[str, Any]]:  # noqa: B008 - frozen
    """A method by its name.

    Args:
        name: one of `METHODS`; ``atha:`` and a preset or recipe file; or ``file.py:ClassName`` for a method of one's
            own.
        options: what the run says of all methods.

    Returns:
        The method, and its definition: ``name``, what its results are called, is not part of what they are.

    Raises:
        DataError: no such method, or it cannot be loaded.
        RecipeError: the recipe is not valid.
    """
    kind, _, argument = name.partition(":")
    if kind.endswith(".py"):
        made = _own(Path(kind), argument, options)
        source = hashlib.sha256(Path(kind).read_bytes()).hexdigest()
        return made, {"name": f"{Path(kind).name}:{argument}", "kind": argument, "source": source, **made.definition()}
    if kind in METHODS:
        if argument and not METHODS[kind].takes_argument:
            raise DataError(f"{kind} takes nothing after a colon and got '{argument}': leave it out")
        made = METHODS[kind](argument or None, options)
        kind = "recipe" if made.uses_recipe else kind
        return made, {"name": made.label(name), "kind": kind, **made.definition()}
    near = difflib.get_close_matches(kind, METHODS, n=1)
    hint = f"did you mean '{near[0]}'? Methods" if near else "methods"
    raise DataError(
        f"no method is called '{name}': {hint} are {', '.join(METHODS)} (atha:PRESET, atha:RECIPE.toml), and "
        "FILE.py:CLASS for one of your own"
    )


def _own(file: Path, class_name: str, options: Options) -> Method:
    """A method from a file that the user names, imported as Python itself would."""
    if not file.is_file():
        raise DataError(f"there is no method file {file}, check the path")
    if not class_name:
        raise DataError(f"which class of {file}? write {file}:CLASS")
    name = f"atha_method_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise DataError(f"{file} cannot be imported ({type(error).__name__}: {error}): correct it") from error
    found = getattr(module, class_name, None)
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise DataError(f"{file} has no class '{class_name}' that is an atha.methods.Method: check the name")
    try:
        return found(None, options)
    except TypeError as error:  # an abstract method is not there, or the constructor takes other arguments
        raise DataError(f"{class_name} of {file} cannot be made ({error}): complete the class") from error
