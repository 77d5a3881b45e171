"""The classes of a task: the label a user sees, and the text that the model reads, in one fixed order."""

import difflib
import shlex
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from atha.data import LabelledImages
from atha.data.finding import kind_of
from atha.errors import AthaWarning, DataError
from atha.prompts import clean_class_name, name_classes, tells_nothing


@dataclass(frozen=True)
class Classes:
    """Labels and their texts.

    Attributes:
        labels: what `predict` returns: folder names, table labels, or the names a user gave.
        texts: what fills the prompt template, one for each label.
    """

    labels: tuple[str, ...]
    texts: tuple[str, ...]

    @classmethod
    def given(cls, classes: Sequence[str] | Mapping[str, str]) -> "Classes":
        """Classes as a user names them: texts that are labels too, or a mapping from label to text.

        Args:
            classes: these.

        Raises:
            DataError: fewer than two, empty, or equal after cleaning.
        """
        if isinstance(classes, str):
            raise DataError(f"classes is the text '{classes}', give a list of names")
        if isinstance(classes, Mapping):
            named = name_classes(list(classes), classes)
        else:
            named = name_classes(list(classes), {name: name for name in classes})
        return cls(tuple(named), tuple(named.values()))._checked()

    @classmethod
    def of_support(cls, images: LabelledImages, classes: Sequence[str] | Mapping[str, str] | None = None) -> "Classes":
        """Classes of a support set, named by its labels and by what the user gave.

        A list of names fixes labels and order, a mapping the texts of the labels it names; other texts are cleaned
        labels.

        Args:
            images: the support set.
            classes: what the user gave; None: nothing.

        Raises:
            DataError: names and labels do not match, texts are equal, there are fewer than two, or the labels may be
                no classes and the names do not say so.
        """
        labels = images.labels
        if images.doubt and not {_plain(str(name)) for name in classes or ()} >= {_plain(label) for label in labels}:
            raise DataError(images.doubt)
        named = name_classes(labels, classes)
        if classes is None or isinstance(classes, Mapping):
            return cls(tuple(named), tuple(named.values()))._checked()
        return cls(tuple(classes), tuple(classes))._checked()

    def warn_of_wordless(self, source: str) -> None:
        """Say which classes have texts that tell the model nothing, if any have; before time is spent on them.

        Args:
            source: where the labels are from.

        Warns:
            AthaWarning: there are such.
        """
        if sentence := self.wordless(source):
            warnings.warn(sentence, AthaWarning, stacklevel=3)

    def wordless(self, source: str) -> str:
        """A sentence on classes whose texts tell the model nothing; empty if there are none.

        Args:
            source: where the labels are from.
        """
        found = [label for label, text in zip(self.labels, self.texts, strict=True) if tells_nothing(text)]
        if not found:
            return ""
        named = f"class '{found[0]}' tells" if len(found) == 1 else f"{len(found)} classes such as '{found[0]}' tell"
        made = f", such as atha data classes {shlex.quote(source)} --out FILE makes" if kind_of(Path(source)) else ""
        return f"the text of {named} the model nothing: give words by --classes FILE (classes= in Python){made}"

    def joined(self, images: LabelledImages, classes: Mapping[str, str] | None) -> "Classes":
        """These classes, and behind them those of some images that are none of them.

        Args:
            images: whose labels may be new.
            classes: texts of new classes, by label; others are cleaned labels.

        Raises:
            DataError: a text is of none of the images' new classes, or one that there is already; or a new label may be
                no class, and no text is given for it.
        """
        find = self._finder()
        new = [label for label in images.labels if find(label) is None]
        if images.doubt and not set(new) <= set(classes or ()):
            raise DataError(images.doubt)
        if unknown := [label for label in classes or () if label not in new]:
            raise DataError(
                f"a text is given for '{unknown[0]}', which is no new class of {images.source}: texts of classes that "
                "are there already stay"
            )
        own = dict(zip(self.labels, self.texts, strict=True))
        named = name_classes([*self.labels, *new], own | dict(classes or {}))
        return Classes(tuple(named), tuple(named.values()))._checked()

    def _finder(self) -> Callable[[str], int | None]:
        """Gives the index of a class by its label or its text, however they are spelled."""
        exact = {label: index for index, label in enumerate(self.labels)}
        known = {_plain(name): index for names in (self.texts, self.labels) for index, name in enumerate(names)}
        return lambda label: exact.get(label, known.get(_plain(label)))

    def _checked(self) -> "Classes":
        if len(self.labels) < 2:
            found = f"only '{self.labels[0]}'" if self.labels else "none"
            raise DataError(f"there must be at least two classes and there is {found}: add a folder for each class")
        for label in (*self.labels, *self.texts):
            try:
                label.encode()
            except UnicodeEncodeError:
                raise DataError(f"the class name {label!r} is not UTF-8 text, rename it") from None
        return self

    def index(self, images: LabelledImages) -> dict[str, int]:
        """Class index of each label that images have; case, ``_`` and CamelCase may differ from the classes' own.

        Raises:
            DataError: a label that is none of the classes.
        """
        find = self._finder()
        found = {label: find(label) for label in images.labels}
        foreign = [label for label, index in found.items() if index is None]
        if foreign and images.doubt:
            raise DataError(images.doubt)
        if foreign:
            near = difflib.get_close_matches(foreign[0], self.labels, n=1)
            hint = f" (did you mean '{near[0]}'?)" if near else ""
            raise DataError(
                f"class '{foreign[0]}' of {images.source} is none of the classifier's classes{hint}, which are "
                f"{', '.join(self.labels)}: rename it or leave it out"
            )
        return {label: index for label, index in found.items() if index is not None}


def _plain(name: str) -> str:
    return clean_class_name(name).casefold()
