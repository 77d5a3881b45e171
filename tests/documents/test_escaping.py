"""Text stays text in every medium."""

import csv as tables
import io
import json as codec
import re
from xml.etree import ElementTree

import pytest
import yaml as reader
from markdown_it import MarkdownIt

from atha.documents import escaping, figures
from atha.documents.escaping import csv, from_csv, latex, markdown, markdown_code, svg, terminal, tsv, visible
from atha.documents.tables import Table, to_csv, to_latex, to_markdown
from cast import CLASSES, FILES, obeyed

NAMES = (*CLASSES, *FILES, "plain", "é 中 \u200d", "")


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_obeyed(name):
    made = [escape(name) for escape in (terminal, tsv, svg, markdown, markdown_code, latex, escaping.html)]
    table = Table(name, [name, "n"], [[name, name]], [name])
    made += [to_markdown(table), to_latex(table), to_csv([name], [[name]]), str(csv(name))]
    assert not obeyed("".join(made))
    assert "\n" not in terminal(name) + tsv(name) + markdown(name)
    "".join(made).encode()


def test_what_is_seen_stays():
    assert visible("é 中 a\u200db ~ \u05d0") == "é 中 a\u200db ~ \u05d0"
    assert visible("\x1b[2J \udce9 \u202e\n") == "\\x1b[2J \\udce9 \\u202e\\n"


@pytest.mark.parametrize("name", NAMES)
def test_json_and_yaml_read_back(name):
    made = escaping.json(codec.dumps({name: [name]}, ensure_ascii=False, indent=1))
    assert codec.loads(made) == {name: [name]}
    assert not obeyed(made)
    if "\udce9" not in name:
        assert reader.safe_load(f"a: {escaping.yaml(name)}\nb: 1") == {"a": name, "b": 1}


@pytest.mark.parametrize("name", [*NAMES, '"=1"', ' =1"', "-1", "\uff1d1", "'", ' x "'])
def test_a_cell_is_no_formula_and_reads_back(name):
    ((cell,),) = tables.reader(io.StringIO(to_csv([name], []), newline=""))
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", " ", "\uff1d"))
    assert from_csv(cell) == name


def test_numbers_are_no_formulas():
    assert to_csv(["a"], [[-0.5], [None], ["0.25"]]) == 'a\n-0.5\n""\n0.25\n'


@pytest.mark.parametrize(
    "text",
    ["# a", "1. a", "12) a", "- a", "+ a", "---", "===", "> a", "<javascript:x>", "www.a.b", "https://a.b", "a@b.c"],
)
def test_markdown_of_a_line_is_a_paragraph_without_links(text):
    for words in (text, f"a {text}"):
        made = MarkdownIt("commonmark", {"html": True}).parse(f"before\n\n{markdown(words)}")
        assert [token.type for token in made] == ["paragraph_open", "inline", "paragraph_close"] * 2
        assert {child.type for child in made[4].children} <= {"text", "text_special"}
        assert "".join(child.content for child in made[4].children) == words
        assert not re.search(r"(?<!\\)://|www\.|\w@", markdown(words)), "hubs make links of these"


@pytest.mark.parametrize("name", [CLASSES[0], CLASSES[5], FILES[2]])
def test_figures_are_drawn_and_parsed(name, tmp_path):
    with figures.style():
        made, axes = figures.figure()
        axes.set_title(name)
        axes.set_xticks([0, 1], [name, "b"])
        inline = figures.inline_svg(made, name, "f1")
        assert not obeyed(inline)
        ElementTree.fromstring(inline)
        assert not obeyed(figures.save(made, tmp_path / "x.svg").decode())
        figures.png(made)
