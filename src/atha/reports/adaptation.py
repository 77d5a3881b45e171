"""Everything about one adaptation, as a page: what was asked, the data, how good it is, why it fails, what next."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from atha.adapter.members import members_table
from atha.adapter.record import BLEND, TRAINED, Record
from atha.adapter.support import picture
from atha.classifier import Classifier
from atha.data import LabelledImages, LabelledSource, Selection, read_labelled
from atha.data.images import ImageInput, ImageProblem, ImageReader, image_name
from atha.documents import figures
from atha.documents.page import Bullets, Code, Gallery, Page, Picture, Section, Text, Warn, to_html
from atha.documents.tables import Table
from atha.documents.words import paired_sentence, share_percent
from atha.errors import AthaWarning, DataError
from atha.evaluation import Evaluation
from atha.explain import Explanation
from atha.reports import charts
from atha.reports.advice import class_needs, model_word, next_steps
from atha.reports.tokens import HOW_TO_READ, panel_png

#: Told of (what is being done, done, total).
Progress = Callable[[str, int, int], None]

#: Mistakes that are shown, and test images of each class and in all.
MISTAKES, _SHOWN_OF_CLASS, _SHOWN = 6, 4, 60
_LISTED = 20  # sentences on images that were left out, and pairs of confused classes


def adaptation_report(
    classifier: Classifier,
    test: LabelledSource,
    name: str = "",
    mistakes: int = MISTAKES,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> str:
    """One HTML file on an adapted classifier, self-contained.

    Args:
        classifier: fitted, or loaded.
        test: labelled images that it has not learned from.
        name: of the adapter, for the title.
        mistakes: how many of the most confident mistakes to show with token maps.
        batch_size: images that go through the model at once; None: as many as memory allows.
        progress: told of what is being done.

    Raises:
        DataError: there is no adaptation, or as for `Classifier.evaluate`.
    """
    record = classifier.record
    if not classifier.fitted or classifier.classes is None or record is None:
        raise DataError("there is no adaptation to report on: call fit first, or give a saved adapter")
    told = progress or (lambda what, done, total: None)
    data = read_labelled(test, Selection("test"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", AthaWarning)
        evaluations = classifier.compare(data, batch_size, lambda done, total: told("Evaluating", done, total))
    del caught  # the same sentences are in the evaluation
    evaluations = record.named(evaluations)
    own = list(evaluations)[-1]
    result, members = evaluations[own], members_table(record)
    with figures.style():
        page = Page(
            f"Adaptation report{': ' if name else ''}{name}",
            _lead(evaluations, own),
            [
                _asked(classifier, record, data),
                *([] if members is None else [Section("What was decided", [members])]),
                _data(classifier, record, data, result),
                _accuracy(evaluations, own),
                _errors(result),
                _mistakes(classifier, data, result, mistakes, told),
                _training(classifier, record),
                _next(record, evaluations, own),
            ],
            f"Made by atha {record.run.versions.get('atha', '')}. Images are classified one by one "
            "(inductive). This file holds pictures of the images shown: share it only where they may be seen.",
        )
        return to_html(page)


def _lead(evaluations: Mapping[str, Evaluation], own: str) -> list[Text | Warn]:
    result = evaluations[own]
    others = "; ".join(f"{name} {other.share}" for name, other in evaluations.items() if name != own)
    made: list[Text | Warn] = [
        Text(
            f"The {model_word(own)} classifies {result.share} of {len(result.truth)} test images right "
            f"(in brackets the 95% interval). On the same images: {others}."
        ),
        *map(Text, _paired(evaluations, own)),
    ]
    if len(result.truth) < charts.FEW_IMAGES:
        made.append(
            Warn(f"{len(result.truth)} test images are few: read the intervals, not the numbers before the brackets.")
        )
    if "linear probe" not in evaluations:
        made.append(
            Warn(
                "There is no linear probe to compare with: this adapter does not keep its support set's features (it "
                "is of an older version, or was fitted with --no-keep-support). Fit it again to have it."
            )
        )
    return made


def _paired(evaluations: Mapping[str, Evaluation], own: str) -> list[str]:
    return [
        paired_sentence(own.capitalize(), name, *evaluations[own].minus(other))
        for name, other in evaluations.items()
        if name != own
    ]


def _asked(classifier: Classifier, record: Record, data: LabelledImages) -> Section:
    backbone, run, recipe = record.backbone, record.run, classifier.recipe
    scale = "none" if record.logit_scale is None else f"{record.logit_scale:g}"
    rows = [
        ["Model", f"{backbone.name}{f' at {backbone.revision}' if backbone.revision else ''}"],
        ["Family and size", f"{backbone.family}, {backbone.parameters / 1e6:.1f} million parameters"],
        ["Recipe", recipe.name],
        *([["Kind of fitted model", record.kind]] if record.kind not in (TRAINED, BLEND) else []),
        ["Trained", record.learned],
        ["Classes", str(len(classifier.class_texts))],
        ["Prompt", recipe.prompt.template + (" (its words learned further)" if recipe.prompt.learn_context else "")],
        ["Support images", str(sum(record.support.counts.values()))],
        ["Test images from", data.source],
        *([["Images read", " ".join(said)]] if (said := record.read_as.describe()) else []),
        ["Steps, logit scale, seed", f"{run.steps}, {scale}, {run.seed}"],
        ["Fitted on", f"{run.place} in {run.precision}, {run.seconds:.1f} s"],
        ["Versions", ", ".join(f"{name} {version}" for name, version in run.versions.items())],
    ]
    return Section(
        "What was asked",
        [
            Table("The adaptation", ["what", "value"], rows, numbers=False),
            Code(recipe.model_dump_json(indent=2), "The whole recipe, as atha fit --recipe FILE.json takes it"),
        ],
    )


def _data(classifier: Classifier, record: Record, data: LabelledImages, result: Evaluation) -> Section:
    counts = record.support.counts
    texts = classifier.class_texts
    rows = [
        [label, texts[label], str(counts.get(label, "-")), str(share.total)]
        for label, share in result.per_class.items()
    ]
    section = Section(
        "The data", [Table("Images of each class", ["class", "text for the model", "support", "test"], rows)]
    )
    section.items += [Warn(sentence) for sentence in _data_warnings(counts, result)]
    left_out = [f"Not learned from: {sentence}" for sentence in record.support.left_out]
    left_out += [f"Not evaluated: {sentence}" for sentence in result.left_out]
    if left_out:
        more = [f"and {len(left_out) - _LISTED} more."] if len(left_out) > _LISTED else []
        section.items.append(Warn(f"{len(left_out)} things were left out:"))
        section.items.append(Bullets([*left_out[:_LISTED], *more]))
    support = classifier.support
    if support is None:
        section.items.append(
            Text("Pictures of the support images are not shown: this adapter does not keep them (it is of an older "
                 "version, or was fitted with --no-keep-support).")
        )  # fmt: skip
    else:
        section.items += _galleries(
            "Learned from",
            [(result.classes[support.labels[place]], content) for place, content in
             zip(support.shown, support.pictures, strict=True)],
            dict(counts),
        )  # fmt: skip
    section.items += _galleries("Tested on", _test_pictures(data, result, classifier.reader), {
        label: share.total for label, share in result.per_class.items()
    })  # fmt: skip
    return section


def _data_warnings(counts: Mapping[str, int], result: Evaluation) -> list[str]:
    made = []
    least, most = min(counts.values()), max(counts.values())
    if most > 2 * least:
        made.append(f"The support set is uneven, {least} to {most} images a class: rare classes are learned less well.")
    if few := [name for name, share in result.per_class.items() if 0 < share.total < charts.FEW_OF_CLASS]:
        made.append(f"Fewer than {charts.FEW_OF_CLASS} test images: {_names(few)}.")
    if none := [name for name, share in result.per_class.items() if not share.total]:
        made.append(f"No test image at all: {_names(none)}. The accuracy says nothing about them.")
    totals = [share.total for share in result.per_class.values() if share.total]
    if max(totals) > 3 * min(totals):
        made.append(
            f"The test set is uneven, {min(totals)} to {max(totals)} images a class: accuracy is mostly that of the "
            f"large classes; the mean over classes (balanced accuracy) is {100 * result.balanced_accuracy:.1f}%."
        )
    return made


def _names(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _galleries(title: str, pictures: Sequence[tuple[str, bytes]], counts: Mapping[str, int]) -> list[Any]:
    by_class: dict[str, list[bytes]] = {}
    for label, content in pictures:
        by_class.setdefault(label, []).append(content)
    return [
        Gallery(
            f"{title}: {label}",
            [Picture(content, f"{title}, {label}, image {number + 1}") for number, content in enumerate(contents)],
            f"{len(contents)} of {counts[label]} images.",
        )
        for label, contents in by_class.items()
    ]


def _images(data: LabelledImages) -> dict[str, ImageInput]:
    return {image_name(sample.image): sample.image for sample in data.samples}


def _test_pictures(data: LabelledImages, result: Evaluation, reader: ImageReader) -> list[tuple[str, bytes]]:
    images = _images(data)
    made: list[tuple[str, bytes]] = []
    each = max(1, min(_SHOWN_OF_CLASS, _SHOWN // len(result.classes)))
    for index, label in enumerate(result.classes[:_SHOWN]):
        for place in np.flatnonzero(result.truth == index)[:each]:
            content = _small(images[result.files[place]], reader)
            made += [(label, content)] if content else []
    return made


def _small(image: ImageInput, reader: ImageReader, side: int = 80) -> bytes | None:
    try:
        return reader.make(image, lambda made: picture(made, side))
    except ImageProblem:
        return None  # it could be read a minute ago


def _accuracy(evaluations: Mapping[str, Evaluation], own: str) -> Section:
    rows = [
        [
            name,
            *share_percent(result.share),
            f"{100 * result.balanced_accuracy:.1f}%",
            f"{result.calibration_error:.3f}",
            f"{result.brier:.3f}",
        ]
        for name, result in evaluations.items()
    ]
    headers = ["method", "accuracy", "95% interval", "balanced", "calibration error", "Brier"]
    notes = [
        "Zero-shot and linear probe (logistic regression on frozen features, from the same support images) are what "
        "the frozen model does alone. Balanced: mean over classes. Calibration error and Brier score: less is better.",
        *_paired(evaluations, own),
    ]
    return Section(
        "How good it is",
        [
            charts.accuracy(evaluations, own),
            charts.per_class(evaluations[own]),
            Table(f"{len(evaluations[own].truth)} test images", headers, rows, notes),
        ],
    )


def _errors(result: Evaluation) -> Section:
    pairs = [
        [f"{true} → {said}", str(times), f"{100 * times / total:.0f}%"]
        for true, said, times, total in charts.confusions(result)[:_LISTED]
    ]
    items: list[Any] = [charts.confusion(result), charts.reliability(result)]
    if pairs:
        items.append(Table("Most frequent mistakes", ["true → predicted", "images", "of the true class"], pairs))
    return Section("Where it goes wrong", items)


def _mistakes(classifier: Classifier, data: LabelledImages, result: Evaluation, wanted: int, told: Progress) -> Section:
    section = Section("Most confident mistakes")
    wrong = np.flatnonzero(~result.correct)
    if not len(wrong):
        section.items.append(Text("There is none: all test images are classified right."))
        return section
    confidence = result.probabilities[wrong].max(axis=1)
    chosen = wrong[np.argsort(-confidence, kind="stable")][:wanted]
    section.items += [
        Text(
            f"The {len(chosen)} of {len(wrong)} mistakes that the model is surest of. Look at the label first: a sure "
            "mistake is often a wrong label."
        )
    ]
    no_maps = classifier.backbone.unalignable
    if no_maps:
        section.items.append(Text(f"There are no token maps: {classifier.backbone.name} {no_maps}."))
    else:
        section.items += [
            Text("Then at the maps: where is the image like the predicted class, where like the true one?"),
            Text(HOW_TO_READ),
        ]
    images = _images(data)
    for number, place in enumerate(chosen):
        told("Looking at mistakes", number + 1, len(chosen))
        said, true = int(result.predicted[place]), int(result.truth[place])
        before = ""
        try:
            pictures = [
                Picture(_small(images[result.files[place]], classifier.reader, 189) or b"", "The photo", "The photo")
            ]
            if not no_maps:
                found = classifier.explain(images[result.files[place]])
                pictures += _maps(found, said, true)
                before = f" Zero-shot says {result.classes[int(found.before.probabilities.argmax())]}."
        except ImageProblem as problem:
            section.items.append(Warn(str(problem)))
            continue
        name = Path(result.files[place]).name if len(result.files[place]) < 500 else "image"
        section.items.append(
            Gallery(
                f"{result.classes[true]}, taken for {result.classes[said]} "
                f"({100 * result.probabilities[place, said]:.0f}%; the true class "
                f"{100 * result.probabilities[place, true]:.0f}%)",
                pictures,
                f"{name}.{before}",
            )
        )
    return section


def _maps(found: Explanation, said: int, true: int) -> list[Picture]:
    """Token maps of the class that was predicted and of the true one, on one scale."""
    maps = found.last
    heats = [maps.heat(index) for index in (said, true)]
    limits = float(np.min(heats)), float(np.max(heats))
    return [
        Picture(
            panel_png(found, maps, index, "sum", limits),
            f"Token map of '{found.classes[index]}' over the photo, summed similarity {heat.min():.2f} to "
            f"{heat.max():.2f}",
            f"'{found.classes[index]}': {heat.min():+.2f} to {heat.max():+.2f}, summed over {maps.blocks} blocks",
        )
        for index, heat in zip((said, true), heats, strict=True)
    ]


def _training(classifier: Classifier, record: Record) -> Section:
    section = Section("What training did")
    if classifier.history:
        section.items.append(charts.losses(classifier.history))
    elif not record.run.steps:
        section.items.append(Text("There were no training steps of a recipe's: nothing in the backbone was changed."))
    else:
        section.items.append(Text("The loss of each step is not shown: this adapter's record does not hold it."))
    values, settings = classifier.strengths, classifier.recipe.alignment
    if values is not None and settings is not None:
        section.items.append(charts.strengths(settings.strengths(len(values[0])), values))
        if not settings.learn:
            section.items.append(Text("The recipe keeps these strengths fixed: they are not trained."))
    elif settings is not None:
        section.items.append(Text("The backbone is used as it is, so there are no strengths of pull and push."))
    else:
        section.items.append(Text("The recipe has no alignment, so there are no strengths of pull and push."))
    return section


def _next(record: Record, evaluations: Mapping[str, Evaluation], own: str) -> Section:
    needs = class_needs(evaluations[own], record.support.counts)
    rows = [
        [
            one.label,
            "-" if one.support is None else str(one.support),
            str(one.recall) if one.recall.total else "-",
            str(one.mistakes),
            one.taken_for or "-",
            "-" if np.isnan(one.unsure) else f"{100 * one.unsure:.0f}%",
        ]
        for one in needs
    ]
    headers = ["class", "support", "right (95%)", "mistakes", "most taken for", "unsure"]
    note = (
        "Sorted by the rate of mistakes that a class is part of, its own images missed and others taken for it. "
        "Unsure: mean probability given to other classes than the predicted one, on the class's images."
    )
    return Section(
        "What to do next",
        [Bullets(next_steps(evaluations, own, needs)), Table("Which classes to label more of", headers, rows, [note])],
    )
