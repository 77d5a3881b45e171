"""A tiny random model of every kind that there is, of the libraries' own classes, saved and loaded for real.

Those of open_clip are in `tiny_open_clip`.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import open_clip
import tokenizers
import torch
import transformers
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor

import atha
import tiny_open_clip
from atha.backbones import FAMILIES, NANO

NANO_FOLDER = Path(atha.backbones.__file__).parent / NANO
VISION = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2}
VISION |= {"image_size": 32, "patch_size": 8}
TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2}


def save_clip(folder: Path, blocks: int = 3) -> None:
    text = TEXT | {
        "num_hidden_layers": blocks,
        "vocab_size": 2048,
        "max_position_embeddings": 40,
        "bos_token_id": 0,
        "eos_token_id": 1,
    }
    vision, text = VISION | {"num_hidden_layers": blocks}, text | {"pad_token_id": 1}
    config = transformers.CLIPConfig(vision_config=vision, text_config=text, projection_dim=16)
    transformers.CLIPModel(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(NANO_FOLDER / name, folder)
    transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(
        folder
    )


def make_head_lifelike(head: torch.nn.Module) -> None:
    """Attention that tells tokens apart, and a W that can be inverted: random ones have condition numbers of 1e4."""
    torch.nn.init.normal_(head.probe, std=0.5)
    torch.nn.init.orthogonal_(head.attention.out_proj.weight)
    torch.nn.init.orthogonal_(head.attention.in_proj_weight.data[2 * head.attention.embed_dim :])


def save_siglip(folder: Path) -> None:
    import sentencepiece

    folder.mkdir(parents=True, exist_ok=True)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 20),
        model_prefix=str(folder / "spiece"),
        vocab_size=45,
        hard_vocab_limit=False,
        minloglevel=2,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
    )
    tokenizer = transformers.SiglipTokenizer(str(folder / "spiece.model"), model_max_length=40)
    text = TEXT | {"vocab_size": len(tokenizer) + 8, "max_position_embeddings": 40, "projection_size": 32}
    model = transformers.SiglipModel(transformers.SiglipConfig(vision_config=VISION, text_config=text))
    make_head_lifelike(model.vision_model.head)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    transformers.SiglipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)


SENTENCES = [f"a photo of a {name}." for name in ("red thing", "green thing", "blue thing", "cat", "dog")]


def train_bpe() -> dict:
    """Vocabulary and merges as Gemma's are: no merge across words, bytes for what is unknown."""
    trained = tokenizers.Tokenizer(tokenizers.models.BPE())
    trained.normalizer = tokenizers.normalizers.Replace(" ", "▁")
    trained.pre_tokenizer = tokenizers.pre_tokenizers.Split("▁", "merged_with_next")
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=320, special_tokens=special, show_progress=False)
    trained.train_from_iterator(SENTENCES, trainer)
    model = json.loads(trained.to_str())["model"]
    return {"vocab": model["vocab"], "merges": [tuple(merge) for merge in model["merges"]]}


