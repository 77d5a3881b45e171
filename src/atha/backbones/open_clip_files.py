"""Where open_clip's models come from: an architecture and a tag or a file, the hub, or a folder. Safetensors only."""

import difflib
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atha.errors import BackboneError

PREFIX = "open_clip:"
HUB = PREFIX + "hf-hub:"
FAMILY = "open_clip"
ABOUT = (
    "open_clip (extra open-clip): its ViT, CoCa and ResNet, timm's towers as in SigLIP, EVA02, PE-Core and ConvNeXt, "
    "text towers of transformers as in BiomedCLIP"
)
EXAMPLES = (
    "open_clip:ViT-B-32/laion2b_s34b_b79k",
    "open_clip:ViT-B-32/WEIGHTS.safetensors",
    "open_clip:PE-Core-B-16/meta",
    "open_clip:hf-hub:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
    "open_clip:hf-hub:imageomics/bioclip",
    "open_clip:local-dir:FOLDER",
)
CONFIG = "open_clip_config.json"
WEIGHTS = "open_clip_model.safetensors"
# By the names under which the hub has them, the usual one first.
_HUB_WEIGHTS = (WEIGHTS, "open_clip_pytorch_model.safetensors", "model.safetensors")
_FORMS = (
    "open_clip:ARCH/PRETRAINED, open_clip:ARCH/FILE.safetensors, open_clip:hf-hub:ORG/NAME or open_clip:local-dir:PATH"
)


@dataclass(frozen=True)
class _Source:
    """What a name stands for.

    Attributes:
        model: as open_clip's `create_model` and `get_tokenizer` take it.
        weights: the file.
        revision: the hub's commit.
        preprocessing: what is other than in the model's own configuration.
        quick_gelu: how the weights were trained, where that is known.
    """

    model: str
    weights: Path
    revision: str | None = None
    preprocessing: dict[str, Any] = field(default_factory=dict)
    quick_gelu: bool | None = None
    location: str | None = None  # see `Backbone`


def load_open_clip(name: str, revision: str | None = None) -> Any:
    """Load a model of open_clip, weights in float32 on the CPU.

    Args:
        name: one of the forms that `atha.backbones.load_backbone` takes, with its prefix.
        revision: branch, tag or commit of a hub model.

    Raises:
        BackboneError: open_clip is not installed, the model is not known, not within reach, not whole, or its weights
            are not safetensors.
    """
    try:
        import open_clip
    except ImportError:
        raise BackboneError(
            f"{name} needs open_clip, which is not installed: pip install 'atha[open-clip]', or choose a model of "
            "transformers"
        ) from None
    from atha.backbones.open_clip import OpenClipBackbone

    source = _locate(name, revision, open_clip)
    try:
        with _quiet():
            _check_text_tower(source.model, open_clip)
            options = {} if source.quick_gelu is None else {"force_quick_gelu": source.quick_gelu}
            model = open_clip.create_model(
                source.model, load_weights=False, pretrained_text=False, output_dict=False, **options
            )
            config = open_clip.get_model_config(source.model)
            _load_weights(model, source.weights, open_clip)
            tokenizer = open_clip.get_tokenizer(source.model)
    except BackboneError:
        raise
    except Exception as error:  # open_clip, timm and transformers raise what they like
        raise BackboneError(f"{name} cannot be loaded ({_reason(error)}): check the name, or get it again") from None
    preprocessing = {**open_clip.get_model_preprocess_cfg(model), **source.preprocessing}
    size = preprocessing["size"]
    height, width = (size, size) if isinstance(size, int) else size
    if height != width:
        raise BackboneError(f"{name} takes images of {width}x{height}, supported are square ones: choose another model")
    try:
        processor = image_processor(height, preprocessing)
    except BackboneError as error:
        raise BackboneError(f"{name} cannot be loaded, {error}") from None
    settings = {"model": config, "quick_gelu": source.quick_gelu}
    backbone = OpenClipBackbone(model, tokenizer, processor, name, source.revision, settings)
    backbone.location = source.location
    return backbone


