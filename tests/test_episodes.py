"""Episodes: pinned, independent of everything that does not define them, fair, and safe on their way through a file."""

import json
from collections import Counter
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from atha.data.pool import Pool
from atha.episodes import (
    Episode,
    EpisodeSet,
    EpisodeSpec,
    draw_episodes,
    read_episodes,
    write_episodes,
)
from atha.errors import DataError

LABELS = ("ant", "bee", "cat", "dog")


def make_pool(counts=(12, 12, 12, 12), labels=LABELS, groups=None, name="toy", labels_hash="00" * 32) -> Pool:
    ids = tuple(
        f"{label}/{index:02}.png" for label, count in zip(labels, counts, strict=True) for index in range(count)
    )
    of = tuple(label for label, count in zip(labels, counts, strict=True) for _ in range(count))
    files = tuple(Path("nowhere") / one for one in ids)
    kind = "" if groups is None else "patient"
    texts = {label: label for label in labels}
    return Pool(name, ids, files, of, texts, "test", labels_hash, None if groups is None else tuple(groups), kind)


def shuffled(pool: Pool, seed: int) -> Pool:
    order = np.random.default_rng(seed).permutation(len(pool.ids))
    fields = {key: tuple(getattr(pool, key)[i] for i in order) for key in ("ids", "files", "labels")}
    groups = None if pool.groups is None else tuple(pool.groups[i] for i in order)
    return replace(pool, **fields, groups=groups)


PLAIN = make_pool()
GROUPED = make_pool(groups=[f"p{index % 7}" for index in range(48)])


def test_golden_episodes():
    """Stored results refer to these episodes: if this fails, the rule has changed and its number must."""
    drawn = draw_episodes(PLAIN, 3, 2, 3, 50, seed=7)
    assert drawn.key == "9e38f3f3afaae4b5d8183122cbd83dc3cf67537fdbb461b735a067bc4753d9ad"
    assert drawn.hash == "bb6d18c86fd54015f7900f6ebc50d50239c613c82bd0bcb58c05599f60931909"
    assert drawn.episodes[0] == Episode(
        0,
        ("dog", "ant", "cat"),
        (("dog/03.png", "dog/08.png"), ("ant/04.png", "ant/01.png"), ("cat/01.png", "cat/00.png")),
        (
            ("dog/05.png", "dog/07.png", "dog/09.png"),
            ("ant/08.png", "ant/09.png", "ant/07.png"),
            ("cat/04.png", "cat/05.png", "cat/07.png"),
        ),
    )
    assert drawn.episodes[49].hash == "f4ec7a07989ce4ca74d0504d3aa9c8926e11463af89c681429d74c207403b650"


def test_golden_episodes_with_groups():
    drawn = draw_episodes(GROUPED, 3, 2, 3, 50, seed=7)
    assert drawn.key == "dbbac87ced5485f11347b1cf8a50a9a5b0b1dc512b259b912b68209428f6a3f2"
    assert drawn.hash == "b7910ca5ba97f38263a8bf20b6d70c39ecd3660eaf281e6678733a8bc6bdf9a1"
    assert drawn.episodes[0].classes == ("bee", "dog", "ant")
    assert drawn.episodes[0].support[1] == ("dog/11.png", "dog/05.png")
    assert drawn.episodes[0].query[2] == ("ant/04.png", "ant/07.png", "ant/00.png")


