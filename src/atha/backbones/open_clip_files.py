"""Where open_clip's models come from: an architecture and a tag or a file, the hub, or a folder. Safetensors only."""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atha.backbones.folders import check_inside, check_keys
from atha.backbones.open_clip_tokenizer import CONFIG, TOKENIZER_FILES, open_clip_tokenizer
from atha.data.processor import ImageProcessor
from atha.errors import BackboneError, is_fault, reason
from atha.quiet import quiet
from atha.texts import TextError, read_json

PREFIX = "open_clip:"
_HUB_FORM, _FOLDER_FORM = "hf-hub:", "local-dir:"
HUB, FOLDER = PREFIX + _HUB_FORM, PREFIX + _FOLDER_FORM
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
WEIGHTS = "open_clip_model.safetensors"
# By the names under which the hub has them, the usual one first.
_HUB_WEIGHTS = (WEIGHTS, "open_clip_pytorch_model.safetensors", "model.safetensors")
_FORMS = (
    "open_clip:ARCH/PRETRAINED, open_clip:ARCH/FILE.safetensors, open_clip:hf-hub:ORG/NAME or open_clip:local-dir:PATH"
)
_OF_IMAGES = ("mean", "std", "interpolation", "resize_mode")


@dataclass(frozen=True)
class _Source:
    """What a name stands for.

    Attributes:
        model: as open_clip's `create_model` takes it.
        weights: the file.
        home: the folder, or the hub's repository, that the files are of.
        revision: the hub's commit.
        preprocessing: what is other than in the model's own configuration.
        quick_gelu: how the weights were trained, where that is known.
        location: see `Backbone`.
    """

    model: str
    weights: Path
    home: str
    revision: str | None = None
    preprocessing: dict[str, Any] = field(default_factory=dict)
    quick_gelu: bool | None = None
    location: str | None = None


def load_open_clip(name: str, revision: str | None = None, local_files_only: bool = False) -> Any:
    """Load a model of open_clip, weights in float32 on the CPU.

    Args:
        name: one of the forms that `atha.backbones.load_backbone` takes, with its prefix.
        revision: branch, tag or commit of a hub model.
        local_files_only: of what is on the hub, what is on this machine; the hub is not asked.

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

    source = _locate(name, revision, open_clip, local_files_only)
    try:
        with quiet(), _offline(local_files_only):
            config = open_clip.get_model_config(source.model)
            check_keys(config, CONFIG, name)
            if re.search(r"[:/\\]", str(config.get("vision_cfg", {}).get("timm_model_name") or "")):
                raise BackboneError(f"its {CONFIG} names a tower outside itself: get the model from a source you trust")
            _check_size(config, source.weights.stat().st_size)
            local = source.model.startswith(_FOLDER_FORM)
            tokenizer = open_clip_tokenizer(
                config.get("text_cfg", {}),
                Path(source.model.removeprefix(_FOLDER_FORM)) if local else None,
                source.home,
                source.revision,
            )
            options = {} if source.quick_gelu is None else {"force_quick_gelu": source.quick_gelu}
            model = open_clip.create_model(
                source.model, load_weights=False, pretrained_text=False, output_dict=False, **options
            )
            _load_weights(model, source.weights, open_clip)
            preprocessing = {**open_clip.get_model_preprocess_cfg(model), **source.preprocessing}
            processor = image_processor(_square(preprocessing["size"]), preprocessing)
            settings = {"model": config, "quick_gelu": source.quick_gelu}
            backbone = OpenClipBackbone(model, tokenizer, processor, name, source.revision, settings)
    except BackboneError as error:
        raise BackboneError(f"{name} cannot be loaded, {error}") from None
    except BaseException as error:  # open_clip, timm and transformers raise what they like
        if not is_fault(error):
            raise
        raise BackboneError(f"{name} cannot be loaded ({reason(error)}): check the name, or get it again") from None
    backbone.location, backbone.home = source.location, source.home
    return backbone


def _check_size(config: Mapping[str, Any], size: int) -> None:
    """See to it that a model is not far larger than its weights: a wrong number would take all memory.

    Args:
        config: of the model, as open_clip has it.
        size: of the file of weights, in bytes.
    """
    values = 0
    for part in config.values():
        if isinstance(part, dict) and "width" in part:
            width, layers = int(part["width"]), part.get("layers") or 0
            blocks = 64 * sum(layers) if isinstance(layers, list) else 12 * int(layers)  # of a ResNet: wider and wider
            patches = (int(part.get("image_size") or 0) // int(part.get("patch_size") or 16)) ** 2
            rows = patches + int(part.get("vocab_size") or 0) + int(part.get("context_length") or 0)
            values += width * (width * blocks + rows + int(config["embed_dim"]))
    if 4 * values > 16 * size + 10**9:
        raise BackboneError(
            f"its {CONFIG} describes a model of {4 * values / 1e9:,.0f} GB and its weights have {size / 1e9:,.1f} GB: "
            "get the model again"
        )


def meant(name: str) -> str | None:
    """The form in which open_clip's model is asked for that a wrong name may mean."""
    if written := re.match(r"open[-_ ]?clip:", name, re.IGNORECASE):
        return PREFIX + name[written.end() :]
    if name.startswith((_HUB_FORM, _FOLDER_FORM)):
        return PREFIX + name
    return None


