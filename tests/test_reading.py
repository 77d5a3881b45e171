"""The same pictures in another form give the same predictions: deep, with infrared, with many bands, DICOM, HEIC."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pillow_heif
import pytest
import tifffile
from PIL import Image

import atha
from atha.adapter.files import read_adapter
from atha.adapter.record import RECORD
from atha.backbones import Backbone, load_backbone
from atha.bench.plan import make_plan
from atha.bench.work import EpisodeRunner, Job
from atha.data.cache import Cache
from atha.data.opening import open_pool
from atha.data.reading import AS_BEFORE
from atha.episodes import draw_episodes
from atha.errors import AdapterError, AthaWarning, DataError
from atha.methods import FileImages
from atha.models.frozen import FrozenModel
from commands import run
from conftest import COLOURS, write_images
from making import dicom


def deep_tiff(path: Path, rgb: np.ndarray) -> None:
    tifffile.imwrite(path.with_suffix(".tif"), rgb.astype(np.uint16) * 12, photometric="rgb", compression="lzw")


def deep_png(path: Path, rgb: np.ndarray) -> None:
    path.with_suffix(".png").write_bytes(imagecodecs.png_encode(rgb.astype(np.uint16) * 16))


def infrared(path: Path, rgb: np.ndarray, tag: int) -> None:
    band = np.random.default_rng(int(rgb.sum())).integers(20, 220, rgb.shape[:2], np.uint8)
    four = np.dstack([rgb, band])
    tifffile.imwrite(path.with_suffix(".tif"), four, photometric="rgb", extrasamples=[tag])


def many_bands(path: Path, rgb: np.ndarray) -> None:
    bands = np.full((*rgb.shape[:2], 13), 7, np.uint16)
    bands[..., [3, 2, 1]] = rgb.astype(np.uint16) * 12
    tifffile.imwrite(path.with_suffix(".tif"), bands, photometric="minisblack", planarconfig="contig")


def floats(path: Path, rgb: np.ndarray) -> None:
    tifffile.imwrite(path.with_suffix(".tif"), rgb.astype(np.float32) * 0.0012, photometric="rgb", tile=(16, 16))


def heic(path: Path, rgb: np.ndarray) -> None:
    pillow_heif.from_pillow(Image.fromarray(rgb)).save(path.with_suffix(".heic"), quality=-1, chroma=444)


Fit = Callable[..., atha.Classifier]

FORMS: dict[str, Callable[[Path, np.ndarray], object]] = {
    "deep TIFF": deep_tiff,
    "deep PNG": deep_png,
    "infrared": lambda path, rgb: infrared(path, rgb, 0),
    "infrared called alpha": lambda path, rgb: infrared(path, rgb, 2),
    "many bands": many_bands,
    "floats": floats,
    "DICOM": lambda path, rgb: dicom(path.with_suffix(""), rgb),
    "HEIC": heic,
}
BANDS = {"many bands": (4, 3, 2)}


def in_form(source: Path, target: Path, form: str) -> Path:
    for file in source.rglob("*.png"):
        path = target / file.relative_to(source)
        path.parent.mkdir(parents=True, exist_ok=True)
        FORMS[form](path, np.asarray(Image.open(file)))
    return target


@pytest.fixture(scope="module")
def backbone(tiny_clip: str) -> Backbone:
    """Nobody changes it."""
    return load_backbone(tiny_clip)


@pytest.fixture(scope="module")
def fit(backbone: Backbone) -> Fit:
    return lambda support, **options: atha.Classifier(backbone, recipe="gaussian", device="cpu").fit(support, **options)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 8 bits, to learn from and to ask about, and what is said of these."""
    root = tmp_path_factory.mktemp("pictures")
    write_images(root / "support", COLOURS, 2)
    write_images(root / "test", COLOURS, 2, seed=1)
    return root


