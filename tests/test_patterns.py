"""Patterns of tokenizers: which are quick is told by their form."""

import json
import shutil

import pytest

from atha.backbones import load_backbone
from atha.backbones.patterns import check_lengths, check_patterns, is_quick
from atha.backbones.tokenizer import _WORDS
from atha.errors import BackboneError
from tiny_models import NANO_FOLDER

# As published tokenizers have them.
PUBLISHED = [
    _WORDS,
    r"\s+",
    r" {2,}",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{M}]*[\p{Ll}\p{Lo}\p{M}]+(?i:'s|'t|'re)?|\p{N}{1,3}|\s*[\r\n]+",
    r"\s?[!-/:-~！-／：-～‘-‟　-。]+",  # noqa: RUF001
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+",
    r"(ab)+",
]
ENDLESS = [
    r"(a+)+$",
    r"(a|a)*$",
    r"((a*)b?)*c",
    r"(?:a?){40}a{40}",
    "a?" * 30 + "a" * 30,
    r".*.*.*.*.*x",
    r"(\w+)\1+",
    r"(?:a{1,9}){1,90}b",
    r"a{1,9}+b",
    r"a+*",
    r"(?x)(a #(\n+)+",
    r"(?<n>a|b\g<n>)*",
    r"(?~a)",
    r"((",
    r"(?=(a+)+)b",
    r"(a*?)*b",
    r"a" * 3000,
]


@pytest.mark.parametrize("pattern", PUBLISHED)
def test_published_patterns_are_quick(pattern):
    assert is_quick(pattern)


@pytest.mark.parametrize("pattern", ENDLESS, ids=range(len(ENDLESS)))
def test_patterns_that_can_take_forever(pattern):
    assert not is_quick(pattern)


def split(pattern: str) -> dict[str, object]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


LONG = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 20}


@pytest.mark.parametrize(
    ("part", "value", "said"),
    [
        ("pre_tokenizer", split("(a+)+$"), r"has the pattern '\(a\+\)\+\$', which can take forever"),
        ("pre_tokenizer", {"type": "Sequence", "pretokenizers": [split("[ab]+"), split("(a|a)*b")]}, "take forever"),
        ("normalizer", {"type": "Replace", "pattern": {"Regex": "(a*)*b"}, "content": ""}, "take forever"),
        ("normalizer", {"type": "Sequence", "normalizers": [LONG] * 3}, "makes texts too long"),
    ],
)
@pytest.mark.parametrize("hidden", [False, True])
def test_a_tokenizer_that_would_take_forever_is_refused(tmp_path, part, value, said, hidden):
    folder = shutil.copytree(NANO_FOLDER, tmp_path / "model")
    file = folder / "tokenizer.json"
    check_patterns(file)
    text = json.dumps(json.loads(file.read_text()) | {part: value})
    file.write_text(text.replace("Regex", "\\u0052egex").replace('"n', '"\\u006e') if hidden else text)
    with pytest.raises(BackboneError, match=said):
        _ = load_backbone(str(folder)).tokenizer


def test_texts_that_no_tower_reads():
    check_lengths(["a" * 2000])
    with pytest.raises(BackboneError, match="has 2,001 characters, more than 2,000: shorten it"):
        check_lengths(["cat", "a" * 2001])
