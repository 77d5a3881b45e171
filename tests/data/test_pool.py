"""Pools: what can be left out of one, and that what defines its episodes follows."""

from dataclasses import replace
from pathlib import Path

import pytest

from atha.data.opening import open_pool
from atha.data.pool import Pool, listing_hash
from atha.episodes import draw_episodes
from atha.errors import DataError
from conftest import COLOURS, write_images

IDS = ("a/1", "a/2", "b/1", "b/2", "c/1")
POOL = Pool(
    "toy",
    IDS,
    tuple(Path(name) for name in IDS),
    ("a", "a", "b", "b", "c"),
    {"b": "bee", "a": "ant", "c": "cat"},
    "test",
    "00" * 32,
    ("p", "q", "p", "q", "r"),
    "patient",
)


def test_classes_and_counts_are_in_the_order_of_the_texts():
    assert POOL.classes == ("b", "a", "c")
    assert list(POOL.counts.items()) == [("b", 2), ("a", 2), ("c", 1)]


def test_without_classes():
    cut = POOL.without(["b"])
    assert (cut.ids, cut.labels, cut.groups) == (("a/1", "a/2", "c/1"), ("a", "a", "c"), ("p", "q", "r"))
    assert list(cut.texts.items()) == [("a", "ant"), ("c", "cat")]
    assert [str(file) for file in cut.files] == list(cut.ids)
    assert POOL.without([]) == POOL
    with pytest.raises(DataError, match="toy has no class 'x', its classes are b, a, c"):
        POOL.without(["a", "x"])
    with pytest.raises(DataError, match="1 class left"):
        POOL.without(["a", "b"])


def test_only_some_images():
    cut = POOL.only(["c/1", "a/2", "b/1"], "list.csv")
    assert (cut.ids, cut.labels, cut.groups) == (("a/2", "b/1", "c/1"), ("a", "b", "c"), ("q", "p", "r"))
    assert cut.labels_hash != POOL.labels_hash
    assert cut.labels_hash == POOL.only(["b/1", "a/2", "c/1"], "another.csv").labels_hash
    assert cut.labels_hash != POOL.only(["b/2", "a/2", "c/1"], "list.csv").labels_hash
    with pytest.raises(DataError, match=r"list\.csv lists 2 images that toy does not have, the first is 'd/1'"):
        POOL.only(["a/1", "e/1", "d/1"], "list.csv")


def test_without_groups():
    cut = POOL.without_groups()
    assert (cut.groups, cut.group_kind) == (None, "")
    assert replace(cut, groups=POOL.groups, group_kind="patient") == POOL


def test_listing_hash_is_of_pairs():
    one = listing_hash(["x", "y"], ["a", "b"])
    assert one == listing_hash(["y", "x"], ["b", "a"])
    assert one != listing_hash(["x", "y"], ["b", "a"])
    assert one != listing_hash(["x", "y", "z"], ["a", "b", "b"])
    assert listing_hash(["\udcff"], ["a"])


@pytest.fixture
def folder(tmp_path):
    return write_images(tmp_path / "photos", COLOURS, 6)


def test_class_folders(folder, tmp_path):
    pool = open_pool("photos", tmp_path)
    assert pool.name == "photos"
    assert pool.counts == {"GreenThing": 6, "blue thing": 6, "red_thing": 6}
    assert "red_thing/0_3.png" in pool.ids
    assert all(file.is_file() for file in pool.files)
    assert pool.groups is None
    moved = tmp_path / "elsewhere" / "photos"
    moved.parent.mkdir()
    folder.rename(moved)
    again = open_pool(str(moved))
    assert (again.ids, again.labels, again.labels_hash) == (pool.ids, pool.labels, pool.labels_hash)
    assert draw_episodes(again, 2, 1, 2, 5) == draw_episodes(pool, 2, 1, 2, 5)


def test_texts_do_not_change_the_episodes(folder):
    plain = open_pool(str(folder))
    named = open_pool(str(folder), classes={"red_thing": "a red one", "blue thing": "a blue one"})
    assert named.texts["red_thing"] == "a red one"
    assert draw_episodes(named, 2, 1, 2, 5) == draw_episodes(plain, 2, 1, 2, 5)


def test_groups_by_a_pattern(folder):
    pool = open_pool(str(folder), group_pattern=r"_(\d)\.png")
    assert set(pool.groups) == set("012345")
    drawn = draw_episodes(pool, 3, 2, 2, 20)
    for one in drawn.episodes:
        support, query = ({name[-5] for row in side for name in row} for side in (one.support, one.query))
        assert not support & query
    with pytest.raises(DataError, match="finds no group in the file name of"):
        open_pool(str(folder), group_pattern=r"_([012])\.png")
    with pytest.raises(DataError, match="is no regular expression"):
        open_pool(str(folder), group_pattern="(")
    assert open_pool(str(folder), group_pattern=r"_(\d)\.png", ignore_groups=True).groups is None


def test_two_patterns_give_two_keys(folder):
    """The key of episodes stands for them in a store."""
    first, second = (
        draw_episodes(open_pool(str(folder), group_pattern=pattern), 3, 2, 2, 10)
        for pattern in (r"_(\d)\.png", r"(.*)")
    )
    assert first.hash != second.hash
    assert first.key != second.key


def test_a_list_of_images_to_keep(folder, tmp_path):
    pool = open_pool(str(folder))
    kept = [name for name in pool.ids if not name.endswith("_0.png")]
    lines = [f"{name},{name.split('/')[0]}" for name in kept]
    listed = folder / "kept.csv"
    listed.write_text("\n".join(["image,label", *lines]) + "\n")
    cut = open_pool(str(folder), keep=listed)
    assert list(cut.ids) == kept
    assert cut.labels_hash != pool.labels_hash
    listed.write_text(listed.read_text().replace(",red_thing", ",blue thing"))
    with pytest.raises(DataError, match=r"gives 'red_thing/0_1\.png' the label 'blue thing'"):
        open_pool(str(folder), keep=listed)
    with pytest.raises(DataError, match="there is no list"):
        open_pool(str(folder), keep=tmp_path / "none.csv")


def test_a_table_with_groups(folder):
    table = folder / "table.csv"
    rows = [f"{c}/0_{i}.png,{c},p{i // 2}" for c in ("red_thing", "blue thing") for i in range(6)]
    table.write_text("\n".join(["image,label,patient", *rows]) + "\n")
    pool = open_pool(str(table))
    assert pool.name == "table"
    assert pool.counts == {"blue thing": 6, "red_thing": 6}
    assert pool.group_kind == "patient"
    assert dict(zip(pool.ids, pool.groups, strict=True))["red_thing/0_3.png"] == "p1"
    before = pool.labels_hash
    table.write_text(table.read_text().replace("p2", "p9"))
    assert open_pool(str(table)).labels_hash != before


def test_names_that_are_no_data_set(tmp_path):
    with pytest.raises(DataError, match="did you mean 'eurosat'"):
        open_pool("EuroSAT2", tmp_path)
    with pytest.raises(DataError, match="eurosat needs the folder that it lies in"):
        open_pool("eurosat")
    with pytest.raises(DataError, match="there is no data set ''"):
        open_pool("", tmp_path)