def _locate(name: str, revision: str | None, open_clip: Any, offline: bool) -> _Source:
    given = name.removeprefix(PREFIX)
    if given.startswith(_FOLDER_FORM):
        folder = Path(given.removeprefix(_FOLDER_FORM)).expanduser()
        found, place = _weights_in(folder), folder.resolve()
        return _Source(f"{_FOLDER_FORM}{folder}", found, str(place), location=f"{FOLDER}{place}")
    if given.startswith(_HUB_FORM):
        return _from_hub(given.removeprefix(_HUB_FORM), name, revision, offline)
    architecture, _, pretrained = given.partition("/")
    if not pretrained:
        raise BackboneError(f"'{name}' does not say which weights, give it as {_FORMS}")
    known = {model.lower(): model for model in open_clip.list_models()}
    if architecture not in known.values():
        near = difflib.get_close_matches(architecture.lower(), known, n=1, cutoff=0.7)
        hint = f"did you mean {known[near[0]]}?" if near else f"give it as {_FORMS}"
        raise BackboneError(f"open_clip has no architecture '{architecture}', {hint}")
    if tag := open_clip.get_pretrained_cfg(architecture, pretrained):
        return _from_tag(architecture, pretrained, tag, revision, offline)
    file = Path(pretrained).expanduser()
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if file.suffix != ".safetensors":
        if file.is_file():
            raise BackboneError(f"{file} is not a safetensors file and is not opened: convert it to safetensors")
        some = ", ".join(difflib.get_close_matches(pretrained, tags, n=3, cutoff=0) or ["no tag"])
        raise BackboneError(
            f"open_clip has no weights '{pretrained}' of {architecture}: choose a tag such as {some}, or a file that "
            "ends in .safetensors"
        )
    if not file.is_file():
        raise BackboneError(f"there is no file {file}, check the path")
    entries = [open_clip.get_pretrained_cfg(architecture, one) for one in tags]
    place = file.parent.resolve() / file.name  # its own name: what a link points to may have another
    return _Source(
        architecture,
        file,
        str(place.parent),
        preprocessing=_agreed(entries),
        location=f"{PREFIX}{architecture}/{place}",
    )


