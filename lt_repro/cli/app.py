"""The app, its exit codes, and what the commands share. Results go to stdout, progress and notes to stderr."""

import atexit
import contextlib
import gc
import io
import json
import os
import sys
import unicodedata
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, ConsoleDimensions

from lt_repro import __version__
from lt_repro.cli.hints import with_hint
from lt_repro.data import sets
from lt_repro.errors import LtReproError

# Two seconds of a command that trains go into looking for unused cycles among torch's objects, as they are imported and
# when the process ends. Training makes next to none, and none that holds a tensor.
gc.set_threshold(10_000)
atexit.register(gc.freeze)


class _Console(Console):
    @property
    def is_terminal(self) -> bool:
        """Returns whether the output is a terminal that can move its cursor; any other gets plain lines, as a file."""
        dumb = os.environ.get("TERM", "").lower() in ("dumb", "unknown")
        return not self.file.closed and self.file.isatty() and not dumb

    @property  # type: ignore[misc]
    def size(self) -> ConsoleDimensions:
        """Returns columns and lines; without a terminal there is no edge at which text is cut or wrapped."""
        return super().size if self.is_terminal else ConsoleDimensions(1_000_000, 25)

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError from None  # without an errno: typer and rich would exit with 1 on it


_PLAIN: Any = {"markup": False, "emoji": False, "highlight": False}  # paths and names are printed as they are
out, err = _Console(**_PLAIN), _Console(stderr=True, **_PLAIN)
app = typer.Typer(
    help="Reproduce long-tailed recognition papers, table by table, with the published number beside ours.",
    epilog="Start with `ltrepro demo`. `ltrepro COMMAND --help` has examples; --debug shows the traceback of an error.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

PANELS = {
    "Start": ("demo", "make-dataset", "train"),
    "Tables and figures": (
        *("reproduce", "check", "compare", "ablation-table", "branch-table", "crt", "plot-classes", "plot-hparams"),
        "tables",
    ),
    "Runs": ("status", "show", "evaluate", "diff", "collect", "verify", "migrate"),
    "About": ("methods", "readings", "bench"),
}
"""The groups of commands in `ltrepro --help`, in the order that they are shown in."""


def arrange() -> None:
    """Puts every command into its group of `PANELS`; one that is in none is listed after them."""
    panels = {name: panel for panel, names in PANELS.items() for name in names}
    places = list(panels)

    def place(command: Any) -> int:
        name = command.name or command.callback.__name__.replace("_", "-")
        command.rich_help_panel = panels.get(name, command.rich_help_panel)
        return places.index(name) if name in panels else len(places)

    app.registered_commands.sort(key=place)


DataRoot = Annotated[
    Path | None,
    typer.Option(help="Folder that holds the data sets.", envvar="LTREPRO_DATA", show_default="user data folder"),
]
Runs = Annotated[
    list[Path] | None,
    typer.Option(
        "--runs",
        help="Folder to search for runs, before tables/runs; repeatable. New runs go into the first.",
        envvar="LTREPRO_RUNS",
        show_default="./runs",
    ),
]
DATASETS = (
    f"Images: {', '.join(sets.names())}, npz:FILE (MedMNIST's layout) or folder:DIR (train/CLASS/ and test/CLASS/)."
)
Dataset = Annotated[str, typer.Option(help=DATASETS)]
Device = Annotated[
    str, typer.Option(help="Where to compute: cpu, cuda, mps, or auto, which takes cuda, else mps, else cpu.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


def main() -> None:
    """Runs the command line and exits with 0, 1, 2, 5 (the budget is spent) or 128 + the signal's number."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a console without "±" shows "?" instead of an error
    debug = "--debug" in sys.argv
    words = [word for word in sys.argv[1:] if word != "--debug"]
    try:
        sys.exit(app(words, standalone_mode=False, prog_name="ltrepro"))
    except (KeyboardInterrupt, typer.Abort) as stopped:
        lines, code = [str(stopped) or "stopped"], getattr(stopped, "exit_code", 130)
    except BrokenPipeError:  # the reader has closed the pipe, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        lines, code = [], 0
    except Exception as error:
        lines, code = _as_lines(error, words[0] if words else "")
        if debug:
            err.print_exception()
    for number, line in enumerate(lines[:3]):
        say(("  " if number else "" if code > 128 else "error: ") + line)
    sys.exit(code)


_USAGE: Any = typer.BadParameter.__mro__[2]  # click's ClickException, wherever this version of typer keeps it


_HABITS = {  # options of other code bases of this field, and what to type here
    **dict.fromkeys(("resume", "checkpoint", "ckpt", "start-epoch"), "rerun the same command: it resumes by itself"),
    **dict.fromkeys(
        ("imb-factor", "imbalance-factor", "imb-ratio", "train-ratio"), "type --ratio 100 for a factor of 0.01"
    ),
    **dict.fromkeys(("gpu", "gpus", "cuda", "no-cuda"), "type --device cuda or --device cpu"),
    **dict.fromkeys(("loss-type", "loss", "train-rule"), "type --method NAME; `ltrepro methods` lists them"),
    **dict.fromkeys(("arch-name", "model", "backbone", "net"), "type --set net=resnet32"),
    **dict.fromkeys(("data", "root", "data-path", "data-dir"), "type --data-root DIR"),
    **dict.fromkeys(("output", "save-dir", "root-log", "root-model", "log-dir"), "type --out DIR"),
    **dict.fromkeys(
        ("imb-type", "momentum", "warmup", "milestones", "nesterov", "normalise"), "type --set field=value"
    ),
    **dict.fromkeys(("rand-number", "random-seed", "manual-seed"), "type --seed N, or --split-seed N for the split"),
    **dict.fromkeys(("lr", "learning-rate"), "type --lr 0.1"),
    **dict.fromkeys(("batch-size", "b"), "type --batch-size 128"),
    **dict.fromkeys(("weight-decay", "wd"), "type --weight-decay 2e-4"),
    **dict.fromkeys(("workers", "num-workers", "j"), "leave it out: images are augmented where they are trained on"),
}


def _as_lines(error: Exception, command: str) -> tuple[list[str], int]:
    """Returns a command's error as at most three lines for the user, and the exit code."""
    if isinstance(error, _USAGE):
        habit = _HABITS.get(getattr(error, "option_name", "").lstrip("-").replace("_", "-"))
        return [
            error.format_message(),
            habit or "`ltrepro --help` and `ltrepro COMMAND --help` list what is allowed",
        ], 2
    if isinstance(error, LtReproError):
        group: Any = typer.main.get_command(app)
        parameters = group.commands[command].params if command in group.commands else ()
        return with_hint(error, [name for each in parameters for name in each.opts]), error.exit_code
    if hasattr(error, "exit_code"):
        return str(error).splitlines()[:3], error.exit_code
    if isinstance(error, OSError) and error.strerror:  # no file name: stdout, for example on a full disk
        place = "the output" if error.filename is None else str(error.filename)
        return [f"cannot use {place}: {error.strerror}"], 1
    first = f"{type(error).__name__}: {error}".splitlines()[0]
    return [first, "this is a bug in ltrepro; --debug shows the traceback"], 1


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        put(__version__)
        raise typer.Exit


def printable(text: str) -> str:
    """Returns the text with control characters as question marks, since run files come from anywhere."""
    return "".join("?" if _controls(sign) else sign for sign in text)


def _controls(sign: str) -> bool:
    """Returns whether a character moves the cursor, breaks a line, turns the direction of text, or is half of one."""
    turns = unicodedata.bidirectional(sign) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    return turns or unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp")


def put(line: str) -> None:
    """Prints a result to stdout as it is: no markup, no wrapping."""
    out.print(printable(line), soft_wrap=True)


def put_prose(line: str) -> None:
    """Prints a sentence to stdout: on a terminal it is broken between words, elsewhere it stays one line."""
    out.print(printable(line))


def say(line: str) -> None:
    """Prints a note to stderr as it is; a closed stderr stops no work."""
    with contextlib.suppress(BrokenPipeError):
        err.print(printable(line), soft_wrap=True)


def put_json(content: Any) -> None:
    """Prints one JSON document to stdout; NaN raises an error."""
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    try:
        out.file.write(text)
        out.file.flush()
    except BrokenPipeError:
        out.on_broken_pipe()
