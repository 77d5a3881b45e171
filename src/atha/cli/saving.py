"""What the verbs that make an adapter have in common: it is saved, then evaluated, then told of."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from atha.cli import common
from atha.errors import AdapterError, AthaError

if TYPE_CHECKING:
    from atha.adapter.record import Record
    from atha.classifier import Classifier
    from atha.data import LabelledImages


def save_and_tell(
    classifier: "Classifier",
    out: Path,
    test: "LabelledImages | None",
    batch_size: int | None,
    *,
    overwrite: bool,
    keep_support: bool = True,
    json: bool,
) -> None:
    """Save an adapter, evaluate it where there are test images, and print what it is.

    Args:
        classifier: that was fitted.
        out: folder of the adapter.
        test: images to evaluate on.
        batch_size: images that go through the model at once.
        overwrite: whether to replace an adapter that is there.
        keep_support: see `Classifier.save_pretrained`.
        json: print JSON.
    """
    # Saved and told of before the evaluation: a fault there must not cost the training.
    out = _save(classifier, out, overwrite, keep_support)
    record = classifier.record
    assert record is not None
    if not json:
        _tell(record)
    results = {}
    if test is not None:
        try:
            with common.progress("Evaluating", len(test.samples)) as advance:
                results = classifier.compare(test, batch_size, advance)
        except AthaError as error:
            raise AthaError(f"{error}; the adapter is saved in {out}: evaluate it with atha evaluate") from error
        classifier.save_evaluation(out, results)
    if json:
        evaluation = {name: result.to_dict() for name, result in results.items()}
        common.print_json(
            {
                "adapter": str(out),
                "classes": classifier.class_texts,
                "fitted": record.definition,
                "evaluation": evaluation,
            }
        )
        return
    if results:
        named = record.named(results)
        common.print_table(common.comparison(named))
        common.print_text(common.difference(named, list(named)[-1], "linear probe"))
    else:
        common.say("How good it is, nobody knows yet: evaluate it on other labelled images.")
    common.print_text(f"Adapter saved in {out}")


def _save(classifier: "Classifier", out: Path, overwrite: bool, keep_support: bool) -> Path:
    """Save an adapter; what was trained is kept somewhere, even where that is not possible. Returns the place.

    Raises:
        AdapterError: it could not be saved there, and says where it is kept.
    """
    try:
        classifier.save_pretrained(out, overwrite=overwrite, keep_support=keep_support)
        return out
    except AdapterError as error:
        problem = error
    if (kept := _kept_elsewhere(classifier, keep_support)) is not None:
        raise AdapterError(f"{problem}; what was trained is kept: move it from {kept}")
    while common.is_interactive():
        common.warn(str(problem))
        out = Path(typer.prompt("Free space, or name another folder for the adapter", default=str(out), err=True))
        try:
            classifier.save_pretrained(out, overwrite=overwrite, keep_support=keep_support)
            return out
        except AdapterError as error:
            problem = error
    raise problem


def _kept_elsewhere(classifier: "Classifier", keep_support: bool) -> Path | None:
    """A new folder on another disk than a full one: for temporary files, or in memory; None if that is full too."""
    for parent in (None, "/dev/shm"):  # noqa: S108 - its new folder is for its owner, with a name that nobody knows
        try:
            folder = Path(tempfile.mkdtemp(prefix="atha-", dir=parent))
        except OSError:
            continue
        try:
            classifier.save_pretrained(folder / "adapter", keep_support=keep_support)
            return folder / "adapter"
        except AdapterError:
            folder.rmdir()
    return None


def _tell(record: "Record") -> None:
    from atha.adapter.members import members_table

    run = record.run
    losses = (
        f"loss {run.losses[0]:.3f} at the first step, {run.losses[-1]:.3f} at the last of {run.steps}; "
        if run.losses
        else ""
    )
    common.say(f"Trained {record.learned}; {losses}{run.seconds:.1f} s on {run.place} in {run.precision}.")
    if (members := members_table(record)) is not None:
        common.print_table(members)
