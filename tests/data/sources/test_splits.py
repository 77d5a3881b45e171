"""Folders that are no classes: what gives them away, what is said, and what goes on being classes."""

from pathlib import Path

import pytest

from atha.classes import Classes
from atha.data import read_labelled
from atha.errors import DataError


def tree(root: Path, *names: str) -> Path:
    """Files; ``a/{x,y}/1.jpg`` is one in each folder."""
    for name in names:
        before, brace, rest = name.partition("{")
        inner, _, after = rest.partition("}")
        for middle in inner.split(",") if brace else [""]:
            path = root / f"{before}{middle}{after}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes(128) + b"DICM")  # an image, whatever it is called
    return root


NO_CLASSES = {
    "splits": (["train/{cat,dog}/1.jpg", "test/{cat,dog}/1.jpg"], "atha fit kag/train --eval kag/test"),
    "splits and a flat test": (["train/{cat,dog}/1.jpg", "test/1.jpg"], "fit kag/train ('kag/test' holds no class"),
    "three splits": (
        ["TRAIN/{cat,dog}/1.jpg", "VALID/{cat,dog}/1.jpg", "TEST/{cat,dog}/1.jpg"],
        "atha fit kag/TRAIN --eval kag/TEST",
    ),
    "one class each": (["train/a/x.jpg", "val/a/y.jpg", "test/a/z.jpg"], "one of them, such as atha fit kag/train"),
    "names around": (
        ["seg_train/seg_train/{a,b}/1.jpg", "seg_test/seg_test/{a,b}/1.jpg", "seg_pred/seg_pred/1.jpg"],
        "atha fit kag/seg_train/seg_train --eval kag/seg_test/seg_test",
    ),
    "sets": (["training_set/{a,b}/1.jpg", "test_set/{a,b}/1.jpg"], "atha fit kag/training_set --eval kag/test_set"),
    "CamelCase": (["TrainImages/{a,b}/1.jpg", "TestImages/1.jpg"], "atha fit kag/TrainImages ("),
    "years": (["train2017/{a,b}/1.jpg", "val2017/{c,d}/1.jpg"], "atha fit kag/train2017"),
    "unlabelled": (["labeled/{a,b}/1.jpg", "unlabeled/1.jpg"], "atha fit kag/labeled ("),
    "samples": (["train/{a,b}/1.jpg", "sample/1.jpg"], "atha fit kag/train"),
    "other classes": (["train/{a,b,c}/1.jpg", "val/{d,e}/1.jpg", "test/{f,g}/1.jpg"], "atha fit kag/train"),
    "domains": (
        ["Art/{Alarm,Bike,Cup}/1.jpg", "Clipart/{Alarm,Bike,Cup}/1.jpg", "Real World/{alarm,bike,cup}/1.jpg"],
        "(Art, Clipart, Real World) hold folders of the same names (Alarm, Bike, Cup)",
    ),
    "classes or conditions": (
        ["cat/{day,night}/1.jpg", "dog/{day,night}/1.jpg"],
        "if day, night are, give one of the folders, such as atha fit kag/cat, and another where it is a test set, "
        "such as --eval kag/dog; if cat, dog are the classes, atha data classes kag --out classes.json lists them for "
        "atha fit kag --classes classes.json",
    ),
    "domains, quoted": (["Real World/{a,b}/1.jpg", "Real Art/{a,b}/1.jpg"], "atha fit 'kag/Real Art'"),
    "annotations": (["Annotation/{n1,n2}/1", "Images/{n1,n2}/1.jpg"], "atha fit kag/Images"),
    "folds": ([f"fold_{fold}/{{a,b}}/1.jpg" for fold in range(5)], "atha fit kag/fold_0"),
    "splits within": (["cat/{train,test}/1.jpg", "dog/{train,test}/1.jpg"], "as kag/test/cat"),
    "masks within": (["cat/{images,masks}/1.png", "dog/{images,masks}/1.png"], "of which 'images' may hold the images"),
    "test beside classes": (["cat/1.jpg", "dog/1.jpg", "held out/{cat,dog}/1.jpg"], "move it out of 'kag'"),
    "a folder around": (["data/{cat,dog}/1.jpg"], "if these are the classes, give kag/data"),
    "folders around": (["data/all/{cat,dog}/1.jpg", "__MACOSX/data/._1.jpg", ".cache/x"], "give kag/data/all"),
    "splits in a folder": (["data/{train,test}/a/1.jpg", "data/train/b/1.jpg"], "atha fit kag/data/train"),
    "tables within": (
        ["train/{1.jpg,_classes.csv}", "valid/{1.jpg,_classes.csv}", "test/{1.jpg,_classes.csv}"],
        "give a table in them, as atha fit kag/train/_classes.csv --eval kag/test/_classes.csv",
    ),
    "twice": (["kag/{train,test}/a/1.jpg", "{train,test}/a/1.jpg", "train/b/1.jpg"], "atha fit kag/train"),
    "names alone": (["train/cat.0.jpg", "test1/1.jpg"], "have the names of splits and hold no class folders"),
}  # fmt: skip


