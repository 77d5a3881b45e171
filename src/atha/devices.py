"""Where to compute and how precisely: one resolver for each question."""

import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal

import torch
from threadpoolctl import threadpool_limits
from torch import nn

from atha.errors import AthaError
from atha.recipe import Precision


def resolve_device(name: str = "auto") -> torch.device:
    """``auto`` is CUDA where there is one, then Apple's MPS where it computes right, then the CPU.

    Raises:
        AthaError: no such device, or it is not there.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if cuda else "mps" if mps and attends_right(torch.device("mps")) else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise AthaError(f"'{name}' is no device, choose auto, cpu, cuda, cuda:0 or mps") from None
    available = {"cpu": True, "cuda": cuda and (device.index or 0) < torch.cuda.device_count(), "mps": mps}
    if not available.get(device.type, False):
        raise AthaError(f"device '{name}' is not available on this machine, use --device auto or cpu")
    return device


#: Cosine of what a device and the CPU make of the same, below which the device is not believed.
AGREEMENT = 0.999


def attends_right(device: torch.device) -> bool:
    """Whether a device computes attention of a few queries to many keys as the CPU does: some versions of torch do not,
    on MPS, without a word."""
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 4, rows, 64, generator=generator) for rows in (1, 197, 197))
    here, there = (
        nn.functional.scaled_dot_product_attention(query.to(place), key.to(place), value.to(place)).cpu().flatten()
        for place in (torch.device("cpu"), device)
    )
    return bool(nn.functional.cosine_similarity(here, there, dim=0) > AGREEMENT)


def resolve_precision(precision: Precision, device: torch.device) -> Literal["float32", "bfloat16", "float16"]:
    """``auto`` is bfloat16 where the hardware multiplies in it, else float32; never float16.

    Raises:
        AthaError: float16 is asked for on a device that is not CUDA.
    """
    if precision == "float16" and device.type != "cuda":
        raise AthaError(f"float16 needs a CUDA device, this is {device.type}: use training.precision=auto")
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return "bfloat16" if device.type == "cpu" and _cpu_multiplies_bfloat16() else "float32"


def _cpu_multiplies_bfloat16() -> bool:
    # Without these instructions bfloat16 is emulated, slower than float32 by orders of magnitude.
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16") or capabilities.get("bf16"))


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Mixed precision around a forward pass; float32 is left alone."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, precision))


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Fix torch's global generators for a while, and give the caller's back."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def use_threads(count: int | None) -> None:
    """Compute with so many threads on a CPU from here on, in this process; None: with as many as there are.

    What is trained differs in last bits with it; see `atha.models.inference` for why predictions do not.
    """
    if count is None:
        return
    torch.set_num_threads(count)
    threadpool_limits(count)  # of what is loaded by now
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(count)))


_setting = threading.Lock()


def on_one_core() -> None:
    """Keep this thread to one core: torch's own threads on top of several like it would be in each other's way."""
    with _setting:
        others = torch.get_num_threads()
        torch.set_num_threads(1)  # of this thread, and as the default of threads that are yet to come
        restore = threading.Thread(target=torch.set_num_threads, args=(others,))
        restore.start()
        restore.join()