def _reference_raw(key: str, count: int) -> list[int]:
    """PCG64 (XSL-RR 128/64) and NumPy's seed sequence, written out from their definitions."""
    m32, m64, m128 = (1 << 32) - 1, (1 << 64) - 1, (1 << 128) - 1
    entropy, number = [], int(key, 16)
    while number:
        entropy.append(number & m32)
        number >>= 32
    constant = 0x43B0D7E5

    def hashed(value):
        nonlocal constant
        value ^= constant
        constant = constant * 0x931E8875 & m32
        value = value * constant & m32
        return value ^ value >> 16

    def mixed(x, y):
        value = (0xCA01F9DD * x - 0x4973F715 * y) & m32
        return value ^ value >> 16

    pool = [hashed(entropy[i] if i < len(entropy) else 0) for i in range(4)]
    for source in range(4):
        for target in range(4):
            if source != target:
                pool[target] = mixed(pool[target], hashed(pool[source]))
    for extra in entropy[4:]:
        for target in range(4):
            pool[target] = mixed(pool[target], hashed(extra))
    words, constant = [], 0x8B51F9DD
    for index in range(8):
        value = pool[index % 4] ^ constant
        constant = constant * 0x58F38DED & m32
        value = value * constant & m32
        words.append(value ^ value >> 16)
    halves = [words[2 * i] | words[2 * i + 1] << 32 for i in range(4)]
    seed, sequence = halves[0] << 64 | halves[1], halves[2] << 64 | halves[3]
    multiplier, increment = 0x2360ED051FC65DA44385DF649FCCF645, (sequence << 1 | 1) & m128
    state = increment
    state = ((state + seed) * multiplier + increment) & m128
    made = []
    for _ in range(count):
        state = (state * multiplier + increment) & m128
        value, turn = (state >> 64 ^ state) & m64, state >> 122
        made.append((value >> turn | value << (64 - turn)) & m64)
    return made


@pytest.mark.parametrize("key", ["0" * 63 + "1", "f" * 64, "9e38f3f3afaae4b5" * 4, "00" * 20 + "ab" * 12])
def test_generator_against_its_definition(key):
    """Not NumPy against NumPy: what is pinned above can be made again without it."""
    from atha.data.drawing import Shuffler

    items = [str(index) for index in range(30)]
    expected, raw = list(items), iter(_reference_raw(key, 40))
    for last in range(29, 0, -1):
        other = next(raw) % (last + 1)  # a value near 2**64, which would be drawn again, is not among these
        expected[last], expected[other] = expected[other], expected[last]
    assert Shuffler(key).shuffled(items) == expected
    assert items == [str(index) for index in range(30)]


@pytest.mark.parametrize("pool", [PLAIN, GROUPED], ids=["plain", "groups"])
def test_order_of_the_pool_makes_no_difference(pool):
    drawn = draw_episodes(pool, 3, 2, 3, 20, seed=1)
    for seed in range(3):
        assert draw_episodes(shuffled(pool, seed), 3, 2, 3, 20, seed=1) == drawn


@pytest.mark.parametrize("pool", [PLAIN, GROUPED], ids=["plain", "groups"])
def test_a_shorter_sequence_is_the_beginning_of_a_longer_one(pool):
    long = draw_episodes(pool, 3, 2, 3, 40, seed=1)
    for count in (1, 7, 39):
        short = draw_episodes(pool, 3, 2, 3, count, seed=1)
        assert short.key == long.key
        assert short.episodes == long.episodes[:count]
        assert short.hash != long.hash


def test_nothing_drawn_before_makes_a_difference():
    drawn = draw_episodes(PLAIN, 3, 2, 3, 20, seed=1)
    np.random.seed(5)  # just the generator that must not matter
    draw_episodes(GROUPED, 2, 1, 1, 13, seed=9)
    assert draw_episodes(PLAIN, 3, 2, 3, 20, seed=1) == drawn


def test_where_the_files_lie_and_what_the_texts_say_make_no_difference():
    moved = replace(
        PLAIN,
        files=tuple(Path("elsewhere") / one for one in PLAIN.ids),
        texts={label: f"a {label}" for label in LABELS},
        texts_source="the user",
    )
    assert draw_episodes(moved, 3, 2, 3, 20) == draw_episodes(PLAIN, 3, 2, 3, 20)


def first_draws(drawn: EpisodeSet) -> list[tuple[str, str]]:
    return [(one.classes[0], one.support[0][0]) for one in drawn.episodes]


