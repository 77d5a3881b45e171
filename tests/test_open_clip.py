"""What is of open_clip alone: names, files, fused projections, what is said when something is wrong."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

import tiny_open_clip
from adapting import Adapting, encode_image
from atha.backbones import load_backbone, open_clip_files
from atha.errors import BackboneError
from atha.recipe import Recipe


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A function from a kind to its folder, each of which is made once."""
    made = {}

    def folder(kind):
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp(kind)
            tiny_open_clip.save(kind, made[kind])
        return made[kind]

    return folder


@pytest.fixture
def copied(saved, tmp_path):
    shutil.copytree(saved("vit"), tmp_path / "copy")
    return tmp_path / "copy"


FUSED = ["vit", "vit-layer-scale", "coca", "siglip", "eva", "pe-core", "registers"]


@pytest.mark.parametrize("kind", FUSED)
@pytest.mark.parametrize("projection", ["q", "k", "v"])
def test_lora_beside_a_part_is_a_change_of_its_rows_in_the_fused_matrix(saved, kind, projection):
    backbone, theirs = load_backbone(f"open_clip:local-dir:{saved(kind)}"), tiny_open_clip.theirs(saved(kind))
    overrides = [f'lora.projections=["{projection}"]', 'lora.towers=["vision"]', "prompt.learn_context=false"]
    model = Adapting(backbone, Recipe.load("lora", overrides), backbone.prompts(["cat", "dog"], "a {}"))
    pairs = model.tuners.lora.pairs(backbone).values()
    blocks = theirs.visual.trunk.blocks if hasattr(theirs.visual, "trunk") else theirs.visual.transformer.resblocks
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    rows = slice(32 * "qkv".index(projection), 32 * "qkv".index(projection) + 32)
    with torch.no_grad():
        before = theirs.encode_image(pixels, normalize=False)
        for pair, block in zip(pairs, blocks, strict=True):
            torch.nn.init.normal_(pair.b, std=0.3)
            fused = block.attn.in_proj_weight if hasattr(block.attn, "in_proj_weight") else block.attn.qkv.weight
            fused[rows] += model.tuners.lora.scaling * pair.b @ pair.a
        after = theirs.encode_image(pixels, normalize=False)
        for encoder in (model.plain(), model.predicting()):
            torch.testing.assert_close(encoder.images(pixels), after, atol=2e-5, rtol=1e-4)
    assert not torch.allclose(before, after, atol=1e-3)


def test_weights_of_a_file_with_a_built_in_architecture(saved, tmp_path, monkeypatch):
    config = json.loads((saved("vit") / "open_clip_config.json").read_text())["model_cfg"]
    (tmp_path / "Tiny-ViT.json").write_text(json.dumps(config))
    import open_clip

    open_clip.add_model_config(tmp_path)
    weights = saved("vit") / "open_clip_model.safetensors"
    backbone = load_backbone(f"open_clip:Tiny-ViT/{weights}")
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = encode_image(load_backbone(f"open_clip:local-dir:{saved('vit')}"), pixels)
        assert torch.equal(encode_image(backbone, pixels), expected)
    monkeypatch.chdir(weights.parent)
    assert load_backbone(f"open_clip:Tiny-ViT/{weights.name}").location == f"open_clip:Tiny-ViT/{weights.resolve()}"


def test_tags_choose_files_activation_and_preprocessing(saved, tmp_path, monkeypatch):
    """The hub is played by a function that has the file; all else is as it is with a network."""
    import open_clip

    config = json.loads((saved("vit") / "open_clip_config.json").read_text())["model_cfg"] | {"quick_gelu": False}
    (tmp_path / "Tiny-Tagged.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path)
    entry = {
        "hf_hub": "some/where/open_clip_pytorch_model.bin", "mean": (0.1, 0.2, 0.3), "std": (1, 1, 1),
        "interpolation": "bilinear", "resize_mode": "squash", "quick_gelu": True,
    }  # fmt: skip
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda model, tag: entry if tag == "own" else {})
    asked = []

    def download(repository, files, name, revision, offline):
        asked.append((repository, files, revision))
        return saved("vit") / "open_clip_model.safetensors"

    monkeypatch.setattr(open_clip_files, "_download", download)
    backbone = load_backbone("open_clip:Tiny-Tagged/own", revision="main")
    assert asked[0][0] == "some/where" and asked[0][2] == "main"
    assert all(file.endswith(".safetensors") for file in asked[0][1])
    processor = backbone.image_processor
    assert list(processor.image_mean) == [0.1, 0.2, 0.3] and not processor.do_center_crop
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():  # saved with quick_gelu, as the tag says and the architecture does not
        expected = encode_image(load_backbone(f"open_clip:local-dir:{saved('vit')}"), pixels)
        assert torch.equal(encode_image(backbone, pixels), expected)


