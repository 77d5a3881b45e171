"""The files beside a model: labels, how an image is prepared, a program that does both, and a page about it.

Names from outside are data: they are in JSON, and the program is the same whatever they are.
"""

import inspect
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from atha.adapter.record import to_json
from atha.documents.escaping import markdown, markdown_code
from atha.errors import ExportError
from atha.export import LABELS, PREDICT, PREPROCESSOR, README
from atha.export.base import Format, Subject
from atha.export.preparing import prepared


def preprocessing(subject: Subject) -> dict[str, Any]:
    """What preprocessor_config.json says; `crop_start` and `bands` are for predict.py, others ignore them.

    Raises:
        ExportError: the backbone's processor resizes in a way that predict.py does not know.
    """
    processor = subject.views.processor()
    said = processor.settings()
    if processor.do_resize and set(said["size"]) not in ({"height", "width"}, {"shortest_edge"}):
        raise ExportError(
            f"the image processor of {subject.frozen.backbone.name} resizes to {said['size']}, which predict.py does "
            "not: use the classifier through atha"
        )
    said["image_processor_type"] = said.pop("class")
    said["pad_size"] = processor.pad_size
    said["do_pad"] = bool(processor.do_pad and processor.pad_size)
    said = {key: value for key, value in said.items() if value is not None}
    start = subject.views.crop_start
    if start is not None:
        said["crop_start"] = [start, start]
    if subject.reader.reading.bands is not None:
        said["bands"] = list(subject.reader.reading.bands)
    return {"do_resize": False, "do_center_crop": False, "do_rescale": False, "do_normalize": False} | said


def write_companions(folder: Path, made: Format) -> None:
    """Write labels, preprocessing and program."""
    subject = made.subject
    (folder / LABELS).write_text(to_json(list(subject.classes.labels)), "utf-8")
    (folder / PREPROCESSOR).write_text(to_json(preprocessing(subject)), "utf-8")
    (folder / PREDICT).write_text(program(made), "utf-8")


def program(made: Format) -> str:
    """The text of predict.py."""
    needs = ", ".join(made.needs[:-1]) + f" and {made.needs[-1]}"
    text = (resources.files("atha") / "export" / "predict.py.txt").read_text("utf-8")
    script = made.script
    parts = {
        "NEEDS": needs,
        "IMPORTS": script.imports,
        "START": script.start,
        "PREPARED": inspect.getsource(prepared),
        "RUN": script.run.replace("\n", "\n    "),
    }
    for name, part in parts.items():
        text = text.replace(f"@{name}@", part)
    return text


def write_readme(folder: Path, made: Format, proof: Mapping[str, Any]) -> None:
    """Write the page, once it is known how equal the product is."""
    subject, record = made.subject, made.subject.record
    labels = ", ".join(markdown(label) for label in subject.classes.labels[:20])
    more = len(subject.classes.labels) - 20
    licence = None if record is None else record.backbone.licence
    lines = [
        f"# {len(subject.classes.labels)} classes, exported with atha ({made.name})",
        "",
        f"Classes: {labels}{f' and {more} more' if more > 0 else ''}.",
        f"Made of {markdown_code(subject.frozen.backbone.name)} (licence: {markdown(licence or 'unknown')}), whose "
        "weights are in this folder.",
        "",
        *(f"{markdown(sentence)}\n" for sentence in describe(proof)),
        "```console",
        f"$ pip install {' '.join(made.needs).lower()}",
        "$ python predict.py photo.jpg",
        "```",
        "",
        "predict.py reads JPEG, PNG, WebP, BMP and GIF of 8 bits.",
        "",
    ]
    (folder / README).write_text("\n".join(lines), "utf-8", "backslashreplace")


def describe(proof: Mapping[str, Any]) -> list[str]:
    """Sentences on an export, of its proof.json."""
    compared, int8, views = proof["compared"], proof.get("int8"), proof["views"]
    said = [f"Left out: {sentence}" for sentence in proof["left_out"]]
    said.append("It sees an image once." if len(views) == 1 else f"It sees an image as {', '.join(views)}.")
    said.append(
        f"Compared with the classifier in float32 on {compared['support_pictures']} pictures of its support images and "
        f"{compared['random_images']} random images: probabilities differ by {compared['largest_difference']:.1e} at "
        f"most, {100 * compared['labels_agree']:.1f}% of the labels are the same."
    )
    if "predict_py" in compared:
        said.append(
            f"predict.py, run on {compared['predict_py']['images']} of them as files: "
            f"{compared['predict_py']['largest_difference']:.1e} at most."
        )
    if int8 is not None or proof["left_out"]:
        right = compared.get("support_pictures_right")
        if right:
            said.append(
                f"Right about the support pictures: the classifier {100 * right['classifier']:.1f}%, the export "
                f"{100 * right['export']:.1f}%; these were learned from, so that the difference alone counts."
            )
    if int8 is not None:
        size, speed = int8["bytes"], int8["ms_an_image"]
        said.append(
            f"int8: {size['int8'] / 1e6:.1f} MB instead of {size['float32'] / 1e6:.1f}, {speed['int8']:.1f} ms an "
            f"image instead of {speed['float32']:.1f}, calibrated on {int8['calibration_images']} images"
            + (f"; {unread} could not be read." if (unread := int8["calibration_images_unreadable"]) else ".")
        )
        if not int8["calibration_images"]:
            said.append("Without calibration images it is to be run on one image at a time.")
    return said