@pytest.mark.parametrize(
    "other",
    [
        lambda: draw_episodes(replace(PLAIN, name="toys"), 3, 2, 3, 20, seed=1),
        lambda: draw_episodes(replace(PLAIN, labels_hash="01" + "00" * 31), 3, 2, 3, 20, seed=1),
        lambda: draw_episodes(PLAIN, 2, 2, 3, 20, seed=1),
        lambda: draw_episodes(PLAIN, 3, 1, 3, 20, seed=1),
        lambda: draw_episodes(PLAIN, 3, 2, 4, 20, seed=1),
        lambda: draw_episodes(PLAIN, 3, 2, 3, 20, seed=2),
        lambda: draw_episodes(replace(PLAIN, texts={label: label for label in LABELS[::-1]}), 3, 2, 3, 20, seed=1),
        lambda: draw_episodes(PLAIN.without(["dog"]), 3, 2, 3, 20, seed=1),
        lambda: draw_episodes(replace(PLAIN, groups=PLAIN.ids, group_kind="photo"), 3, 2, 3, 20, seed=1),
    ],
    ids=["dataset", "labels", "way", "shot", "query", "seed", "order of classes", "classes", "groups"],
)
def test_every_part_of_the_key_changes_the_draw(other):
    """Not only sizes: with one part changed, even the first class and image of an episode are drawn afresh."""
    drawn, changed = draw_episodes(PLAIN, 3, 2, 3, 20, seed=1), other()
    assert drawn.key != changed.key
    same = sum(a == b for a, b in zip(first_draws(drawn), first_draws(changed), strict=True))
    assert same < 6  # 20 chances of 1 in 48


def test_every_index_has_a_draw_of_its_own():
    drawn = draw_episodes(PLAIN, 3, 2, 3, 200)
    assert len({one.hash for one in drawn.episodes}) == 200
    assert len({one.seed for one in drawn.episodes}) == 200
    assert [one.index for one in drawn.episodes] == list(range(200))


def test_group_assignments_of_which_episodes_differ_have_other_keys():
    """The key stands for the episodes in a store, so that two sets of episodes must not have one."""
    other = replace(GROUPED, groups=tuple(f"p{index // 3}" for index in range(48)))
    first, second = (draw_episodes(pool, 3, 2, 3, 20) for pool in (GROUPED, other))
    assert first.hash != second.hash
    assert first.key != second.key


