"""CLIP from one file of weights in OpenAI's names, which open_clip and most training code write too.

Such a file says nothing of the model but its weights. What shapes do not tell is taken from the first that says it:

- entries of the safetensors metadata: ``activation`` (``quick_gelu`` or ``gelu``), ``vision_heads``, ``text_heads``;
- ``open_clip_config.json`` beside the file, as open_clip writes it;
- OpenAI's own models: ``quick_gelu`` (with a warning), and one attention head for every 64 channels.

The tokenizer is the one whose files lie beside the weights, or else CLIP's own, which open_clip brings. The image
processor is that of ``preprocessor_config.json``, or else CLIP's, with what ``open_clip_config.json`` says of images.
Vision and text transformers as OpenAI built them are read here; other towers need open_clip itself.
"""

import gzip
import importlib.util
import warnings
from collections.abc import Collection, Mapping
from functools import partial
from math import isqrt
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import ValidationError
from torch import Tensor

from atha.backbones.clip import ClipBackbone
from atha.backbones.configuration import ClipConfig, explain
from atha.backbones.folders import check_inside
from atha.backbones.open_clip_files import image_processor
from atha.backbones.open_clip_tokenizer import CONFIG
from atha.backbones.openai_names import ELSEWHERE, WHOLE, check_names, count_blocks, from_openai, to_openai
from atha.backbones.processor_files import FILE as PROCESSOR
from atha.backbones.processor_files import read_processor
from atha.backbones.tokenizer_files import load_tokenizer
from atha.backbones.towers import empty, fill
from atha.data.processor import ImageProcessor
from atha.errors import AthaWarning, BackboneError, is_fault, reason
from atha.texts import read_json

ACTIVATIONS = ("quick_gelu", "gelu")
_TOKENIZER_FILES = ("tokenizer.json", "vocab.json")
_VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"
_NO_WEIGHTS = ("input_resolution", "context_length", "vocab_size", "attn_mask", "position_ids")

# Settings of a tower in open_clip: those that shapes show too, those that are read or change no feature, and the values
# that mean CLIP. All others are of other architectures.
_SHOWN = {
    "width": "hidden_size",
    "layers": "num_hidden_layers",
    "patch_size": "patch_size",
    "image_size": "image_size",
    "context_length": "max_position_embeddings",
    "vocab_size": "vocab_size",
}
_HARMLESS = {"head_width", "heads", "mlp_ratio", "patch_dropout", "output_tokens", "eos_id"}
_USUAL = {"pool_type": ("tok", "argmax"), "proj_type": ("linear",), "pos_embed_type": ("learnable",)}

# What files of the wrong content make other code raise.
_DAMAGES = (
    OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RuntimeError, ImportError,
)  # fmt: skip


def clip_config(
    weights: Mapping[str, Tensor],
    activation: str = "quick_gelu",
    vision_heads: int | None = None,
    text_heads: int | None = None,
) -> ClipConfig:
    """The configuration of weights in OpenAI's names. A text ends with the vocabulary's last token.

    Args:
        weights: they tell every width, depth and length.
        activation: ``quick_gelu`` or ``gelu``.
        vision_heads: attention heads of a vision block; None: one for every 64 channels.
        text_heads: the same of a text block.

    Raises:
        BackboneError: a weight is missing or of another shape, or the heads do not fit or are not known.
    """
    if activation not in ACTIVATIONS:
        raise BackboneError(f"activation '{activation}' is not known, give one of {', '.join(ACTIVATIONS)}")
    width, _, _, patch = _shape(weights, "visual.conv1.weight", 4)
    places, _ = _shape(weights, "visual.positional_embedding", 2)
    vocabulary, text_width = _shape(weights, "token_embedding.weight", 2)
    vision = {
        **_tower(weights, "visual.transformer.resblocks", width, vision_heads, "vision_heads"),
        "patch_size": patch,
        "image_size": patch * isqrt(places - 1),
        "hidden_act": activation,
    }
    text = {
        **_tower(weights, "transformer.resblocks", text_width, text_heads, "text_heads"),
        "vocab_size": vocabulary,
        "max_position_embeddings": _shape(weights, "positional_embedding", 2)[0],
        # OpenAI reads a text at its highest id. That is its first end token, if the last of the vocabulary is that.
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
        "pad_token_id": vocabulary - 1,
        "hidden_act": activation,
    }
    joint = _shape(weights, "text_projection", 2)[1]
    try:
        config = ClipConfig.model_validate({"vision_config": vision, "text_config": text, "projection_dim": joint})
    except ValidationError as error:
        raise BackboneError(f"its weights make no CLIP ({explain(error)}): {WHOLE}") from None
    _check_shapes(weights, config)
    return config


