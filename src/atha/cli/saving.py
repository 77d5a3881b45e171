"""What the verbs that make an adapter have in common: it is saved, then evaluated, then told of."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from atha.cli import common

if TYPE_CHECKING:
    from atha.adapter.record import Record
    from atha.classifier import Classifier
    from atha.data import LabelledImages
    from atha.evaluation import Evaluation


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
    # Saved before the evaluation: a fault there must not cost the training.
    classifier.save_pretrained(out, overwrite=overwrite, keep_support=keep_support)
    results = {}
    if test is not None:
        with common.progress("Evaluating", len(test.samples)) as advance:
            results = classifier.compare(test, batch_size, advance)
        classifier.save_evaluation(out, results)
    record = classifier.record
    assert record is not None
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
    _tell(record, results)
    common.print_text(f"Adapter saved in {out}")


def _tell(record: "Record", results: "Mapping[str, Evaluation]") -> None:
    from atha.adapter.members import members_table

    run = record.run
    losses = (
        f"loss {run.losses[0]:.3f} at the first step, {run.losses[-1]:.3f} at the last of {run.steps}; "
        if run.losses
        else ""
    )
    common.say(f"Trained {record.learned}; {losses}{run.seconds:.1f} s on {run.device} in {run.precision}.")
    if (members := members_table(record)) is not None:
        common.print_table(members)
    if results:
        named = record.named(results)
        common.print_table(common.comparison(named))
        common.print_text(common.difference(named, list(named)[-1], "linear probe"))
    else:
        common.say("How good it is, nobody knows yet: evaluate it on other labelled images.")
