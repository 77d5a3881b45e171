"""Which files of a model are read, from a folder and from the hub, and what is wrong in them is told."""

import json
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from safetensors.torch import load_file, save_file

from atha import Classifier
from atha.backbones import load_backbone
from atha.errors import AdapterError, BackboneError
from test_towers import NANO_HASH
from tiny_models import NANO_FOLDER

WRONG = [
    ({"vision_config": {"hidden_size": "32"}}, "vision_config.hidden_size"),
    ({"vision_config": {"hidden_size": -32}}, "vision_config.hidden_size"),
    ({"vision_config": {"hidden_size": True}}, "vision_config.hidden_size"),
    ({"vision_config": {"image_size": [32, 32]}}, "vision_config.image_size"),
    ({"vision_config": {"image_size": 4, "patch_size": 8}}, "image_size 4"),
    ({"vision_config": {"num_hidden_layers": 10**9}}, "vision_config.num_hidden_layers"),
    ({"vision_config": {"layer_norm_eps": float("nan")}}, "holds NaN, which is no number"),
    ({"vision_config": {"layer_norm_eps": float("inf")}}, "holds Infinity, which is no number"),
    ({"vision_config": {"num_attention_heads": 5}}, "hidden_size 768"),
    ({"vision_config": {"hidden_act": "os.system"}}, "os.system"),
    ({"vision_config": 3}, "vision_config"),
    ({"text_config": ["a"]}, "text_config"),
    ({"text_config": {"vocab_size": 0}}, "text_config.vocab_size"),
    ({"text_config": {"eos_token_id": None}}, "text_config.eos_token_id"),
    ({"projection_dim": 1.5}, "projection_dim"),
]


@pytest.mark.parametrize(("content", "key"), WRONG, ids=[str(case[0])[:60] for case in WRONG])
def test_configuration_that_is_wrong(content, key, tmp_path):
    folder = copy_of_nano(tmp_path)
    (folder / "config.json").write_text(json.dumps({"model_type": "clip"} | content))
    with pytest.raises(BackboneError) as error:
        load_backbone(str(folder))
    assert all(part in str(error.value) for part in ("config.json", str(folder), key, "get the model again"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "[1]", "{", "\x00", "3"])
def test_configuration_that_is_no_table(text, tmp_path):
    folder = copy_of_nano(tmp_path)
    (folder / "config.json").write_text(text)
    with pytest.raises(BackboneError, match=r"config\.json.*get the model again"):
        load_backbone(str(folder))


def copy_of_nano(tmp_path):
    return shutil.copytree(NANO_FOLDER, tmp_path / "nano")


def change(file: Path, **keys) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | keys))


def test_other_files_are_never_opened(tmp_path):
    """Whatever there is."""
    folder = copy_of_nano(tmp_path)
    change(folder / "config.json", _name_or_path="/etc/passwd", transformers_weights=None, auto_map={})
    for name in ("evil.bin", "evil.py", "config.4.0.json", "pytorch_model.bin", "adapter_config.json"):
        (folder / name).mkdir()  # opening it fails
    assert load_backbone(str(folder)).content_hash() == NANO_HASH


@pytest.mark.parametrize(
    "keys",
    [
        {"transformers_weights": "a.safetensors.index.json"},
        {"auto_map": {"AutoModel": "evil.Model"}},
        {"quantization_config": {"quant_method": "evil"}},
        {"configuration_files": ["config.4.0.json"]},
        {"text_config": {"auto_map": {"AutoModel": "evil.Model"}}},
    ],
    ids=lambda keys: next(iter(keys)),
)
def test_keys_that_name_code_or_files_are_refused(keys, tmp_path):
    folder = copy_of_nano(tmp_path)
    change(folder / "config.json", **keys)
    with pytest.raises(BackboneError, match=rf"{folder} has \w+ in its config.json, which names code or files"):
        load_backbone(str(folder))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"auto_map": {"AutoTokenizer": ["evil.T", None]}}, "auto_map in its tokenizer_config.json"),
        ({"tokenizer_class": "CLIPModel"}, "'CLIPModel', which is no tokenizer"),
        ({"tokenizer_class": "AutoTokenizer"}, "'AutoTokenizer', which is no tokenizer"),
        ({"tokenizer_class": ["CLIPTokenizer"]}, "which is no tokenizer"),
    ],
)
def test_tokenizers_that_are_code_are_refused(settings, said, tmp_path):
    folder = copy_of_nano(tmp_path)
    change(folder / "tokenizer_config.json", **settings)
    with pytest.raises(BackboneError) as error:
        load_backbone(str(folder)).prompts(["cat"], "a photo of a {}.")
    assert said in str(error.value)