def _agreed(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Settings of images that all published weights of an architecture have."""
    found = {}
    for key in _OF_IMAGES:
        values = [entry.get(key) for entry in entries]
        if values and values[0] is not None and all(value == values[0] for value in values):
            found[key] = values[0]
    return found


def _weights_in(folder: Path) -> Path:
    if not folder.is_dir():
        raise BackboneError(f"there is no model folder {folder}, check the path")
    if not (folder / CONFIG).is_file():
        raise BackboneError(f"model folder {folder} has no {CONFIG}: give a folder as open_clip saves it")
    for file in (CONFIG, *TOKENIZER_FILES):
        check_inside(folder, file, f"model folder {folder}")
    try:
        config = read_json(folder / CONFIG)
    except TextError as error:
        raise BackboneError(f"{folder / CONFIG} {error}: get the model again") from None
    if "model_cfg" not in config:
        raise BackboneError(f"{folder / CONFIG} has no model_cfg: get the model again")
    found = [folder / file for file in _HUB_WEIGHTS if (folder / file).is_file()]
    found = found or sorted(folder.glob("*.safetensors"))
    if not found:
        pickled = sorted(path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth"))
        has = f"has its weights in {pickled[0]}, a pickle file, which is not opened" if pickled else "has no weights"
        raise BackboneError(f"model folder {folder} {has}: put them there as {WEIGHTS}")
    if len(found) > 1 and found[0].name not in _HUB_WEIGHTS:
        raise BackboneError(f"model folder {folder} has {len(found)} weight files: name the one to use {WEIGHTS}")
    check_inside(folder, found[0].name, f"model folder {folder}")
    return found[0]


def _from_hub(repository: str, name: str, revision: str | None, offline: bool) -> _Source:
    config = _download(repository, (CONFIG,), name, revision, offline)
    weights = _download(repository, _HUB_WEIGHTS, name, config.parent.name, offline)
    # The cache keeps the files of one commit together in a folder of its name: a model folder like any other.
    return _Source(f"{_FOLDER_FORM}{config.parent}", weights, repository, config.parent.name)


def _from_tag(architecture: str, tag: str, entry: dict[str, Any], revision: str | None, offline: bool) -> _Source:
    name = f"{PREFIX}{architecture}/{tag}"
    repository, _, file = entry.get("hf_hub", "").rpartition("/")
    if not repository:
        raise BackboneError(
            f"{name} is published as a pickle file only, which is not opened: convert it to safetensors, as "
            f"docs/how-to/models.md shows, and give it as {PREFIX}{architecture}/FILE.safetensors"
        )
    own = () if not file else (file,) if file.endswith(".safetensors") else (f"{Path(file).stem}.safetensors",)
    weights = _download(repository, (*own, *_HUB_WEIGHTS), name, revision, offline)
    return _Source(
        architecture, weights, repository, weights.parent.name, _agreed([entry]), bool(entry.get("quick_gelu", False))
    )


def _download(repository: str, files: tuple[str, ...], name: str, revision: str | None, offline: bool) -> Path:
    """The first of the files that a repository has."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, LocalEntryNotFoundError

    for file in files:
        try:
            return Path(hf_hub_download(repository, file, revision=revision, local_files_only=offline))
        except GatedRepoError:
            raise BackboneError(
                f"{repository} asks to accept its terms: do so on its page of the model hub, and log in there with "
                "hf auth login"
            ) from None
        except Exception as error:  # of the network, of the hub, of its library
            if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
                continue  # the repository is there, the file is not
            if offline:
                if file != files[-1]:
                    continue  # the cache does not know which of them there are
                raise BackboneError(f"{name} is not on this machine") from None
            raise BackboneError(
                f"cannot get {name} from the model hub ({reason(error)}): check the name and the network, or download "
                f"the model elsewhere and give its folder as {FOLDER}PATH"
            ) from None
    if files == (CONFIG,):
        raise BackboneError(f"{repository} on the model hub has no {CONFIG}, so that it is no model of open_clip")
    raise BackboneError(
        f"{repository} on the model hub has no {files[0]}, and pickle files are not opened: convert its weights in a "
        f"folder with its {CONFIG}, as docs/how-to/models.md shows, and give that as {FOLDER}PATH"
    )


def _load_weights(model: Any, file: Path, open_clip: Any) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as weights:
            shapes = {name: list(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118
        for name, value in model.state_dict().items():
            # open_clip would stretch positions to another image size or context, without a word.
            found = shapes.get(name, shapes.get(name.removeprefix("text."))) if "pos" in name else None
            if found is not None and found[-2:] != list(value.shape)[-2:] and len(found) > 1:
                raise BackboneError(
                    f"{file} has '{name}' in shape {tuple(found)} and this architecture in {tuple(value.shape)}: "
                    "choose the architecture of its image size and context length"
                )
        open_clip.load_checkpoint(model, str(file))
    except (RuntimeError, SafetensorError, OSError, KeyError, ValueError, AttributeError, StopIteration) as error:
        raise BackboneError(
            f"{file} does not hold the weights of this model ({reason(error)}): get the whole checkpoint of this "
            "architecture"
        ) from None
    model.float()


def _square(size: Any) -> int:
    height, width = (size, size) if isinstance(size, int) else size
    if height != width:
        raise BackboneError(f"it takes images of {width}x{height}, supported are square ones: choose another model")
    return int(height)


def image_processor(size: int, said: Mapping[str, Any]) -> ImageProcessor:
    """An image processor that does what open_clip's settings of images say.

    Args:
        size: height and width of the images that the model takes.
        said: ``resize_mode``, ``interpolation``, ``mean`` and ``std``; CLIP's own where they are silent.

    Raises:
        BackboneError: images are resized in a way that is not supported, or mean or std cannot be used.
    """
    from PIL.Image import Resampling

    modes = ("shortest", "squash")
    resampling = {"bicubic": Resampling.BICUBIC, "bilinear": Resampling.BILINEAR, "random": Resampling.BICUBIC}
    mode, interpolation = said.get("resize_mode") or modes[0], said.get("interpolation") or "bicubic"
    if mode not in modes or interpolation not in resampling:
        raise BackboneError(
            f"it resizes images by '{mode}' and '{interpolation}', supported are {' and '.join(modes)}, bicubic and "
            "bilinear: choose another model"
        )
    square = {"height": size, "width": size}
    settings = {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": size} if mode == modes[0] else square,
        "do_center_crop": mode == modes[0],
        "crop_size": square,
        "resample": resampling[interpolation],
        **{f"image_{key}": list(said[key]) for key in ("mean", "std") if said.get(key)},
    }
    return ImageProcessor.of(settings, "what open_clip says of images")


@contextmanager
def _offline(wanted: bool) -> Iterator[None]:
    """Nobody asks the hub: open_clip looks there for a text tower's configuration, and takes no word on it."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or wanted
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
