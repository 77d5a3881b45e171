"""Texts that somebody else wrote, read within limits of kind, size, nesting and repetition, before they are parsed.

A text of a few hundred bytes can stand for gigabytes (aliases of YAML, dotted keys of TOML), exhaust the stack
(brackets in brackets), or never end (pipes, devices). What passes here takes at most about a gigabyte when it is
parsed, mostly far less.
"""

import json
import math
import os
import re
import stat
import tomllib
from pathlib import Path
from typing import Any, NoReturn

#: Bytes of a file that says how something is done, and of one that lists images, classes or episodes.
SETTINGS, LISTS = 1 << 23, 1 << 27
_RECIPE, _HEADER = 1 << 16, 1 << 18
# Tokenizers have a length of 10 to the 30th; a floating-point number has 308 digits at most.
_DEPTH, _VALUES, _DIGITS = 64, 1 << 22, 300

# Possessive, so that no text makes them try twice. A string that is never closed goes to the end.
_JSON_PARTS = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)
_TOML_STRINGS = re.compile(
    r'"""(?:[^"\\]++|\\.|"(?!""))*+(?:"{3,5})?|'
    r"'''(?:[^']++|'(?!''))*+(?:'{3,5})?|"
    r'"(?:[^"\\\n]++|\\.)*+"?|'
    r"'[^'\n]*+'?|"
    r"#[^\n]*+",
    re.DOTALL,
)
_TOML_DOTS = re.compile(r'(?:(?:[\w-]+|"")[ \t]*+\.[ \t]*+){16}')


class TextError(ValueError):
    """Why a file's text cannot be used, as the rest of a sentence that begins with the file.

    Attributes:
        mend: what to do about it, for a file of the user's own.
    """

    def __init__(self, problem: str, mend: str = "correct it") -> None:
        super().__init__(problem)
        self.mend = mend


def read_bytes(path: Path, most: int) -> bytes:
    """The content of a plain file; pipes, devices and sockets are not waited for.

    Args:
        path: of the file; links are followed.
        most: bytes.

    Raises:
        TextError: it cannot be read, is no plain file, or is larger.
    """
    try:
        # Without O_NONBLOCK the opening of a pipe waits for somebody to write to it.
        opened = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        try:
            about = os.fstat(opened)
            # Of some files the system says that they are empty.
            content = _content(opened, most) if stat.S_ISREG(about.st_mode) and about.st_size <= most else b""
        finally:
            os.close(opened)
    except OSError as error:
        raise TextError(f"cannot be read ({error.strerror or error})", "check the path") from None
    except ValueError as error:  # a zero byte in its name
        raise TextError(f"cannot be read ({error})", "check the path") from None
    if stat.S_ISDIR(about.st_mode):
        raise TextError("is a folder", "check the path")
    if not stat.S_ISREG(about.st_mode):
        raise TextError("is no plain file but a pipe, a device or the like", "give a file")
    if max(about.st_size, len(content)) > most:
        raise TextError(f"has more than {most:,} bytes, the most that is read", "give a smaller one")
    return content


def read_text(path: Path, most: int = SETTINGS, errors: str = "strict") -> str:
    """The text of a plain file, in UTF-8 with or without a byte order mark.

    Args:
        path: of the file.
        most: bytes.
        errors: what becomes of other bytes, as Python calls it.

    Raises:
        TextError: as of `read_bytes`; or it is no such text.
    """
    return decode(read_bytes(path, most), errors)


def decode(content: bytes, errors: str = "strict") -> str:
    """Bytes as text, as `read_text` has it.

    Raises:
        TextError: it is not UTF-8.
    """
    try:
        return content.decode("utf-8-sig", errors)
    except UnicodeDecodeError as error:
        raise TextError(f"is not UTF-8 text (at byte {error.start})", "save it as UTF-8") from None