def files(folder: Path) -> list[Path]:
    return sorted((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.with_suffix(""))


@pytest.fixture(scope="module")
def expected(fit: Fit, pictures: Path) -> np.ndarray:
    return fit(pictures / "support").predict_proba(files(pictures / "test"))


#: In the default run; the others differ in their files alone, which have tests of their own.
QUICK = ("deep TIFF", "infrared called alpha", "DICOM", "HEIC")


@pytest.mark.parametrize(
    "form", [form if form in QUICK else pytest.param(form, marks=pytest.mark.slow) for form in FORMS]
)
def test_both_halves_of_a_pair(fit: Fit, pictures: Path, expected: np.ndarray, tmp_path: Path, form: str) -> None:
    support = in_form(pictures / "support", tmp_path / "support", form)
    test = in_form(pictures / "test", tmp_path / "test", form)
    classifier = fit(support, bands=BANDS.get(form))
    made = classifier.predict_proba(files(test))
    # HEIC turns colours into luminance and back.
    assert np.abs(made - expected).max() < (0.02 if form == "HEIC" else 1e-6)
    # Eight-bit pictures of the same things are what they are, beside those of the form.
    if form != "many bands":
        assert np.abs(classifier.predict_proba(files(pictures / "test")) - expected).max() < 0.02


def test_arrays_are_images(fit: Fit, pictures: Path, expected: np.ndarray) -> None:
    pairs = [(np.asarray(Image.open(file)), file.parent.name) for file in files(pictures / "support")]
    classifier = fit(pairs)
    arrays = [np.asarray(Image.open(file)) for file in files(pictures / "test")]
    assert np.abs(classifier.predict_proba(arrays) - expected).max() < 1e-6
    result = classifier.evaluate([(array, pairs[0][1]) for array in arrays])
    assert result.files[0] == "<array, uint8, 24 x 30 x 3>"
    assert classifier.explain(arrays[0]).photo.shape == (24, 30, 3)
    with pytest.warns(AthaWarning, match="not evaluated"):
        left_out = classifier.evaluate([pairs[0], (arrays[0], pairs[0][1])]).left_out
    assert left_out == ["<array, uint8, 24 x 30 x 3>: the same image is in the support set"]
    with pytest.raises(DataError, match=r"<array, uint8, 3 x 600 x 700>: has its bands first"):
        classifier.predict([np.zeros((3, 600, 700), np.uint8)])


@pytest.fixture(scope="module")
def many(pictures: Path, tiny_clip: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("many")
    for part in ("support", "test"):
        in_form(pictures / part, root / part, "many bands")
    asked = ["--model", tiny_clip, "--recipe", "gaussian", "--device", "cpu", "--bands", "4,3,2"]
    done = run("fit", root / "support", "--out", root / "adapter", *asked, "--eval", root / "test", code=0)
    (root / "said.txt").write_text(done.output)
    return root


def test_said_once_saved_and_used_by_all(many: Path, tmp_path: Path) -> None:
    said = (many / "said.txt").read_text()
    assert len(re.findall(r"16-bit colour, stretched from 0\.\.3,0\d\d", said)) == 1
    assert said.count("Bands 4, 3, 2 are taken as red, green and blue, in this order.") == 1
    record = read_adapter(many / "adapter").record
    assert record.reading is not None and record.reading.bands == (4, 3, 2)
    assert "16-bit colour, stretched" in run("info", many / "adapter", code=0).output
    assert "Warning" not in run("predict", many / "adapter", many / "test", code=0).stderr
    shown = json.loads(run("evaluate", many / "adapter", many / "test", "--json", code=0).stdout)
    assert shown["images"] == 6 and not shown["left_out"]
    some = next((many / "test").rglob("*.tif"))
    run("explain", many / "adapter", some, "--out", tmp_path / "a.png", code=0)
    run("report", many / "adapter", "--test", many / "test", "--out", tmp_path / "a.html", "--mistakes", "0", code=0)
    assert "Bands 4, 3, 2 are taken as red" in (tmp_path / "a.html").read_text()


def test_bands_that_are_wanted_and_not_said(many: Path, tiny_clip: str, tmp_path: Path) -> None:
    asked = ["--model", tiny_clip, "--recipe", "probes", "--out", tmp_path / "a"]
    done = run("fit", many / "support", *asked, code=2)
    assert "has 13 bands and does not say which are red, green and blue: fit with --bands" in done.output
    assert "Loading" not in done.output, "said before the model is loaded"
    assert "band 14 is wanted" in run("fit", many / "support", *asked, "--bands", "14,1,2", code=2).output
    assert "--bands is 'red'" in run("fit", many / "support", *asked, "--bands", "red", code=2).output


def test_an_adapter_without_a_rule(many: Path, tmp_path: Path) -> None:
    shutil.copytree(many / "adapter", tmp_path / "adapter")
    content = json.loads((tmp_path / "adapter" / RECORD).read_text())
    reading = content.pop("reading")
    (tmp_path / "adapter" / RECORD).write_text(json.dumps(content))
    saved = read_adapter(tmp_path / "adapter")
    assert saved.record.reading is None and saved.record.read_as == AS_BEFORE
    assert "reading" not in json.loads(saved.record.to_json()), "as it was, when an evaluation is noted"
    for changed in (reading | {"bands": [4, 3]}, reading | {"bands": [0, 1, 2]}, reading | {"stretches": 3}, 5, "x"):
        (tmp_path / "adapter" / RECORD).write_text(json.dumps(content | {"reading": changed}))
        with pytest.raises(AdapterError, match=r"atha\.json"):
            read_adapter(tmp_path / "adapter")


def test_larger_images_on_request(tiny_clip: str, pictures: Path, many: Path, tmp_path: Path) -> None:
    some = next((pictures / "test").rglob("*.png"))
    run("fit", pictures / "support", "--out", tmp_path / "a", "--model", tiny_clip, "--recipe", "gaussian", code=0)
    refused = run("predict", tmp_path / "a", some, "--max-pixels", 719, code=2)
    assert "30 x 24 is 720 pixels" in refused.output and "--max-pixels 720" in refused.output
    run("predict", tmp_path / "a", some, "--max-pixels", 720, code=0)
    asked = ["--out", tmp_path / "b", "--model", tiny_clip, "--recipe", "probes", "--max-pixels", 719]
    assert "--max-pixels 720" in run("fit", pictures / "support", *asked, code=2).output


def test_the_benchmark_reads_the_same(
    backbone: Backbone, tiny_clip: str, pictures: Path, many: Path, tmp_path: Path
) -> None:
    found = []
    for folder, bands in ((pictures / "test", None), (many / "test", (4, 3, 2))):
        pool = open_pool(str(folder))
        drawn = draw_episodes(pool, 3, 1, 1, 2)
        plan, _ = make_plan(
            [(pool, drawn)], ["prototypes"], tiny_clip, precision="float32", device="cpu", backbone=backbone,
            bands=bands, cache=tmp_path / "cache.db",
        )  # fmt: skip
        data = plan.definitions[0][0]["dataset"]
        assert ("reading" in data) == (bands is not None), "what is of 8 bits keeps its hash"
        frozen = FrozenModel(backbone, "cdfsl", "float32", Cache(tmp_path / "cache.db"))
        images = FileImages(list(plan.settings[0].files.values()), frozen)
        found.append((images.features, images.plain()))
        runner = EpisodeRunner(plan, backbone)
        assert [result.probabilities.shape for result in runner.run(Job(0, (0, 1), (0,)))] == [(3, 3)] * 2
        runner.close()
    assert data["reading"]["bands"] == [4, 3, 2] and data["reading"]["stretches"]
    assert np.array_equal(found[0][0], found[1][0]) and np.array_equal(found[0][1], found[1][1])
    with pytest.raises(DataError, match="does not say which are red"):
        make_plan([(pool, drawn)], ["prototypes"], tiny_clip, device="cpu", backbone=backbone)
