"""What is exported says what the classifier says, is whole or not there, and asks for no more than its libraries."""

import json
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

import atha
import tiny_models
from atha import devices, export
from atha.data.aspects import ASPECTS
from atha.errors import AdapterError, ExportError
from atha.export import GRAPH, companions, exporting, onnx_graph, proof
from atha.export.base import Subject
from atha.methods.probes import PROBES
from atha.models.graph import Nearer, Probabilities

BLOCKS = 2
PRECISE = "training.precision=float32"  # by name: exports are, and a classifier is where bfloat16 is no faster
FEW = ["training.steps=2", "training.lora.lr=0.01"]
EVERYTHING = [
    f"blend.members={json.dumps(['text', 'adapted', *PROBES])}",
    'blend.views=["plain", "flip", "quarter-turns", "scales"]',
]


def fitted(model, recipe, support, *changes) -> atha.Classifier:
    chosen = atha.Recipe.load(recipe, [PRECISE, *(FEW if recipe not in ("probes", "gda") else []), *changes])
    return atha.Classifier.from_pretrained(model, recipe=chosen).fit(support)


def subject_of(classifier) -> Subject:
    return Subject.of(classifier._now)


@pytest.fixture(scope="module")
def tiny_clip(tmp_path_factory) -> str:
    """One of two blocks: a graph takes its time by the block."""
    folder = tmp_path_factory.mktemp("tiny") / "clip"
    torch.manual_seed(0)
    tiny_models.save_clip(folder, blocks=BLOCKS)
    return str(folder)


@pytest.fixture(scope="module")
def blend(tiny_clip, support) -> atha.Classifier:
    return fitted(tiny_clip, "auto", support, *EVERYTHING)


@pytest.fixture(scope="module")
def written(blend, tmp_path_factory) -> Path:
    return blend.export(tmp_path_factory.mktemp("onnx") / "out").folder


@pytest.fixture(scope="module")
def photos(test_folder) -> list[Path]:
    return sorted(test_folder.glob("*/*.png"))


@pytest.fixture
def no_other_process(monkeypatch) -> None:
    """Spares the seconds that transformers takes to import in one, where it is not what is tested."""
    monkeypatch.setattr(exporting, "compare_program", lambda *_: None)


@pytest.mark.parametrize("recipe", ["lora", "paper", "released", "probes", "gda"])
def test_graphs(recipe, tiny_clip, support, photos):
    classifier = fitted(tiny_clip, recipe, support)
    subject = subject_of(classifier)
    graph = Probabilities(subject.fitted.graph(subject.frozen))
    views = torch.stack([subject.views.plain(classifier.reader.open(photo)) for photo in photos])
    with torch.no_grad():
        found = graph(subject.views.normalise(views)).numpy()
    assert np.abs(found - classifier.predict_proba(photos)).max() < 1e-5


def test_the_nearer_aspect_is_pillows(blend, photos):
    subject = subject_of(blend)
    views = torch.stack([subject.views.plain(blend.reader.open(photo)) for photo in photos])
    right = subject.views.normalise(ASPECTS["nearer"](views))
    away = (Nearer(blend.backbone.image_processor, subject.size)(subject.views.normalise(views)) - right).abs()
    step = float((subject.views.normalise(torch.tensor([0, 1]).view(2, 1, 1, 1).expand(2, 3, 1, 1))).diff(dim=0).max())
    assert away.max() < 1.01 * step
    assert (away > step / 2).float().mean() < 1e-3


def test_onnx(blend, written, photos):
    said = json.loads((written / export.PROOF).read_text())
    assert said["compared"]["support_pictures"] == 6
    assert said["compared"]["random_images"] == 16
    assert said["compared"]["labels_agree"] == said["compared"]["predict_py"]["labels_agree"] == 1
    assert max(said["compared"]["largest_difference"], said["compared"]["predict_py"]["largest_difference"]) < 1e-3
    assert said["views"] == list(ASPECTS)
    assert {file.name for file in written.iterdir()} == {
        "model.onnx", "labels.json", "preprocessor_config.json", "predict.py", "proof.json", "README.md",
    }  # fmt: skip
    subject, run = subject_of(blend), onnx_graph.session(written / GRAPH)
    pixels = subject.views.normalise(torch.stack([subject.views.plain(blend.reader.open(photo)) for photo in photos]))
    together, right = run(pixels), blend.predict_proba(photos)
    assert np.abs(together - right).max() < 1e-3
    assert (together.argmax(1) == right.argmax(1)).all()
    alone = np.concatenate([run(one) for one in pixels.split(1)])
    assert np.abs(alone - together).max() < 1e-5
    graph = onnx.load(written / GRAPH)
    assert [value.name for value in (*graph.graph.input, *graph.graph.output)] == ["pixels", "probabilities"]
    assert graph.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert str(Path(atha.__file__).parent).encode() not in (written / GRAPH).read_bytes()


