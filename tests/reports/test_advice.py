"""What to do next follows from the evaluation, on cases made by hand."""

import shlex

import numpy as np
import pytest

import atha
from atha.evaluation import Evaluation
from atha.reports.advice import class_needs, next_steps

CLASSES = ("good", "bad", "never seen")


def evaluation(predicted, truth):
    probabilities = np.full((len(truth), 3), 0.1)
    probabilities[np.arange(len(truth)), predicted] = 0.8
    return Evaluation(CLASSES, np.array(truth), probabilities, [f"{n}.png" for n in range(len(truth))])


TRUTH = [0] * 20 + [1] * 20
MODEL = evaluation([0] * 20 + [1] * 5 + [0] * 15, TRUTH)
PERFECT = evaluation(TRUTH, TRUTH)
COUNTS = {"good": 5, "bad": 3, "never seen": 4}


def test_the_class_with_most_mistakes_comes_first():
    needs = class_needs(MODEL, COUNTS)
    assert needs[0].label == "bad"
    by_name = {one.label: one for one in needs}
    assert (by_name["bad"].recall.successes, by_name["bad"].mistakes, by_name["bad"].taken_for) == (5, 15, "good")
    assert (by_name["good"].mistakes, by_name["good"].taken_for) == (15, "")
    assert by_name["never seen"].recall.total == 0
    assert np.isclose(by_name["bad"].unsure, 0.2)


def test_sentences_name_class_counts_and_the_other_class():
    steps = next_steps({"linear probe": PERFECT, "adapted": MODEL}, "adapted", class_needs(MODEL, COUNTS))
    assert steps[0].startswith("Fit again with --recipe auto, which blends")
    assert "which is the linear probe alone: on these images it is better than the adapted model by 37.5" in steps[0]
    assert "Label more images of 'bad' (it has 3 now): 15 of its 20 test images are classified wrong" in steps[1]
    assert any("never seen" in one and "there are none" in one for one in steps)


def test_nothing_is_said_of_better_baselines_that_are_not():
    steps = next_steps({"zero-shot": MODEL, "adapted": PERFECT}, "adapted", class_needs(PERFECT, COUNTS))
    assert not any(one.startswith("Fit again") for one in steps)
    assert not any("Label more images of" in one for one in steps)


@pytest.mark.parametrize("baseline", ["linear probe", "zero-shot"])
def test_what_is_advised_to_those_who_have_a_blend_is_that_baseline(baseline, tiny_clip, support, test_folder):
    step = next_steps({baseline: PERFECT, "blend": MODEL}, "blend", class_needs(MODEL, COUNTS))[0]
    assert f"the {baseline} alone" in step and "better than the blend" in step and "auto" not in step
    _, preset, _, override = shlex.split(step.removeprefix("Fit again with ").partition(", which")[0])
    clf = atha.Classifier.from_pretrained(tiny_clip, recipe=atha.Recipe.load(preset, [override])).fit(support)
    found = clf.compare(test_folder)
    assert np.array_equal(found["adapted"].predicted, found[baseline].predicted)