def test_an_adapter_finds_its_model_from_another_folder(saved, support, tmp_path, monkeypatch):
    import atha

    monkeypatch.chdir(saved("vit").parent)
    clf = atha.Classifier.from_pretrained(
        f"open_clip:local-dir:{saved('vit').name}", recipe=Recipe.load("lora", ["training.steps=1"])
    ).fit(support)
    clf.save_pretrained(tmp_path / "adapter")
    monkeypatch.chdir(tmp_path)
    again = atha.Classifier.from_pretrained("adapter")
    files = sorted(support.glob("*/*.png"))
    assert (again.predict_proba(files) == clf.predict_proba(files)).all()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("open_clip:ViT-B-32", "does not say which weights"),
        ("open_clip:", "does not say which weights"),
        ("open_clip:ViT-B-23/openai", "did you mean ViT-B-32"),
        ("open_clip:ViT-B-32/laion2b", "choose a tag such as laion2b_"),
        ("open_clip:ViT-B-32/none.safetensors", "there is no file none.safetensors"),
        ("open_clip:local-dir:none", "there is no model folder none"),
    ],
)
def test_wrong_names(name, said):
    with pytest.raises(BackboneError, match=said):
        load_backbone(name)


def test_pickle_files_are_not_opened(copied, tmp_path):
    (copied / "open_clip_model.safetensors").rename(copied / "open_clip_pytorch_model.bin")
    with pytest.raises(BackboneError, match="pickle file, which is not opened"):
        load_backbone(f"open_clip:local-dir:{copied}")
    with pytest.raises(BackboneError, match="is not a safetensors file and is not opened"):
        load_backbone(f"open_clip:ViT-B-32/{copied / 'open_clip_pytorch_model.bin'}")


def test_folders_that_are_not_whole(copied):
    weights = load_file(copied / "open_clip_model.safetensors")
    first = min(weights)
    save_file({key: value for key, value in weights.items() if key != first}, copied / "open_clip_model.safetensors")
    with pytest.raises(BackboneError, match="does not hold the weights of this model"):
        load_backbone(f"open_clip:local-dir:{copied}")
    (copied / "open_clip_model.safetensors").write_bytes(b"no weights")
    with pytest.raises(BackboneError, match="does not hold the weights"):
        load_backbone(f"open_clip:local-dir:{copied}")
    (copied / "open_clip_config.json").write_text("{")
    with pytest.raises(BackboneError, match="is not JSON"):
        load_backbone(f"open_clip:local-dir:{copied}")
    with pytest.raises(BackboneError, match="give it as open_clip:local-dir:"):
        load_backbone(str(copied))


def test_the_hub_out_of_reach_and_repositories_without_the_file(monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    def fail(error):
        def download(*args, **kwargs):
            raise error

        monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)

    fail(LocalEntryNotFoundError("no network"))
    with pytest.raises(BackboneError, match=r"cannot get .* \(no network\)"):
        load_backbone("open_clip:hf-hub:some/where")
    fail(EntryNotFoundError("404"))
    with pytest.raises(BackboneError, match=r"has no open_clip_config\.json"):
        load_backbone("open_clip:hf-hub:some/where")
    with pytest.raises(BackboneError, match="pickle files are not opened"):
        load_backbone("open_clip:ViT-B-32/laion2b_s34b_b79k")


