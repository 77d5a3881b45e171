"""One answer for an image, whatever is beside it: images go through a model in groups of one fixed size.

The last bits of a product depend on how many rows it has and on the threads that share them. So every group has as many
images as any other, the last one filled up with copies, and on a CPU each is worked on by one core, as many groups at a
time as there are threads. An image's numbers are then the same in any batch, at any place, beside any neighbours and
with any number of threads.

In float32, a group that comes alone need not wait for one core and for copies where that is seen to change no bit, see
`_Alone`. In less precision every group goes the same way: rounding hides another order of terms from most images that
it could be tried on, and shows it in others.

Shapes: B images of a group.
"""

import os
from collections.abc import Callable, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from threading import Lock
from time import perf_counter
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from atha import defaults, machine
from atha.backbones import Backbone
from atha.data.views import Views
from atha.devices import on_one_core
from atha.models.encoder import Encoder

# Of all memory, what the activations of one batch may take.
_SHARE = 1 / 8
# Tokens of a group, by device: enough for products to be efficient, and few, as a lone image costs a whole group.
_GROUP_TOKENS = {"cpu": 260, "cuda": 4096, "mps": 2048}

#: What is made of a group's normalised images: (B, 3, H, W) to (B, *rest).
Work = Callable[[Tensor], Tensor]


def group_size(backbone: Backbone) -> int:
    """How many images go through a model together, always: by the sizes of model and device alone."""
    return max(1, _GROUP_TOKENS.get(backbone.device.type, _GROUP_TOKENS["cuda"]) // backbone.tokens)


@torch.no_grad()
def in_groups(
    images: Sequence[UInt8[Tensor, "3 H W"]] | UInt8[Tensor, "n 3 H W"],
    views: Views,
    encoder: Encoder,
    work: Work,
    watched: bool = False,
) -> Float[Tensor, "n *rest"]:
    """What ``work`` makes of images, in groups of `group_size`, without gradients.

    Args:
        images: plain views, one at least.
        views: what made them.
        encoder: that ``work`` runs; its size and device decide on the groups.
        work: of a group; called from several threads at once.
        watched: whether more than the result of ``work`` matters; it is then called once for each group.

    Returns:
        A row for each image, on the CPU.
    """
    backbone = encoder.backbone
    size, device = group_size(backbone), backbone.device

    @torch.no_grad()
    def run(group: Sequence[Tensor]) -> Tensor:
        return work(views.normalise(torch.stack(list(group))).to(device)).cpu()

    if device.type == "cpu" and encoder.precision == "float32" and len(images) <= size and not watched:
        return _alone_of(encoder)(list(images), size, run)
    groups = [_filled(list(images[start : start + size]), size) for start in range(0, len(images), size)]
    threads = torch.get_num_threads()
    each = map if device.type != "cpu" or threads == 1 else _one_core_each(threads).map
    return torch.cat(list(each(run, groups)))[: len(images)]


def _filled(group: Sequence[Tensor], size: int) -> list[Tensor]:
    return [*group, *[group[0]] * (size - len(group))]


class _Way(NamedTuple):
    """How a group that is the only one of its call goes through.

    Attributes:
        filled: with copies, up to this number of images.
        spread: over all threads.
    """

    filled: int
    spread: bool


@dataclass
class _Alone:
    """The fastest way for the only group of a call that changes no bit of what one core makes of a full group.

    The order in which a product's terms are added up depends on its shapes and threads, not on the numbers. So one
    group tells for all of its length whether another way gives the same: if the order differed anywhere in the tower,
    some last bit of float32 behind it would. This is tried when a length comes for the second time.

    Attributes:
        ways: by the number of images and of threads; None: not tried yet.
    """

    ways: dict[tuple[int, int], _Way | None] = field(default_factory=dict)

    def __call__(self, images: Sequence[Tensor], size: int, run: Callable[[Sequence[Tensor]], Tensor]) -> Tensor:
        """A row for each image."""
        count, threads = len(images), torch.get_num_threads()
        key, sure = (count, threads), _Way(size, spread=False)

        def go(way: _Way) -> Tensor:
            group = _filled(images, way.filled)
            here = way.spread or threads == 1
            made = run(group) if here else _one_core_each(threads).submit(run, group).result()
            return made[:count]

        if key not in self.ways:
            self.ways[key] = None
            return go(sure)
        way = self.ways[key]
        if way is not None and not way.spread:
            return go(way)
        # One at a time: the threads of several would be in each other's way.
        if not _all_threads.acquire(blocking=False):
            return go(sure)
        try:
            if way is not None:
                return go(way)
            every = {_Way(filled, spread) for filled in (count, size) for spread in (False, threads > 1)}
            made, self.ways[key] = _fastest(go, sure, every - {sure})
            return made
        finally:
            _all_threads.release()


def _fastest(go: Callable[[_Way], Tensor], sure: _Way, others: Set[_Way]) -> tuple[Tensor, _Way]:
    right, best, least = go(sure), sure, float("inf")
    for way in (sure, *others):
        started = perf_counter()
        equal = torch.equal(go(way), right)
        if equal and (seconds := perf_counter() - started) < least:
            best, least = way, seconds
    return right, best


def images_at_once(backbone: Backbone, memory: int | None = None) -> int:
    """How many decoded images are held and handed to the model at once.

    Args:
        backbone: on its device.
        memory: bytes of that device; by default, looked up.

    Returns:
        `atha.defaults.BATCH_SIZE`, beyond which nothing gets faster, or as many as fit.
    """
    if memory is None:
        device = backbone.device
        cuda = device.type == "cuda"
        memory = torch.cuda.get_device_properties(device).total_memory if cuda else machine.memory()
    return max(1, min(defaults.BATCH_SIZE, int(memory * _SHARE) // (4 * image_numbers(backbone))))


def image_numbers(backbone: Backbone) -> int:
    """How many numbers of an image a forward pass holds at its widest moment."""
    width, inner = backbone.vision_widths
    # The residual stream, and around it the inside of the MLP or of attention.
    return backbone.tokens * (8 * width + 3 * inner) + 3 * 3 * backbone.image_size**2


@lru_cache(maxsize=1)
def _one_core_each(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "atha", initializer=on_one_core)


_all_threads = Lock()
_alone: WeakKeyDictionary[Encoder, _Alone] = WeakKeyDictionary()


def _alone_of(encoder: Encoder) -> _Alone:
    return _alone.setdefault(encoder, _Alone())


def _begin_anew() -> None:
    global _all_threads  # noqa: PLW0603 - whoever held it is not in this process
    _all_threads = Lock()
    _one_core_each.cache_clear()


if hasattr(os, "register_at_fork"):  # threads do not survive a fork: who is forked begins with none
    os.register_at_fork(after_in_child=_begin_anew)