def load_state_dict(path: Path, name: str) -> ClipBackbone:
    """Load a backbone from one file, weights in float32.

    Args:
        path: the safetensors file.
        name: the same as the user gave it.

    Raises:
        BackboneError: the file is damaged, not whole, of another architecture or in other names, or there is no
            tokenizer for it.
    """
    weights, metadata = _read(path, name)
    for file in (CONFIG, PROCESSOR, *_TOKENIZER_FILES):
        check_inside(path.parent, file, f"the folder of {name}")
    try:
        settings = _settings(path.parent, metadata)
        config = clip_config(weights, settings.activation or ACTIVATIONS[0], settings.vision_heads, settings.text_heads)
        settings.check(config)
        has_tokenizer = _has_tokenizer(path.parent)
        model = fill(empty(config), from_openai(weights))
        processor = _image_processor(path.parent, config.vision_config.image_size, settings.images)
    except (*_DAMAGES, BackboneError) as error:
        raise _damaged(error, name) from None
    if settings.activation is None:
        warnings.warn(
            f"{name} does not say its activation and quick_gelu is taken, OpenAI's own: for a model that was trained "
            f'with gelu, as open_clip\'s mostly were, put {{"quick_gelu": false}} into {CONFIG} beside it',
            AthaWarning,
            stacklevel=3,
        )
    backbone = ClipBackbone(model, None, processor, name=name)
    backbone.load_tokenizer = partial(_tokenizer, path.parent if has_tokenizer else None, config, name)
    # Its own name: what a link in a cache points to has another, and would not be known as safetensors.
    backbone.location, backbone.home = str(path.parent.resolve() / path.name), str(path.parent.resolve())
    return backbone


class _Settings(NamedTuple):
    """What is said of a model beside its weights."""

    activation: str | None
    vision_heads: int | None
    text_heads: int | None
    towers: dict[str, dict[str, Any]]  # open_clip's settings of vision and text
    images: dict[str, Any]  # open_clip's settings of images

    def check(self, config: Any) -> None:
        """See to it that open_clip's settings are those of this model, and of a plain CLIP."""
        for tower, said in self.towers.items():
            own = getattr(config, f"{tower}_config")
            for key, value in said.items():
                if key in _SHOWN:
                    found = getattr(own, _SHOWN[key])
                    if isinstance(value, int) and value != found:
                        raise BackboneError(
                            f"{CONFIG} beside it says {key} {value} of the {tower} tower and the weights have {found}: "
                            "put the model's own there, or take it away"
                        )
                elif key not in _HARMLESS and value and value not in _USUAL.get(key, ()):
                    raise BackboneError(f"{CONFIG} beside it says {key} {value!r}, which is no CLIP: {ELSEWHERE}")


def _shape(weights: Mapping[str, Tensor], name: str, dimensions: int) -> torch.Size:
    if name not in weights:
        raise BackboneError(f"'{name}' of CLIP's weights is missing: {WHOLE}")
    if weights[name].ndim != dimensions or not weights[name].numel():
        raise BackboneError(f"'{name}' has shape {tuple(weights[name].shape)}, which is not CLIP's: {WHOLE}")
    return weights[name].shape


def _tower(weights: Mapping[str, Tensor], blocks: str, width: int, heads: int | None, key: str) -> dict[str, Any]:
    if heads is None and width % 64 == 0:
        heads = width // 64
    if heads is None or heads < 1 or width % heads:
        problem = (
            "the number of attention heads is not known" if heads is None else f"{heads} attention heads do not fit"
        )
        raise BackboneError(
            f"{problem} for a width of {width}: say it in {CONFIG} beside the file, or as {key} in its metadata"
        )
    return {
        "hidden_size": width,
        "num_attention_heads": heads,
        "num_hidden_layers": count_blocks(weights, blocks),
        "intermediate_size": _shape(weights, f"{blocks}.0.mlp.c_fc.weight", 2)[0],
        "layer_norm_eps": 1e-5,
    }


def _check_shapes(weights: Mapping[str, Tensor], config: Any) -> None:
    expected = to_openai(empty(config).state_dict())
    check_names(weights, expected)
    for name, value in expected.items():
        found, right = tuple(weights[name].shape), tuple(value.shape)
        if found != right:
            raise BackboneError(f"'{name}' has shape {found} and should have {right}: {WHOLE}")