@st.composite
def tasks(draw, with_groups):
    way, shot, query = draw(st.integers(2, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    labels = draw(st.lists(st.text(min_size=1, max_size=4), min_size=way, max_size=way + 2, unique=True))
    counts = [draw(st.integers(shot + query, shot + query + 6)) for _ in labels]
    groups = draw(st.lists(st.sampled_from("abcdefgh"), min_size=sum(counts), max_size=sum(counts)))
    pool = make_pool(counts, labels, groups if with_groups else None)
    return pool, way, shot, query, draw(st.integers(0, 2**40))


def check_structure(drawn: EpisodeSet, pool: Pool) -> None:
    label_of = dict(zip(pool.ids, pool.labels, strict=True))
    group_of = dict(zip(pool.ids, pool.groups or pool.ids, strict=True))
    spec = drawn.spec
    for one in drawn.episodes:
        assert len(set(one.classes)) == len(one.classes) == spec.way
        assert set(one.classes) <= set(pool.classes)
        names = [name for side in (one.support, one.query) for row in side for name in row]
        assert len(set(names)) == len(names)
        for side, size in ((one.support, spec.shot), (one.query, spec.query)):
            assert [len(row) for row in side] == [size] * spec.way
            for label, row in zip(one.classes, side, strict=True):
                assert {label_of[name] for name in row} == {label}
        support, query = ({group_of[name] for row in side for name in row} for side in (one.support, one.query))
        assert not support & query  # over all classes, not within each


@settings(max_examples=60, deadline=None)
@given(tasks(with_groups=False))
def test_structure_of_any_episode(task):
    pool, way, shot, query, seed = task
    check_structure(draw_episodes(pool, way, shot, query, 4, seed), pool)


@settings(max_examples=60, deadline=None)
@given(tasks(with_groups=True))
def test_structure_of_any_episode_with_groups(task):
    pool, way, shot, query, seed = task
    try:
        drawn = draw_episodes(pool, way, shot, query, 4, seed)
    except DataError as error:
        assert "without a group on both sides" in str(error)
        assume(False)
    check_structure(drawn, pool)


def test_groups_are_kept_apart_across_classes():
    """One patient's images in two classes: without care, half of the episodes would have a patient on both sides."""
    pool = make_pool((8, 8), ("ant", "bee"), [f"p{index % 4}" for index in range(16)])
    drawn = draw_episodes(pool, 2, 1, 2, 300)
    check_structure(drawn, pool)
    group_of = dict(zip(pool.ids, pool.groups, strict=True))
    free = draw_episodes(pool.without_groups(), 2, 1, 2, 300)
    mixed = [
        {group_of[n] for row in one.support for n in row} & {group_of[n] for row in one.query for n in row}
        for one in free.episodes
    ]
    assert sum(map(bool, mixed)) > 100  # the care is needed


def test_a_group_may_give_several_images_to_one_side():
    pool = make_pool((4, 4), ("ant", "bee"), ["a", "a", "b", "b", "c", "c", "d", "d"])
    check_structure(drawn := draw_episodes(pool, 2, 2, 2, 10), pool)
    group_of = dict(zip(pool.ids, pool.groups, strict=True))
    assert all(len({group_of[name] for name in row}) == 1 for one in drawn.episodes for row in one.support)


def test_class_with_too_few_images():
    pool = make_pool((12, 4, 12, 3))
    with pytest.raises(DataError, match=r"fewer than 2 \+ 3 = 5 images \(bee 4, dog 3\)") as caught:
        draw_episodes(pool, 2, 2, 3, 1)
    assert "ant" not in str(caught.value)
    check_structure(draw_episodes(pool, 4, 1, 2, 20), pool)  # all of a class may be used
    check_structure(draw_episodes(pool.without(["bee", "dog"]), 2, 2, 3, 5), pool)


def test_class_without_any_image():
    pool = replace(PLAIN, texts={**PLAIN.texts, "eel": "eel"})
    with pytest.raises(DataError, match=r"\(eel 0\)"):
        draw_episodes(pool, 2, 1, 1, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, 1, 1, 1), "way is 1"),
        ((2, 0, 1, 1), "shot is 0"),
        ((2, 1, 0, 1), "query is 0"),
        ((2, 1, 1, 0), "episodes is 0"),
        ((2, 1, 1, 1, -1), "seed is -1"),
        ((5, 1, 1, 1), "toy has 4 classes and --way is 5"),
    ],
)
def test_numbers_that_are_no_task(arguments, message):
    with pytest.raises(DataError, match=message):
        draw_episodes(PLAIN, *arguments)


def test_class_in_one_group_is_an_error_with_counts():
    pool = make_pool(groups=["p0"] * 12 + [f"q{index}" for index in range(36)])
    with pytest.raises(DataError, match=r"ant 12 in 1 groups, bee 12 in 12 groups"):
        draw_episodes(pool, 4, 1, 1, 1)


def test_a_class_that_cannot_be_served_is_never_drawn_around():
    """An episode that gets the bad class is an error; if others were drawn in its place, errors would come late."""
    bad = make_pool(groups=["p0"] * 12 + [f"q{index}" for index in range(36)])
    failed_at = []
    for seed in range(20):
        with pytest.raises(DataError, match=r"episode \d+ cannot be drawn from toy") as caught:
            draw_episodes(bad, 2, 1, 1, 60, seed)
        failed_at.append(int(str(caught.value).split()[1]))
        if failed_at[-1]:
            before = draw_episodes(bad, 2, 1, 1, failed_at[-1], seed).episodes
            assert not any("ant" in one.classes for one in before)
    assert np.mean(failed_at) < 3  # half of all pairs of classes have it: 1 is expected


def test_a_class_that_is_hard_to_serve_is_drawn_as_often_as_others():
    # One large patient: most support sets of "ant" leave too few images, and must be drawn again, not the classes.
    groups = ["p0"] * 9 + ["p1", "p2", "p3"] + [f"q{index}" for index in range(36)]
    drawn = draw_episodes(make_pool(groups=groups), 2, 1, 4, 1000)
    counts = Counter(label for one in drawn.episodes for label in one.classes)
    assert chisquare([counts[label] for label in LABELS]).pvalue > 1e-4


