"""Patterns in a tokenizer's file, which must take no longer than texts are long, however they were meant.

The library behind tokenizers tries every way in which a pattern may fit, and cannot be stopped. Which patterns have
few ways is told by their form: no repetition of what is itself repeated or has alternatives, and few of them in a row.
Those of published tokenizers, which divide texts into words, are such.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atha.errors import BackboneError
from atha.texts import LISTS, TextError, parse_json, read_bytes

_PARTS = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
# A letter that JSON need not escape hides the name of a part.
_HIDDEN = re.compile(rb"\\u00(?:4[1-9A-Fa-f]|5[0-9Aa]|5[Ff]|6[1-9A-Fa-f]|7[0-9Aa])")
_MOST_PATTERNS, _LONGEST = 64, 2000
_LONGEST_TEXT = 2000
# Of one way through a pattern: repetitions without end, and all of which it may have more or fewer.
_ENDLESS, _VARIABLE = 3, 8
# Times that a text may become as long by what is put in the place of other.
_GROWTH = 1000
_BRACKETS = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[{\]}]', re.DOTALL)
_QUANTIFIER = re.compile(r"[*+?]|\{(\d*)(,?)(\d*)\}")
_GROUP = re.compile(r"\((?:\?(?:[imas-]*:|=|!|>|<=|<!|<[A-Za-z_]\w*>))?")
_REFERENCE = re.compile(r"\\(?:[1-9]|k|g)")


def check_patterns(file: Path) -> None:
    """See that no pattern of a tokenizer can take forever, and that nothing makes texts very long.

    Args:
        file: tokenizer.json.

    Raises:
        BackboneError: one may.
        TextError: the file cannot be read.
    """
    patterns, growth = [], 1.0
    for node in _nodes(_parts(read_bytes(file, LISTS))):
        pattern, content = node.get("pattern"), node.get("content")
        if isinstance(pattern, dict) and isinstance(pattern.get("Regex"), str):
            patterns.append(pattern["Regex"])
        if isinstance(content, str):
            replaced = pattern.get("String") if isinstance(pattern, dict) else None
            growth *= max(1.0, len(content) / max(1, len(replaced)) if isinstance(replaced, str) else 1 + len(content))
    if growth > _GROWTH or len(patterns) > _MOST_PATTERNS:
        raise BackboneError(f"{file} makes texts too long, or tries too many patterns: get the model from elsewhere")
    for found in patterns:
        if not is_quick(found):
            shown = found if len(found) <= 60 else f"{found[:57]}..."
            raise BackboneError(
                f"{file} has the pattern {shown!r}, which can take forever on a short text: get the model from "
                "elsewhere"
            )


def check_lengths(texts: Sequence[str]) -> None:
    """See that class texts are no longer than any text tower reads, before a tokenizer tries its patterns on them.

    Raises:
        BackboneError: one is.
    """
    for text in texts:
        if len(text) > _LONGEST_TEXT:
            raise BackboneError(
                f"the class text '{text[:60]}...' has {len(text):,} characters, more than {_LONGEST_TEXT:,}: shorten it"
            )


def _parts(content: bytes) -> Iterator[Any]:
    """What may hold patterns, without reading the vocabulary, which is far longer."""
    if _HIDDEN.search(content):
        whole = parse_json(content.decode("utf-8", "replace"))
        yield from (whole.get(name) for name in _PARTS) if isinstance(whole, dict) else ()
        return
    for name in _PARTS:
        for place in re.finditer(rb'"%s"\s*:\s*(?=[{\[])' % name.encode(), content):
            end = _end(content, place.end())
            yield parse_json(content[place.end() : end].decode("utf-8", "replace"))


def _end(content: bytes, start: int) -> int:
    """Where a table or list of JSON ends."""
    depth = 0
    for part in _BRACKETS.finditer(content, start):
        depth += {b"{": 1, b"[": 1, b"}": -1, b"]": -1}.get(part[0], 0)
        if not depth:
            return part.end()
    raise TextError("is no JSON that can be read")


def _nodes(parts: Iterator[Any]) -> Iterator[dict[str, Any]]:
    """All tables in some."""
    waiting = list(parts)
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield one
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one


@dataclass
class _Group:
    """What is in a group so far: the most of all its alternatives, and the one that is being read.

    Attributes:
        endless: repetitions without end.
        variable: all that may be there more or less often.
        alternatives: whether there are several.
        most: the largest numbers of both of an alternative before.
    """

    endless: int = 0
    variable: int = 0
    alternatives: bool = False
    most: tuple[int, int] = (0, 0)

    def add(self, endless: int, variable: int) -> None:
        """Something more in the alternative that is read."""
        self.endless += endless
        self.variable += variable

    def next(self) -> None:
        """Another alternative begins."""
        self.most = max(self.most[0], self.endless), max(self.most[1], self.variable)
        self.endless = self.variable = 0
        self.alternatives = True

    @property
    def total(self) -> tuple[int, int]:
        """Of the longest alternative."""
        return max(self.most[0], self.endless), max(self.most[1], self.variable)


def is_quick(pattern: str) -> bool:
    """Whether a pattern has so few ways to fit that all can be tried, as far as its form tells.

    Args:
        pattern: of Oniguruma.
    """
    if len(pattern) > _LONGEST or _REFERENCE.search(pattern.replace("\\\\", "")):
        return False
    groups, before = [_Group()], _Group()
    for part in _tokens(pattern):
        own = _Group()
        if part == "(":
            groups.append(_Group())
        elif part == "|":
            groups[-1].next()
        elif part == ")" and len(groups) > 1:
            own = groups.pop()
            groups[-1].add(*own.total)
        elif isinstance(part, re.Match):
            endless, times = _repeats(part)
            if (endless or times > 1) and (before.total[1] or before.alternatives):
                return False
            groups[-1].add(endless, endless or part[0] == "?" or bool(part[2]))
            own = _Group(variable=1)  # what is repeated is not to be repeated
        elif part:
            return False
        before = own
    total = groups[0].total
    return len(groups) == 1 and total[0] <= _ENDLESS and total[1] <= _VARIABLE


def _tokens(pattern: str) -> Iterator[str | re.Match[str]]:
    """What a pattern is made of: ``(``, ``|``, ``)``, repetitions, nothing for letters; else what is not known."""
    place = 0
    while place < len(pattern):
        letter = pattern[place]
        if letter == "(":
            opened = _GROUP.match(pattern, place)
            bare = opened is not None and opened[0] == "(" and pattern[place + 1 : place + 2] in ("?", "*")
            yield "unknown group" if opened is None or bare else "("
            place += 1 if opened is None else len(opened[0])
        elif letter in "|)":
            yield letter
            place += 1
        elif (found := _QUANTIFIER.match(pattern, place)) is not None:
            yield found
            # Lazy or possessive; but behind braces, "+" repeats them.
            place = found.end() + (
                pattern[found.end() : found.end() + 1] in (("?",) if found[0][0] == "{" else ("?", "+"))
            )
        else:
            yield ""
            place = _item_end(pattern, place)


def _item_end(pattern: str, place: int) -> int:
    """Behind a letter, whatever stands for one, or a class of them."""
    if pattern[place] == "[":
        return _class_end(pattern, place)
    if pattern[place] != "\\":
        return place + 1
    if pattern[place + 1 : place + 3] in ("p{", "P{", "x{"):
        return pattern.find("}", place) + 1 or len(pattern)
    return place + 2


def _repeats(found: re.Match[str]) -> tuple[bool, int]:
    """Whether a repetition has no end, or hundreds of them; and how often at most, where it has one."""
    if found[0] in ("*", "+"):
        return True, 0
    if found[0] == "?":
        return False, 1
    most = int((found[3] if found[2] else found[1]) or 0)
    return (bool(found[2]) and not found[3]) or most > 100, most


def _class_end(pattern: str, place: int) -> int:
    """Behind the ``]`` of a class of letters, which may hold others."""
    depth = 0
    while place < len(pattern):
        letter = pattern[place]
        if letter == "\\":
            place += 1
        elif letter == "[":
            depth += 1
            place += pattern[place + 1 : place + 2] == "^"
            place += pattern[place + 1 : place + 2] == "]"
        elif letter == "]":
            depth -= 1
            if not depth:
                return place + 1
        place += 1
    return place