def _locate(name: str, revision: str | None, open_clip: Any) -> _Source:
    given = name.removeprefix(PREFIX)
    if given.startswith("local-dir:"):
        folder = Path(given.removeprefix("local-dir:")).expanduser()
        found = _weights_in(folder)
        return _Source(f"local-dir:{folder}", found, location=f"{PREFIX}local-dir:{folder.resolve()}")
    if given.startswith("hf-hub:"):
        return _from_hub(given.removeprefix("hf-hub:"), name, revision)
    architecture, _, pretrained = given.partition("/")
    if not pretrained:
        raise BackboneError(f"'{name}' does not say which weights, give it as {_FORMS}")
    if architecture not in open_clip.list_models():
        near = difflib.get_close_matches(architecture, open_clip.list_models(), n=1)
        hint = f"did you mean {near[0]}?" if near else "open_clip.list_models() names them"
        raise BackboneError(f"open_clip has no architecture '{architecture}', {hint}")
    tag = open_clip.get_pretrained_cfg(architecture, pretrained)
    if tag:
        return _from_tag(architecture, pretrained, tag, revision)
    file = Path(pretrained).expanduser()
    if file.suffix != ".safetensors":
        if file.is_file():
            raise BackboneError(f"{file} is not a safetensors file and is not opened: convert it to safetensors")
        tags = open_clip.list_pretrained_tags_by_model(architecture)
        some = ", ".join(difflib.get_close_matches(pretrained, tags, n=3, cutoff=0) or ["no tag"])
        raise BackboneError(
            f"open_clip has no weights '{pretrained}' of {architecture}: choose a tag such as {some}, or a file that "
            "ends in .safetensors"
        )
    if not file.is_file():
        raise BackboneError(f"there is no file {file}, check the path")
    return _Source(architecture, file, location=f"{PREFIX}{architecture}/{file.resolve()}")