def test_a_tokenizer_is_made_of_its_own_files_alone(tmp_path, monkeypatch):
    """What transformers is given holds nothing else, and no setting that names a file."""
    folder = copy_of_nano(tmp_path)
    expected = load_backbone(str(folder)).prompts(["cat"], "a photo of a {}.").input_ids
    files = {"vocab_file": "/etc/passwd", "tokenizer_file": "../x", "fast_tokenizer_files": ["tokenizer.4.0.0.json"]}
    change(folder / "tokenizer_config.json", init_inputs=["/etc/passwd"], sp_model_kwargs={"model_file": "/x"}, **files)
    (folder / "tokenizer.4.0.0.json").write_text("{}")
    import transformers

    seen = {}
    real = transformers.AutoTokenizer.from_pretrained

    def watch(given, **options):
        seen["files"] = sorted(path.name for path in Path(given).iterdir())
        seen["settings"] = (Path(given) / "tokenizer_config.json").read_text()
        assert options == {"local_files_only": True, "trust_remote_code": False}
        return real(given, **options)

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", watch)
    found = load_backbone(str(folder)).prompts(["cat"], "a photo of a {}.").input_ids
    assert torch.equal(found, expected)
    assert seen["files"] == ["config.json", "tokenizer.json", "tokenizer_config.json"]
    assert "passwd" not in seen["settings"]
    assert "_file" not in seen["settings"]


def test_tokens_that_the_text_tower_does_not_know_are_refused(tmp_path):
    folder = copy_of_nano(tmp_path)
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["vocab"] = {word: index + 10**6 for word, index in content["model"]["vocab"].items()}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(BackboneError, match=r"tokenizer of .* (up to number 100\d+|knows|cannot|ends)"):
        load_backbone(str(folder)).prompts(["cat"], "a photo of a {}.")


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json", "preprocessor_config.json"])
def test_links_that_lead_outside_are_refused(file, tmp_path):
    folder = copy_of_nano(tmp_path)
    (folder / file).rename(tmp_path / "elsewhere")
    (folder / file).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BackboneError, match=rf"'{file}'.*outside itself"):
        load_backbone(str(folder))
    (tmp_path / "elsewhere").rename(folder / "other-name")
    (folder / file).unlink()
    (folder / file).symlink_to("other-name")
    assert load_backbone(str(folder)).tokenizer is not None


def test_shards(tmp_path):
    folder = copy_of_nano(tmp_path)
    shard(folder)
    assert load_backbone(str(folder)).content_hash() == NANO_HASH
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(BackboneError, match=r"has no model-00002-of-00002.safetensors"):
        load_backbone(str(folder))


def test_pickle_under_another_name_is_refused(tmp_path):
    folder = copy_of_nano(tmp_path)
    torch.save({"logit_scale": torch.zeros(())}, folder / "model.safetensors")
    with pytest.raises(BackboneError, match=r"cannot be loaded.*get the model again"):
        load_backbone(str(folder))


def shard(folder: Path) -> list[str]:
    """Cut a model's weights into two files."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, inside in shards.items():
        save_file({name: weights[name] for name in inside}, folder / file)
    index = {"weight_map": {name: file for file, inside in shards.items() for name in inside}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return sorted(shards)


class Hub:
    """Stands in for the hub: a repository of one commit, and what was asked of it."""

    def __init__(self, cache: Path, files: dict[str, Path]) -> None:
        self.folder, self.files = cache / "models--atha-tests--nano" / "snapshots" / ("1" * 40), files
        self.asked: list[str] = []

    def _get(self, name: str) -> None:
        blob = self.folder.parents[1] / "blobs" / name
        blob.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.files[name], blob)
        (self.folder / name).symlink_to(Path("../../blobs") / name)

    def snapshot_download(
        self, repository: str, revision: str | None, allow_patterns: list[str], local_files_only: bool
    ) -> str:
        assert repository == "atha-tests/nano"
        if local_files_only:
            if not self.folder.is_dir() or revision not in (None, "1" * 40):
                raise LocalEntryNotFoundError("not in the cache")
            return str(self.folder)
        self.asked.append(f"small files of {revision}")
        if revision not in (None, "main", "1" * 40):
            raise OSError(f"no revision {revision}")
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in self.files.keys() & set(allow_patterns):
            if not (self.folder / name).exists():
                self._get(name)
        return str(self.folder)

    def hf_hub_download(self, repository: str, name: str, revision: str | None, local_files_only: bool) -> str:
        assert (repository, revision) == ("atha-tests/nano", "1" * 40)  # of the very commit
        if local_files_only:
            raise LocalEntryNotFoundError("not in the cache")
        self.asked.append(name)
        if name not in self.files:
            raise EntryNotFoundError(f"no {name}")
        self._get(name)
        return str(self.folder / name)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A function that makes one of the files of a folder."""

    def make(folder: Path) -> Hub:
        made = Hub(tmp_path / "cache", {path.name: path for path in folder.iterdir()})
        monkeypatch.setattr(huggingface_hub, "snapshot_download", made.snapshot_download)
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", made.hf_hub_download)
        return made

    return make


