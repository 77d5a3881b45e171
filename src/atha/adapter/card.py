"""The model card of an adapter, written from its record."""

from atha.adapter.members import members_table
from atha.adapter.record import BLEND, TRAINED, EvaluationRecord, Record
from atha.classes import Classes
from atha.documents.escaping import json, markdown, markdown_code, yaml
from atha.documents.tables import Table, to_markdown
from atha.recipe import Recipe


def write_card(classes: Classes, recipe: Recipe, record: Record, place: str = "path/to/this/folder") -> str:
    """Markdown with the metadata header that model hubs read.

    Args:
        classes: labels and texts.
        recipe: the resolved one.
        record: of the adapter.
        place: where whoever reads it finds the adapter.
    """
    backbone, support = record.backbone, record.support
    header = ["---", f"library_name: {'peft' if record.run.lora_layers else 'atha'}", "tags: [atha, clip, few-shot]"]
    if not _is_path(backbone.name) and backbone.name != "nano":
        header.append(f"base_model: {yaml(backbone.name)}")
    name = recipe.name if record.kind in (TRAINED, BLEND) else record.kind
    members = members_table(record)
    rows = [
        [label, text, str(support.counts[label])] for label, text in zip(classes.labels, classes.texts, strict=True)
    ]
    lines = [
        *header,
        "---",
        "",
        f"# {len(classes.labels)} classes, adapted with atha ({markdown(name)})",
        "",
        f"Backbone: {markdown_code(backbone.name)}"
        + (f" at {markdown_code(backbone.revision)}" if backbone.revision else "")
        + f" ({markdown(backbone.family)}, {backbone.parameters / 1e6:.1f} million parameters, "
        + f"licence: {markdown(backbone.licence or 'unknown')}).",
        "The backbone is not part of this folder and keeps its own licence.",
        *(["`support.safetensors` holds small pictures and features of the support images."] if support.kept else []),
        "",
        "## Classes and support images",
        "",
        to_markdown(Table("", ["label", "class text", "images"], rows, numbers=False)),
        *([f"The images are {support.drawn.describe()}.", ""] if support.drawn is not None else []),
        f"Prompt: {markdown_code(recipe.prompt.template)}"
        + (" (context learned)" if recipe.prompt.learn_context else ""),
        *(f"\nNot used: {markdown(sentence)}" for sentence in support.left_out),
        "",
        *([] if members is None else ["## Members", "", to_markdown(members)]),
        "## Evaluation",
        "",
        *_evaluation(record.evaluation),
        "",
        "## Training",
        "",
        *_training(record),
        "",
        "```json",
        json(recipe.model_dump_json(indent=2)).replace("```", "` ` `"),
        "```",
        "",
        "## Use",
        "",
        "```python",
        "import atha",
        "",
        f'atha.Classifier.from_pretrained("{place}").predict(["photo.jpg"])',
        "```",
        "",
    ]
    return "\n".join(lines)


def _training(record: Record) -> list[str]:
    run, scale = record.run, record.logit_scale
    where = f"seed {run.seed}; {markdown(run.precision)} on {markdown(run.place)}; {run.seconds:.1f} s."
    if run.losses and scale is not None:
        where = (
            f"{run.steps} steps, last step taken, no validation set; logit scale {scale:g}; "
            f"loss {run.losses[0]:.4f} at the first step and {run.losses[-1]:.4f} at the last; {where}"
        )
    return [
        f"Trained: {markdown(record.learned)}.",
        where,
        "Versions: " + markdown(", ".join(f"{name} {version}" for name, version in run.versions.items())) + ".",
    ]


def _evaluation(evaluation: EvaluationRecord | None) -> list[str]:
    if evaluation is None:
        return ["None was made. A handful of training images says nothing about accuracy: run `atha evaluate`."]
    low, high = evaluation.interval95
    lines = [
        f"Accuracy {100 * evaluation.accuracy:.1f}% (95% interval {100 * low:.1f} to {100 * high:.1f}) on "
        f"{evaluation.images} images; balanced {100 * evaluation.balanced_accuracy:.1f}%; "
        f"calibration error {evaluation.calibration_error:.3f}.",
    ]
    for name, other in evaluation.baselines.items():
        low, high = other.interval95
        lines.append(
            f"- {markdown(name)} on the same images: {100 * other.accuracy:.1f}% ({100 * low:.1f} to {100 * high:.1f})"
        )
    return lines


def _is_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or "\\" in name
