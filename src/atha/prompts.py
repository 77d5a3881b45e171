"""Class texts: from raw labels, as folders and tables have them, to the words that the text tower reads."""

import difflib
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from atha.errors import DataError
from atha.texts import LISTS, TextError, parse_json, read_text

# What a class is called that has no name: a number, a letter or signs, with a word for any class before it or not; yes
# and no; a number of WordNet or another long code.
_NO_WORDS = re.compile(
    r"(?:class|cls|label|lbl|category|type|group|cluster|folder|target|id|no|nr|c|k|l|y)?[\W_]*(?:\d+(?:\.0)?|[a-z])?[\W_]*"
    r"|class|label|category|true|false|yes|no"
    r"|[a-z]{1,2}[\W_]?\d{5,}"
    r"|(?=.*\d)(?=.*[a-f])[0-9a-f]{6,}(?:-[0-9a-f]+)*",
    re.IGNORECASE,
)


def clean_class_name(name: str) -> str:
    """Turns a label into words: ``AnnualCrop`` into ``Annual Crop``, ``Apple___Apple_scab`` into ``Apple Apple scab``.

    Underscores become spaces, CamelCase is taken apart, runs of space become one, and Unicode is brought to its
    composed form, because file systems differ in how they write an accent. Cleaning twice changes nothing.

    Args:
        name: A raw label.

    Returns:
        The words, never empty.

    Raises:
        DataError: Nothing is left of the name.
    """
    text = _words(name)
    if not text:
        raise DataError(f"the class name '{name}' holds no words; rename it")
    return text


def tells_nothing(text: str) -> bool:
    """Whether a class text has no words that say what is in the picture, as numbers and codes have none.

    Args:
        text: A class text, such as ``0``, ``class 3``, ``n03891332`` or ``true``.
    """
    return _NO_WORDS.fullmatch(text.strip()) is not None


def name_classes(labels: Sequence[str], overrides: Mapping[str, str] | Sequence[str] | None = None) -> dict[str, str]:
    """Gives each label its class text.

    Args:
        labels: The distinct raw labels.
        overrides: Class texts to use instead of the cleaned labels. A mapping goes from a label (raw, or as it reads
            after cleaning, in any case) to its text and may leave labels out. A sequence gives all texts, each of
            which must read as one label does, and sets the order.

    Returns:
        The text of each raw label, in the order of ``labels``, or of ``overrides`` if that is a sequence.

    Raises:
        DataError: A label or an override has no words, an override fits no label or several, a sequence leaves a label
            out, or two labels have the same text.
    """
    if isinstance(labels, str):
        raise DataError(f"the classes are the one string '{labels}'; give a list of names")
    labels = [str(label) for label in labels]
    twice = _first_repeated(labels)
    if twice is not None:
        raise DataError(f"the class '{twice}' is given twice; give each class once")
    if overrides is None:
        named = {label: clean_class_name(label) for label in labels}
    elif isinstance(overrides, Mapping):
        named = _named_by_mapping(labels, overrides)
    elif isinstance(overrides, str) or not isinstance(overrides, Sequence):
        raise DataError(f"class names cannot be read from {overrides!r}; give a list of names or a mapping by label")
    else:
        named = _named_by_sequence(labels, overrides)
    _check_distinct(named)
    return named


def read_classes_file(path: Path) -> dict[str, str] | list[str]:
    """Reads class texts from a JSON file, in the form that `name_classes` takes as overrides.

    Args:
        path: A JSON file with an object of strings, from label to text, or a list of strings.

    Returns:
        The mapping or the list, in the order of the file.

    Raises:
        DataError: The file cannot be read, is not JSON, has a key twice or holds anything else.
    """
    try:
        content = parse_json(read_text(path, LISTS), unique=True)
    except TextError as error:
        raise DataError(f"{path}: the classes file {error}; {error.mend}") from error
    if not isinstance(content, dict | list):
        raise DataError(f"{path}: holds {content!r}; give an object of strings or a list of strings")
    if not content:
        raise DataError(f"{path}: holds no class names; give an object of strings or a list of strings")
    for key, value in content.items() if isinstance(content, dict) else enumerate(content):
        if not isinstance(value, str):
            raise DataError(f"{path}: the class name at {key!r} is {value!r}; give a string")
    return content