@pytest.mark.parametrize(("names", "said"), NO_CLASSES.values(), ids=NO_CLASSES)
def test_no_classes(tmp_path, monkeypatch, names, said):
    monkeypatch.chdir(tmp_path)
    tree(Path("kag"), *names)
    images = read_labelled("kag")
    assert said in images.doubt
    with pytest.raises(DataError) as caught:
        Classes.of_support(images)
    assert str(caught.value) == images.doubt
    other = Classes.given(["newt", "toad"])
    for use in (other.index, lambda those: other.joined(those, None)):
        with pytest.raises(DataError, match="kag"):
            use(images)


CLASSES = {
    "images directly": ["train/1.jpg", "car/1.jpg", "bus/1.jpg"],
    "one has folders": ["train/{steam,electric}/1.jpg", "car/1.jpg", "bus/1.jpg"],
    "names of splits in names": ["test_tube/{a,b}/1.jpg", "train_station/{c,d}/1.jpg", "validation_stamp/1.jpg"],
    "some names of splits": ["train/1.jpg", "test/1.jpg", "control/1.jpg"],
    "patients": ["melanoma/{p1,p2,p3}/1.jpg", "nevus/{p3,p4,p5}/1.jpg"],
    "few alike": ["cat/{left,right}/1.jpg", "dog/{left,right}/1.jpg", "a/1.jpg", "b/1.jpg", "c/1.jpg"],
    "images beside folders": ["cat/{left,right}/1.jpg", "cat/1.jpg", "dog/{left,right}/1.jpg", "dog/1.jpg"],
    "images without ending": ["cat/{left,right}/1", "cat/IM1", "dog/{left,right}/1", "dog/1.2.840"],
    "one folder each": ["cat/images/1.jpg", "dog/images/1.jpg"],
    "a flat class beside": ["cat/1.jpg", "dog/{puppy,old}/1.jpg"],
    "a name within": ["cat/1.jpg", "dog/1.jpg", "both/{cat,mouse,rat}/1.jpg"],
    "training and something": ["training/1.jpg", "strength/1.jpg"],
}


@pytest.mark.parametrize("names", CLASSES.values(), ids=CLASSES)
def test_classes(tmp_path, names):
    images = read_labelled(tree(tmp_path, *names))
    assert not images.doubt
    assert Classes.of_support(images).labels == tuple(sorted({name.split("/")[0] for name in names}))


def test_folders_that_are_named_are_classes(tmp_path):
    images = read_labelled(tree(tmp_path, "cat/{day,night}/1.jpg", "dog/{day,night}/1.jpg"))
    texts = {"cat": "a cat", "Dog": "a dog"}
    assert Classes.of_support(images, texts).texts == ("a cat", "a dog")
    assert Classes.of_support(images, ["dog", "cat"]).labels == ("dog", "cat")
    assert Classes.given(["cat", "dog", "newt"]).index(images) == {"cat": 0, "dog": 1}
    assert Classes.given(["cat", "newt"]).joined(images, {"dog": "a dog"}).labels == ("cat", "newt", "dog")
    for few in ({"cat": "a cat"}, ["train", "test"], None):
        with pytest.raises(DataError, match="day, night"):
            Classes.of_support(images, few)
