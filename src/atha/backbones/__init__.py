"""Frozen CLIP-like models behind one interface, from a hub id, a local folder or the embedded ``nano``."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import resources
from math import isfinite
from pathlib import Path

import torch
from torch import nn

from atha import defaults
from atha.backbones import open_clip_files
from atha.backbones.base import Backbone, Prompts, Tokens
from atha.backbones.checkpoint import Checkpoint
from atha.backbones.clip import ClipBackbone
from atha.backbones.configuration import parse
from atha.backbones.folders import is_inside
from atha.backbones.metaclip_2 import MetaClip2Backbone
from atha.backbones.siglip import SiglipBackbone
from atha.backbones.siglip2 import Siglip2Backbone
from atha.backbones.state_dict import load_state_dict
from atha.backbones.towers import MODELS, empty, fill, shapes
from atha.errors import BackboneError
from atha.texts import read_header

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
        load: one of them, by name, revision and whether what is on this machine must do.
        family: `Backbone.family` of what it makes.
        about: what models these are.
        examples: what ``--model`` takes.
    """

    load: Callable[[str, str | None, bool], Backbone]
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
# Characters of a licence's name.
_LICENCE = 200

__all__ = ["FAMILIES", "LOADERS", "NANO", "Backbone", "Loader", "Prompts", "Tokens", "licence", "load_backbone"]


def load_backbone(name: str, revision: str | None = None, local_files_only: bool = False) -> Backbone:
    """Load a backbone with its image processor, weights in float32 on the CPU; its tokenizer is read at the first use.

    Args:
        name: ``nano``, a folder in Hugging Face format, a hub id such as ``openai/clip-vit-base-patch16``, a
            safetensors file of a CLIP in OpenAI's names (see `atha.backbones.state_dict`), or a model of open_clip:
            ``open_clip:ARCH/PRETRAINED`` (a tag or a safetensors file), ``open_clip:hf-hub:ORG/NAME`` or
            ``open_clip:local-dir:PATH``.
        revision: branch, tag or commit of a hub model.
        local_files_only: of a hub model, what is on this machine; the hub is not asked.

    Raises:
        BackboneError: not found or out of reach, not a supported family, files missing or damaged, or weights that
            are not safetensors (pickle files are never opened).
    """
    backbone = _load(name, revision, local_files_only)
    if not (isfinite(backbone.logit_scale) and isfinite(backbone.logit_bias)):
        raise BackboneError(f"the weights of {name} have a logit scale or bias that is not finite: get the model again")
    return backbone


def _load(name: str, revision: str | None, local_files_only: bool) -> Backbone:
    for prefix, loader in LOADERS.items():
        if isinstance(name, str) and name.startswith(prefix):
            return loader.load(name, revision, local_files_only)
    local = _locate(name)
    if local is not None and local.is_file():
        return load_state_dict(local, name)
    files = Checkpoint(name, local, revision, local_files_only)
    kind = files.config.get("model_type")
    family = FAMILIES.get(kind) if isinstance(kind, str) else None
    if family is None:
        what = f"is a '{kind}' model" if kind else "has no model_type in its config.json"
        raise BackboneError(f"{name} {what}, the families supported are {', '.join(FAMILIES)}: choose one of these")
    files.check()
    backbone = family(_model(files, family), None, files.image_processor(), name=name, revision=files.commit)
    backbone.load_tokenizer = partial(files.tokenizer, backbone.token_embedding.num_embeddings)
    backbone.home = name if local is None else str(local.resolve())
    if local is not None and name != NANO:
        backbone.location = backbone.home
    return backbone


def _model(files: Checkpoint, family: type[Backbone]) -> nn.Module:
    if family.model_class not in MODELS:  # a family of somebody's own
        return files.from_transformers(family.model_class)
    config = parse(MODELS[family.model_class][0], files.config, files.name)
    model = empty(config)
    return fill(model, files.weights(shapes(model), family.model_class))


def reload(name: str, revision: str | None, fingerprint: str, device: str) -> Backbone:
    """A backbone that another process had, from where that loaded it.

    Raises:
        BackboneError: it is not there, or has other weights.
    """
    backbone = load_backbone(name, revision)
    if backbone.fingerprint() != fingerprint:
        raise BackboneError(f"{name} has other weights here than where it was sent from: give all processes one model")
    return backbone.to(torch.device(device))


def licence(backbone: Backbone) -> str | None:
    """The licence that a backbone's model card names, if it has one within reach."""
    from huggingface_hub import hf_hub_download

    if backbone.home is None:
        return None
    try:
        folder = Path(backbone.home)
        card = folder / "README.md" if folder.is_dir() else None
        if card is not None and not is_inside(folder, card.name):
            return None
        data = read_header(card or Path(hf_hub_download(backbone.home, "README.md", revision=backbone.revision)))
    except Exception:  # an absent or odd card is no reason to fail: the licence is then unknown
        return None
    found = data.get("license_name") or data.get("license")
    return found if isinstance(found, str) and len(found) <= _LICENCE else None


def _locate(name: str) -> Path | None:
    """The folder, or the file of weights; None: on the hub."""
    if not isinstance(name, str) or not name.strip():
        raise BackboneError(
            f"'{name}' is no model name: give nano, a folder, or a hub id such as openai/clip-vit-base-patch16"
        )
    if form := open_clip_files.meant(name):
        raise BackboneError(f"there is no model '{name}', a model of open_clip is {form}")
    if name == NANO:
        return Path(str(resources.files("atha") / "backbones" / NANO))
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.is_file() and path.suffix == ".safetensors":
        return path
    if path.exists():
        raise BackboneError(
            f"{name} is a file that is not safetensors, and no other is opened: convert it to .safetensors, or give a "
            "folder with config.json and model.safetensors"
        )
    if path.suffix == ".safetensors":
        raise BackboneError(f"there is no file {name}, check the path")
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name or name.endswith("/"):
        raise BackboneError(f"there is no model folder {name}, check the path")
    return None