@pytest.mark.parametrize("pool", [PLAIN, make_pool(groups=[f"p{i % 12}" for i in range(48)])], ids=["plain", "groups"])
def test_every_image_is_equally_likely(pool):
    drawn = draw_episodes(pool, 3, 2, 3, 3000, seed=11)
    for pick in (
        lambda one: [one.support[0][0]],
        lambda one: [one.support[2][1]],
        lambda one: [one.query[0][0]],
        lambda one: [one.query[1][2]],
        # Without repetition within an episode, so that counts vary less than chi-square has it: a bound all the more.
        lambda one: [name for row in one.support for name in row],
        lambda one: [name for row in one.query for name in row],
    ):
        counts = Counter(name for one in drawn.episodes for name in pick(one))
        assert chisquare([counts[name] for name in pool.ids]).pvalue > 1e-4
    orders = Counter(one.classes for one in drawn.episodes)
    assert len(orders) == 24
    assert chisquare(list(orders.values())).pvalue > 1e-4


def test_pairs_of_images_are_equally_likely():
    drawn = draw_episodes(make_pool((6, 6), ("ant", "bee")), 2, 2, 2, 3000, seed=3)
    pairs = Counter(row for one in drawn.episodes for label, row in zip(one.classes, one.support, strict=True))
    assert len(pairs) == 2 * 6 * 5
    assert chisquare(list(pairs.values())).pvalue > 1e-4


@pytest.mark.parametrize("pool", [PLAIN, GROUPED], ids=["plain", "groups"])
def test_round_trip(pool, tmp_path):
    drawn = draw_episodes(pool, 3, 2, 3, 10, seed=5)
    file = tmp_path / "not" / "yet" / "there" / "episodes.json"
    write_episodes(file, drawn)
    found = read_episodes(file, pool)
    assert found == drawn
    assert (found.key, found.hash) == (drawn.key, drawn.hash)
    assert read_episodes(file, shuffled(pool, 1)) == drawn
    assert [path.name for path in file.parent.iterdir()] == ["episodes.json"]


@settings(max_examples=25, deadline=None)
@given(task=tasks(with_groups=False))
def test_round_trip_of_any_labels(task, tmp_path_factory):
    pool, way, shot, query, seed = task
    drawn = draw_episodes(pool, way, shot, query, 3, seed)
    file = tmp_path_factory.mktemp("any") / "episodes.json"
    write_episodes(file, drawn)
    assert read_episodes(file, pool) == drawn


def test_round_trip_of_names_that_are_not_utf8(tmp_path):
    """File names are bytes on some systems; Python has them with surrogates."""
    pool = make_pool((4, 4), ("ant", "b\udcff"))
    drawn = draw_episodes(pool, 2, 1, 1, 2)
    write_episodes(tmp_path / "episodes.json", drawn)
    assert read_episodes(tmp_path / "episodes.json", pool) == drawn


def test_an_existing_file_is_not_overwritten(tmp_path):
    file = tmp_path / "episodes.json"
    file.write_text("mine")
    drawn = draw_episodes(PLAIN, 3, 2, 3, 2)
    with pytest.raises(DataError, match="is there already"):
        write_episodes(file, drawn)
    assert file.read_text() == "mine"
    write_episodes(file, drawn, overwrite=True)
    assert read_episodes(file, PLAIN) == drawn


def content_hash(content: dict) -> str:
    rows = [
        Episode(
            one["index"],
            tuple(one["classes"]),
            tuple(map(tuple, one["support"])),
            tuple(map(tuple, one["query"])),
        )
        for one in content["episodes"]
    ]
    return EpisodeSet(EpisodeSpec("toy", "00", LABELS, False, 3, 2, 3, 0), "", tuple(rows)).hash


