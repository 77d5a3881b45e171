"""The command line: one file per verb. Nothing heavy is imported before a verb runs, so that ``--help`` is instant."""

import gc
import os
import sys
from typing import Annotated

import typer

from atha.cli import (
    add,
    bench,
    common,
    data,
    demo,
    env,
    evaluate,
    examples,
    explain,
    export,
    fit,
    info,
    label,
    predict,
    push,
    report,
    serve,
    study,
    suggest,
)

app = typer.Typer(
    name="atha",
    help="Adapt CLIP-like models to images they have never seen the like of, from a handful of labelled ones.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
#: By what a user is about to do. A new verb is a line here.
START, USE, COMPARE, LOOK = "Start", "Use", "Compare", "Look inside"
for verb, panel in (
    (demo.demo, START),
    (fit.fit, START),
    (label.label, START),
    (suggest.suggest, START),
    (add.add, START),
    (predict.predict, USE),
    (evaluate.evaluate, USE),
    (export.export, USE),
    (serve.serve, USE),
    (push.push, USE),
    (explain.explain, LOOK),
    (report.report, LOOK),
    (info.info, LOOK),
    (env.env, LOOK),
):
    app.command(rich_help_panel=panel)(verb)
app.add_typer(data.app, name="data", rich_help_panel=START)
app.add_typer(bench.app, name="bench", rich_help_panel=COMPARE)
app.add_typer(study.app, name="study", rich_help_panel=COMPARE)
examples.show(app)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"atha {version('atha')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point of the ``atha`` command."""
    # Libraries leave a million objects that stay: looking among them for garbage is a tenth of a short command's time.
    gc.set_threshold(20_000, 20, 20)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # its retries end in our own sentence
    try:
        app()
    except OSError as error:  # of --help and --version; those of verbs are told by themselves
        common.say_error(common.unheard(error))
        sys.exit(2)