def parse_json(text: str, unique: bool = False) -> Any:
    """What a JSON text holds; all numbers in it are finite.

    Args:
        text: of any length.
        unique: whether a key that comes twice is an error; else the last one is taken, as JSON's readers do.

    Raises:
        TextError: it is no JSON, is nested too deep, or holds too many values or a number that is none or too long.
    """
    _check_nesting(text)
    try:
        return json.loads(
            text,
            parse_constant=_no_number,
            parse_float=_finite,
            parse_int=_whole,
            object_pairs_hook=_once if unique else None,
        )
    except json.JSONDecodeError as error:
        raise TextError(
            f"is not JSON (line {error.lineno}, column {error.colno}: {error.msg})", "correct it there"
        ) from None


def read_json(path: Path, most: int = SETTINGS) -> dict[str, Any]:
    """The table, JSON's object, that a file holds.

    Raises:
        TextError: as of `read_text` and `parse_json`; or it holds something else.
    """
    return json_table(read_text(path, most))


def json_table(text: str) -> dict[str, Any]:
    """The table, JSON's object, that a text holds.

    Raises:
        TextError: as of `parse_json`; or it holds something else.
    """
    content = parse_json(text)
    if not isinstance(content, dict):
        raise TextError("holds no table of keys")
    return content


def parse_toml(text: str) -> dict[str, Any]:
    """What a TOML text holds.

    Raises:
        TextError: it is no TOML, is longer than any recipe, or is nested too deep.
    """
    if len(text) > _RECIPE:
        raise TextError(f"has more than {_RECIPE:,} characters, the most that is read as TOML", "give a smaller one")
    bare = _TOML_STRINGS.sub('""', text)
    _check_nesting(bare)
    if _TOML_DOTS.search(bare):
        raise TextError("has a key of more than 16 parts")
    try:
        return tomllib.loads(text)
    except ValueError as error:
        raise TextError(f"is not TOML ({' '.join(str(error).split())})", "correct it there") from None


def read_header(path: Path) -> dict[str, Any]:
    """The YAML between two lines of three hyphens with which a model card begins; all values are texts.

    Raises:
        TextError: as of `read_text`; or it is no YAML, too long, nested too deep, or repeats parts of itself by name.
    """
    import yaml

    begin, _, rest = read_text(path).replace("\r\n", "\n").partition("\n")
    header, end, _ = rest.partition("\n---")
    if begin.rstrip() != "---" or not end:
        return {}
    if len(header) > _HEADER:
        raise TextError(f"has a header of more than {_HEADER:,} characters")
    # No values are made of what the text calls them, and texts stay texts.
    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    try:
        depth = 0
        for event in yaml.parse(header, loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEPTH or isinstance(event, yaml.AliasEvent):
                raise TextError("has a header that is nested too deep or repeats itself")
        content = yaml.load(header, loader)  # noqa: S506 - BaseLoader makes texts, lists and tables alone
    except (yaml.YAMLError, ValueError) as error:
        if isinstance(error, TextError):
            raise
        raise TextError("has a header that is no YAML") from None
    return content if isinstance(content, dict) else {}


def _content(opened: int, most: int) -> bytes:
    with os.fdopen(opened, "rb", closefd=False) as file:
        return file.read(most + 1)


def _check_nesting(text: str) -> None:
    """See to it that brackets outside of strings are not too deep, nor too many."""
    opening = text.count("[") + text.count("{")
    if opening + text.count(",") > _VALUES:
        raise TextError(f"holds more than {_VALUES:,} values, the most that is read", "give a smaller one")
    if opening <= _DEPTH:
        return
    depth = 0
    for part in _JSON_PARTS.finditer(text):
        if (first := part[0][0]) != '"':
            depth += 1 if first in "[{" else -1
            if depth > _DEPTH:
                raise TextError(f"is nested more than {_DEPTH} deep")


def _no_number(constant: str) -> NoReturn:
    raise TextError(f"holds {constant}, which is no number")


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise TextError(f"holds the number {_short(text)}, which is too large")
    return value


def _whole(text: str) -> int:
    if len(text) > _DIGITS:
        raise TextError(f"holds the number {_short(text)}, which is too large")
    return int(text)


def _short(text: str) -> str:
    return text if len(text) <= 24 else f"{text[:20]}..."


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise TextError(f"has the key '{key}' twice", "keep one of the two")
        found[key] = value
    return found