@pytest.fixture
def edited(tmp_path):
    """A function that writes episodes, changes the file's content, and by default makes its hash right again."""

    def edit(change, pool=PLAIN, keep_hash=False) -> Path:
        file = tmp_path / "episodes.json"
        write_episodes(file, draw_episodes(pool, 3, 2, 3, 4, seed=5), overwrite=True)
        content = json.loads(file.read_text("utf-8"))
        content = change(content) or content
        if not keep_hash:
            content["hash"] = content_hash(content)
        file.write_text(json.dumps(content), "utf-8")
        return file

    return edit


def swap(content):
    support = content["episodes"][1]["support"]
    support[0][0], support[0][1] = support[0][1], support[0][0]


def test_an_edited_file_is_refused(edited):
    with pytest.raises(DataError, match=r"was changed, its hash is no longer [0-9a-f]{12}.*set hash to [0-9a-f]{64}"):
        read_episodes(edited(swap, keep_hash=True), PLAIN)


def test_a_shortened_file_is_refused(edited):
    with pytest.raises(DataError, match="was changed"):
        read_episodes(edited(lambda content: {**content, "episodes": content["episodes"][:2]}, keep_hash=True), PLAIN)


def test_episodes_by_hand_have_a_key_of_their_own(edited):
    drawn = draw_episodes(PLAIN, 3, 2, 3, 4, seed=5)
    found = read_episodes(edited(swap), PLAIN)
    assert found.spec == drawn.spec
    assert found.key not in (drawn.key, found.spec.hash)
    assert found.key == found.hash
    assert found.episodes[0] == drawn.episodes[0]
    assert found.episodes[1].support[0] == drawn.episodes[1].support[0][::-1]


def test_a_part_of_a_sequence_keeps_its_key(edited):
    """Episodes 2 and 3 alone are still the ones that the specification gives."""
    found = read_episodes(edited(lambda content: {**content, "episodes": content["episodes"][2:]}), PLAIN)
    drawn = draw_episodes(PLAIN, 3, 2, 3, 4, seed=5)
    assert found.key == drawn.key
    assert found.episodes == drawn.episodes[2:]


def test_a_claimed_seed_is_not_believed(edited):
    def claim(content):
        content["spec"]["seed"] = 6

    found = read_episodes(edited(claim), PLAIN)
    assert found.key == found.hash != found.spec.hash


def test_indices_are_part_of_what_the_hash_guards(edited):
    """A result is stored by key and index: an index that moved is another episode."""

    def renumber(content):
        one, other = content["episodes"][:2]
        one["index"], other["index"] = other["index"], one["index"]

    file = edited(renumber, keep_hash=True)
    with pytest.raises(DataError, match="was changed"):
        read_episodes(file, PLAIN)


def test_two_numberings_by_hand_have_two_keys(edited):
    def by_hand(content):
        swap(content)

    def renumbered(content):
        swap(content)
        for one in content["episodes"]:
            one["index"] = 3 - one["index"]

    assert read_episodes(edited(by_hand), PLAIN).key != read_episodes(edited(renumbered), PLAIN).key


def put(content, place, value):
    *way, last = place
    for step in way:
        content = content[step]
    content[last] = value


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("episodes", 0, "support", 0, 0), "ant/99.png", "has 'ant/99.png' as .*, which toy does not"),
        (("spec", "labels_hash"), "ff" * 32, "was made from other labels of toy .hash ffffffffffff"),
        (("episodes", 1, "index"), 0, "an index twice"),
        (("episodes",), [], "holds no episode"),
    ],
)
def test_content_that_does_not_fit_the_pool(edited, place, value, message):
    with pytest.raises(DataError, match=message):
        read_episodes(edited(lambda content: put(content, place, value)), PLAIN)


def test_an_image_or_class_twice(edited):
    def both_sides(content):
        one = content["episodes"][2]
        one["query"][1][0] = one["support"][1][0]

    def twice_in_a_row(content):
        one = content["episodes"][2]
        one["query"][1][0] = one["query"][1][1]

    def class_twice(content):
        one = content["episodes"][2]
        label = one["classes"][0]
        left = [name for name in PLAIN.ids if name.startswith(label) and name not in chain(*one["support"])]
        left = [name for name in left if name not in one["query"][0]]
        one["classes"][1], one["support"][1], one["query"][1] = label, left[:2], left[2:5]

    for change in (both_sides, twice_in_a_row, class_twice):
        with pytest.raises(DataError, match=r"episode 2 of .* holds an image or a class twice"):
            read_episodes(edited(change), PLAIN)


