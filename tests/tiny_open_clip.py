"""Tiny random models of open_clip, one of each kind, saved as its own folders are and under its own configuration."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import timm
import torch
import transformers
from safetensors.torch import save_file
from timm.models import Eva, VisionTransformer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

SIZE, CONTEXT = 32, 32
VISION = {"image_size": SIZE, "patch_size": 8, "layers": 3, "width": 32, "head_width": 16}
TEXT = {"context_length": CONTEXT, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 3}
VIT = {"img_size": SIZE, "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 2}
EVA = VIT | {"use_rot_pos_emb": True, "ref_feat_shape": (4, 4), "init_values": None}


def _register(name: str, kind: type, settings: dict[str, Any]) -> str:
    """A vision tower under a name of timm, in this process."""

    def build(pretrained: bool = False, **options: Any) -> torch.nn.Module:
        made = kind(**settings, **{key: options[key] for key in ("num_classes", "global_pool") if key in options})
        made.default_cfg = {}
        return made

    build.__name__, build.__module__ = name, __name__
    timm.models.register_model(build)
    return name


def _timm(name: str, kind: type, settings: dict[str, Any], pool: str, proj: str | None = None) -> dict[str, Any]:
    registered = _register(f"atha_tiny_{name}", kind, settings)
    return {"image_size": SIZE, "timm_model_name": registered, "timm_pool": pool, "timm_proj": proj}


def save_letters(folder: Path) -> int:
    """Save a tokenizer of BERT's kind that knows letters.

    Returns:
        The size of its vocabulary.
    """
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, ".", *(f"##{letter}" for letter in letters)]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    return len(pieces)


def _bert(folder: Path) -> dict[str, Any]:
    """A text tower of transformers, as the settings that name it."""
    vocabulary = save_letters(folder)
    config = transformers.BertConfig(
        vocab_size=vocabulary, hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64,
    )  # fmt: skip
    return _hf(folder, config, "cls_last_hidden_state_pooler")


def _hf(folder: Path, config: Any, pooler: str) -> dict[str, Any]:
    config.save_pretrained(folder / "text")
    return {
        "hf_model_name": str(folder / "text"), "hf_tokenizer_name": str(folder), "hf_proj_type": "mlp",
        "hf_pooler_type": pooler, "context_length": 40, "vocab_size": config.vocab_size,
    }  # fmt: skip


def _roberta(folder: Path) -> dict[str, Any]:
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}
    vocabulary = save_letters(folder)
    config = transformers.RobertaConfig(
        vocab_size=vocabulary, max_position_embeddings=64, pad_token_id=0, bos_token_id=2, eos_token_id=3, **sizes
    )
    return _hf(folder, config, "mean_pooler")


def _mt5(folder: Path) -> dict[str, Any]:
    vocabulary = save_letters(folder)
    config = transformers.MT5Config(
        vocab_size=vocabulary, d_model=32, d_kv=16, d_ff=64, num_layers=3, num_heads=2, pad_token_id=0
    )
    return _hf(folder, config, "mean_pooler")


def _m2m(folder: Path) -> dict[str, Any]:
    vocabulary = save_letters(folder)
    config = transformers.M2M100Config(
        vocab_size=vocabulary, d_model=32, encoder_layers=3, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64, max_position_embeddings=64, pad_token_id=0,
    )  # fmt: skip
    return _hf(folder, config, "cls_pooler")


def _with_text(text: Callable[[Path], dict[str, Any]]) -> Callable[[Path], dict[str, Any]]:
    return lambda folder: {"vision_cfg": VISION, "text_cfg": text(folder), "custom_text": True}


SIGLIP_TEXT = TEXT | {"no_causal_mask": True, "pool_type": "last", "proj_bias": True}

#: Kind -> settings of the model, given the folder that it will be in.
KINDS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "vit": lambda _: {"vision_cfg": VISION, "text_cfg": TEXT, "quick_gelu": True},
    "vit-layer-scale": lambda _: {
        "vision_cfg": VISION | {"ls_init_value": 0.5},
        "text_cfg": TEXT | {"ls_init_value": 0.5},
    },
    "vit-mean": lambda _: {"vision_cfg": VISION | {"pool_type": "avg"}, "text_cfg": TEXT},
    "coca": lambda _: {
        "vision_cfg": VISION | {"attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
        "text_cfg": TEXT | {"embed_cls": True, "output_tokens": True, "context_length": CONTEXT - 1},
        "multimodal_cfg": TEXT | {"attn_pooler_heads": 2},
        "custom_text": True,
    },
    "siglip": lambda _: {
        "vision_cfg": _timm("siglip", VisionTransformer, VIT | {"class_token": False}, "map", "none"),
        "text_cfg": SIGLIP_TEXT | {"width": 32},
        "embed_dim": 32,
        "init_logit_bias": -10.0,
        "custom_text": True,
    },
    "eva02": lambda _: {
        "vision_cfg": _timm(
            "eva02",
            Eva,
            EVA | {"qkv_fused": False, "swiglu_mlp": True, "scale_mlp": True, "use_fc_norm": False},
            "token",
        ),
        "text_cfg": TEXT,
        "custom_text": True,
    },
    "eva": lambda _: {
        "vision_cfg": _timm("eva", Eva, VIT | {"init_values": 0.1, "use_fc_norm": False}, "token", "linear"),
        "text_cfg": TEXT,
        "custom_text": True,
    },
    "pe-core": lambda _: {
        "vision_cfg": _timm(
            "pe_core",
            Eva,
            EVA
            | {
                "attn_type": "rope", "use_pre_transformer_norm": True, "use_fc_norm": False, "attn_pool_num_heads": 2,
                "attn_pool_mlp_ratio": 4.0, "rope_grid_offset": 1.0, "rope_grid_indexing": "xy",
            },
            "map",
        ),
        "text_cfg": TEXT,
        "custom_text": True,
    },
    "registers": lambda _: {
        "vision_cfg": _timm("registers", VisionTransformer, VIT | {"reg_tokens": 4}, "token", "linear"),
        "text_cfg": TEXT,
        "custom_text": True,
    },
    "biomedclip": lambda folder: {
        "vision_cfg": _timm("plain", VisionTransformer, VIT, "token", "linear"),
        "text_cfg": _bert(folder),
        "custom_text": True,
    },
    "roberta-text": _with_text(_roberta),
    "mt5-text": _with_text(_mt5),
    "m2m-text": _with_text(_m2m),
    "resnet": lambda _: {
        "vision_cfg": {"layers": (1, 1, 1, 1), "width": 8, "image_size": SIZE, "head_width": 64},
        "text_cfg": TEXT,
    },
    "convnext": lambda _: {
        "vision_cfg": _timm(
            "convnext", timm.models.ConvNeXt, {"depths": (1, 1, 1, 1), "dims": (8, 16, 16, 32)}, "avg", "linear"
        ),
        "text_cfg": TEXT,
        "custom_text": True,
    },
}  # fmt: skip

CONVOLUTIONAL = ("resnet", "convnext")
ROTARY = ("eva02", "pe-core")


def save(kind: str, folder: Path) -> str:
    """Save a tiny model.

    Returns:
        Its name for ``--model``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = json.loads(json.dumps({"embed_dim": 16, **KINDS[kind](folder)}))
    preprocessing = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "interpolation": "bicubic"}
    preprocessing["resize_mode"] = "squash" if kind == "siglip" else "shortest"
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocessing}))
    torch.manual_seed(0)
    model = theirs(folder, weights=False)
    with torch.no_grad():
        for name, value in model.named_parameters():
            # Fresh weights are so small that blocks and pooling hardly do anything.
            if value.ndim == 2 and ("trunk." in name or "attn_pool" in name) and "attn_pool.mlp" not in name:
                value.normal_(std=value.shape[1] ** -0.5)
            if name == "visual.proj" and value.shape[0] == value.shape[1]:
                torch.nn.init.orthogonal_(value)  # random square ones can hardly be inverted
            if value.ndim == 1 and not name.startswith("logit"):
                value.add_(0.1 * torch.randn_like(value))  # biases and scales that make a difference
    save_file(
        {name: value.contiguous() for name, value in model.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    return f"open_clip:local-dir:{folder}"


def theirs(folder: Path, weights: bool = True) -> Any:
    """The model as open_clip itself loads it."""
    return open_clip.create_model(f"local-dir:{folder}", load_weights=weights, pretrained_text=False).eval()