def _weights_in(folder: Path) -> Path:
    if not folder.is_dir():
        raise BackboneError(f"there is no model folder {folder}, check the path")
    if not (folder / CONFIG).is_file():
        raise BackboneError(f"model folder {folder} has no {CONFIG}: give a folder as open_clip saves it")
    try:
        whole = "model_cfg" in json.loads((folder / CONFIG).read_text("utf-8"))
    except (ValueError, TypeError):
        whole = False
    if not whole:
        raise BackboneError(f"{folder / CONFIG} is damaged or has no model_cfg: get the model again")
    found = [folder / file for file in _HUB_WEIGHTS if (folder / file).is_file()]
    found = found or sorted(folder.glob("*.safetensors"))
    if not found:
        pickled = sorted(path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth"))
        has = f"has its weights in {pickled[0]}, a pickle file, which is not opened" if pickled else "has no weights"
        raise BackboneError(f"model folder {folder} {has}: put them there as {WEIGHTS}")
    if len(found) > 1 and found[0].name not in _HUB_WEIGHTS:
        raise BackboneError(f"model folder {folder} has {len(found)} weight files: name the one to use {WEIGHTS}")
    return found[0]


def _from_hub(repository: str, name: str, revision: str | None) -> _Source:
    config = _download(repository, (CONFIG,), name, revision)
    weights = _download(repository, _HUB_WEIGHTS, name, revision)
    # The cache keeps the files of one commit together in a folder of its name: a model folder like any other. Its
    # tokenizer, where it is not open_clip's, is one of the hub's own.
    text = json.loads(config.read_text("utf-8")).get("model_cfg", {}).get("text_cfg", {})
    if text.get("hf_tokenizer_name") and not (config.parent / "tokenizer_config.json").exists():
        return _Source(f"hf-hub:{repository}", weights, config.parent.name)
    return _Source(f"local-dir:{config.parent}", weights, config.parent.name)


def _from_tag(architecture: str, tag: str, entry: dict[str, Any], revision: str | None) -> _Source:
    name = f"{PREFIX}{architecture}/{tag}"
    repository, _, file = entry.get("hf_hub", "").rpartition("/")
    if not repository:
        raise BackboneError(
            f"{name} is published as a pickle file only, which is not opened: convert it to safetensors and give it as "
            f"{PREFIX}{architecture}/FILE.safetensors"
        )
    own = () if not file else (file,) if file.endswith(".safetensors") else (f"{Path(file).stem}.safetensors",)
    weights = _download(repository, (*own, *_HUB_WEIGHTS), name, revision)
    preprocessing = {
        key: entry[key] for key in ("mean", "std", "interpolation", "resize_mode") if entry.get(key) is not None
    }
    return _Source(architecture, weights, weights.parent.name, preprocessing, bool(entry.get("quick_gelu", False)))


def _download(repository: str, files: tuple[str, ...], name: str, revision: str | None) -> Path:
    """The first of the files that a repository has."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    for file in files:
        try:
            return Path(hf_hub_download(repository, file, revision=revision))
        except Exception as error:  # of the network, of the hub, of its library
            if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
                continue  # the repository is there, the file is not
            raise BackboneError(
                f"cannot get {name} from the model hub ({_reason(error)}): check the name and the network, or download "
                f"the model elsewhere and give its folder as {PREFIX}local-dir:PATH"
            ) from None
    if files == (CONFIG,):
        raise BackboneError(f"{repository} on the model hub has no {CONFIG}, so that it is no model of open_clip")
    raise BackboneError(
        f"{repository} on the model hub has no {files[0]}, and pickle files are not opened: convert its weights, and "
        f"give them as {PREFIX}ARCH/FILE.safetensors"
    )


def _check_text_tower(model: str, open_clip: Any) -> None:
    # open_clip loads configuration and tokenizer of transformers without saying what to do about code in them.
    text = (open_clip.get_model_config(model) or {}).get("text_cfg", {})
    import transformers

    for key, kind in (("hf_model_name", transformers.AutoConfig), ("hf_tokenizer_name", transformers.AutoTokenizer)):
        if named := text.get(key):
            local = key == "hf_tokenizer_name" and model.startswith("local-dir:")
            kind.from_pretrained(model.removeprefix("local-dir:") if local else named, trust_remote_code=False)


def _load_weights(model: Any, file: Path, open_clip: Any) -> None:
    from safetensors import SafetensorError

    try:
        open_clip.load_checkpoint(model, str(file))
    except (RuntimeError, SafetensorError, OSError, KeyError, ValueError) as error:
        raise BackboneError(
            f"{file} does not hold the weights of this model ({_reason(error)}): get the whole checkpoint of this "
            "architecture"
        ) from None
    model.float()


def image_processor(size: int, said: Mapping[str, Any]) -> Any:
    """An image processor of transformers that does what open_clip's settings of images say.

    Args:
        size: height and width of the images that the model takes.
        said: ``resize_mode``, ``interpolation``, ``mean`` and ``std``; CLIP's own where they are silent.

    Raises:
        BackboneError: images are resized in a way that is not supported.
    """
    from PIL.Image import Resampling
    from transformers import CLIPImageProcessor

    modes = ("shortest", "squash")
    resampling = {"bicubic": Resampling.BICUBIC, "bilinear": Resampling.BILINEAR, "random": Resampling.BICUBIC}
    mode, interpolation = said.get("resize_mode") or modes[0], said.get("interpolation") or "bicubic"
    if mode not in modes or interpolation not in resampling:
        raise BackboneError(
            f"it resizes images by '{mode}' and '{interpolation}', supported are {' and '.join(modes)}, bicubic and "
            "bilinear: choose another model"
        )
    square = {"height": size, "width": size}
    return CLIPImageProcessor(
        size={"shortest_edge": size} if mode == modes[0] else square,
        do_center_crop=mode == modes[0],
        crop_size=square,
        resample=resampling[interpolation],
        **{f"image_{key}": list(said[key]) for key in ("mean", "std") if said.get(key)},
    )


def _reason(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".:")[:300] or type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """No word on weights that are loaded a moment later."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
