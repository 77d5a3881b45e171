"""A model's image processor, from the files of its folder or of its place on the model hub."""

import json
from pathlib import Path
from typing import Any

from atha.data.processor import ImageProcessor
from atha.errors import BackboneError, reason

# That of a whole processor, of images and texts, may have the settings of images in a part of its own.
_WHOLE, _FILE = "processor_config.json", "preprocessor_config.json"
# Of models whose files do not say the class of their image processor.
_OF_MODELS = {
    "clip": "CLIPImageProcessor",
    "metaclip_2": "CLIPImageProcessor",
    "chinese_clip": "ChineseCLIPImageProcessor",
    "siglip": "SiglipImageProcessor",
    "siglip2": "Siglip2ImageProcessor",
}


def read_processor(folder: Path) -> ImageProcessor:
    """The image processor that is saved in a model folder.

    Raises:
        BackboneError: there is none, its file is damaged, or what it says is not supported.
    """
    file = folder / _WHOLE
    said = _load(file).get("image_processor") if file.is_file() else None
    if said is None:
        file = folder / _FILE
        if not file.is_file():
            raise BackboneError(f"{folder} has no {_FILE}: save the model's image processor there")
        said = _load(file)
    if isinstance(said, dict) and not (said.get("image_processor_type") or said.get("feature_extractor_type")):
        config = _load(folder / "config.json") if (folder / "config.json").is_file() else {}
        kind = config.get("image_processor_type") or _OF_MODELS.get(str(config.get("model_type")))
        said = said | {"image_processor_type": kind}
    return ImageProcessor.of(said, str(file))


def hub_folder(repository: str, revision: str | None) -> Path:
    """Where the cache keeps the image processor of a hub model, after a look for it there.

    Raises:
        OSError: the hub is out of reach and the cache has none.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    found: list[Path] = []
    missing = ""
    for name in (_WHOLE, _FILE):
        try:
            found.append(Path(hf_hub_download(repository, name, revision=revision)).parent)
        except EntryNotFoundError as error:  # not in the repository, or not in the cache when that is all there is
            missing = reason(error)
    if not found:
        raise OSError(missing)
    return found[-1]


def _load(file: Path) -> dict[str, Any]:
    try:
        said = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BackboneError(f"{file} cannot be read ({reason(error)}): get the model again") from None
    if not isinstance(said, dict):
        raise BackboneError(f"{file} holds no settings by name: get the model again")
    return said
