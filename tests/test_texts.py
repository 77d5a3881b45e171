"""Texts that are read: what is in them, or within a moment a sentence on why not, in little memory."""

import json
import os
import re
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atha.errors import AthaError
from atha.prompts import read_classes_file
from atha.recipe import Recipe
from atha.texts import TextError, parse_json, parse_toml, read_bytes, read_header, read_json, read_text

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(derandomize=True, deadline=None, max_examples=25)
@given(VALUES)
def test_json_is_what_it_was(value):
    assert parse_json(json.dumps(value)) == value
    assert parse_json(json.dumps(value, ensure_ascii=False, indent=1), unique=True) == value


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.text(st.sampled_from('{}[]",:\\\'" \n#.=a1eE-N'), max_size=200))
def test_any_text_is_parsed_or_refused_in_one_line(text):
    for parse in (parse_json, parse_toml):
        try:
            parse(text)
        except TextError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize("depth", [60, 70, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_nesting(depth, opening, closing):
    text = '["[[[", "' + '\\"[' * 200 + '",' + opening * depth + "1" + closing * depth + "]"
    if depth == 60:
        assert parse_json(text)
        return
    with pytest.raises(TextError, match="nested more than 64 deep"):
        parse_json(text)
    with pytest.raises(TextError, match=r"nested more than 64 deep|more than 65,536 characters"):
        parse_toml(f"a = {text}".replace('{"a":', "{a="))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[1,", r"not JSON \(line 1, column 4: Expecting value\)"),
        ("", r"not JSON \(line 1, column 1: Expecting value\)"),
        ("NaN", "NaN, which is no number"),
        ("[-Infinity]", "-Infinity, which is no number"),
        ("1e999", "the number 1e999, which is too large"),
        ("9" * 5000, r"the number 9{20}\.\.\., which is too large"),
        ("[" + "0," * 5_000_000 + "0]", "more than 4,194,304 values"),
        ('{"a": 1, "a": 2}', "the key 'a' twice"),
    ],
)
def test_json_that_is_refused(text, problem):
    with pytest.raises(TextError, match=problem):
        parse_json(text, unique=True)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (".".join("a" * 20_000) + " = 1", "a key of more than 16 parts"),
        ("[" + ' . "x" . '.join(["a"] * 20) + "]", "a key of more than 16 parts"),
        ("a = " + "[" * 30_000, "nested more than 64 deep"),
        ("a = 1\n" * 20_000, "more than 65,536 characters"),
        ("a = = 1", "is not TOML .*line 1"),
    ],
)
def test_toml_that_is_refused(text, problem):
    with pytest.raises(TextError, match=problem):
        parse_toml(text)


def test_what_only_looks_deep_in_toml_is_read():
    dots, brackets = ".".join("a" * 40), "[" * 70
    text = f'# {dots} {brackets}\na = "{dots} {brackets} \\""\nb = \'{dots}\'\nc = """\n{dots}" {brackets}"""\n'
    text += "d.e.f = 1.5\n"
    assert parse_toml(text) == {
        "a": f'{dots} {brackets} "',
        "b": dots,
        "c": f'{dots}" {brackets}',
        "d": {"e": {"f": 1.5}},
    }


# Files


def readers(path: Path):
    """All that a user can name and that is parsed as text, by its own reader."""
    from atha.data.sources.table import read_table
    from atha.episodes import read_episodes

    return {
        "classes": lambda: read_classes_file(path),
        "recipe": lambda: Recipe.load(path),
        "table": lambda: read_table(path),
        "episodes": lambda: read_episodes(path, None),
    }


def pipe(path: Path) -> None:
    os.mkfifo(path)


ODD = {
    "a pipe": (pipe, "no plain file but a pipe"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "no plain file but a pipe, a device"),
    "a folder": (Path.mkdir, "is a folder"),
    "a link to itself": (lambda path: path.symlink_to(path.name), "cannot be read"),
    "nothing": (lambda path: None, "cannot be read"),
    "no text": (lambda path: path.write_bytes(b"\xff\xfe\x00"), "not UTF-8 text .at byte 0"),
    "a file without end": (lambda path: path.open("wb").truncate(1 << 40), "more than .* bytes"),
    "brackets": (lambda path: path.write_text("a = " * (path.suffix == ".toml") + "[" * 50_000), ""),
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_files_are_named_in_a_sentence(tmp_path, kind):
    make, problem = ODD[kind]
    for suffix in (".json", ".toml"):
        path = tmp_path / f"odd{suffix}"
        make(path)
        for name, read in readers(path).items():
            with pytest.raises(AthaError) as caught:
                read()
            sentence = str(caught.value)
            assert str(path) in sentence, name
            assert "\n" not in sentence, name
            assert len(sentence) <= 1000, name
            if kind != "no text" or name in ("classes", "recipe"):  # in episodes, names of files may be no text
                assert re.search(problem, sentence), name


@pytest.mark.parametrize("name", ["n" * 300, "a/" * 3000 + "n", "nul\0"])
def test_names_that_no_file_can_have(name):
    for read in readers(Path(name + ".toml")).values():
        with pytest.raises(AthaError, match="cannot be read"):
            read()


def test_limit_of_size(tmp_path):
    (tmp_path / "a.txt").write_text("0123456789")
    assert read_bytes(tmp_path / "a.txt", 10) == b"0123456789"
    with pytest.raises(TextError, match="more than 9 bytes, the most that is read"):
        read_text(tmp_path / "a.txt", 9)


def test_json_tables(tmp_path):
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(tmp_path / "a.json") == {"a": 1}
    (tmp_path / "a.json").write_text("[1]")
    with pytest.raises(TextError, match="holds no table"):
        read_json(tmp_path / "a.json")


# Model cards

BOMB = "\n".join(
    [
        "a: &a [x,x,x,x,x,x,x,x,x]",
        *(f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
    ]
)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("license: mit\ntags: [a, b]", {"license": "mit", "tags": ["a", "b"]}),
        ("license: 2020-99-99", {"license": "2020-99-99"}),
        ("a: !!python/object/apply:os.system [true]", {"a": ["true"]}),
        (f"{BOMB}\nlicense: *i", None),
        ("a: " + "[" * 50_000, None),
        ("a: [", None),
        ("x" * 300_000, None),
        ("- a", {}),
    ],
)
def test_headers(tmp_path, header, expected):
    (tmp_path / "README.md").write_text(f"---\n{header}\n---\n# Model\n")
    tracemalloc.start()
    try:
        if expected is None:
            with pytest.raises(TextError, match="has a header"):
                read_header(tmp_path / "README.md")
        else:
            assert read_header(tmp_path / "README.md") == expected
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()


def test_text_without_a_header(tmp_path):
    for text in ("", "# Model", "---\nnever: closed\n", "--- \r\nlicense: mit\r\n---\r\n"):
        (tmp_path / "README.md").write_text(text)
        assert read_header(tmp_path / "README.md") == ({"license": "mit"} if "\r" in text else {})
