"""A graph that answers in the place of its classifier."""

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from asgi import ask, form, running
from PIL import Image
from service_process import served

import atha
from atha.errors import ExportError
from atha.export import exporting
from atha.serving import create_app, of_export


@pytest.fixture(scope="module")
def classifier(support: Path, tiny_clip: str) -> atha.Classifier:
    recipe = atha.Recipe.load("prototypes", ["training.precision=float32"])
    return atha.Classifier.from_pretrained(tiny_clip, recipe=recipe, device="cpu").fit(support)


@pytest.fixture(scope="module")
def export(classifier: atha.Classifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:  # predict.py in a process of its own is not what is tested
        patch.setattr(exporting, "compare_program", lambda *_: None)
        return classifier.export(tmp_path_factory.mktemp("export") / "out").folder


def test_answers_are_those_of_the_classifier(classifier, export, test_folder):
    files = sorted(test_folder.glob("*/*.png"))[:5]

    async def asked():
        app = create_app(of_export(export))
        async with running(app):
            return await ask(app, "POST", "/predict", form([(file.name, file.read_bytes()) for file in files]))

    reply = asyncio.run(asked())
    rows = [list(one["probabilities"].values()) for one in reply.json["predictions"]]
    assert [one["label"] for one in reply.json["predictions"]] == classifier.predict(files)
    np.testing.assert_allclose(rows, classifier.predict_proba(files), atol=1e-4)  # two programs, float32


def test_deep_images_are_refused(export, tmp_path):
    file = tmp_path / "deep.png"
    Image.fromarray(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)).save(file)
    with pytest.raises(atha.AthaError, match="more than 8 bits"):
        of_export(export).view(file)


def test_torch_is_not_imported(export, test_folder):
    code = (
        "import sys; from pathlib import Path; from atha.serving import of_export, create_app\n"
        f"model = of_export({str(export)!r}); create_app(model)\n"
        f"print(model.probabilities([model.view(Path({str(next(test_folder.glob('*/*.png')))!r}))]).sum())\n"
        "print(sorted({'torch', 'transformers', 'onnx'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    total, heavy = done.stdout.splitlines()
    assert abs(float(total) - 1) < 1e-5
    assert heavy == "[]"


def _other_labels(folder: Path) -> None:
    (folder / "labels.json").write_text('["one", "two"]')


def _no_graph(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"no graph")


def _other_size(folder: Path) -> None:
    file = folder / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"crop_size": {"height": 24, "width": 24}}))


def _huge(folder: Path) -> None:
    file = folder / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"size": {"shortest_edge": 10**9}}))


def _nested(folder: Path) -> None:
    (folder / "labels.json").write_text("[" * 100_000)


@pytest.mark.parametrize("harm", [_other_labels, _no_graph, _other_size, _huge, _nested])
def test_a_damaged_export_is_a_sentence(export, tmp_path, harm):
    for file in export.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    harm(tmp_path)
    with pytest.raises(ExportError, match="export it again") as raised:
        of_export(tmp_path)
    assert "\n" not in str(raised.value)


def test_what_is_no_export_is_named(tmp_path):
    with pytest.raises(ExportError, match=re.escape(str(tmp_path))):
        of_export(tmp_path)


@pytest.mark.slow
def test_the_command_serves_it(export):
    with served("--onnx", str(export)) as running_:
        assert running_.address.startswith("http://127.0.0.1:")
