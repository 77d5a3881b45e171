"""What an audit of labelled images found, as a page with the images beside their neighbours and copies."""

from collections.abc import Sequence
from pathlib import Path

from atha.adapter.support import picture
from atha.auditing.audit import Audit, Copies, Photo
from atha.data.images import ImageProblem, ImageReader
from atha.documents.page import Gallery, Item, Page, Picture, Section, Text, Warn, to_html
from atha.documents.tables import Table

#: Findings of a kind that are shown with pictures, and images of one of them.
_SHOWN, _OF_ONE = 60, 8
_SIDE = 112


def audit_report(found: Audit, source: str, reader: ImageReader | None = None) -> str:
    """One HTML file on an audit, self-contained.

    Args:
        found: of the audit.
        source: what the data are called.
        reader: reads the images; None: each stands for itself.
    """
    reader = reader or ImageReader(quiet=True)
    crossing = [one for one in found.copies if len(one.labels) > 1 or len(one.parts) > 1]
    lead: list[Text | Warn] = [
        Text(
            f"Of {len(found.photos):,} images, {len(found.doubtful):,} have a label that looks wrong, "
            f"{sum(len(one.photos) for one in found.copies):,} are copies in {len(found.copies):,} groups, and "
            f"{len(found.odd):,} are broken, tiny or blank. Nothing was changed."
        )
    ]
    if crossing:
        lead.append(
            Warn(f"{len(crossing):,} groups of copies have several labels or are in several parts of the data.")
        )
    sections = [
        Section("Labels that look wrong", _labels(found, reader)),
        Section("Copies", _copies(found.copies, reader)),
        Section("Odd images", _odd(found)),
    ]
    return to_html(
        Page(
            f"Audit of {source}",
            lead,
            sections,
            "This file holds pictures of the images shown: share it only where they may be seen.",
        )
    )


def _labels(found: Audit, reader: ImageReader) -> list[Item]:
    if not found.doubtful:
        return [Text("None.")]
    items: list[Item] = [
        Text(
            "Each image was classified by two models that were fitted without it and its copies, and by the labels of "
            "its nearest neighbours. The most doubtful come first; the first picture is the image, the others are its "
            "nearest neighbours with their labels. Images that are hard to tell are here, too: look before you change."
        )
    ]
    for one in found.doubtful[:_SHOWN]:
        shown = [_picture(photo, reader) for photo in (one.photo, *one.neighbours)]
        title = f"'{one.photo.label}' looks like '{one.suggested}': {one.photo.file}"
        caption = f"Probability of its label {one.own:.3f}, of the other {one.other:.3f}."
        items.append(Gallery(title, [each for each in shown if each is not None], caption))
    return [*items, *_more(len(found.doubtful))]


def _copies(groups: Sequence[Copies], reader: ImageReader) -> list[Item]:
    if not groups:
        return [Text("None.")]
    items: list[Item] = []
    for group in groups[:_SHOWN]:
        shown = [_picture(photo, reader) for photo in group.photos[:_OF_ONE]]
        where = f", in {' and '.join(group.parts)}" if group.parts else ""
        title = f"{'Exact' if group.exact else 'Near'} copies of {' and '.join(group.labels)}{where}"
        caption = ", ".join(photo.file for photo in group.photos[:_OF_ONE])
        items.append(Gallery(title, [each for each in shown if each is not None], caption))
    return [*items, *_more(len(groups))]


def _odd(found: Audit) -> list[Item]:
    if not found.odd:
        return [Text("None.")]
    rows = [[one.photo.file, one.photo.label, one.kind, one.what] for one in found.odd]
    return [Table("", ["file", "label", "kind", "what"], rows, numbers=False)]


def _more(count: int) -> list[Item]:
    return [Text(f"{count - _SHOWN:,} more are in --csv and --json.")] if count > _SHOWN else []


def _picture(photo: Photo, reader: ImageReader) -> Picture | None:
    try:
        content = reader.make(Path(photo.file), lambda image: picture(image, _SIDE), at_least=2 * _SIDE)
    except ImageProblem:
        return None
    return Picture(content, f"image of {photo.label}", photo.label)
