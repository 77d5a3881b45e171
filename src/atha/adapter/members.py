"""What a blend decided, as a table: the same in the terminal, on the model card and in the report."""

from atha.adapter.record import BlendRecord, Record
from atha.documents.tables import Table
from atha.recipe import ADAPTED


def members_table(record: Record) -> Table | None:
    """Members of a blend with their held-out accuracy, weight and reason, and a note on views; None of other models.

    Args:
        record: of the adapter.
    """
    blend = record.blend
    if blend is None:
        return None
    rows = [
        [
            name,
            "-" if member.accuracy is None else f"{100 * member.accuracy:.0f}% of {member.images} images",
            f"{member.weight:.3g}",
            member.why,
        ]
        for name, member in blend.members.items()
    ]
    headers = ["member", "held-out accuracy", "weight", "why"]
    return Table("Members of the blend", headers, rows, [_views(blend)], numbers=False)


def _views(blend: BlendRecord) -> str:
    adapted = "one of the adapted model"
    if blend.members.keys() == {ADAPTED}:
        return f"A prediction costs one forward pass, {adapted}."
    count = len(blend.aspects)
    passes = f"{count} forward pass{'es' if count > 1 else ''} of the frozen model"
    return (
        f"Views: {', '.join(blend.aspects)} ({blend.why}). A prediction costs {passes}, one for each"
        f"{f', and {adapted}' if ADAPTED in blend.members else ''}."
    )
