"""``atha demo``: the main job on parts that come with the package."""

from json import dumps
from pathlib import Path
from typing import Annotated

import typer

from atha.cli import common
from atha.cli.common import verb


@verb
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the digits and the adapter.")] = Path("atha-demo"),
    images: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Only write the digits as class folders, 5 of each class to learn from, N to test on.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Fixes all that is random.")] = 0,
    json: common.Json = False,
    debug: common.Debug = False,
) -> None:
    """Adapt the built-in model to handwritten digits, from 5 images per class; takes a minute or two."""
    if images is not None:
        from atha.demo import write_digits

        write_digits(out / "digits", seed, images)
        common.print_text(f"Digits in {out / 'digits' / 'support'} and {out / 'digits' / 'test'}")
        return
    common.say("nano, a small CLIP that never saw a handwritten digit, learns ten of them from 5 images each.")
    common.say("Loading libraries ...")
    from atha.demo import ATHA, AUTO, LORA, MEMBERS, OVERRIDES, SHOT, run_demo

    with common.stages() as advance:
        result = run_demo(out, seed, advance)
    if json:
        common.print_json(
            {
                name: {**evaluation.to_dict(), "seconds": result.seconds[name]}
                for name, evaluation in result.evaluations.items()
            }
        )
        return
    common.print_table(common.comparison(result.evaluations, result.seconds))
    common.print_text(common.difference(result.evaluations, AUTO, "linear probe"))
    common.print_text(common.difference(result.evaluations, ATHA, LORA))
    common.print_text(
        f"Recipe: paper with {', '.join(OVERRIDES)}, blended as auto is; {SHOT} support images per class, seed {seed}."
    )
    common.print_text(
        "The intervals are over test images: another support set (--seed) can change the order of the rows."
    )
    common.print_text(f"Adapter saved in {result.adapter}")
    members = dumps(MEMBERS, separators=(",", ":"))
    overrides = " ".join(f"--set {override}" for override in (*OVERRIDES, f"'blend.members={members}'"))
    for line in (
        "",
        "The same by hand, and on your own folder of class folders:",
        f"  atha fit {result.support} --model nano --recipe paper {overrides} --eval {result.test} --out my-adapter",
        f"  atha predict {result.adapter} {result.test / 'digit_seven'}",
        "  atha fit YOUR_SUPPORT --model openai/clip-vit-base-patch16 --eval YOUR_TEST --out my-adapter",
    ):
        common.print_text(line)