def test_hub(hub, tmp_path):
    folder = copy_of_nano(tmp_path)
    for name in ("pytorch_model.bin", "modeling.py", "flax_model.msgpack"):
        (folder / name).write_bytes(b"")
    made = hub(folder)
    backbone = load_backbone("atha-tests/nano")
    assert made.asked == ["small files of None", "model.safetensors"]
    assert (backbone.content_hash(), backbone.revision) == (NANO_HASH, "1" * 40)
    assert (backbone.home, backbone.location) == ("atha-tests/nano", None)
    assert not {"pytorch_model.bin", "modeling.py"} & {path.name for path in made.folder.iterdir()}
    assert backbone.tokenizer.eos_token_id == 1
    # What is in the cache is not asked for again, and its folder is one like any other.
    assert load_backbone("atha-tests/nano", "main").content_hash() == NANO_HASH
    assert made.asked[2:] == ["small files of main"]
    assert load_backbone(str(made.folder)).content_hash() == NANO_HASH


def test_hub_shards(hub, tmp_path):
    folder = copy_of_nano(tmp_path)
    names = shard(folder)
    made = hub(folder)
    assert load_backbone("atha-tests/nano").content_hash() == NANO_HASH
    assert made.asked[1:] == ["model.safetensors", "model.safetensors.index.json", *names]


def test_hub_without_safetensors(hub, tmp_path):
    folder = copy_of_nano(tmp_path)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    hub(folder)
    with pytest.raises(BackboneError, match=r"on the model hub has no model\.safetensors.*pickle.*refs/pr/1"):
        load_backbone("atha-tests/nano")


def test_hub_revision_that_is_not_there_is_not_replaced_by_another(hub):
    made = hub(NANO_FOLDER)
    with pytest.raises(BackboneError, match=r"cannot get atha-tests/nano from the model hub \(no revision v9"):
        load_backbone("atha-tests/nano", "v9")
    assert made.asked == ["small files of v9"]


def test_hub_of_another_family_is_refused_before_its_weights_come(hub, tmp_path):
    folder = copy_of_nano(tmp_path)
    (folder / "config.json").write_text('{"model_type": "bert"}')
    made = hub(folder)
    with pytest.raises(BackboneError, match="'bert'"):
        load_backbone("atha-tests/nano")
    assert len(made.asked) == 1


def test_hub_offline_without_the_weights(hub, tmp_path, monkeypatch):
    made = hub(NANO_FOLDER)

    def offline(*args, **kwargs):
        raise LocalEntryNotFoundError("not in the cache")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    with pytest.raises(BackboneError, match="check the name and the network"):
        load_backbone("atha-tests/nano")
    assert made.folder.is_dir()


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, support) -> Path:
    """An adapter of the built-in model; for copying."""
    place = tmp_path_factory.mktemp("fitted") / "adapter"
    Classifier.from_pretrained("nano", recipe="gaussian", device="cpu").fit(support).save_pretrained(place)
    return place


@pytest.fixture
def adapter(fitted, tmp_path):
    """A function that makes an adapter whose record says so of its backbone."""

    def make(**says: str) -> Path:
        folder = Path(shutil.copytree(fitted, tmp_path / "adapter", dirs_exist_ok=True))
        record = json.loads((folder / "atha.json").read_text())
        change(folder / "atha.json", backbone=record["backbone"] | says)
        return folder

    return make


def test_hub_is_not_asked_for_what_an_adapter_names(hub, adapter):
    """Unless the user says so; what is on the machine is taken, of the very commit."""
    made, commit = hub(NANO_FOLDER), "1" * 40
    folder = adapter(name="atha-tests/nano", revision=commit)
    with pytest.raises(AdapterError, match=r"--model, or let it come with --download: atha-tests/nano is not on this"):
        Classifier.from_pretrained(folder, device="cpu")
    assert made.asked == []

    got = ["small files of " + commit, "model.safetensors"]
    assert Classifier.from_pretrained(folder, download=True, device="cpu").backbone.revision == commit
    assert made.asked == got
    assert Classifier.from_pretrained(folder, device="cpu").backbone.revision == commit
    assert made.asked == got

    shutil.rmtree(made.folder)
    Classifier.from_pretrained(folder, backbone="atha-tests/nano", device="cpu")
    assert made.asked == got * 2


def test_a_pinned_commit_that_is_gone_is_not_replaced(hub, adapter):
    made = hub(NANO_FOLDER)
    load_backbone("atha-tests/nano")
    folder = adapter(name="atha-tests/nano", revision="2" * 40)
    for download in (False, True):
        asked = len(made.asked)
        with pytest.raises(AdapterError, match="cannot be loaded"):
            Classifier.from_pretrained(folder, download=download, device="cpu")
        assert made.asked[asked:] == ["small files of " + "2" * 40] * download


@pytest.mark.parametrize("path", ["//evil/share", "\\\\evil\\share"])
def test_an_adapter_names_no_other_machine(adapter, path):
    with pytest.raises(AdapterError, match="names a backbone on another machine"):
        Classifier.from_pretrained(adapter(path=path), device="cpu")