def test_without_the_extra_the_error_says_what_to_install():
    code = (
        "import sys; sys.modules['open_clip'] = None\n"
        "from atha.backbones import load_backbone\n"
        "load_backbone('open_clip:ViT-B-32/openai')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'atha[open-clip]'" in done.stderr.splitlines()[-1]


def test_text_decoders_are_left_out_and_biases_are_told(saved):
    coca = load_backbone(f"open_clip:local-dir:{saved('coca')}")
    assert not any(name.startswith("text_decoder") for name in coca.model.state_dict())
    assert load_backbone(f"open_clip:local-dir:{saved('siglip')}").describe()["logit_bias"] == -10.0


EVIL = """import pathlib
from transformers import PreTrainedTokenizerFast

class Evil(PreTrainedTokenizerFast):
    def __init__(self, *args, **kwargs):
        pathlib.Path(__file__).parents[0].joinpath("ran").touch()
        super().__init__(*args, **kwargs)
"""


@pytest.mark.parametrize(
    "settings", [{"trust_remote_code": True}, {"bpe_path": "/etc/passwd"}, {"reduction_mask": "x"}]
)
def test_settings_of_tokenizers_run_no_code_and_open_no_files(saved, tmp_path, settings):
    folder = tmp_path / "evil"
    shutil.copytree(saved("biomedclip"), folder)
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"] |= {"tokenizer_kwargs": settings}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(BackboneError, match=f"tokenizer setting '{next(iter(settings))}'"):
        load_backbone(f"open_clip:local-dir:{folder}")


@pytest.mark.parametrize("tokenizer_class", ["PreTrainedTokenizerFast", "Evil"])
def test_code_beside_a_tokenizer_is_not_run(saved, tmp_path, tokenizer_class):
    folder = tmp_path / "evil"
    shutil.copytree(saved("biomedclip"), folder)
    (folder / "evil.py").write_text(EVIL)
    path = folder / "tokenizer_config.json"
    read = json.loads(path.read_text()) | {"auto_map": {"AutoTokenizer": [None, "evil.Evil"]}}
    path.write_text(json.dumps(read | {"tokenizer_class": tokenizer_class}))
    with pytest.raises(BackboneError, match=r"auto_map in its tokenizer_config\.json, which names code"):
        load_backbone(f"open_clip:local-dir:{folder}")
    assert "transformers_modules" not in " ".join(name for name in sys.modules if "evil" in name.lower())
    assert not list(tmp_path.rglob("ran"))


def test_a_tokenizer_that_is_a_model_opens_no_weights(saved, tmp_path):
    """transformers would load whatever of its own is named as the tokenizer's class."""
    folder = shutil.copytree(saved("biomedclip"), tmp_path / "evil")
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tokenizer_class": "BertModel"}))
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(BackboneError, match="tokenizer_class 'BertModel', which is no tokenizer"):
        load_backbone(f"open_clip:local-dir:{folder}")


def test_a_revision_holds_for_all_that_is_read(saved, tmp_path, monkeypatch):
    """Of a cache with two commits that differ: what comes is of the one that was asked for, tokenizer and all."""
    import huggingface_hub

    commits = {revision: tmp_path / "snapshots" / revision for revision in ("old", "main")}
    for revision, folder in commits.items():
        folder.mkdir(parents=True)
        for file in ("open_clip_config.json", "open_clip_model.safetensors"):
            shutil.copy(saved("biomedclip") / file, folder)
        config = json.loads((folder / "open_clip_config.json").read_text())
        config["preprocess_cfg"]["mean"] = [0.1 if revision == "old" else 0.9] * 3
        (folder / "open_clip_config.json").write_text(json.dumps(config))
    asked = []

    def download(repository, file, revision=None, **_):
        asked.append((file, revision))
        return str(commits[revision or "main"] / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    backbone = load_backbone("open_clip:hf-hub:some/where", revision="old")
    assert {revision for _, revision in asked} == {"old"}
    assert (backbone.revision, backbone.home) == ("old", "some/where")
    assert list(backbone.image_processor.image_mean) == [0.1] * 3


def test_positions_are_not_stretched_without_a_word(copied):
    weights = load_file(copied / "open_clip_model.safetensors")
    for name in ("visual.positional_embedding", "positional_embedding"):
        save_file(weights | {name: weights[name][:10].contiguous()}, copied / "open_clip_model.safetensors")
        with pytest.raises(BackboneError, match=rf"has '{name}' in shape \(10, 32\)"):
            load_backbone(f"open_clip:local-dir:{copied}")


def test_a_file_has_the_preprocessing_that_all_tags_of_its_architecture_have(saved):
    agreed = open_clip_files._agreed
    one = {"mean": (0.5,), "std": (0.5,), "interpolation": "bicubic", "resize_mode": "squash"}
    assert agreed([one, one]) == one
    assert agreed([one, one | {"mean": (0.1,)}]) == {key: value for key, value in one.items() if key != "mean"}
    assert agreed([]) == {}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("openclip:ViT-B-32/openai", "a model of open_clip is open_clip:ViT-B-32/openai"),
        ("open-clip:ViT-B-32/openai", "a model of open_clip is open_clip:ViT-B-32/openai"),
        ("hf-hub:imageomics/bioclip", "a model of open_clip is open_clip:hf-hub:imageomics/bioclip"),
        ("local-dir:/x", "a model of open_clip is open_clip:local-dir:/x"),
        ("open_clip:vit-b-32/openai", "did you mean ViT-B-32"),
        ("open_clip:imageomics/bioclip", "open_clip:hf-hub:ORG/NAME"),
    ],
)
def test_names_that_are_nearly_right(name, said):
    with pytest.raises(BackboneError, match=said):
        load_backbone(name)