def save_siglip2(folder: Path) -> None:
    tokenizer = transformers.Siglip2Tokenizer(
        **train_bpe(), model_max_length=40, padding_side="right", add_bos_token=False, add_eos_token=True
    )
    tokenizer.save_pretrained(folder)
    text = TEXT | {"vocab_size": len(tokenizer), "max_position_embeddings": 40, "projection_size": 32}
    text |= {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
    vision = {key: value for key, value in VISION.items() if key != "image_size"} | {"num_patches": 16}
    model = transformers.Siglip2Model(transformers.Siglip2Config(vision_config=vision, text_config=text))
    make_head_lifelike(model.vision_model.head)
    model.save_pretrained(folder)
    transformers.Siglip2ImageProcessor(patch_size=8, max_num_patches=16).save_pretrained(folder)


def save_metaclip_2(folder: Path) -> None:
    trained = tokenizers.Tokenizer(tokenizers.models.Unigram())
    split = [tokenizers.pre_tokenizers.WhitespaceSplit(), tokenizers.pre_tokenizers.Metaspace()]
    trained.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(split)
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = tokenizers.trainers.UnigramTrainer(special_tokens=special, unk_token="<unk>", show_progress=False)
    trained.train_from_iterator(SENTENCES, trainer)
    pieces = json.loads(trained.to_str())["model"]["vocab"]
    tokenizer = transformers.XLMRobertaTokenizer(vocab=[(piece, score) for piece, score in pieces])
    tokenizer.save_pretrained(folder)
    text = TEXT | {"vocab_size": len(tokenizer), "max_position_embeddings": 40}
    text |= {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    config = transformers.MetaClip2Config(vision_config=VISION, text_config=text, projection_dim=16)
    transformers.MetaClip2Model(config).save_pretrained(folder)
    sizes = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    transformers.CLIPImageProcessor(**sizes).save_pretrained(folder)


SAVE = {"clip": save_clip, "metaclip_2": save_metaclip_2, "siglip": save_siglip, "siglip2": save_siglip2}


assert SAVE.keys() == FAMILIES.keys(), "a family without a tiny model"
OPEN_CLIP = "open_clip-"
KINDS = [*sorted(SAVE), *(OPEN_CLIP + kind for kind in tiny_open_clip.KINDS)]
CONVOLUTIONAL = [OPEN_CLIP + kind for kind in tiny_open_clip.CONVOLUTIONAL]
ROTARY = [OPEN_CLIP + kind for kind in tiny_open_clip.ROTARY]
WITH_TOKENS = [kind for kind in KINDS if kind not in CONVOLUTIONAL]


@dataclass(frozen=True)
class TinyModel:
    """A saved model.

    Attributes:
        kind: one of `KINDS`.
        folder: where it is.
    """

    kind: str
    folder: Path

    @property
    def name(self) -> str:
        """For ``--model``."""
        return f"open_clip:local-dir:{self.folder}" if self.kind.startswith(OPEN_CLIP) else str(self.folder)

    @cached_property
    def theirs(self) -> "Theirs":
        return (OpenClips if self.kind.startswith(OPEN_CLIP) else Transformers)(self.folder)


class Theirs:
    """What the library itself makes of images and texts: features, not normalised, and logits of images by texts."""

    def images(self, images: Sequence[Image.Image]) -> Tensor:
        raise NotImplementedError

    def texts(self, texts: Sequence[str]) -> Tensor:
        raise NotImplementedError

    def logits(self, images: Sequence[Image.Image], texts: Sequence[str]) -> Tensor:
        raise NotImplementedError


class Transformers(Theirs):
    def __init__(self, folder: Path) -> None:
        self.model = transformers.AutoModel.from_pretrained(folder).eval()
        self.processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

    def _pixels(self, images: Sequence[Image.Image]) -> dict[str, Tensor]:
        return self.processor(images=list(images), return_tensors="pt")

    def _ids(self, texts: Sequence[str]) -> Tensor:
        length = self.model.config.text_config.max_position_embeddings
        return self.tokenizer(list(texts), padding="max_length", max_length=length, return_tensors="pt")["input_ids"]

    def images(self, images: Sequence[Image.Image]) -> Tensor:
        return self.model.get_image_features(**self._pixels(images)).pooler_output

    def texts(self, texts: Sequence[str]) -> Tensor:
        return self.model.get_text_features(input_ids=self._ids(texts)).pooler_output

    def logits(self, images: Sequence[Image.Image], texts: Sequence[str]) -> Tensor:
        return self.model(**self._pixels(images), input_ids=self._ids(texts)).logits_per_image


class OpenClips(Theirs):
    def __init__(self, folder: Path) -> None:
        self.model = tiny_open_clip.theirs(folder)
        settings = PreprocessCfg(**open_clip.get_model_preprocess_cfg(self.model))
        self.transform = image_transform_v2(settings, is_train=False)
        self.tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")

    def _pixels(self, images: Sequence[Image.Image]) -> Tensor:
        return torch.stack([self.transform(image) for image in images])

    def images(self, images: Sequence[Image.Image]) -> Tensor:
        return self.model.encode_image(self._pixels(images), normalize=False)

    def texts(self, texts: Sequence[str]) -> Tensor:
        return self.model.encode_text(self.tokenizer(list(texts)), normalize=False)

    def logits(self, images: Sequence[Image.Image], texts: Sequence[str]) -> Tensor:
        if hasattr(self.model, "get_logits"):
            return self.model.get_logits(self._pixels(images), self.tokenizer(list(texts)))[0]
        unit = torch.nn.functional.normalize
        return self.model.logit_scale.exp() * unit(self.images(images), dim=-1) @ unit(self.texts(texts), dim=-1).T


def make(kind: str, folder: Path) -> TinyModel:
    """Save the model of a kind."""
    torch.manual_seed(0)
    if kind.startswith(OPEN_CLIP):
        tiny_open_clip.save(kind.removeprefix(OPEN_CLIP), folder)
    else:
        SAVE[kind](folder)
    return TinyModel(kind, folder)
