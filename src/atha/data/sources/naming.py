"""Names of columns: which are the same, and how they are shown."""

import re
from collections.abc import Sequence

_SHOWN = 12


def plain_name(column: str) -> str:
    """The name of a column without what people write in different ways."""
    return re.sub(r"[\s_.-]+", "_", column.strip().casefold()).strip("_")


def matching(header: Sequence[str], names: Sequence[str]) -> list[int]:
    """Positions of the columns that have one of some names, in the order of the names."""
    plain = [plain_name(column) for column in header]
    return [index for name in names for index, column in enumerate(plain) if column == name]


def listed(names: Sequence[str]) -> str:
    """Names for a message, the first few."""
    shown = [f"'{name[:60]}'" for name in names[:_SHOWN]]
    return ", ".join(shown + [f"... ({len(names)} in all)"] * (len(names) > _SHOWN))
