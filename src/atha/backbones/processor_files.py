"""A model's image processor, from the files of its folder."""

from pathlib import Path
from typing import Any

from atha.data.processor import ImageProcessor
from atha.errors import BackboneError
from atha.texts import TextError, read_json

# That of a whole processor, of images and texts, may have the settings of images in a part of its own.
_WHOLE, FILE = "processor_config.json", "preprocessor_config.json"
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
        file = folder / FILE
        if not file.is_file():
            raise BackboneError(f"{folder} has no {FILE}: save the model's image processor there")
        said = _load(file)
    if isinstance(said, dict) and not (said.get("image_processor_type") or said.get("feature_extractor_type")):
        config = _load(folder / "config.json") if (folder / "config.json").is_file() else {}
        kind = config.get("image_processor_type") or _OF_MODELS.get(str(config.get("model_type")))
        said = said | {"image_processor_type": kind}
    return ImageProcessor.of(said, str(file))


def _load(file: Path) -> dict[str, Any]:
    try:
        return read_json(file)
    except TextError as error:
        raise BackboneError(f"{file} {error}: get the model again") from None
