"""The command line: parse, call, print. Results go to stdout, progress and notes to stderr.

Nothing heavy is imported before a command runs, so that every `--help` answers at once.
"""

import json
import os
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table as Grid

from lt_repro import __version__
from lt_repro.errors import RequestError, unknown

if TYPE_CHECKING:
    from lt_repro.data.pools import Pool
    from lt_repro.data.split import Split
    from lt_repro.paper.table import Table
    from lt_repro.recipe import Recipe
    from lt_repro.render.cells import Measured
    from lt_repro.runs import Run
    from lt_repro.train import Lane

out, err = Console(), Console(stderr=True)
app = typer.Typer(
    help="Reproduce long-tailed recognition papers, table by table, with the published number beside ours.",
    epilog="First: `ltrepro demo`, or `ltrepro make-dataset cifar100 --ratio 100`. --debug shows tracebacks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

DataRoot = Annotated[
    Path | None, typer.Option(help="Folder of the data sets.", envvar="LTREPRO_DATA", show_default="user data folder")
]
Runs = Annotated[
    list[Path] | None,
    typer.Option("--runs", help="Folder of runs; repeatable.", envvar="LTREPRO_RUNS", show_default="./runs"),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Ratios = Annotated[list[float] | None, typer.Option("--ratio", help="Imbalance ratio, n_max / n_min; repeatable.")]
Seeds = Annotated[str | None, typer.Option(help="Such as 0-2 or 0,3.")]
Plan = Annotated[bool, typer.Option("--plan", help="Print the command that fills each missing cell.")]
Fill = Annotated[bool, typer.Option("--run", help="Train what is missing, one after the other, then render.")]
Dataset = Annotated[str, typer.Option(help="cifar10, cifar100, digits or npz:FILE.")]


def main() -> None:
    """Runs the command line and exits with the codes of the project: 0, 1, 2, or 128 + the signal's number."""
    debug = "--debug" in sys.argv
    words = [word for word in sys.argv[1:] if word != "--debug"]
    try:
        sys.exit(app(words, standalone_mode=False, prog_name="ltrepro"))
    except (KeyboardInterrupt, typer.Abort):
        lines, code = ["stopped"], 130
    except BrokenPipeError:  # the reader has gone, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        lines, code = [], 0
    except Exception as error:
        lines, code = _told(error)
        if debug:
            err.print_exception()
    for number, line in enumerate(lines[:3]):
        err.print(("error: " if number == 0 else "  ") + line, markup=False, highlight=False, soft_wrap=True)
    sys.exit(code)


def _told(error: Exception) -> tuple[list[str], int]:
    """Returns what a user is told of an error, in at most three lines, and the exit code."""
    if isinstance(error, _USAGE):
        return [error.format_message(), "`ltrepro --help` and `ltrepro COMMAND --help` list what is allowed"], 2
    if hasattr(error, "exit_code"):
        return str(error).splitlines(), error.exit_code
    first = f"{type(error).__name__}: {error}".splitlines()[0]
    return [first, "this is a fault of ltrepro; --debug shows where"], 1


_USAGE: Any = typer.BadParameter.__mro__[2]  # click's ClickException, wherever this version of typer keeps it


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        out.print(__version__, highlight=False)
        raise typer.Exit


@app.command()
def make_dataset(
    name: Annotated[str, typer.Argument(help="cifar10, cifar100, digits or npz:FILE (MedMNIST layout).")],
    ratio: Annotated[float | None, typer.Option(help="Imbalance ratio, n_max / n_min.", show_default="100")] = None,
    imb_factor: Annotated[float | None, typer.Option(help="1 / ratio, as LDAM's code has it.")] = None,
    profile: Annotated[str, typer.Option(help="How class sizes fall: exp or step.")] = "exp",
    split_seed: Annotated[int, typer.Option(help="Which draw; 0 is the field's.")] = 0,
    data_root: DataRoot = None,
    no_download: Annotated[bool, typer.Option("--no-download", help="Never use the network.")] = False,
    to: Annotated[Path | None, typer.Option("--out", help="File to write.", show_default="./splits/...")] = None,
    as_json: Json = False,
) -> None:
    """Make a long-tailed split, downloading CIFAR when it is missing.

    [bold]ltrepro make-dataset cifar100 --ratio 100[/bold]

    [bold]ltrepro make-dataset npz:bloodmnist.npz --imb-factor 0.02 --profile step[/bold]
    """
    from lt_repro import files
    from lt_repro.data import pools
    from lt_repro.data.split import make_split

    if ratio is not None and imb_factor is not None:
        raise RequestError("--ratio and --imb-factor at once", "allowed: one of them; --imb-factor 0.01 is --ratio 100")
    if imb_factor is not None and not 0 < imb_factor <= 1:
        raise RequestError(f"--imb-factor {imb_factor:g}", "allowed: above 0, up to 1; 0.01 is --ratio 100")
    if imb_factor is not None:
        ratio = float(f"{1 / imb_factor:.12g}")  # 1 / 0.01 is not 100 in binary
    root = pools.data_root(data_root)
    try:
        pool = pools.load_pool(name, root)
    except pools.NotThere:
        if no_download:
            raise
        _download(name, root)
        pool = pools.load_pool(name, root)
    split = make_split(
        pool.train_labels,
        ratio=100.0 if ratio is None else ratio,
        profile=profile,
        seed=split_seed,
        hold_out=pool.hold_out,
        name=pool.name,
    )
    images = pools.select(pool, split)
    path = to or Path("splits") / f"{pool.name}-{profile}-r{split.ratio:g}-s{split_seed}.json"
    content = split.to_json() | {"n_test": len(images.test_labels)}
    text = json.dumps(content, indent=1)
    if path.exists() and path.read_text(errors="replace") != text:
        raise RequestError(
            f"{path} stands there with another content", "nothing was changed", "move it away, or --out FILE"
        )
    files.write(path, text.encode())
    if as_json:
        _print_json(content | {"path": str(path)})
        return
    _histogram(split, pool.class_names)
    groups = ", ".join(f"{number} {group}" for group, number in content["groups"].items())
    out.print(
        f"{content['n_train']:,} training and {content['n_test']:,} test images, {len(split.counts)} classes: {groups}"
    )
    out.print(f"digest {split.digest}", highlight=False, soft_wrap=True)
    out.print(str(path), highlight=False, soft_wrap=True)


def _download(name: str, root: Path) -> None:
    from lt_repro.data.pools import download

    if not err.is_terminal:
        err.print(f"downloading {name} to {root}", highlight=False, soft_wrap=True)
        download(name, root, lambda done, total: None)
        return
    columns = (TextColumn(f"downloading {name}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err) as bar:
        task = bar.add_task("", total=None)
        download(name, root, lambda done, total: bar.update(task, completed=done, total=total or None))


def _histogram(split: "Split", class_names: Sequence[str]) -> None:
    counts = split.counts.tolist()
    rows = min(len(counts), 20)
    bounds = [round(i * len(counts) / rows) for i in range(rows + 1)]
    for low, high in pairwise(bounds):
        part = counts[low:high]
        label = class_names[low] if high - low == 1 else f"classes {low}-{high - 1}"
        size = f"{part[0]}" if part[0] == part[-1] else f"{part[0]} to {part[-1]}"
        bar = "█" * max(1, round(40 * sum(part) / len(part) / max(counts)))
        out.print(f"{label[:16]:>16}  {size:>12}  {bar}", markup=False, highlight=False)


@app.command()
def train(
    dataset: Dataset = "cifar100",
    ratio: Annotated[float | None, typer.Option(help="Imbalance ratio, n_max / n_min.", show_default="100")] = None,
    arch: Annotated[str | None, typer.Option(help="sbn (one branch) or dbn (two).")] = None,
    mix: Annotated[str | None, typer.Option(help="none, mixup or bilateral.")] = None,
    tscale: Annotated[bool, typer.Option("--tscale", help="Class-conditional temperature scaling.")] = False,
    alpha: Annotated[float | None, typer.Option(help="Of Beta(alpha, alpha).", show_default="paper's")] = None,
    gamma: Annotated[float | None, typer.Option(help="Of the reverse sampler; inf is balanced.")] = None,
    eta: Annotated[float | None, typer.Option(help="Of the temperatures; inf turns them off.")] = None,
    eps: Annotated[float | None, typer.Option(help="Of the temperatures.", show_default="paper's")] = None,
    epochs: Annotated[int | None, typer.Option(help="Length of training.", show_default="paper's, 200")] = None,
    seed: Annotated[int | None, typer.Option(help="Of initial weights and all draws.", show_default="0")] = None,
    split_seed: Annotated[int | None, typer.Option(help="Which draw of the split; 0 is the field's.")] = None,
    method: Annotated[str | None, typer.Option(help="A method by name; `ltrepro methods` lists them.")] = None,
    assign: Annotated[list[str] | None, typer.Option("--set", help="field=value; repeatable.")] = None,
    device: Device = "auto",
    precision: Annotated[str | None, typer.Option(help="auto, fp32 or bf16.", show_default="auto")] = None,
    eval_every: Annotated[int, typer.Option(min=1, help="Epochs between points of the test curve.")] = 10,
    folder: Annotated[Path, typer.Option("--out", envvar="LTREPRO_RUNS", help="Folder of the run.")] = Path("runs"),
    data_root: DataRoot = None,
    as_json: Json = False,
) -> None:
    """Train one run; stopped and called again, it goes on. Prints the run file's path last.

    [bold]ltrepro train --arch dbn --mix bilateral --tscale[/bold]

    [bold]ltrepro train --dataset digits --ratio 60 --mix mixup --seed 1[/bold]

    [bold]ltrepro train --arch dbn --mix bilateral --tscale --set part=layer3 --epochs 10[/bold]

    The last epoch's accuracy is the result. A data set's settings are the paper's; what is given here wins.
    """
    from lt_repro.data import pools
    from lt_repro.sweep.local import run_all

    short: dict[str, Any] = {"branches": _branches(arch), "mix": mix, "tscale": tscale or None}
    flags: dict[str, Any] = {"alpha": alpha, "gamma": gamma, "eta": eta, "eps": eps, "epochs": epochs}
    flags |= {"ratio": ratio, "seed": seed, "split_seed": split_seed, "precision": precision}
    if method is not None and any(value is not None for value in short.values()):
        raise RequestError(
            "--method and --arch, --mix or --tscale at once",
            "allowed: one way of saying it; the latter are short for the fields of method dbn_mix",
            f"type --method {method} --set field=value, or leave --method out",
        )
    given = {name: value for name, value in (short | flags).items() if value is not None}
    pool = pools.load_pool(dataset, pools.data_root(data_root))
    recipe = _recipe(pool.name, method or "dbn_mix", given, assign or [])
    with _Watch(as_json) as watch:
        runs = run_all([recipe], pool, folder, device=device, eval_every=eval_every, watch=watch)
        run = next(iter(runs))
    if as_json:
        _print_json(run.to_json() | {"path": str(run.path)})
    elif run.status == "done":
        _print_result(run)
    if run.diverged:
        where = f"epoch {run.diverged['epoch'] + 1}, step {run.diverged['step'] + 1}"
        err.print(
            f"diverged: the loss was not finite at {where}; the run file says so", highlight=False, soft_wrap=True
        )
    if not as_json:
        out.print(str(run.path), highlight=False, soft_wrap=True)
    raise typer.Exit(1 if run.diverged else 0)


def _branches(arch: str | None) -> int | None:
    choices = {None: None, "sbn": 1, "dbn": 2}
    if arch not in choices:
        raise unknown(
            "--arch", str(arch), ["sbn", "dbn"], "sbn has one branch, dbn a conventional and a re-balancing one"
        )
    return choices[arch]


def _recipe(dataset: str, method: str, given: dict[str, Any], assign: list[str]) -> "Recipe":
    """Returns the recipe of options and of `--set field=value`, refusing what is said twice or decides nothing."""
    from lt_repro import fields
    from lt_repro.paper.settings import recipe
    from lt_repro.recipe import Recipe, find, settings

    cls = find(method)
    for text in assign:
        name, equals, value = text.partition("=")
        if name not in settings(cls) or name == "dataset":
            raise unknown("setting", name, set(settings(cls)) - {"dataset"}, "type --set field=value")
        if not equals:
            raise RequestError(f"--set {text}", "allowed: --set field=value")
        if name in given:
            raise RequestError(f"{name} is given twice", "allowed: an option or --set, and each setting once")
        given[name] = fields.parse(Recipe if name in fields.types(Recipe) else cls, name, value)
    for name in given:
        if name not in settings(cls):
            raise RequestError(f"--{name} with method {method}", f"allowed: {', '.join(settings(cls))}")
    chosen = recipe(dataset, method, **given)
    idle = sorted(chosen.method.unused() & given.keys())
    if idle:
        raise RequestError(
            f"{', '.join(idle)} would decide nothing here",
            "allowed: alpha with --mix, eta and eps with --tscale, gamma and part with two branches",
            "leave it out, or add what it belongs to",
        )
    return chosen


class _Watch:
    """Shows a run under way on stderr: a live line on a terminal, else a plain line per point of the curve."""

    def __init__(self, quiet: bool = False, label: str = "") -> None:
        self.quiet, self.label = quiet, label
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[figures]}"))
        self.bar = Progress(*columns, console=err, transient=True, disable=quiet or not err.is_terminal)
        self.task = self.bar.add_task("starting", total=None, figures="")
        self.lane: Lane | None = None
        self.points, self.began, self.shown = 0, (0.0, 0), 0.0

    def __enter__(self) -> "_Watch":
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def __call__(self, lane: "Lane") -> None:
        now, total = time.monotonic(), lane.recipe.epochs * lane.steps
        done = lane.epoch * lane.steps + lane.step
        if lane is not self.lane:  # a new run: time what this process does, not what it found
            self.lane, self.began, self.points = lane, (now, done - 1), len(lane.curve)
        left = (now - self.began[0]) / max(1, done - self.began[1]) * (total - done)
        speed = lane.passes / max(1e-9, lane.train_seconds + (now - lane.begun if lane.step else 0.0))
        loss = f"loss {lane.losses[-1]:.3f}, " if lane.losses else ""
        accuracy = f"accuracy {100 * lane.curve[-1]['all']:.2f} %, " if lane.curve else ""
        epoch = f"epoch {lane.epoch}/{lane.recipe.epochs}"
        figures = f"{loss}{accuracy}{speed:,.0f} images/s, {_clock(left)} left"
        if self.bar.disable:
            fresh = lane.done if self.label else len(lane.curve) > self.points  # of a queue, a line a run is enough
            if fresh and not self.quiet:
                self.points = len(lane.curve)
                err.print(f"{self.label}{epoch}: {figures}", highlight=False, soft_wrap=True)
        elif now - self.shown > 0.1 or done == total:
            self.shown = now
            self.bar.update(self.task, description=self.label + epoch, total=total, completed=done, figures=figures)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


@app.command()
def ablation_table(
    dataset: Dataset = "cifar100",
    ratio: Ratios = None,
    epochs: Annotated[int | None, typer.Option(help="Of the runs to show.", show_default="paper's, 200")] = None,
    seeds: Seeds = None,
    plan: Plan = False,
    run: Fill = False,
    runs: Runs = None,
    to: Annotated[Path, typer.Option("--out", help="Folder of the rendered files.")] = Path("tables"),
    data_root: DataRoot = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Render the ablation of DBN-Mix (Table 4) from the runs found, beside the published numbers.

    [bold]ltrepro ablation-table[/bold]

    [bold]ltrepro ablation-table --plan[/bold]

    [bold]ltrepro ablation-table --dataset digits --ratio 60 --run[/bold]

    Writes table4.md, .csv and .tex. Missing cells show —. Runs of another length stay out; --epochs shows them.
    """
    from lt_repro.paper.dbn_mix import TABLE4, ratios
    from lt_repro.render import text

    pool, name = _pool_of(dataset, data_root, needed=run)
    columns = ratios(*ratio) if ratio else None
    table = _seeded(TABLE4.within(columns, dataset=name, epochs=epochs), seeds)
    if plan:
        return _print_plan([table], dataset, runs, as_json)
    if run:
        _run_missing([table], pool, runs, device)
    measured, notes, bad = _measured(table, runs)
    paths = [
        _write(to / f"{table.id}.md", text.markdown(table, measured, notes)),
        _write(to / f"{table.id}.csv", text.csv(table, measured)),
        _write(to / f"{table.id}.tex", text.latex(table, measured, notes)),
    ]
    _print_measured([(table, measured)], as_json, paths)
    raise typer.Exit(1 if bad else 0)


@app.command()
def plot_hparams(
    dataset: Dataset = "cifar100",
    ratio: Annotated[float | None, typer.Option(help="Imbalance ratio.", show_default="100")] = None,
    epochs: Annotated[int | None, typer.Option(help="Of the runs to show.", show_default="paper's, 200")] = None,
    seeds: Seeds = None,
    plan: Plan = False,
    run: Fill = False,
    runs: Runs = None,
    to: Annotated[Path, typer.Option("--out", help="Folder of the figures.")] = Path("figures"),
    data_root: DataRoot = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Plot DBN-Mix against its hyper-parameters (Fig. 3): eta and eps, alpha, gamma.

    [bold]ltrepro plot-hparams[/bold]

    [bold]ltrepro plot-hparams --plan[/bold]

    Writes fig3a, fig3b and fig3c as .png and .svg, with the numbers as .csv.
    """
    from lt_repro.paper.dbn_mix import FIG3
    from lt_repro.render import figures, text

    pool, name = _pool_of(dataset, data_root, needed=run)
    tables = [_seeded(figure.within(dataset=name, ratio=ratio, epochs=epochs), seeds) for figure in FIG3]
    if plan:
        return _print_plan(tables, dataset, runs, as_json)
    if run:
        _run_missing(tables, pool, runs, device)
    shown, paths, any_bad = [], [], False
    for table in tables:
        measured, _, bad = _measured(table, runs)
        any_bad |= bad
        shown.append((table, measured))
        paths += figures.save(figures.hparam_figure(table, measured), to / table.id)
        paths.append(_write(to / f"{table.id}.csv", text.csv(table, measured)))
    _print_measured(shown, as_json, paths)
    raise typer.Exit(1 if any_bad else 0)


def _pool_of(dataset: str, root: Path | None, *, needed: bool) -> "tuple[Pool | None, str]":
    """Returns the pool, read only where it must be, and the data set's name in recipes."""
    from lt_repro.data import pools

    if needed or dataset not in pools.NAMES:
        pool = pools.load_pool(dataset, pools.data_root(root))
        return pool, pool.name
    return None, dataset


def _seeded(table: "Table", seeds: str | None) -> "Table":
    import dataclasses

    if seeds is None:
        return table
    try:
        ends = [part.split("-") for part in seeds.split(",")]
        chosen = [seed for pair in ends for seed in range(int(pair[0]), int(pair[-1]) + 1)]
    except ValueError:
        chosen = []
    if not chosen or len(chosen) > 1000:
        raise RequestError(f"--seeds {seeds}", "allowed: whole numbers, such as 0-2 or 0,3")
    return dataclasses.replace(table, seeds=tuple(dict.fromkeys(chosen)))


def _folders(runs: list[Path] | None) -> list[Path]:
    return [*(runs or [Path("runs")]), Path("tables/runs")]


def _load(runs: list[Path] | None) -> "tuple[list[Run], list[str]]":
    """Returns the usable runs, and a line on each file that is damaged or of another split."""
    from lt_repro import runs as store
    from lt_repro.render.cells import conflicts

    for folder in runs or []:
        if not folder.is_dir():
            raise RequestError(
                f"no folder {folder}", "allowed: folders of run files", "`ltrepro train --out` makes one"
            )
    found, damaged = store.load(_folders(runs))
    kept, others = conflicts(found)
    return kept, [" ".join(str(error).split("\n")[:1]) for error in damaged] + others


def _measured(table: "Table", runs: list[Path] | None) -> "tuple[list[Measured], list[str], bool]":
    from lt_repro.render.cells import measure, short_runs

    found, bad = _load(runs)
    for line in bad:
        err.print(f"left out: {line}", markup=False, highlight=False, soft_wrap=True)
    short = short_runs(table, found)
    if short:
        lengths = sorted({run.recipe.epochs for run in short})
        words = f"{len(short)} shorter runs not shown ({', '.join(map(str, lengths))} epochs)"
        err.print(f"{words}; --epochs {lengths[0]} shows them", highlight=False, soft_wrap=True)
    return measure(table, found), bad, bool(bad)


def _run_missing(tables: "Sequence[Table]", pool: "Pool | None", runs: list[Path] | None, device: str) -> None:
    from lt_repro.sweep.local import run_all
    from lt_repro.sweep.plan import missing

    assert pool is not None, "the pool is read whenever something is to be run"
    found, _ = _load([folder for folder in runs or [] if folder.is_dir()])
    wanted = list({r.key(): r for table in tables for r in missing(table, found)}.values())
    with _Watch() as watch:
        results = run_all(wanted, pool, _folders(runs)[0], device=device, watch=watch)
        for number in range(1, len(wanted) + 1):
            watch.label = f"run {number}/{len(wanted)}, "
            next(results)


def _print_plan(tables: "Sequence[Table]", dataset: str, runs: list[Path] | None, as_json: bool) -> None:
    from lt_repro.sweep.plan import command, missing

    found, bad = _load(runs)
    for line in bad:
        err.print(f"left out: {line}", markup=False, highlight=False, soft_wrap=True)
    wanted = {recipe.key(): command(recipe, dataset) for table in tables for recipe in missing(table, found)}
    if as_json:
        return _print_json({"plan": [{"key": key, "command": line} for key, line in wanted.items()]})
    for line in wanted.values():
        out.print(line, markup=False, highlight=False, soft_wrap=True)
    err.print(f"{len(wanted)} runs are missing", highlight=False)


def _print_measured(shown: "Sequence[tuple[Table, list[Measured]]]", as_json: bool, paths: list[Path]) -> None:
    from lt_repro.render import cells, text

    if as_json:
        return _print_json({"cells": [cell for table, m in shown for cell in cells.to_json(table, m)["cells"]]})
    for table, measured in shown:
        header, rows, footer = text.rows(table, measured)
        grid = Grid(title=escape(table.caption), title_justify="left")
        for number, word in enumerate(header):
            grid.add_column(escape(word), justify="right" if number else "left", no_wrap=number > 0)
        for row in rows:
            grid.add_row(*map(escape, row))
        out.print(grid)
        for line in footer:
            out.print(line, markup=False, highlight=False, style="dim", soft_wrap=True)
    for path in paths:
        out.print(str(path), markup=False, highlight=False, soft_wrap=True)


@app.command()
def methods(as_json: Json = False) -> None:
    """List the methods, with their settings and defaults.

    [bold]ltrepro methods[/bold]
    """
    import dataclasses

    from lt_repro import fields
    from lt_repro.methods import METHODS

    listed = []
    for name, cls in METHODS.items():
        kinds = fields.types(cls)
        settings = [(f.name, f.default, fields.describe(kinds[f.name])) for f in dataclasses.fields(cls)]
        listed.append(
            {"name": name, "title": cls.title, "about": (cls.__doc__ or "").split("\n")[0], "settings": settings}
        )
    if as_json:
        keys = ("name", "default", "allowed")
        words = [m | {"settings": [dict(zip(keys, map(str, s), strict=True)) for s in m["settings"]]} for m in listed]
        return _print_json({"methods": words})
    for entry in listed:
        out.print(f"{entry['name']}: {entry['title']}. {entry['about']}", markup=False, highlight=False)
        grid = Grid("setting", "default", "allowed", box=None, padding=(0, 2))
        for row in entry["settings"]:
            grid.add_row(*(escape(str(word)) for word in row))
        out.print(grid)


@app.command()
def show(
    run: Annotated[str, typer.Argument(help="A path, a key, or a unique beginning of a key.")],
    runs: Runs = None,
    as_json: Json = False,
) -> None:
    """Show a run: recipe, result, provenance, and where it departs from the paper.

    [bold]ltrepro show cifar100-r100[/bold]
    """
    from lt_repro import runs as store
    from lt_repro.paper.settings import departures

    found = store.find(run, _folders(runs))
    away = departures(found.recipe)
    if as_json:
        return _print_json(found.to_json() | {"path": str(found.path)})
    content = found.to_json()
    grid = Grid(box=None, show_header=False, padding=(0, 2))
    recipe = dict(content["recipe"])
    chosen = {f"method.{name}": value for name, value in recipe.pop("method").items()}
    where = (
        "key",
        "status",
        "device",
        "precision",
        "images_per_second",
        "seconds",
        "commit",
        "versions",
        "data_digest",
    )
    rows = {name: content[name] for name in where} | {
        "split": content["split"]["digest"],
        "weights": (content["weights"] or {}).get("sha256", "none"),
        "attempts": "; ".join(f"from epoch {a['epoch']}, step {a['step']}: {a['ended']}" for a in content["attempts"]),
    }
    for title, part in {"recipe": recipe | chosen, "provenance": rows}.items():
        grid.add_row(f"[bold]{title}[/bold]", "")
        for name, value in part.items():
            grid.add_row(
                name, escape(", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value))
            )
    out.print(grid)
    if found.status == "done":
        _print_result(found)
    else:
        out.print(f"diverged: {found.diverged}", highlight=False)
    out.print("departs from the paper, as this project reads it:" if away else "no departure from the paper's settings")
    for name, (actual, usual) in away.items():
        out.print(f"  {name} {actual} (paper: {usual})", markup=False, highlight=False)
    out.print(str(found.path), markup=False, highlight=False, soft_wrap=True)


def _print_result(run: "Run") -> None:
    assert run.result is not None
    grid = Grid("top-1 %, last epoch", *(["all", "many", "medium", "few"]))
    parts = {"combined": run.result["accuracy"]} if len(run.result["branches"]) > 1 else {}
    parts |= {name: branch["accuracy"] for name, branch in run.result["branches"].items()}
    for name, accuracy in parts.items():
        shown = (f"{100 * accuracy[g]:.2f}" if g in accuracy else "n/a" for g in ("all", "many", "medium", "few"))
        grid.add_row(name, *shown)
    out.print(grid)
    best = run.result["best"]
    out.print(
        f"ECE {100 * run.result['ece']:.2f} %, best on test {100 * best['all']:.2f} % at epoch {best['epoch']} "
        "(not the result), "
        f"{run.images_per_second:,.0f} images/s, {_clock(run.seconds)} on {run.device}, {run.precision}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


@app.command()
def demo(
    to: Annotated[Path, typer.Option("--out", help="Folder of everything the demo writes.")] = Path("demo"),
    device: Device = "auto",
) -> None:
    """Run the paper's ablation on the handwritten digits inside the package: nine rows, three seeds, no download.

    [bold]ltrepro demo[/bold]
    """
    from lt_repro.data import pools
    from lt_repro.paper.dbn_mix import TABLE4, ratios
    from lt_repro.render import cells, figures, text

    table = TABLE4.within(ratios(60), dataset="digits")
    _run_missing([table], pools.load_pool("digits", to), [to / "runs"], device)
    measured, notes, _ = _measured(table, [to / "runs"])
    names = ("table4.json", "table4.md")
    for name, content in zip(
        names,
        (json.dumps(cells.to_json(table, measured), indent=1), text.markdown(table, measured, notes)),
        strict=True,
    ):
        _write(to / name, content)
    compared = {m.cell.row.label: m for m in measured if m.cell.row.label in ("sbn", "dbn+bm+ts")}
    series = {m.cell.row.title: [r.result["per_class"] for r in m.runs if r.result] for m in compared.values()}
    counts = measured[0].runs[0].split["counts"]
    figure = figures.class_figure("Digits, ratio 60", counts, [str(k) for k in range(len(counts))], series)
    paths = figures.save(figure, to / "classes")
    _print_measured([(table, measured)], False, [*(to / name for name in names), *paths])
    out.print(text.sentences(table, measured), highlight=False, soft_wrap=True)


def _write(path: Path, content: str) -> Path:
    from lt_repro import files

    files.write(path, content.encode())
    return path


def _print_json(content: Any) -> None:
    out.file.write(json.dumps(content, indent=1, allow_nan=False) + "\n")
