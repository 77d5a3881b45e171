"""Frozen CLIP-like models behind one interface, from a hub id, a local folder or the embedded ``nano``."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from atha import defaults
from atha.backbones import open_clip_files
from atha.backbones.base import Backbone, Prompts, TextFeatures
from atha.backbones.clip import ClipBackbone
from atha.backbones.metaclip_2 import MetaClip2Backbone
from atha.backbones.processor_files import hub_folder, read_processor
from atha.backbones.siglip import SiglipBackbone
from atha.backbones.siglip2 import Siglip2Backbone
from atha.backbones.state_dict import load_state_dict
from atha.errors import BackboneError, reason

#: ``model_type`` of a configuration -> family. A new family is a file beside this one and a line here.
FAMILIES: dict[str, type[Backbone]] = {
    "clip": ClipBackbone,
    "siglip": SiglipBackbone,
    "siglip2": Siglip2Backbone,
    "metaclip_2": MetaClip2Backbone,
}


@dataclass(frozen=True)
class Loader:
    """Models that another library loads.

    Attributes:
        load: one of them, by name and revision.
        family: `Backbone.family` of what it makes.
        about: what models these are.
        examples: what ``--model`` takes.
    """

    load: Callable[[str, str | None], Backbone]
    family: str
    about: str
    examples: Sequence[str]


#: What their names begin with -> the loader. Another library is a file beside this one and a line here.
LOADERS = {
    open_clip_files.PREFIX: Loader(
        open_clip_files.load_open_clip, open_clip_files.FAMILY, open_clip_files.ABOUT, open_clip_files.EXAMPLES
    )
}

NANO = defaults.NANO
_TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "spiece.model", "tokenizer.model")

__all__ = ["FAMILIES", "LOADERS", "NANO", "Backbone", "Loader", "Prompts", "TextFeatures", "licence", "load_backbone"]


def load_backbone(name: str, revision: str | None = None) -> Backbone:
    """Load a backbone with its tokenizer and image processor, weights in float32 on the CPU.

    Args:
        name: ``nano``, a folder in Hugging Face format, a hub id such as ``openai/clip-vit-base-patch16``, a
            safetensors file of a CLIP in OpenAI's names (see `atha.backbones.state_dict`), or a model of open_clip:
            ``open_clip:ARCH/PRETRAINED`` (a tag or a safetensors file), ``open_clip:hf-hub:ORG/NAME`` or
            ``open_clip:local-dir:PATH``.
        revision: branch, tag or commit of a hub model.

    Raises:
        BackboneError: not found or out of reach, not a supported family, files missing or damaged, or weights that
            are not safetensors (pickle files are never opened).
    """
    for prefix, loader in LOADERS.items():
        if isinstance(name, str) and name.startswith(prefix):
            return loader.load(name, revision)
    source, local = _locate(name)
    if local is not None and local.is_dir():
        _check_folder(local, name)
    import transformers  # late: it takes seconds, and a wrong name should not have to wait for it
    from safetensors import SafetensorError

    if local is not None and local.is_file():
        with _quiet(transformers):
            return load_state_dict(local, name)
    options: dict[str, Any] = {"trust_remote_code": False, "local_files_only": local is not None}
    if revision is not None:  # left to its default otherwise: only then are safetensors found beside a pickle file
        options["revision"] = revision
    try:
        config, _ = transformers.PreTrainedConfig.get_config_dict(source, **options)
        kind = config.get("model_type")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackboneError(_unreachable(name, local, error)) from None
    family = FAMILIES.get(kind) if isinstance(kind, str) else None
    if family is None:
        what = f"is a '{kind}' model" if kind else "has no model_type in its config.json"
        raise BackboneError(f"{name} {what}, the families supported are {', '.join(FAMILIES)}: choose one of these")
    with _quiet(transformers):
        try:
            model, report = getattr(transformers, family.model_class).from_pretrained(
                source,
                dtype="float32",
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are refused below, by name
                **options,
            )
            tokenizer = transformers.AutoTokenizer.from_pretrained(source, **options)
            processor = read_processor(local or hub_folder(source, revision))
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, SafetensorError) as error:
            raise BackboneError(_unreachable(name, local, error)) from None
    wrong = sorted(report["missing_keys"]) + sorted(key for key, *_ in report["mismatched_keys"])
    if wrong:
        raise BackboneError(
            f"{name} lacks {len(wrong)} of the weights that {family.model_class} needs, or has them in another shape, "
            f"the first is '{wrong[0]}': get the whole checkpoint again"
        )
    backbone = family(model, tokenizer, processor, name=name, revision=None if local else _commit(source, revision))
    backbone.home = source if local is None else str(local.resolve())
    if local is not None and name != NANO:
        backbone.location = backbone.home
    if len(tokenizer) > backbone.token_embedding.num_embeddings:
        raise BackboneError(
            f"the tokenizer of {name} knows {len(tokenizer)} tokens and its text tower "
            f"{backbone.token_embedding.num_embeddings}: the files are not of one model, get them again"
        )
    return backbone


def licence(backbone: Backbone) -> str | None:
    """The licence that a backbone's model card names, if it has one within reach."""
    from huggingface_hub import ModelCard, hf_hub_download

    if backbone.home is None:
        return None
    try:
        folder = Path(backbone.home)
        card = folder / "README.md" if folder.is_dir() else None
        data = ModelCard.load(
            card or hf_hub_download(backbone.home, "README.md", revision=backbone.revision), ignore_metadata_errors=True
        ).data
    except Exception:  # an absent or odd card is no reason to fail: the licence is then unknown
        return None
    found = data.get("license_name") or data.get("license")
    return str(found) if found else None


