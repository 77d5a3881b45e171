"""What takes long to import is imported when it is needed: `import atha` and the command line's help are instant."""

import subprocess
import sys

HEAVY = (
    "accelerate", "datasets", "fastapi", "huggingface_hub", "jaxtyping", "jinja2", "matplotlib", "numpy", "pandas",
    "peft", "PIL", "ray", "safetensors", "scipy", "sklearn", "sqlite3", "threadpoolctl", "tokenizers", "torch",
    "torch._dynamo", "torchvision", "transformers", "uvicorn",
)  # fmt: skip
HELP = ["--help", "--version"] + [
    f"{verb} --help"
    for verb in (
        "demo",
        "fit",
        "predict",
        "evaluate",
        "export",
        "info",
        "label",
        "serve",
        "bench",
        "bench run",
        "bench compare",
        "data check",
    )
]
MISTAKES = {
    "predict /no/such/adapter x.jpg": "there is no adapter folder",
    "evaluate /no/such/adapter /no/such/test": "there is no adapter folder",
    "export /no/such/adapter --out never": "there is no adapter folder",
    "export a --format onyx --out never": "no format 'onyx'",
    "fit /no/such/support --out never": "there is no file or folder",
    "label /no/such/photos --out never.csv": "there is no file or folder '/no/such/photos'",
    "bench run --store /no/such/folder/a.db --method zero-shot --dataset x": "/no/such/folder",
    "bench run --store a.db --suite papre": "papre",
}


def imported(statements: str) -> tuple[set[str], str]:
    """The heavy ones among the modules of a fresh process after ``statements``, and what it printed."""
    code = f"{statements}\nimport sys\nprint('LOADED', *(name for name in {HEAVY} if name in sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], stdout=-1, stderr=subprocess.STDOUT, text=True, check=True)
    text, _, names = found.stdout.rpartition("LOADED")
    return set(names.split()), text


def commands(lines: list[str]) -> str:
    """Statements that run the command line once for each line."""
    return (
        "import sys\nfrom atha.cli import main\n"
        f"for line in {[line.split() for line in lines]}:\n"
        "    sys.argv = ['atha', *line]\n"
        "    try: main()\n"
        "    except SystemExit: pass"
    )


def test_import_is_light():
    loaded, _ = imported("import atha\nassert atha.__version__ and 'Classifier' in dir(atha)")
    assert loaded == set()


def test_help_is_light():
    loaded, text = imported(commands(HELP))
    assert loaded == set()
    assert text.count("Usage") == len(HELP) - 1


def test_mistakes_are_told_before_anything_is_loaded():
    """In half a second, and not after the six that torch and transformers take."""
    loaded, text = imported(commands(list(MISTAKES)))
    assert all(sentence in text for sentence in MISTAKES.values()), text
    assert not loaded & {"torch", "torchvision", "transformers", "peft", "sklearn", "scipy"}


def test_predicting_needs_few_libraries(support, test_folder, tmp_path):
    """Two seconds of CPU and not six: neither PEFT nor torchvision, nor transformers for the texts of a CLIP; and two
    less for learning, without torch's compiler."""
    out = tmp_path / "adapter"
    learn = f"fit {support} --model nano --recipe lora --set training.steps=1 --out {out}"
    loaded, text = imported(commands([learn]))
    assert "Error" not in text
    assert not loaded & {"accelerate", "peft", "torch._dynamo", "torchvision", "transformers", "datasets", "ray"}
    photo = next(test_folder.glob("*/*.png"))
    loaded, text = imported(commands([f"predict {out} {photo}", f"evaluate {out} {test_folder}"]))
    assert "Error" not in text
    assert "accuracy" in text
    assert {"torch", "PIL", "safetensors"} <= loaded
    assert not loaded & {"accelerate", "huggingface_hub", "peft", "scipy", "sklearn", "tokenizers", "torchvision"}
    assert not loaded & {"transformers", "datasets", "pandas", "ray"}
    classes = tmp_path / "classes.json"
    classes.write_text('["cat", "dog"]')
    explained = [f"explain {out} {photo} --out {tmp_path / 'maps.png'}", f"explain nano {photo} --classes {classes}"]
    statements = f"import atha\nclf = atha.Classifier.from_pretrained('nano', classes={list('ab')})"
    loaded, text = imported(f"{commands(explained)}\n{statements}\nclf.predict([{str(photo)!r}])")
    assert "Error" not in text
    assert "tokenizers" in loaded
    assert not loaded & {"transformers", "huggingface_hub", "peft", "torchvision", "scipy", "sklearn"}


def test_what_is_heavy_is_seen():
    """That nothing was found above says something: the same look finds what is there."""
    assert {"numpy", "jaxtyping", "PIL"} <= imported("import atha, atha.data\natha.Evaluation")[0]
