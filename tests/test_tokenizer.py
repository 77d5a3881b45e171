"""CLIP's tokenizer without transformers: the same tokens, or none at all."""

import json
import shutil
from pathlib import Path

import pytest
import tokenizers
import transformers
from hypothesis import example, given, settings
from hypothesis import strategies as st

from atha.backbones import NANO, load_backbone
from atha.backbones.tokenizer import read_tokenizer
from tiny_models import NANO_FOLDER

START, END = "<|startoftext|>", "<|endoftext|>"
OPENAI = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def changed(path: Path, **values) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def save_clip(folder: Path) -> Path:
    """A tokenizer of CLIP's kind, as transformers 5 saves it."""
    trained = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token=END, end_of_word_suffix="</w>"))
    trained.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    letters = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=900, end_of_word_suffix="</w>", initial_alphabet=letters, show_progress=False
    )
    trained.train_from_iterator(["a photo of a cat", "the dog's bowl, isn't it", "naïve café 1234"] * 20, trainer)
    model = json.loads(trained.to_str())["model"]
    words = [*model["vocab"], *(f"{one}</w>" for one in letters if f"{one}</w>" not in model["vocab"]), START, END]
    vocabulary = {word: index for index, word in enumerate(words)}
    merges = [tuple(pair) for pair in model["merges"]]
    transformers.CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77).save_pretrained(folder)
    return folder


def save_openai(folder: Path) -> Path:
    """The same as OpenAI's repositories have it: another split, and settings of earlier versions."""
    save_clip(folder)
    content = json.loads((folder / "tokenizer.json").read_text())
    content["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = OPENAI
    content["added_tokens"][0]["normalized"] = True
    for key in ("byte_fallback", "ignore_merges"):
        del content["model"][key]
    (folder / "tokenizer.json").write_text(json.dumps(content))
    rules = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    named = {"bos_token": {"content": START, **rules}, "eos_token": {"content": END, **rules}}
    (folder / "special_tokens_map.json").write_text(
        json.dumps({**named, "unk_token": {"content": END, **rules}, "pad_token": END})
    )
    config = {
        **{name: {"__type": "AddedToken", **value} for name, value in named.items()},
        "unk_token": {"__type": "AddedToken", "content": END, **rules}, "pad_token": END, "add_prefix_space": False,
        "errors": "replace", "do_lower_case": True, "model_max_length": 77, "tokenizer_class": "CLIPTokenizer",
        "name_or_path": "openai/clip-vit-base-patch32", "special_tokens_map_file": "./special_tokens_map.json",
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def save_with_decoder(folder: Path) -> Path:
    """The same as transformers 4 saves it."""
    save_openai(folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    added = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    config["added_tokens_decoder"] = {str(one.pop("id")): one for one in added}
    config |= {"bos_token": START, "eos_token": END, "unk_token": END, "extra_special_tokens": {}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"clean_up_tokenization_spaces": False}))
    return folder


def save_nano(folder: Path) -> Path:
    return Path(shutil.copytree(NANO_FOLDER, folder, ignore=shutil.ignore_patterns("*.safetensors")))


LAYOUTS = [save_nano, save_clip, save_openai, save_with_decoder]


@pytest.fixture(scope="module", params=LAYOUTS, ids=lambda save: save.__name__)
def both(request, tmp_path_factory):
    """Ours and transformers' tokenizer of one folder, which has a model's configuration as well."""
    folder = request.param(tmp_path_factory.mktemp("tokenizer") / "files")
    shutil.copy(NANO_FOLDER / "config.json", folder)
    ours = read_tokenizer(folder)
    assert ours is not None
    return ours, transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)


TEXTS = st.text(max_size=60) | st.lists(
    st.sampled_from([START, END, END.upper(), "<|", "cat", "CAT", "isn't", "É", "e\u0301", " ", "\t\n", "\u3000", "7"])
).map("".join)


@settings(max_examples=150, deadline=None)
@example(["", " ", "a photo of a cat. " * 40])
@example([END.upper(), f"a{START}b", "<|STARTOFTEXT|>", "\0", "\u200b\U0001f469\u200d\U0001f680", "İ", "\u017f"])
@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_the_tokens_are_those_of_transformers(both, texts):
    ours, own = both
    for special in (True, False):
        options = {"padding": False, "truncation": False, "verbose": False, "add_special_tokens": special}
        assert ours(texts, **options)["input_ids"] == own(texts, **options)["input_ids"]
    padded = ours(texts, padding=True, return_tensors="pt")["input_ids"]
    theirs = own(texts, padding=True, return_tensors="pt")["input_ids"]
    assert padded.dtype == theirs.dtype
    assert padded.equal(theirs)


def test_it_ends_texts_and_counts_tokens_alike(both):
    ours, own = both
    assert (len(ours), ours.eos_token_id, ours.pad_token_id) == (len(own), own.eos_token_id, own.pad_token_id)


@pytest.mark.parametrize(
    ("file", "values"),
    [
        ("tokenizer_config.json", {"tokenizer_class": "GPT2Tokenizer"}),
        ("tokenizer_config.json", {"padding_side": "left"}),
        ("tokenizer_config.json", {"pad_token": "!"}),
        ("tokenizer_config.json", {"split_special_tokens": True}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": "a.B"}}),
        ("tokenizer_config.json", {"extra_special_tokens": ["<new>"]}),
        ("tokenizer_config.json", {"added_tokens_decoder": {}}),
        ("tokenizer.json", {"post_processor": None}),
        (
            "tokenizer.json",
            {"truncation": {"direction": "Right", "max_length": 9, "strategy": "LongestFirst", "stride": 0}},
        ),
        ("added_tokens.json", None),
    ],
)
def test_what_may_be_read_otherwise_is_left_to_transformers(tmp_path, file, values):
    folder = save_clip(tmp_path / "files")
    if values is None:
        (folder / file).write_text("{}")
    else:
        changed(folder / file, **values)
    assert read_tokenizer(folder) is None


def test_a_vocabulary_that_is_not_clip_s_is_left_to_transformers(tmp_path):
    folder = save_clip(tmp_path / "files")
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["fuse_unk"] = True
    (folder / "tokenizer.json").write_text(json.dumps(content))
    assert read_tokenizer(folder) is None


def test_the_built_in_model_is_read_so():
    assert type(load_backbone(NANO).tokenizer).__name__ == "FileTokenizer"
