"""The reference: nothing public is without words, and what is generated says what the code does."""

import json
import re
import shlex
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

import atha
from atha import serving
from atha.adapter.record import BlendRecord, Record
from atha.bench.store_file import SCHEMA
from atha.cli import app
from atha.cli.examples import EXAMPLES
from atha.recipe import Recipe
from atha.recipe_keys import keys_of, section_of

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs" / "hooks"))
reference = pytest.importorskip("reference")
griffe = pytest.importorskip("griffe", reason="the group docs is not installed")

COMMANDS = {name: one for name, one in reference.commands() if not reference.is_group(one)}


def public():
    """All functions, methods and classes that the page of Python names show."""
    package = griffe.load("atha", search_paths=[ROOT / "src"], docstring_parser="google", resolve_aliases=True)
    names = [f"{room.__name__}.{name}" for room in (atha, serving) for name in room.__all__] + list(reference.BEHIND)
    for name in names:
        found = package[name.removeprefix("atha.")]
        yield name, found
        if found.is_class:
            for key, member in found.all_members.items():
                if not key.startswith("_") and (member.is_function or member.is_class):
                    yield f"{name}.{key}", member


def test_every_public_name_and_argument_is_described():
    lacking = []
    for name, one in public():
        if one.is_attribute:
            lacking += [name] if one.docstring is None else []
            continue
        if one.docstring is None:
            lacking.append(name)
            continue
        if one.is_function:
            parsed = one.docstring.parse("google", warnings=False)
            described = {
                item.name.lstrip("*") for part in parsed if part.kind.value == "parameters" for item in part.value
            }
            wanted = {item.name for item in one.parameters if item.name not in ("self", "cls")}
            own = _words(one.docstring.value)
            lacking += [f"{name}({item})" for item in sorted(wanted - described) if item not in own]
    assert not lacking, "\n".join(lacking)


def _words(text: str) -> set[str]:
    """What a docstring of one line says by name, in its sentence."""
    return set(re.findall(r"\w+", text)) if "Args:" not in text else set()


def test_every_key_has_its_sentence():
    def lacking(model: type[BaseModel], before: str = "") -> list[str]:
        made = []
        for name, field in model.model_fields.items():
            made += [] if field.description else [f"{before}{name}"]
            if (section := section_of(model, name)) is not None:
                made += lacking(section, f"{before}{name}.")
        return made

    assert lacking(Recipe) == []
    page = reference.recipe_page()
    assert all(f"`{key.rpartition('.')[2]}`" in page for key in keys_of(Recipe))
    assert "| `dropout` | number, ≥ 0, < 1 | `0.25` |" in page


def test_every_field_of_files_has_its_sentence():
    models = list(reference._models(Record))
    assert BlendRecord in models and len(models) > 8
    assert [
        f"{one.__name__}.{name}" for one in models for name, field in one.model_fields.items() if not field.description
    ] == []
    columns = [line for line in SCHEMA.splitlines() if re.match(r"    [a-z]", line) and "PRIMARY KEY" not in line]
    told = {re.split(r"\s+", line.strip())[0] for line in columns if "--" in line}
    assert {re.split(r"\s+", line.strip())[0] for line in columns} - told == set()


def test_the_schema_holds_what_recipes_hold():
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(json.dumps(Recipe.schema_of_files()))
    for preset in ("paper", "auto", "probes", "clip-lora"):
        jsonschema.validate(Recipe.load(preset).model_dump(mode="json"), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"training": {"step": 3}}, schema)


def test_every_command_has_examples_that_it_takes():
    named = {name.removeprefix("atha ") for name in COMMANDS}
    assert set(EXAMPLES) == named
    for name, lines in EXAMPLES.items():
        command = COMMANDS[f"atha {name}"]
        for line in lines:
            words = line.split(" > ")[0].split()
            assert words[: 1 + len(name.split())] == ["atha", *name.split()]
            command.make_context(name, words[1 + len(name.split()) :])


def commands_of_documents():
    """The words of each command of atha that a document shows, with the document's name."""
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        shared: dict[str, str] = {}
        for block in re.findall(r"^```console\n(.*?)^```", path.read_text("utf-8"), re.MULTILINE | re.DOTALL):
            for line in re.findall(r"^\$ ((?:.*\\\n)*.*)", block, re.MULTILINE):
                if found := re.match(r"([A-Z])=\"(.*)\"$", line):  # what a page's later commands share
                    shared[found[1]] = found[2]
                words = _words_of(line, shared)
                if words[:1] == ["atha"] and "..." not in words:
                    yield path.name, words


def _words_of(line: str, shared: dict[str, str]) -> list[str]:
    """A command without what its shell does: variables, what another prints, where it prints to."""
    filled = re.sub(r"\$([A-Z])\b", lambda name: shared[name[1]], line.replace("\\\n", " "))
    return shlex.split(re.split(r" [>|] ", re.sub(r"\$\(.*?\)", "printed", filled))[0], comments=True)


def test_commands_of_documents_are_ones_that_there_are():
    seen, wrong = 0, []
    for page, words in commands_of_documents():
        name = next((" ".join(words[:n]) for n in (3, 2) if " ".join(words[:n]) in COMMANDS), "")
        if not name and words[1:] in (["--help"], ["--version"]):
            continue
        try:
            COMMANDS[name].make_context(name, words[len(name.split()) :])
        except Exception as error:
            wrong.append(f"{page}: {shlex.join(words)}: {error!r}")
        seen += 1
    assert not wrong, "\n".join(wrong)
    assert seen > 80


def test_commands_of_a_page_can_be_run_one_after_the_other():
    """None refuses its work because one before it has made what it is to make."""
    made, twice = set(), []
    for page, words in commands_of_documents():
        if "--out" in words and "--overwrite" not in words and words[1] != "label":  # which goes on with a table
            place = page, words[words.index("--out") + 1].rstrip("/")
            twice += [place] if place in made else []
            made.add(place)
    assert not twice
    assert len(made) > 20


def test_the_page_of_commands_has_every_option():
    page = reference.commands_page()
    for name, command in COMMANDS.items():
        assert re.search(rf"^##+ {name}$", page, re.MULTILINE)
        assert all(f"`{one.opts[0]}`" in page for one in command.params if one.param_type_name == "option")
    assert app is not None
