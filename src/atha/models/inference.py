"""One answer for an image, whatever is beside it: images go through a model in groups of one fixed size.

The last bits of a product depend on how many rows it has and on the threads that share them. So every group has as many
images as any other, the last one filled up with copies, and on a CPU each is worked on by one core, as many groups at a
time as there are threads. An image's numbers are then the same in any batch, at any place, beside any neighbours and
with any number of threads.

Shapes: B images of a group.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from atha import defaults, machine
from atha.backbones import Backbone
from atha.devices import on_one_core

# Of all memory, what the activations of one batch may take.
_SHARE = 1 / 8
# Tokens of a group, by device: enough for products to be efficient, and few, as a lone image costs a whole group.
_GROUP_TOKENS = {"cpu": 260, "cuda": 4096, "mps": 2048}


def group_size(backbone: Backbone) -> int:
    """How many images go through a model together, always: by the sizes of model and device alone."""
    return max(1, _GROUP_TOKENS.get(backbone.device.type, _GROUP_TOKENS["cuda"]) // backbone.tokens)


def in_groups(
    images: Sequence[UInt8[Tensor, "3 H W"]] | UInt8[Tensor, "n 3 H W"],
    backbone: Backbone,
    work: Callable[[UInt8[Tensor, "B 3 H W"]], Float[Tensor, "B *rest"]],
) -> Float[Tensor, "n *rest"]:
    """What ``work`` makes of images, in groups of `group_size`, without gradients.

    Args:
        images: plain views, one at least.
        backbone: that ``work`` runs; its size and device decide on the groups.
        work: of a group; called from several threads at once.

    Returns:
        A row for each image, on the CPU.
    """
    size = group_size(backbone)
    groups = [list(images[start : start + size]) for start in range(0, len(images), size)]
    groups[-1] += [groups[-1][0]] * (size - len(groups[-1]))

    def run(group: list[Tensor]) -> Tensor:
        with torch.no_grad():
            return work(torch.stack(group)).cpu()

    threads = torch.get_num_threads()
    each = map if backbone.device.type != "cpu" or threads == 1 else _one_core_each(threads).map
    return torch.cat(list(each(run, groups)))[: len(images)]


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


if hasattr(os, "register_at_fork"):  # threads do not survive a fork: who is forked begins with none
    os.register_at_fork(after_in_child=_one_core_each.cache_clear)
