"""Which model a backbone is, as hashes: a quick one over a sample of its weights, and one over all there is."""

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atha.backbones.base import Backbone

#: Of configurations: what changes the result without changing a weight. Others come and go with the library's version.
SETTINGS = (
    "hidden_act", "num_attention_heads", "num_hidden_layers", "layer_norm_eps", "image_size", "patch_size",
    "eos_token_id", "bos_token_id", "pad_token_id", "max_position_embeddings",
)  # fmt: skip


def fingerprint(backbone: "Backbone") -> str:
    """SHA-256 over names, shapes and a sample of the values of all weights: tells one checkpoint from another."""
    digest = hashlib.sha256(backbone.family.encode())
    for name, value in sorted(backbone.model.state_dict().items()):
        flat = value.detach().flatten()
        sample = flat[:: max(1, flat.numel() // 64)].float().cpu().contiguous()
        digest.update(f"{name} {tuple(value.shape)}".encode())
        digest.update(sample.numpy().tobytes())
    return digest.hexdigest()


def content_hash(backbone: "Backbone") -> str:
    """SHA-256 over all that decides what the model computes: every byte of its weights, and its settings.

    Slower than `fingerprint` and without its blind spots: the same weights under another activation, or a few
    changed rows, are another model.
    """
    digest = hashlib.sha256(backbone.family.encode())
    for settings in backbone.settings():
        digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
    for name, value in sorted(backbone.model.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
