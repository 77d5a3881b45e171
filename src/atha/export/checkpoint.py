"""transformers: a plain checkpoint of the two towers with LoRA in their weights, that its ``AutoModel`` loads.

Its logits, through a softmax, are the classifier's, where that is no more than images and class texts at a scale. A
learned context becomes tokens of the vocabulary. Alignment at run time, probes and views are in no model of
transformers: they are left out, said, measured, and written only where that is accepted.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from atha.adapter.record import to_json
from atha.backbones.base import Backbone
from atha.backbones.siglip2 import patchify
from atha.backbones.tokenizer import FileTokenizer
from atha.backbones.tokenizer_files import load_tokenizer, quiet
from atha.backbones.towers import MODELS
from atha.errors import ExportError
from atha.export.base import Format, Script
from atha.methods.base import Counterpart

TEXTS, WEIGHTS = "texts.json", "model.safetensors"
_START = f"""MODEL = AutoModel.from_pretrained(HERE).eval()
IDS = torch.tensor(json.loads((HERE / "{TEXTS}").read_text("utf-8"))["input_ids"])
UNIT = torch.nn.functional.normalize
with torch.inference_mode():
    TEXTS = MODEL.get_text_features(input_ids=IDS)
    TEXTS = UNIT(getattr(TEXTS, "pooler_output", TEXTS))"""
_SQUARES = 'given = {"pixel_values": torch.from_numpy(pixels[None])}'
_PATCHES = """side, (_, height, width) = MODEL.config.vision_config.patch_size, pixels.shape
rows, columns = height // side, width // side
patches = pixels.reshape(3, rows, side, columns, side).transpose(1, 3, 2, 4, 0).reshape(1, rows * columns, -1)
given = {"pixel_values": torch.from_numpy(patches), "spatial_shapes": torch.tensor([[rows, columns]])}
given["pixel_attention_mask"] = torch.ones(1, rows * columns, dtype=torch.int32)"""
_RUN = """with torch.inference_mode():
    found = MODEL.get_image_features(**given)
    found = UNIT(getattr(found, "pooler_output", found)) @ TEXTS.T
    return (MODEL.logit_scale.exp() * found).softmax(1).numpy()[0]"""


@dataclass(frozen=True)
class Exporter(Format):
    """See the module."""

    name = "transformers"
    needs = ("numpy", "Pillow", "torch", "transformers")
    reads_texts = True

    @property
    def script(self) -> Script:
        """See `Format`."""
        return Script(
            "import torch\nfrom transformers import AutoModel\n",
            _START,
            f"{_PATCHES if self._patches else _SQUARES}\n{_RUN}",
        )

    @property
    def left_out(self) -> Sequence[str]:
        """See `Format`."""
        return self._counterpart.left_out

    def check(self) -> None:
        """See `Format`."""
        backbone = self._backbone
        if getattr(backbone, "model_class", None) not in MODELS:
            raise ExportError(
                f"{backbone.name} is a model of {backbone.family}, which transformers does not load: use --format onnx "
                "or torch"
            )
        _ = self._counterpart

    def write(self, folder: Path) -> Mapping[str, Any]:
        """See `Format`."""
        backbone, tuners = self._backbone, self._counterpart.tuners
        weights = {name: value.detach().clone() for name, value in backbone.model.state_dict().items()}
        if tuners.lora is not None:
            for name, a, b in zip(tuners.lora.names, tuners.lora.a, tuners.lora.b, strict=True):
                weights[f"{name}.weight"] += tuners.lora.scaling * (b @ a).detach()
        weights["logit_scale"].fill_(math.log(self._counterpart.scale))
        if "logit_bias" in weights:
            weights["logit_bias"].zero_()
        template = self.subject.recipe.prompt.template
        prompts = backbone.prompts(self.subject.classes.texts, template)
        ids, words = prompts.input_ids, "text_model.embeddings.token_embedding.weight"
        tokenizer, fresh = _own_tokenizer(backbone), 0
        if tuners.context is not None:
            # Rows behind the tokenizer's own, where a vocabulary that is padded has some, are never read.
            vectors, first = tuners.context.vectors.detach(), len(tokenizer)
            fresh = len(vectors)
            rows = weights[words]
            weights[words] = torch.cat([rows[:first], vectors, rows[first + fresh :]])
            ids = ids.clone()
            ids[:, prompts.context] = torch.arange(first, first + fresh)
            before = template[: template.index("{}")]
            template = "".join(map(_token, range(fresh))) + template[len(before.rstrip()) :]
        _write_weights(weights, folder / WEIGHTS)
        self._write_config(folder, len(weights[words]))
        read = self._write_tokenizer(folder, tokenizer, fresh, template, ids)
        texts = {"texts": list(self.subject.classes.texts), "template": template, "input_ids": ids.tolist()}
        (folder / TEXTS).write_text(to_json(texts), "utf-8")
        return {"transformers": {"template": template, "tokenizer_reads_it": read}}

    def load(self, folder: Path) -> Callable[[Float[Tensor, "n 3 H W"]], Float[np.ndarray, "n N"]]:
        """See `Format`."""
        with quiet() as transformers:
            model = transformers.AutoModel.from_pretrained(folder, local_files_only=True).eval()
        ids = torch.tensor(json.loads((folder / TEXTS).read_text("utf-8"))["input_ids"])

        @torch.inference_mode()
        def run(pixels: Float[Tensor, "n 3 H W"]) -> Float[np.ndarray, "n N"]:
            given = {"pixel_values": pixels}
            if self._patches:
                side = int(model.config.vision_config.patch_size)
                rows, columns = (size // side for size in pixels.shape[2:])
                given = {
                    "pixel_values": patchify(pixels, side),
                    "pixel_attention_mask": torch.ones(len(pixels), rows * columns, dtype=torch.int32),
                    "spatial_shapes": torch.tensor([[rows, columns]] * len(pixels)),
                }
            return np.asarray(model(**given, input_ids=ids).logits_per_image.softmax(1).numpy())

        return run

    @property
    def _backbone(self) -> Any:
        return self.subject.frozen.backbone

    @property
    def _patches(self) -> bool:
        return bool(self._backbone.model_class == "Siglip2Model")

    @cached_property
    def _counterpart(self) -> Counterpart:
        return self.subject.fitted.counterpart(self.subject.frozen)

    def _write_config(self, folder: Path, vocabulary: int) -> None:
        backbone = self._backbone
        said = _without_none(backbone.model.config.to_dict())
        said["text_config"]["vocab_size"] = vocabulary
        said["text_config"]["eos_token_id"] = backbone.tokenizer.eos_token_id  # not the old way, by the largest id
        said |= {"model_type": backbone.model.config.model_type, "architectures": [backbone.model_class]}
        said["dtype"] = "float32"
        (folder / "config.json").write_text(to_json(said), "utf-8")

    def _write_tokenizer(self, folder: Path, tokenizer: Any, fresh: int, template: str, ids: Tensor) -> bool:
        """Write the tokenizer with new tokens.

        Returns:
            Whether it makes the class texts' tokens of the template, so that transformers' pipeline gives the same.
        """
        with quiet() as transformers:
            tokenizer.save_pretrained(folder)  # as another object, that may be changed
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
            if fresh:
                made = [transformers.AddedToken(_token(number), normalized=False) for number in range(fresh)]
                tokenizer.add_tokens(made)
                tokenizer.save_pretrained(folder)
            texts = [template.replace("{}", text) for text in self.subject.classes.texts]
            read = tokenizer(texts, padding="max_length", max_length=ids.shape[1], truncation=True)["input_ids"]
        return bool(read == ids.tolist())


def _token(number: int) -> str:
    return f"<|context-{number}|>"


def _own_tokenizer(backbone: Backbone) -> Any:
    tokenizer = backbone.tokenizer
    if not isinstance(tokenizer, FileTokenizer):
        return tokenizer
    home = str(backbone.home)
    if Path(home).is_dir():
        return load_tokenizer(Path(home), "clip")
    with quiet() as transformers:
        return transformers.AutoTokenizer.from_pretrained(home, revision=backbone.revision, local_files_only=True)


def _without_none(said: Any) -> Any:
    if not isinstance(said, dict):
        return said
    return {key: _without_none(value) for key, value in said.items() if value is not None}


def _write_weights(weights: Mapping[str, Tensor], file: Path) -> None:
    from safetensors.torch import save_file

    save_file({name: value.contiguous() for name, value in weights.items()}, file, {"format": "pt"})