def test_an_image_under_another_class(edited):
    def exchange(content):
        one = content["episodes"][0]
        one["query"][0][0], one["query"][1][0] = one["query"][1][0], one["query"][0][0]

    with pytest.raises(DataError, match="which toy does not"):
        read_episodes(edited(exchange), PLAIN)


def test_a_group_on_both_sides(edited):
    group_of = dict(zip(GROUPED.ids, GROUPED.groups, strict=True))

    def mix(content):
        one = content["episodes"][0]
        seen = group_of[one["support"][0][0]]
        used = {name for side in ("support", "query") for row in one[side] for name in row}
        label = one["classes"][1]
        one["query"][1][0] = next(
            name for name in GROUPED.ids if name.startswith(label) and group_of[name] == seen and name not in used
        )

    with pytest.raises(DataError, match=r"episode 0 of .* has patient 'p\d' in support and query"):
        read_episodes(edited(mix, pool=GROUPED), GROUPED)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "3",
        '"text"',
        "{}",
        '{"format": "atha-episodes"}',
        '{"format": "atha-episodes", "version": 99, "spec": {}, "hash": "", "episodes": []}',
        '{"format": "coco", "version": 1, "episodes": []}',
        '{"format": "atha-episodes", "version": 1}',
        '{"format": "atha-episodes", "version": 1, "spec": {}, "hash": "", "episodes": []}',
        '{"format": "atha-episodes", "version": 1, "spec": [], "hash": "", "episodes": 3}',
    ],
)
def test_foreign_files(text, tmp_path):
    file = tmp_path / "episodes.json"
    file.write_text(text)
    with pytest.raises(DataError, match=r"episodes\.json"):
        read_episodes(file, PLAIN)


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00\x01")
    for name in ("missing.json", "binary.json", "."):
        with pytest.raises(DataError):
            read_episodes(tmp_path / name, PLAIN)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("episodes", 0), None),
        (("episodes", 0, "support"), None),
        (("episodes", 0, "support"), [[], [], []]),
        (("episodes", 0, "query"), [["ant/00.png"]]),
        (("episodes", 0, "classes"), "dog"),
        (("episodes", 0, "index"), "first"),
        (("episodes", 0, "index"), float("inf")),
        (("spec", "classes"), None),
        (("spec", "more"), 1),
        (("spec", "labels_hash"), None),
        (("spec", "way"), "3"),
        (("spec", "way"), None),
        (("spec", "shot"), 2.0),
        (("hash",), None),
    ],
    ids=str,
)
def test_damaged_files(edited, place, value):
    """Whatever is in the file: an error that names it, and no other exception."""
    with pytest.raises(DataError, match=r"episodes\.json"):
        read_episodes(edited(lambda content: put(content, place, value), keep_hash=True), PLAIN)


def test_rows_of_unequal_length_are_refused(edited):
    """All that follows counts on way * query probabilities in equal rows."""

    def shorten(content):
        content["episodes"][0]["query"][1].pop()

    with pytest.raises(DataError):
        read_episodes(edited(shorten), PLAIN)


def test_sizes_other_than_the_file_says_are_refused(edited):
    def fewer(content):
        for one in content["episodes"]:
            for row in one["support"]:
                row.pop()

    with pytest.raises(DataError):
        read_episodes(edited(fewer), PLAIN)


def test_hashes_say_what_they_are_of():
    one = draw_episodes(PLAIN, 3, 2, 3, 1).episodes[0]
    assert replace(one, index=5).hash == one.hash
    assert 0 <= one.seed < 2**31
    spec = EpisodeSpec("toy", "00", LABELS, False, 3, 2, 3, 0)
    for key, value in asdict(spec).items():
        other = {"dataset": "x", "labels_hash": "x", "classes": LABELS[::-1], "groups": "ab"}.get(key, 9)
        assert replace(spec, **{key: other}).hash != spec.hash, (key, value)
