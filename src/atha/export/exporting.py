"""`export`: a classifier written in a format, compared with what was written, and put in its place."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import atha
from atha.adapter.record import to_json
from atha.data.images import ImageInput, ImageProblem
from atha.errors import AthaWarning, ExportError
from atha.export import FORMATS, PROOF, check
from atha.export.base import Format, Options, Subject, Told, plain_subject, subject_with_texts
from atha.export.companions import describe, preprocessing, write_companions, write_readme
from atha.export.proof import Pictures, compare, compare_program, judge
from atha.files import whole_folder


@dataclass(frozen=True)
class Exported:
    """What was exported.

    Attributes:
        folder: where it is.
        proof: the content of proof.json.
    """

    folder: Path
    proof: dict[str, Any]

    def sentences(self) -> list[str]:
        """What was found, for people."""
        return describe(self.proof)

    @property
    def largest_difference(self) -> float:
        """From a probability of the classifier, on the images that it was compared on."""
        return float(self.proof["compared"]["largest_difference"])

    @property
    def labels_agree(self) -> float:
        """Share of those images whose label is the classifier's."""
        return float(self.proof["compared"]["labels_agree"])


def export(
    subject: Subject,
    out: Path,
    format: str,
    *,
    quantize: str | None = None,
    calibrate: Sequence[ImageInput] | None = None,
    accept_difference: bool = False,
    plain: bool = False,
    overwrite: bool = False,
    told: Told = lambda what, done, of: None,
) -> Exported:
    """Write a classifier.

    Args:
        subject: the classifier.
        out: folder to make.
        format: one of `atha.export.FORMATS`.
        quantize: ``int8``, or None.
        calibrate: images to calibrate on.
        accept_difference: export what the format cannot hold all of, too.
        plain: look at the plain view of an image alone.
        overwrite: replace an export that is there.
        told: of progress.

    Raises:
        ExportError: it cannot be exported so, or what was written is not equal to it; nothing is then written.
        AdapterError: the folder is in use or cannot be written.
    """
    check(format, out, quantize, calibrate, overwrite)
    exporter: type[Format] = import_module(FORMATS[format].module).Exporter
    subject = plain_subject(subject) if plain else subject
    subject = subject_with_texts(subject) if exporter.reads_texts else subject
    views, unread = _views(subject, calibrate)
    made = exporter(subject, Options(quantize, views, accept_difference), told)
    preprocessing(subject)
    made.check()
    with whole_folder(out) as folder:
        told("Exporting", 0, 1)
        about = made.write(folder)
        if "int8" in about:
            about["int8"]["calibration_images_unreadable"] = unread
        told("Exporting", 1, 1)
        write_companions(folder, made)
        pictures = Pictures.of(subject)
        difference = compare(made, folder, pictures)
        compared = {**pictures.to_dict(), **difference.to_dict(), **pictures.right(difference)}
        program = compare_program(made, folder, pictures)
        if program is not None:
            compared["predict_py"] = {"images": len(program.right), **program.to_dict()}
        judge(made, compared)
        proof = _describe(made, about, compared)
        write_readme(folder, made, proof)
        (folder / PROOF).write_text(to_json(proof), "utf-8")
    return Exported(out, proof)


def _describe(made: Any, about: Any, compared: dict[str, Any]) -> dict[str, Any]:
    subject = made.subject
    backbone = subject.frozen.backbone
    name = Path(backbone.name).name if backbone.location else backbone.name  # no place of this machine
    return {
        "made_by": "atha export",
        "atha": atha.__version__,
        "format": made.name,
        "quantized": made.options.quantize,
        "backbone": {"name": name, "family": backbone.family},
        "recipe": subject.recipe.name,
        "kind": subject.fitted.kind,
        "image_size": subject.size,
        "views": list(subject.aspects),
        "precision": {"classifier": subject.precision, "export": made.options.quantize or "float32"},
        "left_out": list(made.left_out),
        **about,
        "compared": compared,
    }


def _views(subject: Subject, images: Sequence[ImageInput] | None) -> tuple[list[Any], int]:
    """Plain views of images to calibrate on, and how many images cannot be read."""
    views, problems = [], []
    for image in images or ():
        try:
            views.append(subject.reader.make(image, subject.views.plain))
        except ImageProblem as problem:
            problems.append(problem)
    if images is not None and not views:
        why = f" ({problems[-1]})" if problems else ""
        raise ExportError(f"there are no images to calibrate on{why}: give a folder of some, such as the support set")
    if problems:
        warnings.warn(
            f"not calibrated on {len(problems)} of {len(problems) + len(views)} images: {problems[0]}",
            AthaWarning,
            stacklevel=3,
        )
    return views, len(problems)
