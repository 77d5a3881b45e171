"""A tokenizer of transformers, made of the few files that are one, in a folder of their own.

transformers looks for many files in a model's folder and takes names of files, of classes and of code from its
configuration. What it is given here holds nothing else than the tokenizer.
"""

import json
import re
import shutil
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from atha.backbones.folders import check_keys, is_inside
from atha.backbones.patterns import check_patterns
from atha.errors import BackboneError
from atha.texts import LISTS, read_json

#: One of these is needed; each makes a tokenizer, some with others of `FILES`.
MAIN = ("tokenizer.json", "vocab.json", "spiece.model", "tokenizer.model")
SETTINGS = "tokenizer_config.json"
FILES = (
    *MAIN, "special_tokens_map.json", "added_tokens.json", "merges.txt", "vocab.txt", "sentencepiece.bpe.model",
)  # fmt: skip
# What transformers' loader would call; anything that it has can be named as the class of a tokenizer.
_CLASS = re.compile(r"(?!Auto)\w*Tokeni[sz]er(s?Backend|Fast|Slow)?")
_NAMES_FILES = re.compile(r".*_files?|init_inputs|name_or_path|chat_template")


def load_tokenizer(folder: Path, model_type: str) -> Any:
    """The tokenizer of a folder, as transformers has it.

    Args:
        folder: of the model.
        model_type: tells its class, where the folder's settings do not.

    Raises:
        BackboneError: a setting names code, or what is no tokenizer.
        Exception: of transformers and of the libraries behind it.
    """
    with quiet() as transformers:
        return of_own_files(
            folder,
            model_type,
            lambda own: transformers.AutoTokenizer.from_pretrained(own, local_files_only=True, trust_remote_code=False),
        )


def of_own_files(folder: Path, model_type: str | None, load: Callable[[str], Any]) -> Any:
    """What is loaded from a folder that holds nothing of a model but its tokenizer.

    Args:
        folder: of the model.
        model_type: tells the class of its tokenizer, where its settings do not.
        load: from such a folder.

    Raises:
        BackboneError: a setting names code, or what is no tokenizer.
        Exception: of ``load``.
    """
    home = TemporaryDirectory(prefix="atha-tokenizer-")
    own = Path(home.name)
    for file in FILES:
        if (folder / file).is_file() and is_inside(folder, file) and (folder / file).stat().st_size <= LISTS:
            _take((folder / file).resolve(), own / file)
    if (own / MAIN[0]).exists():
        check_patterns(folder / MAIN[0])
    if (folder / SETTINGS).is_file():
        (own / SETTINGS).write_text(json.dumps(_settings(folder)), "utf-8")
    if model_type is not None:
        (own / "config.json").write_text(json.dumps({"model_type": model_type}), "utf-8")
    made = load(home.name)
    weakref.finalize(made, home.cleanup)  # some read their file again
    return made


def _take(source: Path, place: Path) -> None:
    try:
        place.symlink_to(source)
    except OSError:  # a system where not everybody may make links
        shutil.copyfile(source, place)


def _settings(folder: Path) -> dict[str, Any]:
    said = read_json(folder / SETTINGS)
    check_keys(said, SETTINGS, f"model folder {folder}")
    kind = said.get("tokenizer_class")
    if kind is not None and not (isinstance(kind, str) and _CLASS.fullmatch(kind)):
        raise BackboneError(
            f"{folder / SETTINGS} has tokenizer_class {kind!r}, which is no tokenizer: correct it there"
        )
    return dict(_without_files(said))


def _without_files(said: Any) -> Any:
    """Settings without those that name files, which the loader takes from the folder itself."""
    if isinstance(said, dict):
        return {key: _without_files(value) for key, value in said.items() if not _NAMES_FILES.fullmatch(key)}
    return [_without_files(value) for value in said] if isinstance(said, list) else said


@contextmanager
def quiet() -> Iterator[Any]:
    """transformers, without a progress bar for reading weights into memory."""
    import transformers

    logging = transformers.utils.logging
    shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield transformers
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()
