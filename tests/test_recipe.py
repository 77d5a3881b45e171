"""Presets are the method's table; overrides and errors."""

import pytest

from atha import Recipe, presets
from atha.errors import RecipeError


def test_presets_are_all_there():
    assert presets() == [
        *("auto", "clap", "clip-lora", "gaussian", "gda", "logistic", "lora", "lp-plus-plus", "paper", "probes"),
        *("proker", "prototypes", "released", "released-fixed", "tip-adapter"),
    ]


@pytest.mark.parametrize(
    ("name", "rho", "gamma", "pull", "push", "anchors", "keep", "context"),
    [
        ("paper", 0.1, 0.1, (7, 0.8), 0.01, "adjoint", True, False),
        ("released", 0.3, 0.2, (6, 0.8), 0.0, "inverse", False, True),
        ("released-fixed", 0.3, 0.2, (6, 0.8), 0.0, "inverse", True, True),
    ],
)
def test_alignment_presets(name, rho, gamma, pull, push, anchors, keep, context):
    recipe = Recipe.load(name)
    part = recipe.alignment
    assert (part.head_ratio, part.tail_ratio, part.anchors, part.keep_cls_out) == (rho, gamma, anchors, keep)
    assert recipe.prompt.learn_context is context
    block, strength = pull
    assert part.strengths(12) == ([strength if i == block else 0.0 for i in range(12)], [push] * 12)
    assert (recipe.lora.rank, recipe.lora.alpha, recipe.lora.dropout) == (16, 8.0, 0.25)
    training = recipe.training
    assert training.resolve_steps(5) == 100
    assert [training.resolve_logit_scale(shot) for shot in (1, 5, 16)] == [2.0, 4.0, 2.0]
    assert (training.lora.name, training.lora.lr, training.lora.weight_decay) == ("adamw", 2e-4, 0.01)
    if name != "paper":
        assert (training.strengths.name, training.strengths.lr) == ("sgd", 1e-3)
        assert (training.context.name, training.context.lr, training.context.momentum) == ("sgd", 2e-3, 0.9)


def test_presets_without_alignment():
    assert Recipe.load("lora").alignment is None
    assert Recipe.load("lora").prompt.learn_context
    clip_lora = Recipe.load("clip-lora")
    assert (clip_lora.lora.rank, clip_lora.lora.alpha, clip_lora.training.logit_scale) == (2, 1.0, 100.0)
    assert clip_lora.training.resolve_steps(5) == 2500
    assert (clip_lora.training.batch_size, clip_lora.training.schedule, clip_lora.training.final_lr) == (
        32,
        "cosine",
        1e-6,
    )


def test_first_pull_scales_with_depth():
    part = Recipe.load("released-fixed").alignment
    assert [part.strengths(depth)[0].index(0.8) for depth in (8, 12, 24)] == [4, 6, 12]


def test_round_trip_and_digest():
    for name in presets():
        recipe = Recipe.load(name)
        assert Recipe.check(recipe.model_dump(mode="json")) == recipe
    assert Recipe.load("paper").digest() != Recipe.load("paper", ["training.steps=99"]).digest()
    assert Recipe.load("paper").digest() == Recipe.load("paper", ["name=other"]).digest()


def test_file_then_overrides(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("[training]\nsteps = 7\n")
    recipe = Recipe.load(path, {"alignment.push": 0.5})
    assert (recipe.name, recipe.training.steps, recipe.alignment.push) == ("mine+", 7, 0.5)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.setps=3", "no key 'training.setps', the nearest is 'training.steps'"),
        ("steps=3", "no key 'steps', the nearest is 'training.steps'"),
        ("lora.rnk=3", "the nearest is 'lora.rank'"),
        ("training.steps=abc", "'training.steps' cannot be \"abc\": input should be a valid integer"),
        ("training.steps=2.5", "'training.steps' cannot be 2.5"),
        ("training.lora.lr=-1", "greater than 0"),
        ("training.logit_scale=foo", "or input should be 'by-shot'"),
        ("alignment.head_ratio=2", "less than or equal to 1"),
        ("lora.projections=[]", "lora.projections"),
        ("prompt.template=hello", "must contain {} once"),
        ("steps", "write it as key=value"),
        ("lora=3", "'lora' cannot be 3"),
    ],
)
def test_wrong_override(override, message):
    with pytest.raises(RecipeError) as error:
        Recipe.load("paper", [override])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_section_given_in_part_keeps_its_own_defaults(tmp_path):
    context = Recipe.load("released").training.context
    assert Recipe.load("released", ["training.context.lr=1e-3"]).training.context == context.model_copy(
        update={"lr": 1e-3}
    )
    path = tmp_path / "mine.toml"
    path.write_text("[training.context]\nlr = 1e-3\n")
    assert Recipe.load(path).training.context == context.model_copy(update={"lr": 1e-3})


def test_recipe_that_trains_nothing():
    with pytest.raises(RecipeError, match="nothing would be trained"):
        Recipe.load("paper", ["lora=none", "alignment=none"])


def test_context_needs_words():
    with pytest.raises(RecipeError, match="learn_context needs words"):
        Recipe.load("lora", ["prompt.template={} on a table"])
