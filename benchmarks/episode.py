"""One whole episode (set-up, training, queries) against a plain loop and against its bare matrix products.

    uv run python benchmarks/episode.py [--shot 1] [--views five-view] [--recipe paper] [--rounds 3]

Measured in turn, each in a process of its own, on a CLIP model of the size asked for, with random weights:

- ours: `Classifier.fit` and `predict_proba`, precision as it is chosen by itself;
- plain-float32, plain-bfloat16: the model by transformers, LoRA by PEFT, text padded to the context's length, and a
  step in parts of at most 25 images, more do not fit memory; the second under autocast. No alignment, no context;
- products: the matrix products of the plain loop, and nothing else, in ours' precision; own-products: those that are
  left when only what is needed is computed (texts at their length, the last vision block's CLS row alone);
- compiled-bfloat16, when asked for: plain-bfloat16 through `torch.compile`, which needs a C++ compiler; set-up has the
  time that compiling takes.

A step is a forward and a backward pass over the whole support set. Peak memory is that of the process, which begins
with loading the weights. All loops see the same images, decoded and resized, and the same class texts.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

DEFAULT_LOOPS = ("ours", "plain-float32", "plain-bfloat16", "products", "own-products")
LOOPS = (*DEFAULT_LOOPS, "compiled-bfloat16")
CONTEXT = 77
PART = 25
SIZES = {
    "vit-b-16": {"patch_size": 16},
    "vit-b-32": {"patch_size": 32},
    "vit-l-14": {
        "patch_size": 14, "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
        "num_attention_heads": 16,
    },
}  # fmt: skip
RANK, ALPHA, DROPOUT = 16, 8, 0.25


@dataclass
class Timing:
    """Seconds and bytes of one loop."""

    setup: float
    step: float  # median
    training: float  # all steps
    queries: float
    memory: int

    @property
    def total(self) -> float:
        return self.setup + self.training + self.queries


def main() -> None:
    options = arguments()
    if options.loop:
        measured = LOOP[options.loop](options)
        print(json.dumps(vars(measured)))
        return
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder), options.size)
        found: dict[str, list[Timing]] = {name: [] for name in options.loops}
        for round_ in range(options.rounds):
            for name in options.loops:
                timing = in_own_process(name, folder)
                found[name].append(timing)
                print(
                    f"round {round_ + 1}, {name}: set-up {timing.setup:.1f} s, step {timing.step:.3f} s, training "
                    f"{timing.training:.1f} s, {options.queries} queries {timing.queries:.1f} s, whole "
                    f"{timing.total:.1f} s, peak {timing.memory / 1e9:.2f} GB",
                    flush=True,
                )
    summary(found, options)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=sorted(SIZES), default="vit-b-16")
    parser.add_argument("--classes", type=int, default=5)
    parser.add_argument("--shot", type=int, default=1)
    parser.add_argument("--queries", type=int, default=75, help="of all classes together")
    parser.add_argument("--views", choices=("single", "five-view"), default="single")
    parser.add_argument("--recipe", default="paper", help="of ours: a preset or a recipe file")
    parser.add_argument("--precision", default="auto", help="of ours")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--timed", type=int, help="run so many steps and count their median for each of the others")
    parser.add_argument("--threads", type=int, help="default: torch's own")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--loops", type=lambda text: text.split(","), default=list(DEFAULT_LOOPS), help="comma-separated"
    )
    parser.add_argument("--loop", choices=LOOPS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.loops) - set(LOOPS):
        parser.error(f"no loop is called {', '.join(sorted(unknown))}: choose from {', '.join(LOOPS)}")
    options.timed = min(options.timed or options.steps, options.steps)
    return options


def in_own_process(name: str, folder: str) -> Timing:
    command = [sys.executable, __file__, *sys.argv[1:], "--loop", name, "--folder", folder]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return Timing(**json.loads(done.stdout.splitlines()[-1]))


def summary(found: dict[str, list[Timing]], options: argparse.Namespace) -> None:
    medians = {name: statistics.median(one.total for one in timings) for name, timings in found.items()}
    print(
        f"\n{options.size}, {options.classes} classes, {options.shot} shot, {options.views}, {options.steps} steps, "
        f"{options.queries} queries: medians of {options.rounds} rounds"
    )
    print(f"{'loop':16} {'whole':>8} {'step':>8} {'peak':>8}   whole episode against ours")
    for name, timings in found.items():
        step = statistics.median(one.step for one in timings)
        peak = max(one.memory for one in timings) / 1e9
        ratio = f"{medians[name] / medians['ours']:.2f}" if "ours" in medians else ""
        print(f"{name:16} {medians[name]:7.1f}s {step:7.3f}s {peak:6.2f}GB   {ratio}")
    for name in ("products", "own-products"):
        if name in found and "ours" in found:
            # Within a round, as the machine may be busier in another.
            ratios = [one.step / bare.step for one, bare in zip(found["ours"], found[name], strict=True)]
            print(f"a step of ours / {name}: {statistics.median(ratios):.2f}")


def build(folder: Path, size: str) -> None:
    """A random CLIP model with a tokenizer and an image processor, in ``folder``."""
    import transformers

    import atha.backbones

    transformers.utils.logging.disable_progress_bar()
    nano = Path(atha.backbones.__file__).parent / atha.backbones.NANO
    text = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1, "max_position_embeddings": CONTEXT}
    config = transformers.CLIPConfig(vision_config=SIZES[size], text_config=text)
    transformers.CLIPModel(config).save_pretrained(folder)
    transformers.CLIPImageProcessor().save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(nano / name, folder)


def names(options: argparse.Namespace) -> list[str]:
    return [f"class number {index + 1}" for index in range(options.classes)]


def images(options: argparse.Namespace, count: int, seed: int) -> list[Any]:
    """Random pictures of the size that the model takes."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(seed)
    return [Image.fromarray(rng.integers(0, 255, (224, 224, 3), dtype=np.uint8)) for _ in range(count)]


