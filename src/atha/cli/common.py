"""What the verbs share: consoles, options, progress, and errors as one sentence."""

import errno
import json
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TextIO

import typer
from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from atha import defaults
from atha.documents import escaping
from atha.documents.escaping import terminal
from atha.documents.tables import Table, to_terminal
from atha.errors import AthaError, AthaWarning

if TYPE_CHECKING:
    from atha.evaluation import Evaluation


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """The same error as where there is no rich, which would end the process here."""
        raise BrokenPipeError


out = _Console(highlight=False)
err = _Console(stderr=True, highlight=False)

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1, help="That compute, on a CPU. What is fitted differs in last bits. (default: one for each core)"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of tables.")]
BatchSize = Annotated[
    int | None,
    typer.Option(
        min=1, help=f"Images that go through the model at once. (default: {defaults.BATCH_SIZE}, or what memory allows)"
    ),
]
Model = Annotated[
    str, typer.Option(help="nano, a hub id, a folder, a safetensors file, or open_clip:...; see atha info --models.")
]
Plain = Annotated[
    bool, typer.Option("--plain", help="Look at the plain view of an image alone: faster where a blend has more views.")
]
Bands = Annotated[
    str | None,
    typer.Option(
        metavar="R,G,B",
        help="Of images with many bands: numbers from 1 of those that are red, green and blue, such as 4,3,2; or one, "
        "for grey. (default: as each file says)",
    ),
]
MaxPixels = Annotated[int, typer.Option(min=1, help="Larger images are refused. Memory grows with it.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
Backbone = Annotated[
    str | None, typer.Option("--model", help="Where the adapter's backbone is now, if not where it was.")
]
Download = Annotated[
    bool,
    typer.Option(
        "--download", help="Get the backbone that the adapter names from the model hub, if it is not on this machine."
    ),
]


def verb(function: Callable[..., None]) -> Callable[..., None]:
    """Run a verb: its errors become one sentence and an exit code, 2 for the user's mistakes and 1 for ours."""

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> None:
        debug = kwargs.get("debug", False)
        try:
            with _plain_warnings(debug):
                function(*args, **kwargs)
        except AthaError as error:
            _fail(str(error), 2, debug)
        except KeyboardInterrupt:
            _fail("stopped by the keyboard, nothing half-written is left", 130, debug)
        except BrokenPipeError:  # the reader of what is said on stderr has gone: nobody can be told
            _silence(sys.stderr)
            raise typer.Exit(1) from None
        except typer.Exit:
            raise
        except OSError as error:
            if error.filename is None:
                _fail_by(error, debug)
            _fail(f"{os.fsdecode(error.filename)} cannot be used ({error.strerror}): {_mend(error)}", 2, debug)
        except MemoryError:
            _fail("out of memory, lower --batch-size or choose a smaller --model", 1, debug)
        except Exception as error:
            if "out of memory" in str(error):
                _fail(
                    "the device is out of memory, lower --batch-size, choose a smaller --model or --device cpu",
                    1,
                    debug,
                )
            _fail_by(error, debug)

    return run


def _fail_by(error: Exception, debug: bool) -> NoReturn:
    reason = " ".join(str(error).split())[:300]
    _fail(f"a fault of atha, not yours ({type(error).__name__}: {reason}): report it with --debug's output", 1, debug)


def _mend(error: OSError) -> str:
    """What to do about what the system says of a file that nobody looked at before."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "free space, or choose another place"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "check its permissions, or choose another place"
    return "check the path"


def _fail(sentence: str, code: int, debug: bool) -> NoReturn:
    if debug:
        for line in traceback.format_exc().splitlines():
            say(line)
    say_error(sentence)
    raise typer.Exit(code)


def say_error(sentence: str) -> None:
    """The last sentence of a command that failed."""
    err.print(Text.assemble(("Error: ", "bold red"), terminal(" ".join(sentence.split()))), soft_wrap=True)


@contextmanager
def _plain_warnings(debug: bool) -> Iterator[None]:
    """Our warnings as sentences, each once; other libraries' only with --debug."""
    said: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        if issubclass(category, AthaWarning):
            if str(message) not in said:
                warn(str(message))
            said.add(str(message))
        elif debug:
            err.print(Text(terminal(f"{category.__name__}: {message}"), style="dim"), soft_wrap=True)

    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.simplefilter("always", AthaWarning)
        warnings.showwarning = show
        yield


def warn(sentence: str) -> None:
    """A sentence on stderr that does not stop the work."""
    err.print(Text.assemble(("Warning: ", "yellow"), terminal(sentence)), soft_wrap=True)


def say(sentence: str) -> None:
    """A sentence on stderr about what is going on."""
    err.print(Text(terminal(sentence)), soft_wrap=True)


def is_interactive() -> bool:
    """Whether somebody is there to be asked."""
    return sys.stdin is not None and sys.stdin.isatty() and err.is_terminal


def print_json(content: Any) -> None:
    """JSON on stdout, and nothing else there."""
    write(escaping.json(json.dumps(content, indent=2, ensure_ascii=False, default=str, allow_nan=False)) + "\n")


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Callable[..., None]]:
    """A progress bar on stderr; yields a function to call with (done, total, loss or nothing)."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=err) as bar:
        task = bar.add_task(terminal(what), total=total, note="")

        def advance(done: int, of: int, loss: float | None = None) -> None:
            bar.update(task, completed=done, total=of, note="" if loss is None else f"loss {loss:.3f}")

        yield advance


@contextmanager
def stages() -> Iterator[Callable[[str, int, int], None]]:
    """One progress bar per stage of a longer job; yields a function to call with (stage, done, total)."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err) as bar:
        tasks: dict[str, Any] = {}

        def advance(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(terminal(stage), total=total)
            bar.update(tasks[stage], completed=done)

        yield advance


def print_line(content: Any) -> None:
    """One JSON object on one line of stdout."""
    write(escaping.json(json.dumps(content, ensure_ascii=False, allow_nan=False)) + "\n")


def write(text: str) -> None:
    """Text on stdout as it is; names in it are escaped already, for what they are in."""
    with _heard():
        sys.stdout.write(text)
        sys.stdout.flush()  # else what cannot be written is noticed when nobody can say so any more


def print_table(table: Table, whole: bool = False) -> None:
    """A table with its notes. ``whole``: at its own width, whatever the terminal's, where broken figures mislead."""
    made, console = to_terminal(table), out
    if whole:
        width = Measurement.get(out, out.options.update(max_width=1000), made).maximum
        console = _Console(width=max(width, out.width), highlight=False)
    with _heard():
        console.print(made)
    for note in table.notes:
        print_text(note)


def print_text(sentence: str) -> None:
    """A result on stdout, never read as markup, never wrapped."""
    with _heard():
        out.print(Text(terminal(sentence)), soft_wrap=True)


@contextmanager
def _heard() -> Iterator[None]:
    """Printing on stdout.

    Raises:
        AthaError: what is printed reaches nobody.
    """
    if sys.stdout is None:
        raise AthaError("there is no output to print to, it is closed: leave it open, such as with > FILE")
    try:
        yield
    except OSError as error:
        raise AthaError(unheard(error)) from None


def unheard(error: OSError) -> str:
    """Why what is printed on stdout reaches nobody; no more of it is."""
    _silence(sys.stdout)
    if isinstance(error, BrokenPipeError):
        return "the reader of the output has gone, the rest of it is not printed"
    return f"the output cannot be written ({error.strerror}): {_mend(error)} for it"


def _silence(stream: TextIO) -> None:
    """Let what a stream still holds go nowhere: Python tries once more when it ends."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def comparison(evaluations: Mapping[str, "Evaluation"], seconds: Mapping[str, float] | None = None) -> Table:
    """Methods on the same test images: accuracy, interval and, where given, seconds."""
    from atha.documents.words import share_percent

    first = next(iter(evaluations.values()))
    headers = ["method", "accuracy", "95% interval", *(["seconds"] if seconds else [])]
    rows = [
        [name, *share_percent(result.share), *([f"{seconds[name]:.1f}"] if seconds else [])]
        for name, result in evaluations.items()
    ]
    return Table(f"{len(first.truth)} test images", headers, rows)


def difference(evaluations: Mapping[str, "Evaluation"], name: str, baseline: str) -> str:
    """One sentence on the paired difference of two methods."""
    from atha.documents.words import paired_sentence

    return paired_sentence(name, baseline, *evaluations[name].minus(evaluations[baseline]))


def read_bands(given: str | None) -> tuple[int, ...] | None:
    """The value of ``--bands``."""
    from atha.data.reading import parse_bands

    return None if given is None else parse_bands(given)


def read_classes(path: Path | None) -> Any:
    """The content of ``--classes``."""
    from atha.prompts import read_classes_file

    return None if path is None else read_classes_file(path)
