"""What a vision block's training step moves through memory and how long each kind of operation takes.

    uv run python benchmarks/passes.py [--images 5] [--precision bfloat16] [--threads 1]

A block of ViT-B/16 with LoRA on q, k and v, forward and backward, by itself. For each kind of operation: how often it
is called, the bytes that it reads and writes (each tensor once, views not counted), those of memory that was allocated
for it, which no cache holds yet, and its CPU milliseconds, as torch's profiler tells them. Bytes do not depend on the
machine, milliseconds do; the matrix products are apart.
"""

import argparse
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
import transformers
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers.models.clip.modeling_clip import CLIPEncoderLayer

from atha.models.engine.parts import BlockLora
from atha.models.engine.training import TrainingBlock

RANK, DROPOUT, REPEATS = 16, 0.25, 10
PRODUCTS = ("mm", "addmm", "addmm_", "bmm", "_linear_pointwise")


class Passes(TorchDispatchMode):
    """Counts calls, bytes and bytes of new memory of every operation that is no view."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self.new: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name, changes = func.overloadpacket.__name__, func._schema.is_mutable
        written = tensors(result)
        if (func.is_view and not changes) or name in ("_unsafe_view", "detach") or not written:
            return result
        if not changes:
            self.new[name] += sum(map(size, written))
        if not name.startswith(("empty", "new_empty")):
            outputs = [kwargs[key] for key in ("out", "grad_input") if key in kwargs]
            # What an operation in place changes, it reads as well, but for a copy.
            read = tensors((args[1:] if name == "copy_" else args, {} if outputs else kwargs))
            self.calls[name] += 1
            self.bytes[name] += sum(map(size, read + written))
        return result


def tensors(tree: Any) -> list[torch.Tensor]:
    return [value for value in tree_leaves(tree) if isinstance(value, torch.Tensor)]


def size(value: torch.Tensor) -> int:
    """Bytes of a tensor, an expanded dimension counted once."""
    numbers = 1
    for count, stride in zip(value.shape, value.stride(), strict=True) if value.layout == torch.strided else ():
        numbers *= count if stride else 1
    return (numbers if value.layout == torch.strided else value.numel()) * value.dtype.itemsize


def step_of_a_block(images: int, dtype: torch.dtype) -> Callable[[], None]:
    config = transformers.CLIPVisionConfig(patch_size=16)
    config._attn_implementation = "sdpa"
    length, width = (config.image_size // config.patch_size) ** 2 + 1, config.hidden_size
    torch.manual_seed(0)
    shapes = ((RANK, width), (width, RANK))
    a, b = ([torch.randn(*shape).mul_(0.02).requires_grad_() for _ in range(3)] for shape in shapes)
    lora = BlockLora((0, 1, 2), a, b, dropout=DROPOUT)
    block = TrainingBlock(CLIPEncoderLayer(config).requires_grad_(False), lora)
    tokens = torch.randn(images, length, width, requires_grad=True)
    gradient = torch.randn(images, length, width)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            result = block(tokens)
        result.backward(gradient)
        for value in (tokens, *a, *b):
            value.grad = None

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    step = step_of_a_block(options.images, getattr(torch, options.precision))
    for _ in range(3):
        step()
    with Passes() as passes:
        step()
    with profile(activities=[ProfilerActivity.CPU]) as measured:
        for _ in range(REPEATS):
            step()
    times: Counter[str] = Counter()
    for event in measured.key_averages():
        times[event.key.split("::")[-1]] += event.self_cpu_time_total / 1e3 / REPEATS
    print(f"{'operation':32} {'calls':>6} {'MB':>8} {'new MB':>8} {'CPU ms':>8}")
    every = sorted(set(passes.bytes) | set(passes.new), key=lambda name: -passes.bytes[name])
    others = [name for name in every if name not in PRODUCTS]
    for title, names in (*((name, [name]) for name in every), ("products", PRODUCTS), ("all else", others)):
        calls = sum(passes.calls[name] for name in names)
        moved, new = (sum(counter[name] for name in names) / 1e6 for counter in (passes.bytes, passes.new))
        print(f"{title:32} {calls:6} {moved:8.1f} {new:8.1f} {sum(times[name] for name in names):8.2f}")


if __name__ == "__main__":
    main()
