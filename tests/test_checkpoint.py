"""Which files of a model are read, from a folder and from the hub, and what is wrong in them is told."""

import json
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from safetensors.torch import load_file, save_file

from atha.backbones import load_backbone
from atha.errors import BackboneError
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


def test_other_files_are_never_opened(tmp_path):
    """Whatever a configuration names."""
    folder = copy_of_nano(tmp_path)
    content = json.loads((folder / "config.json").read_text())
    content |= {"transformers_weights": "evil.bin", "auto_map": {"AutoModel": "evil.Model"}, "quantization_config": {}}
    content |= {"configuration_files": ["config.4.0.json"], "_name_or_path": "/etc/passwd"}
    (folder / "config.json").write_text(json.dumps(content))
    for name in ("evil.bin", "evil.py", "config.4.0.json", "pytorch_model.bin", "adapter_config.json"):
        (folder / name).mkdir()  # opening it fails
    assert load_backbone(str(folder)).content_hash() == NANO_HASH


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

    def snapshot_download(self, repository: str, revision: str | None, allow_patterns: list[str]) -> str:
        assert repository == "atha-tests/nano"
        self.asked.append(f"small files of {revision}")
        if revision not in (None, "main", "1" * 40):
            raise OSError(f"no revision {revision}")
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in self.files.keys() & set(allow_patterns):
            if not (self.folder / name).exists():
                self._get(name)
        return str(self.folder)

    def hf_hub_download(self, repository: str, name: str, revision: str | None) -> str:
        assert (repository, revision) == ("atha-tests/nano", "1" * 40)  # of the very commit
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
