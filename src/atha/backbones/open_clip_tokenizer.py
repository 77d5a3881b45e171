"""The tokenizer that a configuration of open_clip names."""

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from atha.backbones import tokenizer_files
from atha.backbones.folders import is_inside
from atha.errors import BackboneError, reason
from atha.texts import read_json

#: What open_clip says of a model, and the files of which one makes a tokenizer.
CONFIG = "open_clip_config.json"
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model")
# What a configuration may say of a tokenizer. open_clip hands all of it on, and some would open files or run code.
_SETTINGS = {"clean", "strip_sep_token", "language"}


def open_clip_tokenizer(text: Mapping[str, Any], folder: Path | None, home: str, revision: str | None) -> Any:
    """open_clip's tokenizer, made by ourselves: what is in a configuration must neither run code nor open files.

    Args:
        text: what the configuration says of texts.
        folder: of the model; None where it has none.
        home: the model's folder, or its repository on the hub.
        revision: the hub's commit.

    Raises:
        BackboneError: a setting is not allowed, or what is named cannot be read.
        Exception: of open_clip and of the libraries behind it.
    """
    import transformers
    from open_clip.tokenizer import HFTokenizer

    settings = text.get("tokenizer_kwargs") or {}
    if unknown := sorted(set(settings) - _SETTINGS):
        raise BackboneError(
            f"its {CONFIG} has the tokenizer setting '{unknown[0]}', which is not one of "
            f"{', '.join(sorted(_SETTINGS))}: get the model from a source you trust"
        )
    length = text.get("context_length", 77)
    if tower := text.get("hf_model_name"):
        # open_clip reads this without saying what to do about code in it; found to be plain here, it is so there.
        _of_hub(lambda: transformers.AutoConfig.from_pretrained(tower, trust_remote_code=False), "hf_model_name", tower)
    named = text.get("hf_tokenizer_name")
    if not named:
        return _own_tokenizer(json.dumps({"context_length": length} | settings))
    if folder is None or not any((folder / file).is_file() for file in TOKENIZER_FILES):
        folder = _of_hub(lambda: _folder(named, revision if named == home else None), "hf_tokenizer_name", named)
    config = folder / "config.json"
    kind = read_json(config).get("model_type") if config.is_file() and is_inside(folder, config.name) else None
    return _of_hub(
        lambda: tokenizer_files.of_own_files(
            folder,
            kind if isinstance(kind, str) else None,
            lambda own: HFTokenizer(
                own,
                context_length=length,
                tokenizer_mode=text.get("tokenizer_mode"),
                trust_remote_code=False,
                local_files_only=True,
                **settings,
            ),
        ),
        "hf_tokenizer_name",
        named,
    )


@lru_cache(maxsize=4)
def _own_tokenizer(settings: str) -> Any:
    """The one whose words are in open_clip itself: making it takes longer than all else of a small model.

    Args:
        settings: its arguments, as JSON.
    """
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer(**json.loads(settings))


def _folder(named: str, revision: str | None) -> Path:
    """The folder of a tokenizer, or that of the hub's cache."""
    from huggingface_hub import snapshot_download

    if Path(named).is_dir():
        return Path(named)
    files = [*tokenizer_files.FILES, tokenizer_files.SETTINGS, "config.json"]
    return Path(snapshot_download(named, revision=revision, allow_patterns=files))


def _of_hub(load: Callable[[], Any], key: str, named: str) -> Any:
    try:
        return load()
    except BackboneError:
        raise
    except Exception as error:  # of the network, of the hub, of its library
        raise BackboneError(
            f"its {CONFIG} names '{named}' as {key}, which cannot be read ({reason(error)}): check the network, or put "
            "the path of a folder that has it there"
        ) from None