def _commit(source: str, revision: str | None) -> str | None:
    """The commit of a hub model that was loaded just now: the cache keeps its files in a folder of that name."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(source, "config.json", revision=revision)
    return Path(path).parent.name if isinstance(path, str) else None


def _locate(name: str) -> tuple[str, Path | None]:
    """What to hand to transformers, and the folder or the file of weights where that is one."""
    if not isinstance(name, str) or not name.strip():
        raise BackboneError(
            f"'{name}' is no model name: give nano, a folder, or a hub id such as openai/clip-vit-base-patch16"
        )
    if form := open_clip_files.meant(name):
        raise BackboneError(f"there is no model '{name}', a model of open_clip is {form}")
    if name == NANO:
        folder = Path(str(resources.files("atha") / "backbones" / NANO))
        return str(folder), folder
    path = Path(name).expanduser()
    if path.is_dir():
        return str(path), path
    if path.is_file() and path.suffix == ".safetensors":
        return str(path), path
    if path.exists():
        raise BackboneError(
            f"{name} is a file that is not safetensors, and no other is opened: convert it to .safetensors, or give a "
            "folder with config.json and model.safetensors"
        )
    if path.suffix == ".safetensors":
        raise BackboneError(f"there is no file {name}, check the path")
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name or name.endswith("/"):
        raise BackboneError(f"there is no model folder {name}, check the path")
    return name, None


def _check_folder(folder: Path, name: str) -> None:
    def fail(problem: str, mend: str) -> None:
        raise BackboneError(f"model folder {name} {problem}: {mend}")

    if not (folder / "config.json").is_file():
        if (folder / "atha.json").is_file():
            fail("has no config.json", "this is an adapter, use it with predict or evaluate")
        if (folder / open_clip_files.CONFIG).is_file():
            fail("is one of open_clip", f"give it as {open_clip_files.FOLDER}{name}")
        fail("has no config.json", "give a folder in Hugging Face format")
    if not (folder / "preprocessor_config.json").is_file() and not (folder / "processor_config.json").is_file():
        fail("has no preprocessor_config.json", "save the model's image processor there")
    if not any((folder / file).is_file() for file in _TOKENIZER_FILES):
        fail("has no tokenizer", f"save the model's tokenizer there ({', '.join(_TOKENIZER_FILES)})")
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            shards = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
        except (ValueError, KeyError, AttributeError, TypeError):
            fail("has a damaged model.safetensors.index.json", "get the model again")
        for shard in shards:
            if Path(str(shard)).name != shard or shard == "..":
                fail(f"names a weight file outside itself, '{shard}'", "get the model from a source you trust")
            if not shard.endswith(".safetensors"):  # transformers would hand it to torch.load
                fail(f"names a weight file that is not safetensors, '{shard}'", "convert it to model.safetensors")
    elif not (folder / "model.safetensors").is_file():
        pickled = sorted(path.name for path in folder.glob("*.bin"))
        if pickled:
            fail(
                f"has its weights in {pickled[0]}, a pickle file, which is not opened",
                "convert it to model.safetensors",
            )
        fail("has no model.safetensors", "save the weights there")


def _unreachable(name: str, local: Path | None, error: Exception) -> str:
    if local is not None:
        return f"model folder {name} cannot be loaded ({reason(error)}): get the model again"
    if isinstance(error, ImportError):
        return f"{name} needs another library ({reason(error)}): install it"
    return (
        f"cannot get {name} from the model hub ({reason(error)}): check the name and the network, or download the "
        f"model elsewhere and give its folder, or try --model nano, a small model that is built in; a model of "
        f"open_clip is {open_clip_files.HUB}{name}, or {open_clip_files.PREFIX}{name} if that is architecture and tag"
    )


class _quiet:  # noqa: N801 - used like a function
    """No progress bar for reading weights into memory."""

    def __init__(self, transformers: Any) -> None:
        self._logging = transformers.utils.logging

    def __enter__(self) -> None:
        self._shown = self._logging.is_progress_bar_enabled()
        self._verbosity = self._logging.get_verbosity()
        self._logging.disable_progress_bar()
        self._logging.set_verbosity_error()

    def __exit__(self, *args: object) -> None:
        self._logging.set_verbosity(self._verbosity)
        if self._shown:
            self._logging.enable_progress_bar()