def test_predict_py_reads_images_as_the_classifier_does(blend, written, photos, tmp_path):
    photo = Image.open(photos[0]).resize((75, 50))
    turned = Image.Exif()
    turned[0x0112] = 6
    see_through = photo.convert("RGBA")
    see_through.putalpha(Image.linear_gradient("L").resize(photo.size))
    odd = {
        "turned.jpg": (photo, {"exif": turned}),
        "print.jpg": (photo.convert("CMYK"), {}),
        "grey.png": (photo.convert("L"), {}),
        "glass.png": (see_through, {}),
        "few.gif": (photo.convert("P"), {}),
        "hole.png": (photo.convert("P"), {"transparency": 3}),
        "tall.webp": (photo.rotate(90, expand=True).resize((33, 101)), {"lossless": True}),
        "dot.bmp": (photo.resize((1, 2)), {}),
    }
    for name, (image, options) in odd.items():
        image.save(tmp_path / name, **options)
    predict = runpy.run_path(str(written / "predict.py"))
    files = [tmp_path / name for name in odd]
    found = np.array([predict["probabilities"](file) for file in files])
    assert np.abs(found - blend.predict_proba(files)).max() < 1e-3
    Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64)).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match="more than 8 bits"):
        predict["probabilities"](tmp_path / "deep.png")
    assert predict["shown"]("a\x1b[0m\u202eb ü") == "a\\x1b[0m\\u202eb ü"


def test_the_published_benchmarks_geometry(tiny_clip, support, photos, tmp_path):
    """Squeezed and cut out, where the middle is between two pixels too."""
    subject = subject_of(fitted(tiny_clip, "probes", support, "views.transform=cdfsl"))
    made = onnx_graph.Exporter(subject)
    companions.write_companions(tmp_path, made)
    (tmp_path / "predict.py").write_text((tmp_path / "predict.py").read_text().replace(made.script.start, ""))
    prepare = runpy.run_path(str(tmp_path / "predict.py"))["prepare"]
    for photo in photos[:3]:
        right = subject.views.normalise(subject.views.plain(subject.reader.open(photo))[None])[0].numpy()
        assert np.abs(prepare(photo) - right).max() < 1e-5


def test_names_are_data(blend, tmp_path):
    labels = ['"""\nimport os', "@RUN@ {0}", "</td>`ls`"]
    subject = subject_of(blend)
    subject = replace(subject, classes=replace(subject.classes, labels=tuple(labels)))
    made = onnx_graph.Exporter(subject)
    companions.write_companions(tmp_path, made)
    assert json.loads((tmp_path / "labels.json").read_text()) == labels
    assert (tmp_path / "predict.py").read_text() == companions.program(onnx_graph.Exporter(subject_of(blend)))
    compile((tmp_path / "predict.py").read_text(), "predict.py", "exec")
    assert max(map(len, (tmp_path / "predict.py").read_text().splitlines())) <= 120


def test_int8_with_weights_in_a_file_of_their_own(tiny_clip, support, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_graph, "LARGEST", 0)
    classifier, broken = fitted(tiny_clip, "paper", support), tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    with pytest.warns(atha.AthaWarning, match=rf"not calibrated on 1 of {len(photos) + 1} images: .*broken\.png"):
        made = classifier.export(tmp_path / "out", quantize="int8", calibrate=[broken, *photos])
    assert (made.folder / "model.onnx.data").is_file()
    about = made.proof["int8"]
    assert about["calibration_images"] == len(photos)
    assert about["calibration_images_unreadable"] == 1
    assert "broken.png" not in (made.folder / "proof.json").read_text(), "a name of this machine"
    assert about["products"] == 6 * BLOCKS
    assert made.proof["compared"].keys() >= {"largest_difference", "labels_agree", "support_pictures_right"}
    assert any("int8" in sentence for sentence in made.sentences())
    stored = [value for value in onnx.load(made.folder / "model.onnx").graph.initializer if value.data_type == 3]
    assert len([value for value in stored if len(value.dims) == 2]) == 6 * BLOCKS


