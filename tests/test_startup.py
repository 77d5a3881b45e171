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


def imported(*stages: str) -> list[tuple[set[str], str]]:
    """The heavy ones among the modules of a fresh process after each of some statements, and what these printed."""
    look = f"import sys\nprint('LOADED', *(name for name in {HEAVY} if name in sys.modules), 'END')"
    code = "\n".join(f"{statements}\n{look}" for statements in stages)
    found = subprocess.run([sys.executable, "-c", code], stdout=-1, stderr=subprocess.STDOUT, text=True, check=True)
    parts = [part.rpartition("LOADED") for part in found.stdout.split("END\n")[:-1]]
    return [(set(names.split()), text) for text, _, names in parts]


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
    [(loaded, _)] = imported("import atha\nassert atha.__version__ and 'Classifier' in dir(atha)")
    assert loaded == set()


def test_help_is_light():
    [(loaded, text)] = imported(commands(HELP))
    assert loaded == set()
    assert text.count("Usage") == len(HELP) - 1


def test_mistakes_are_told_before_anything_is_loaded():
    """In half a second, and not after the six that torch and transformers take."""
    [(loaded, text)] = imported(commands(list(MISTAKES)))
    assert all(sentence in text for sentence in MISTAKES.values()), text
    assert not loaded & {"torch", "torchvision", "transformers", "peft", "sklearn", "scipy"}


def test_predicting_needs_few_libraries(tiny_clip, support, test_folder, tmp_path):
    """Two seconds of CPU and not six: neither PEFT nor torchvision, nor transformers for the texts of a CLIP; and two
    less for learning, without torch's compiler."""
    out, photo = tmp_path / "adapter", next(test_folder.glob("*/*.png"))
    classes = tmp_path / "classes.json"
    classes.write_text('["cat", "dog"]')
    statements = f"import atha\nclf = atha.Classifier.from_pretrained({tiny_clip!r}, classes={list('ab')})"
    (explained, shown), (learned, told) = imported(
        f"{commands([f'explain nano {photo} --classes {classes}'])}\n{statements}\nclf.predict([{str(photo)!r}])",
        commands([f"fit {support} --model {tiny_clip} --recipe lora --set training.steps=1 --out {out}"]),
    )
    assert "Error" not in shown + told
    assert "tokenizers" in explained
    assert not explained & {"transformers", "huggingface_hub", "peft", "torchvision", "scipy", "sklearn"}
    assert not learned & {"accelerate", "peft", "torch._dynamo", "torchvision", "transformers", "datasets", "ray"}
    (loaded, text), (explained, shown) = imported(
        commands([f"predict {out} {photo}", f"evaluate {out} {test_folder}"]),
        commands([f"explain {out} {photo} --out {tmp_path / 'maps.png'}"]),
    )
    assert "Error" not in text + shown
    assert "accuracy" in text
    assert {"torch", "PIL", "safetensors"} <= loaded
    assert not loaded & {"accelerate", "huggingface_hub", "peft", "scipy", "sklearn", "tokenizers", "torchvision"}
    assert not loaded & {"transformers", "datasets", "pandas", "ray"}
    assert not explained & {"transformers", "huggingface_hub", "peft", "torchvision", "scipy", "sklearn"}


def test_what_is_heavy_is_seen():
    """That nothing was found above says something: the same look finds what is there."""
    assert {"numpy", "jaxtyping", "PIL"} <= imported("import atha, atha.data\natha.Evaluation")[0][0]