def _read(path: Path, name: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Weights in OpenAI's plain names and float32, and the metadata."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            names, metadata = list(file.keys()), file.metadata() or {}
            prefix = "module." if all(key.startswith("module.") for key in names) else ""
            plain = {key.removeprefix(prefix): key for key in names}
            _check_kind(plain, path, name)
            # Copies: the file could change while it is mapped into memory.
            weights = {
                ours: file.get_tensor(key).to(torch.float32, copy=True)
                for ours, key in plain.items()
                if ours not in _NO_WEIGHTS
            }
    except (SafetensorError, OSError) as error:
        raise BackboneError(f"{name} cannot be read as safetensors ({error}): get the file again") from None
    if "logit_scale" in weights and weights["logit_scale"].numel() == 1:  # open_clip has it with a dimension, too
        weights["logit_scale"] = weights["logit_scale"].reshape(())
    return weights, metadata


def _check_kind(names: Collection[str], path: Path, name: str) -> None:
    def some(*starts: str) -> bool:
        return any(key.startswith(starts) for key in names)

    if some("vision_model.", "text_model."):
        raise BackboneError(
            f"{name} has transformers' names, and such a model is a folder with config.json: give {path.parent}"
        )
    if some("visual.layer1.", "visual.attnpool."):
        raise BackboneError(f"{name} has a convolutional vision tower, which CLIP's transformer is not: {ELSEWHERE}")
    if some("text.", "visual.trunk."):
        raise BackboneError(f"{name} has towers of open_clip's own, which are not CLIP's: {ELSEWHERE}")
    if "visual.conv1.weight" not in names:
        raise BackboneError(f"{name} has no visual.conv1.weight, it is no CLIP in OpenAI's names: give another model")


def _settings(folder: Path, metadata: Mapping[str, str]) -> _Settings:
    said = read_json(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    model = _table(said, "model_cfg") if "model_cfg" in said else said
    towers = {tower: _table(model, f"{tower}_cfg") for tower in ("vision", "text") if f"{tower}_cfg" in model}
    activation: str | None = None
    heads: dict[str, int | None] = {"vision": None, "text": None}
    if said:
        activation = "quick_gelu" if model.get("quick_gelu") else "gelu"
    # What open_clip takes where its settings are silent.
    if "width" in towers.get("vision", {}):
        heads["vision"] = towers["vision"]["width"] // towers["vision"].get("head_width", 64)
    if "text" in towers:
        heads["text"] = towers["text"].get("heads", 8)
    for tower in heads:
        entry = metadata.get(f"{tower}_heads")
        if entry is not None:
            heads[tower] = int(entry)
    return _Settings(
        metadata.get("activation", activation), heads["vision"], heads["text"], towers, _table(said, "preprocess_cfg")
    )


def _table(content: Mapping[str, Any], key: str) -> dict[str, Any]:
    part = content.get(key) or {}
    if not isinstance(part, dict):
        raise TypeError(f"{key} in {CONFIG} is no table")
    return part


def _has_tokenizer(folder: Path) -> bool:
    """Whether it lies beside the weights; else there is CLIP's own."""
    if any((folder / file).is_file() for file in _TOKENIZER_FILES):
        return True
    _vocabulary()
    return False


def _tokenizer(folder: Path | None, config: ClipConfig, name: str) -> Any:
    text = config.text_config
    try:
        tokenizer = _own_tokenizer(text.max_position_embeddings) if folder is None else load_tokenizer(folder, "clip")
        if len(tokenizer) != text.vocab_size:
            raise BackboneError(
                f"its text tower has a vocabulary of {text.vocab_size} and its tokenizer one of {len(tokenizer)}: put "
                "the files of the model's own tokenizer beside it"
            )
        if tokenizer.eos_token_id != text.vocab_size - 1:
            raise BackboneError(
                f"its tokenizer ends texts with token {tokenizer.eos_token_id} and OpenAI's CLIP reads them at the "
                f"last, {text.vocab_size - 1}: {ELSEWHERE}"
            )
    except BaseException as error:  # of transformers and of the libraries behind it, which raise what they like
        if not is_fault(error):
            raise
        raise _damaged(error, name) from None
    return tokenizer


def _damaged(error: BaseException, name: str) -> BackboneError:
    if isinstance(error, BackboneError):
        return BackboneError(f"{name} cannot be loaded, {error}")
    return BackboneError(f"{name} cannot be loaded ({reason(error)}): get it and the files beside it again")


def _vocabulary() -> Path:
    """The file of CLIP's own vocabulary, which open_clip ships."""
    spec = importlib.util.find_spec("open_clip")
    file = Path(spec.origin).parent / _VOCABULARY if spec is not None and spec.origin else None
    if file is None or not file.is_file():
        raise BackboneError(
            "there is no tokenizer beside it, and CLIP's own comes with open_clip: pip install 'atha[open-clip]', or "
            f"put the tokenizer's files there ({', '.join(_TOKENIZER_FILES)})"
        )
    return file


def _own_tokenizer(context_length: int) -> Any:
    """CLIP's own byte-pair vocabulary, as open_clip ships it: bytes, bytes that end a word, merges, two special."""
    from transformers import CLIPTokenizer

    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = [chr(code) for code in (*printable, *range(256, 512 - len(printable)))]
    lines = gzip.decompress(_vocabulary().read_bytes()).decode("utf-8").split("\n")
    merges = [tuple(line.split()) for line in lines[1 : 49408 - 2 - 512 + 1]]
    special = ("<|startoftext|>", "<|endoftext|>")
    words = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(merge) for merge in merges), *special]
    vocabulary = {word: index for index, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=context_length)


def _image_processor(folder: Path, size: int, said: Mapping[str, Any]) -> ImageProcessor:
    if (folder / PROCESSOR).is_file():
        return read_processor(folder)
    return image_processor(size, said)
