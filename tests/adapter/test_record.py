"""The record of an adapter: what was written stays, what is wrong is told."""

import json
from pathlib import Path

import pytest

from atha.adapter.record import parse_record
from atha.errors import AdapterError

CHECKSUMS = {"atha.safetensors": "1", "recipe.json": "2", "classes.json": "3"}
FIGURES = {
    "images": 3,
    "accuracy": 1.0,
    "interval95": [0.4, 1.0],
    "balanced_accuracy": 1.0,
    "calibration_error": 0.1,
    "brier": 0.2,
    "per_class": {
        "a": {"images": 3, "accuracy": 1.0, "interval95": [0.4, 1.0]},
        "b": {"images": 0, "accuracy": None, "interval95": [0.0, 1.0]},
    },
    "confusion": {"classes": ["a", "b"], "rows_true_columns_predicted": [[3, 0], [0, 0]]},
    "left_out": [],
}
#: As the first versions wrote it.
RECORD = {
    "format": 1,
    "backbone": {
        "name": "nano",
        "revision": None,
        "family": "clip",
        "parameters": 5,
        "path": None,
        "fingerprint": "f",
        "licence": None,
    },
    "support": {"counts": {"a": 1, "b": 2}, "sha256": ["x"], "left_out": ["caf\udce9.png: is empty"], "kept": True},
    "run": {
        "seed": 0,
        "steps": 2,
        "logit_scale": 4.0,
        "precision": "float32",
        "device": "cpu",
        "seconds": 1.5,
        "trained": {"lora": 3},
        "lora_layers": 1,
        "losses": [0.5, 0.25],
        "versions": {"atha": "0.1.0"},
    },
    "evaluation": {**FIGURES, "baselines": {"zero-shot": FIGURES}},
    "sha256": CHECKSUMS,
}


def parse(content: object):
    return parse_record(json.loads(json.dumps(content)), Path("adapter"))


def test_what_was_written_is_written_again_to_the_byte():
    text = json.dumps(RECORD, indent=2, ensure_ascii=False).encode("utf-8", "backslashreplace").decode() + "\n"
    assert parse(RECORD).to_json() == text


@pytest.mark.parametrize("more", [{"later": {"entry": [1]}}, {"run": RECORD["run"] | {"later": 1}}])
def test_entries_of_a_later_version_are_kept(more):
    assert json.loads(parse(RECORD | more).to_json()) == RECORD | more


def test_what_may_be_missing():
    content = json.loads(json.dumps(RECORD))
    for part, name in (("support", "left_out"), ("support", "kept"), ("run", "losses"), ("backbone", "licence")):
        del content[part][name]
    del content["evaluation"]
    found = parse(content)
    assert found.support.left_out == found.run.losses == []
    assert found.evaluation is None
    assert not found.support.kept


def test_of_the_first_format_a_recipe_was_fitted():
    assert parse(RECORD).kind == "recipe"
    assert parse(RECORD).definition == {"kind": "recipe", "logit_scale": 4.0}


INCOMPLETE = "has an incomplete atha.json: copy the adapter again or fit it again"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"format": 3}, "adapter has format 3 and this version reads 1 and 2: update atha"),
        ({"format": None}, "adapter has format None and this version reads 1 and 2: update atha"),
        ({"format": 2}, INCOMPLETE),
        ({"fitted": {"kind": "linear"}}, INCOMPLETE),
        ({"format": 2, "fitted": {}}, INCOMPLETE),
        ({"run": {}}, INCOMPLETE),
        ({"run": RECORD["run"] | {"logit_scale": None}}, INCOMPLETE),
        ({"run": [1]}, "a part of it is no table: copy the adapter again"),
        ({"support": {"counts": 3}}, "a part of it is no table: copy the adapter again"),
        ({"sha256": None}, "its list of files is not as written: save the adapter again"),
        ({"sha256": CHECKSUMS | {"../x": "1"}}, "its list of files is not as written: save the adapter again"),
        ({"sha256": CHECKSUMS | {"recipe.json": 1}}, "its sha256.recipe.json cannot be 1: copy the adapter again"),
        ({"backbone": RECORD["backbone"] | {"name": 3}}, "its backbone.name cannot be 3: copy the adapter again"),
    ],
)
def test_what_is_wrong_is_told(change, sentence):
    with pytest.raises(AdapterError) as caught:
        parse(RECORD | change)
    assert sentence in str(caught.value)