def test_transformers_loads_lora(tiny_clip, support, photos, tmp_path):
    import transformers

    classifier = fitted(tiny_clip, "lora", support)
    made = classifier.export(tmp_path / "out", "transformers")
    assert made.largest_difference < 1e-5
    assert made.proof["compared"]["predict_py"]["largest_difference"] < 1e-5
    assert made.proof["transformers"]["tokenizer_reads_it"]
    texts = json.loads((made.folder / "texts.json").read_text())
    processor = transformers.AutoImageProcessor.from_pretrained(made.folder, backend="pil")
    classify = transformers.pipeline("zero-shot-image-classification", str(made.folder), image_processor=processor)
    right = classifier.predict_proba(photos[:3])
    for photo, row in zip(photos[:3], right, strict=True):
        said = classify(str(photo), candidate_labels=texts["texts"], hypothesis_template=texts["template"])
        scores = {one["label"]: one["score"] for one in said}
        assert np.abs(np.array([scores[text] for text in texts["texts"]]) - row).max() < 1e-5


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("recipe", "changes"),
    [
        ("lora", []),
        ("lora", ["prompt.learn_context=true"]),
        ("auto", ['blend.members=["text"]', 'blend.views=["plain"]']),
        ("auto", ['blend.members=["adapted"]', 'blend.views=["plain"]', "alignment=null"]),
    ],
)
def test_a_checkpoint_is_of_the_classifier_in_float32(
    recipe, changes, precision, tiny_clip, support, tmp_path, no_other_process
):
    classifier = fitted(tiny_clip, recipe, support, *changes, f"training.precision={precision}")
    made = classifier.export(tmp_path / "out", "transformers")
    assert made.largest_difference < 1e-5
    assert made.proof["precision"] == {"classifier": precision, "export": "float32"}


def test_a_checkpoint_of_what_was_fitted_in_bfloat16_and_is_used_in_float32(
    tiny_clip, support, tmp_path, monkeypatch, no_other_process
):
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(devices, "_cpu_multiplies_bfloat16", lambda: True)
        fitted(tiny_clip, "lora", support, "training.precision=auto").save_pretrained(tmp_path / "adapter")
    monkeypatch.setattr(devices, "_cpu_multiplies_bfloat16", lambda: False)
    classifier = atha.Classifier.from_pretrained(tmp_path / "adapter")
    assert classifier.record.run.precision == "bfloat16"
    made = classifier.export(tmp_path / "out", "transformers")
    assert made.proof["precision"]["classifier"] == "float32"
    assert made.largest_difference < 1e-5


def test_what_a_checkpoint_cannot_hold_is_said_measured_and_asked_for(blend, tmp_path, no_other_process):
    out = tmp_path / "out"
    with pytest.raises(ExportError, match=r"alignment .* members .*gaussian.* differs by up to .*--accept-difference"):
        blend.export(out, "transformers")
    assert not list(tmp_path.iterdir())
    made = blend.export(out, "transformers", accept_difference=True)
    assert len(made.proof["left_out"]) == 2
    assert made.largest_difference > 1e-3
    assert "alignment" in (out / "README.md").read_text()


def test_a_probe_alone_is_in_no_checkpoint(tiny_clip, support, tmp_path):
    with pytest.raises(ExportError, match="--format onnx"):
        fitted(tiny_clip, "gda", support).export(tmp_path / "out", "transformers")
    assert not list(tmp_path.iterdir())


