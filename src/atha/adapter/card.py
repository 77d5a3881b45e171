"""The model card of an adapter, written from its record."""

from typing import Any

from atha.classes import Classes
from atha.documents.escaping import markdown, markdown_code
from atha.documents.tables import Table, to_markdown
from atha.recipe import Recipe


def write_card(classes: Classes, recipe: Recipe, record: dict[str, Any]) -> str:
    """Markdown with the metadata header that model hubs read."""
    backbone, support, run = record["backbone"], record["support"], record["run"]
    licence = backbone.get("licence") or "unknown"
    header = ["---", "library_name: peft", "tags: [atha, clip, few-shot]"]
    if not _is_path(backbone["name"]) and backbone["name"] != "nano":
        header.append(f"base_model: {backbone['name']}")
    rows = [
        [label, text, str(support["counts"][label])] for label, text in zip(classes.labels, classes.texts, strict=True)
    ]
    lines = [
        *header,
        "---",
        "",
        f"# {len(classes.labels)} classes, adapted with atha ({recipe.name})",
        "",
        f"Backbone: {markdown_code(backbone['name'])}"
        + (f" at `{backbone['revision']}`" if backbone.get("revision") else "")
        + f" ({backbone['family']}, {backbone['parameters'] / 1e6:.1f} million parameters, "
        + f"licence: {markdown(licence)}).",
        "The backbone is not part of this folder and keeps its own licence.",
        *(
            ["`support.safetensors` holds small pictures and features of the support images."]
            if support.get("kept")
            else []
        ),
        "",
        "## Classes and support images",
        "",
        to_markdown(Table("", ["label", "class text", "images"], rows, numbers=False)),
        f"Prompt: {markdown_code(recipe.prompt.template)}"
        + (" (context learned)" if recipe.prompt.learn_context else ""),
        *(f"\nNot used: {markdown(sentence)}" for sentence in support.get("left_out", [])),
        "",
        "## Evaluation",
        "",
        *_evaluation(record.get("evaluation")),
        "",
        "## Training",
        "",
        f"Trained: {', '.join(f'{name} ({count:,} values)' for name, count in run['trained'].items())}; "
        f"LoRA in {run['lora_layers']} layers.",
        f"{run['steps']} steps, last step taken, no validation set; logit scale {run['logit_scale']:g}; "
        f"loss {run['losses'][0]:.4f} at the first step and {run['losses'][-1]:.4f} at the last; seed {run['seed']}; "
        f"{run['precision']} on {run['device']}; {run['seconds']:.1f} s.",
        "Versions: " + ", ".join(f"{name} {version}" for name, version in run["versions"].items()) + ".",
        "",
        "```json",
        recipe.model_dump_json(indent=2).replace("```", "` ` `"),
        "```",
        "",
        "## Use",
        "",
        "```python",
        "import atha",
        "",
        'atha.Classifier.from_pretrained("path/to/this/folder").predict(["photo.jpg"])',
        "```",
        "",
    ]
    return "\n".join(lines)


def _evaluation(evaluation: dict[str, Any] | None) -> list[str]:
    if not evaluation:
        return ["None was made. A handful of training images says nothing about accuracy: run `atha evaluate`."]
    low, high = evaluation["interval95"]
    lines = [
        f"Accuracy {100 * evaluation['accuracy']:.1f}% (95% interval {100 * low:.1f} to {100 * high:.1f}) on "
        f"{evaluation['images']} images; balanced {100 * evaluation['balanced_accuracy']:.1f}%; "
        f"calibration error {evaluation['calibration_error']:.3f}.",
    ]
    for name, other in evaluation.get("baselines", {}).items():
        low, high = other["interval95"]
        lines.append(
            f"- {name} on the same images: {100 * other['accuracy']:.1f}% ({100 * low:.1f} to {100 * high:.1f})"
        )
    return lines


def _is_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or "\\" in name