def _words(name: str) -> str:
    """A label as words; empty if it has none."""
    return " ".join(split_camel_case(unicodedata.normalize("NFC", name)).replace("_", " ").split())


def split_camel_case(name: str) -> str:
    """Puts a space before each capital that starts a word: after a small letter, or before one at a capitals' end."""
    parts: list[str] = []
    for index, letter in enumerate(name):
        if index and letter.isupper():
            after_capital = name[index - 1].isupper()
            before_small = index + 1 < len(name) and name[index + 1].islower()
            if name[index - 1].islower() or (after_capital and before_small):
                parts.append(" ")
        parts.append(letter)
    return "".join(parts)


class _Labels:
    """Finds labels by name, by the closest way that gives any: as it is, cleaned, or cleaned and in any case."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._ways: tuple[dict[str, list[str]], ...] = ({}, {}, {})
        for label in labels:
            for way, key in zip(self._ways, self._keys(label), strict=True):
                way.setdefault(key, []).append(label)

    @staticmethod
    def _keys(name: str) -> tuple[str, str, str]:
        return name, _words(name), _words(name).casefold()

    def find(self, name: str) -> str | None:
        """The one label that a name means, or None."""
        for way, key in zip(self._ways, self._keys(name), strict=True):
            matching = way.get(key, []) if key else []
            if len(matching) > 1:
                raise DataError(f"the class name '{name}' fits the labels {_quoted(matching)}; give the label itself")
            if matching:
                return matching[0]
        return None


def _named_by_mapping(labels: Sequence[str], overrides: Mapping[str, str]) -> dict[str, str]:
    by_name = _Labels(labels)
    keys: dict[str, str] = {}
    for given in overrides:
        key = str(given)
        label = by_name.find(key)
        if label is None:
            raise DataError(f"no label is called '{key}'{_nearest(key, labels)}; the labels are {_quoted(labels)}")
        if label in keys:
            raise DataError(f"'{keys[label]}' and '{key}' both name the label '{label}'; keep one of the two")
        keys[label] = key
        _check_text(overrides[given], f"of label '{label}'")
    texts = {str(key): text for key, text in overrides.items()}
    return {label: texts[keys[label]] if label in keys else clean_class_name(label) for label in labels}


def _named_by_sequence(labels: Sequence[str], texts: Sequence[str]) -> dict[str, str]:
    by_name = _Labels(labels)
    named: dict[str, str] = {}
    unknown: list[str] = []
    for index, text in enumerate(texts):
        _check_text(text, f"at position {index}")
        label = by_name.find(text)
        if label is None:
            unknown.append(text)
        elif label in named:
            raise DataError(f"'{named[label]}' and '{text}' both name the label '{label}'; keep one of the two")
        else:
            named[label] = text
    unnamed = [label for label in labels if label not in named]
    problems = [f"no label reads as {_quoted(unknown)}{_nearest(unknown[0], unnamed)}"] if unknown else []
    if unnamed:
        problems.append(f"no class name is given for {_quoted(unnamed)}")
    if problems:
        mend = "give one name per label"
        if unknown and unnamed:
            mend += f", or a mapping such as {json.dumps({unnamed[0]: unknown[0]}, ensure_ascii=False)}"
        raise DataError(f"{' and '.join(problems)}; {mend}")
    return named


def _check_text(text: Any, which: str) -> None:
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"the class name {which} is {text!r}; give a string that is not empty")


def _check_distinct(named: Mapping[str, str]) -> None:
    owners: dict[str, str] = {}
    for label, text in named.items():
        owner = owners.setdefault(" ".join(text.split()).casefold(), label)
        if owner != label:
            raise DataError(
                f"the labels '{owner}' and '{label}' both read '{text}'; name them apart with --classes classes.json"
            )


def _first_repeated(names: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def _nearest(name: str, labels: Sequence[str]) -> str:
    by_folded = {label.casefold(): label for label in labels}
    near = difflib.get_close_matches(name.casefold(), by_folded, n=1)
    return f" (did you mean '{by_folded[near[0]]}'?)" if near else ""


def _quoted(names: Sequence[str], limit: int = 20) -> str:
    listed = [f"'{name}'" for name in names[:limit]]
    return ", ".join(listed + [f"... ({len(names)} in all)"] * (len(names) > limit))