def test_what_differs_is_not_written(tiny_clip, support, tmp_path, monkeypatch, no_other_process):
    classifier = fitted(tiny_clip, "lora", support)
    out = tmp_path / "out"
    classifier.export(out, "transformers")
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    with pytest.raises(AdapterError, match="--overwrite"):
        classifier.export(out, "transformers")
    monkeypatch.setattr(proof, "BOUND", 0.0)
    with pytest.raises(ExportError, match="differs from the classifier"):
        classifier.export(out, "transformers", overwrite=True)
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("onyx", None, None), "no format 'onyx', choose one of onnx, transformers, torch"),
        (("onnx", "int4", None), "'int4', choose int8"),
        (("torch", "int8", None), "--quantize is for onnx"),
        (("onnx", None, ["x"]), "--calibrate is for --quantize int8"),
    ],
)
def test_wrong_asks(asked, said, tmp_path):
    with pytest.raises(ExportError, match=said):
        export.check(asked[0], tmp_path / "out", *asked[1:], False)


def test_places_and_libraries(tmp_path, monkeypatch):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(AdapterError, match="not empty and no export"):
        export.check("onnx", tmp_path, None, None, True)
    monkeypatch.setattr(export, "find_spec", lambda name: None if name == "onnxruntime" else object())
    with pytest.raises(ExportError, match=r"needs onnxruntime: pip install 'atha\[export\]'"):
        export.check("onnx", tmp_path / "out", None, None, False)


def test_calibration_images_that_cannot_be_read(blend, tmp_path):
    (tmp_path / "x.png").write_bytes(b"no image")
    with pytest.raises(ExportError, match=r"no images to calibrate on .*x\.png"):
        blend.export(tmp_path / "out", quantize="int8", calibrate=[tmp_path / "x.png"])
    assert not (tmp_path / "out").exists()


MATRIX = ["lora", "paper", "released-fixed", "probes", "auto"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", tiny_models.KINDS)
def test_every_family_as_onnx(kind, support, test_folder, tmp_path):
    made = tiny_models.make(kind, tmp_path / "model")
    photos = sorted(test_folder.glob("*/*.png"))
    for recipe in MATRIX:
        if kind in tiny_models.CONVOLUTIONAL and recipe != "probes":
            continue
        try:
            classifier = fitted(made.name, recipe, support)
        except atha.AthaError as error:
            assert "cannot be aligned" in str(error)
            continue
        found = classifier.export(tmp_path / recipe)
        assert found.proof["compared"]["predict_py"]["images"] == 20
        assert max(found.largest_difference, found.proof["compared"]["predict_py"]["largest_difference"]) < 1e-3
        assert found.labels_agree == 1
        predict = runpy.run_path(str(found.folder / "predict.py"))
        rows, right = np.array([predict["probabilities"](photo) for photo in photos]), classifier.predict_proba(photos)
        assert np.abs(rows - right).max() < 1e-3
        assert (rows.argmax(1) == right.argmax(1)).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", tiny_models.SAVE)
def test_every_family_of_transformers(kind, support, tmp_path):
    """Its predict.py runs in a process without atha."""
    classifier = fitted(tiny_models.make(kind, tmp_path / "model").name, "lora", support)
    made = classifier.export(tmp_path / "out", "transformers")
    assert max(made.largest_difference, made.proof["compared"]["predict_py"]["largest_difference"]) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["siglip2", "open_clip-eva02"])
def test_torch_programs(kind, support, tmp_path):
    classifier = fitted(tiny_models.make(kind, tmp_path / "model").name, "auto", support)
    made = classifier.export(tmp_path / "out", "torch")
    assert max(made.largest_difference, made.proof["compared"]["predict_py"]["largest_difference"]) < 1e-4


@pytest.mark.slow
def test_another_precision_is_compared_in_float32(tiny_clip, support, tmp_path):
    classifier = fitted(tiny_clip, "paper", support, "training.precision=bfloat16")
    made = classifier.export(tmp_path / "out")
    assert made.proof["precision"] == {"classifier": "bfloat16", "export": "float32"}
    assert made.largest_difference < 1e-3


@pytest.mark.slow
def test_a_model_of_open_clip_is_none_of_transformers(support, tmp_path):
    classifier = fitted(tiny_models.make("open_clip-vit", tmp_path / "model").name, "lora", support)
    with pytest.raises(ExportError, match="transformers does not load"):
        classifier.export(tmp_path / "out", "transformers")