class Stopwatch:
    """Times the steps; ``training`` counts the median for those that are not run."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.steps = options, [time.perf_counter()]

    def tick(self, *_: Any) -> None:
        self.steps.append(time.perf_counter())

    def timing(self, setup: float, queries: float) -> Timing:
        from atha import machine

        steps = [after - before for before, after in pairwise(self.steps)]
        step = statistics.median(steps)
        left = self.options.steps - self.options.timed
        return Timing(setup, step, sum(steps) + left * step, queries, machine.peak_memory() or 0)


def ours(options: argparse.Namespace) -> Timing:
    import torch

    # Not counted for any loop: importing libraries, which both of these names do when they are first used.
    from atha import Classifier, Recipe

    use_threads(torch, options)
    support, query = images(options, options.classes * options.shot, 0), images(options, options.queries, 1)
    overrides = {
        "training.steps": options.timed, "views.support": options.views, "training.precision": options.precision
    }  # fmt: skip
    labels = [name for name in names(options) for _ in range(options.shot)]
    before = time.perf_counter()
    classifier = Classifier.from_pretrained(options.folder, recipe=Recipe.load(options.recipe, overrides))
    watch: Stopwatch | None = None
    setup = 0.0

    def progress(_: Any) -> None:
        nonlocal watch, setup
        if watch is None:  # the first step is set-up's end and its own: what is made at the first use is set-up
            setup, watch = time.perf_counter() - before, Stopwatch(options)
        else:
            watch.tick()

    classifier.fit(list(zip(support, labels, strict=True)), callbacks=[progress])
    assert watch is not None
    fitted = time.perf_counter()
    classifier.predict_proba(query)
    return watch.timing(setup, time.perf_counter() - fitted)


def plain(options: argparse.Namespace, precision: str, compiled: bool = False) -> Timing:
    import peft
    import torch
    from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel

    use_threads(torch, options)
    count = options.classes * options.shot
    support, query = images(options, count, 0), images(options, options.queries, 1)
    if options.views == "five-view":
        support = [image for image in support for _ in range(5)]
    before = time.perf_counter()
    model: Any = CLIPModel.from_pretrained(options.folder)
    processor = CLIPImageProcessor.from_pretrained(options.folder)
    tokenizer = AutoTokenizer.from_pretrained(options.folder)
    config = peft.LoraConfig(
        r=RANK, lora_alpha=ALPHA, use_rslora=True, lora_dropout=DROPOUT, target_modules=["q_proj", "k_proj", "v_proj"]
    )
    model = peft.get_peft_model(model, config).base_model.model
    texts = [f"a photo of a {name}." for name in names(options)]
    ids = tokenizer(texts, padding="max_length", max_length=CONTEXT, return_tensors="pt")["input_ids"]
    labels = torch.arange(options.classes).repeat_interleave(len(support) // options.classes)
    pixels = processor(images=support, return_tensors="pt")["pixel_values"]
    trained = [value for value in model.parameters() if value.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=2e-4, weight_decay=0.01)

    def cosines(pixels: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bfloat16"):
            text = model.get_text_features(input_ids=ids).pooler_output
            image = model.get_image_features(pixel_values=pixels).pooler_output
        unit = torch.nn.functional.normalize
        return unit(image.float(), dim=-1) @ unit(text.float(), dim=-1).T

    if compiled:
        cosines = torch.compile(cosines)

    def step() -> None:
        optimiser.zero_grad()
        for some, wanted in zip(pixels.split(PART), labels.split(PART), strict=True):
            loss = torch.nn.functional.cross_entropy(2 * cosines(some), wanted, reduction="sum") / len(labels)
            loss.backward()
        optimiser.step()

    model.train()
    watch, setup = run_steps(options, step, before)
    model.eval()
    started = time.perf_counter()
    with torch.no_grad():
        for start in range(0, options.queries, PART):
            cosines(processor(images=query[start : start + PART], return_tensors="pt")["pixel_values"])
    return watch.timing(setup, time.perf_counter() - started)


def products(options: argparse.Namespace, only_needed: bool) -> Timing:
    """Products with frozen weights, forward and towards the input, and attention's; LoRA's own are left out."""
    import torch
    from transformers import CLIPConfig

    from atha.devices import resolve_precision

    use_threads(torch, options)
    precision = resolve_precision(options.precision, torch.device("cpu"))
    dtype = getattr(torch, precision)
    before = time.perf_counter()
    config = CLIPConfig.from_pretrained(options.folder)
    vision, text = config.vision_config, config.text_config
    count = options.classes * options.shot * (5 if options.views == "five-view" else 1)
    patches = (vision.image_size // vision.patch_size) ** 2 + 1
    words = 12 if only_needed else CONTEXT
    towers = [Tower(torch, vision, count, patches, dtype), Tower(torch, text, options.classes, words, dtype)]

    def step() -> None:
        for tower in towers:
            tower.run(training=True, one_row=only_needed and tower is towers[0])

    watch, setup = run_steps(options, step, before)
    started = time.perf_counter()
    for start in range(0, options.queries, PART):
        Tower(torch, vision, min(PART, options.queries - start), patches, dtype).run(
            training=False, one_row=only_needed
        )
    return watch.timing(setup, time.perf_counter() - started)


class Tower:
    """The products of one tower for ``count`` sequences of ``length`` tokens, a part of at most 16 at a time."""

    def __init__(self, torch: Any, config: Any, count: int, length: int, dtype: Any) -> None:
        self.torch, self.blocks, self.length, self.count = torch, config.num_hidden_layers, length, count
        width, inner, self.heads = config.hidden_size, config.intermediate_size, config.num_attention_heads
        part = min(count, 16)
        self.sizes = [len(rows) for rows in torch.arange(count).split(part)]
        new = torch.randn
        self.sides = {size: new(part * length, size, dtype=dtype) for size in (width, 3 * width, inner)}
        shapes = ((3 * width, width), (width, width), (inner, width), (width, inner))
        # Each block has weights of its own, as they do not stay in a cache.
        self.weights = [[new(*shape, dtype=dtype) for shape in shapes] for _ in range(self.blocks)]
        self.wide = new(part * self.heads, length, width // self.heads, dtype=dtype)
        self.square = new(part * self.heads, length, length, dtype=dtype)

    def run(self, training: bool, one_row: bool) -> None:
        for size in self.sizes:
            for block, weights in enumerate(self.weights):
                last = one_row and block == self.blocks - 1
                for number, weight in enumerate(weights):
                    rows = size if last and number > 0 else size * self.length
                    outer, inner = weight.shape
                    self.torch.mm(self.sides[inner][:rows], weight.T)
                    if training:
                        self.torch.mm(self.sides[outer][:rows], weight)
                queries = 1 if last else self.length
                wide, square = self.wide[: size * self.heads], self.square[: size * self.heads]
                self.attention(wide, wide[:, :queries], square[:, :queries], training)

    def attention(self, wide: Any, some: Any, square: Any, training: bool) -> None:
        bmm = self.torch.bmm
        for _ in range(2 if training else 1):
            bmm(some, wide.transpose(1, 2))
            bmm(square, wide)
        if training:
            for _ in range(2):
                bmm(square.transpose(1, 2), some)


def run_steps(options: argparse.Namespace, step: Callable[[], None], before: float) -> tuple[Stopwatch, float]:
    """The first step belongs to set-up, as in ours."""
    step()
    setup, watch = time.perf_counter() - before, Stopwatch(options)
    for _ in range(options.timed - 1):
        step()
        watch.tick()
    return watch, setup


def use_threads(torch: Any, options: argparse.Namespace) -> None:
    if options.threads:
        torch.set_num_threads(options.threads)


LOOP: dict[str, Callable[[argparse.Namespace], Timing]] = {
    "ours": ours,
    "plain-float32": lambda options: plain(options, "float32"),
    "plain-bfloat16": lambda options: plain(options, "bfloat16"),
    "compiled-bfloat16": lambda options: plain(options, "bfloat16", compiled=True),
    "products": lambda options: products(options, only_needed=False),
    "own-products": lambda options: products(options, only_needed=True),
}


if __name__ == "__main__":
    main()