def test_the_licence_of_a_model_card_is_found(copied):
    from atha.backbones import licence

    assert licence(load_backbone(f"open_clip:local-dir:{copied}")) is None
    (copied / "README.md").write_text("---\nlicense: mit\n---\n# A model")
    assert licence(load_backbone(f"open_clip:local-dir:{copied}")) == "mit"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"vision_cfg": {"timm_model_name": "hf-hub:evil/x"}}, "names a tower outside itself"),
        ({"auto_map": {"AutoModel": "evil.Model"}}, "names code or files"),
        ({"vision_cfg": {"width": 65_536}}, r"describes a model of \d.* GB and its weights have 0.0 GB"),
        ({"text_cfg": {"vocab_size": 10**12}}, "describes a model of"),
        ({"vision_cfg": {"image_size": 10**7}}, "describes a model of"),
    ],
)
def test_configurations_that_reach_too_far(saved, tmp_path, change, said):
    folder = shutil.copytree(saved("vit"), tmp_path / "copy")
    config = json.loads((folder / "open_clip_config.json").read_text())
    model = config["model_cfg"]
    for key, value in change.items():
        model[key] = model.get(key, {}) | value
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(BackboneError, match=said):
        load_backbone(f"open_clip:local-dir:{folder}")


@pytest.mark.parametrize(
    ("name", "gigabytes"),
    [
        ("ViT-B-32", 0.3),
        ("ViT-bigG-14-worldwide", 5),
        ("ViT-e-14", 8),
        ("RN50", 0.2),
        ("RN50x64", 1.2),
        ("coca_ViT-L-14", 1),
    ],
)
def test_models_in_half_precision_are_not_too_large(name, gigabytes):
    import open_clip

    open_clip_files._check_size(open_clip.get_model_config(name), int(gigabytes * 1e9))


@pytest.mark.parametrize("name", ["open_clip:hf-hub:some/where", "open_clip:ViT-B-32/laion2b_s34b_b79k"])
def test_the_hub_is_not_asked_where_files_on_the_machine_must_do(monkeypatch, name):
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    asked = []

    def download(repository, file, local_files_only, **_):
        asked.append(local_files_only)
        raise LocalEntryNotFoundError("not in the cache")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(BackboneError, match="is not on this machine"):
        load_backbone(name, local_files_only=True)
    assert asked
    assert all(asked)
