"""What was pressed while photos were labelled, and what follows from it. It knows nothing of files or pages.

Each press is an event, numbered from 1. Whoever presses says which event he saw last of the photo, and is refused where
it has another one by then: of two tabs, none overwrites what it has not shown. A press that is sent twice counts once.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from atha.errors import DataError
from atha.labelling.drawing import How
from atha.prompts import clean_class_name

Kind = Literal["label", "none", "skip"]
"""A photo has a label, is none of the classes, or was passed over."""

_LONGEST = 100


class ConflictError(DataError):
    """A press on what is no longer as it was shown."""


@dataclass(frozen=True)
class Mark:
    """What is said of a photo.

    Attributes:
        path: of the photo, as the table has it.
        kind: of what is said.
        label: of its class; empty of other kinds.
        how: the photo came to be shown.
        number: of the event.
    """

    path: str
    kind: Kind
    label: str = ""
    how: How = "own"
    number: int = 0

    def __str__(self) -> str:
        return {"label": f"labelled '{self.label}'", "none": "marked as none of the classes", "skip": "skipped"}[
            self.kind
        ]


@dataclass(frozen=True)
class Event:
    """One press.

    Attributes:
        number: one more than that of the event before.
        press: tells it from all others, also where it is sent again.
        path: of a photo; empty where a class was made.
        kind: of what is said of it; empty: nothing is said any more.
        label: of the photo, or the new class.
        how: see `Mark`.
        undoes: number of the event that it takes back; 0 of most.
    """

    number: int
    press: str
    path: str = ""
    kind: Kind | Literal[""] = ""
    label: str = ""
    how: How = "own"
    undoes: int = 0

    def to_dict(self) -> dict[str, Any]:
        """In plain types."""
        return asdict(self)

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> "Event":
        """From plain types.

        Raises:
            ValueError: it is none.
        """
        texts = ("press", "path", "kind", "label", "how")
        good = (
            set(found) == {"number", "undoes", *texts}
            and all(isinstance(found[name], str) for name in texts)
            and all(type(found[name]) is int for name in ("number", "undoes"))
            and found["kind"] in ("", *get_args(Kind))
            and found["how"] in get_args(How)
        )
        if not good:
            raise ValueError("this is no event")
        return cls(**found)


@dataclass
class Marks:
    """All that was said so far.

    Attributes:
        classes: labels, in the order in which they came.
        last: number of the last event.
    """

    classes: list[str] = field(default_factory=list)
    last: int = 0
    _marks: dict[str, Mark] = field(default_factory=dict)
    _presses: set[str] = field(default_factory=set)
    _done: list[tuple[int, str, Mark | None]] = field(default_factory=list)

    def __iter__(self) -> Iterator[Mark]:
        """What is said, labels in the order of labelling."""
        return iter(self._marks.values())

    def __len__(self) -> int:
        return len(self._marks)

    def of(self, path: str) -> Mark | None:
        """What is said of a photo."""
        return self._marks.get(path)

    def knows(self, press: str) -> bool:
        """Whether it was taken already."""
        return press in self._presses

    @property
    def undoable(self) -> int:
        """Number of the event that would be taken back; 0 where there is none."""
        return self._done[-1][0] if self._done else 0

    def press(self, press: str, path: str, kind: Kind, label: str, how: How, seen: int) -> Event:
        """What a press on a photo would be.

        Args:
            press: see `Event`.
            path: of the photo.
            kind: see `Kind`.
            label: one of the classes, where it is a label.
            how: the photo came to be shown; of what is said already, the first stays.
            seen: number of the event that the photo's mark was shown with; 0: it had none.

        Raises:
            ConflictError: it has another one by now.
            DataError: there is no such class.
        """
        mark = self.of(path)
        if (mark.number if mark else 0) != seen:
            said = f"was {mark} elsewhere since it was shown" if mark else "is not marked any more"
            raise ConflictError(f"this photo {said}, so nothing was changed: correct it in the list of earlier ones")
        if kind == "label" and label not in self.classes:
            raise DataError(f"there is no class '{label}': make it first")
        return Event(self.last + 1, press, path, kind, label if kind == "label" else "", mark.how if mark else how)

    def undo(self, press: str, expected: int) -> Event:
        """What taking back the last press would be.

        Args:
            press: see `Event`.
            expected: number of the event that is to be taken back.

        Raises:
            ConflictError: it is not the last one.
            DataError: there is none.
        """
        if not self._done:
            raise DataError("there is nothing to take back: nothing was pressed yet")
        number, path, before = self._done[-1]
        if number != expected:
            raise ConflictError(
                "something was pressed elsewhere since, so nothing was taken back: undo again to take that back"
            )
        if before is None:
            mark = self._marks[path]
            return Event(self.last + 1, press, path, how=mark.how, undoes=number)
        return Event(self.last + 1, press, path, before.kind, before.label, before.how, number)

    def new_class(self, press: str, label: str) -> Event:
        """What making a class would be.

        Raises:
            DataError: its name cannot be used, or there is such a class.
        """
        label = label.strip()
        if not label or len(label) > _LONGEST or not label.isprintable() or any(one in label for one in ",;|"):
            raise DataError(
                f"a class cannot be called '{label[:_LONGEST]}': give 1 to {_LONGEST} letters without , ; and |"
            )
        plain = clean_class_name(label).casefold()
        if same := [one for one in self.classes if clean_class_name(one).casefold() == plain]:
            raise DataError(f"there is a class '{same[0]}' already, give the new one another name")
        return Event(self.last + 1, press, label=label)

    def apply(self, event: Event) -> None:
        """Let an event take effect.

        Raises:
            ValueError: it cannot be the next one.
        """
        if event.number != self.last + 1 or event.press in self._presses:
            raise ValueError("the events are not in their order")
        if event.undoes and (not self._done or self._done[-1][:2] != (event.undoes, event.path)):
            raise ValueError("an event takes back another one that is not the last")
        self.last = event.number
        self._presses.add(event.press)
        if not event.path:
            self.classes.append(event.label)
            return
        before = self._marks.get(event.path)
        if event.undoes:
            self._done.pop()
        else:
            self._done.append((event.number, event.path, before))
        if before is not None and not before.kind == event.kind == "label":
            del self._marks[event.path]  # what is labelled for the first time is the last that is
        if event.kind:
            self._marks[event.path] = Mark(event.path, event.kind, event.label, event.how, event.number)
