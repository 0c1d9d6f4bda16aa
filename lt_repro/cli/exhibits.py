"""`ablation-table`, `plot-hparams`, `demo`: tables and figures from runs, what they lack, and training that."""

import dataclasses
import json
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table as Grid

from lt_repro.cli.app import DataRoot, Dataset, Device, Json, Runs, app, out, put, put_json, say
from lt_repro.cli.progress import Watch
from lt_repro.errors import RequestError

if TYPE_CHECKING:
    from lt_repro.data.pools import Pool
    from lt_repro.paper.table import Table
    from lt_repro.render.cells import Measured
    from lt_repro.runs import Run

Epochs = Annotated[int | None, typer.Option(help="Of the runs to show.", show_default="paper's, 200")]
Fill = Annotated[bool, typer.Option("--run", help="Train what is missing, one after the other, then render.")]
Plan = Annotated[bool, typer.Option("--plan", help="Print the command that fills each missing cell.")]
Seeds = Annotated[str | None, typer.Option(help="Such as 0-2 or 0,3.")]


@app.command()
def ablation_table(
    dataset: Dataset = "cifar100",
    ratio: Annotated[list[float] | None, typer.Option(help="Imbalance ratio of a column; repeatable.")] = None,
    epochs: Epochs = None,
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

    pool, name = _pool(dataset, data_root, plan=plan, run=run)
    table = _seeded(TABLE4.within(ratios(*dict.fromkeys(ratio)) if ratio else None, dataset=name, epochs=epochs), seeds)
    found = _found(runs, may_be_new=plan or run)
    if plan:
        return _put_plan([table], found, dataset, _where(runs, data_root), as_json)
    if run:
        found = _run_missing([table], found, pool, device)
    measured = found.measure(table)
    paths = [
        _write(to / f"{table.id}.md", text.markdown(table, measured, found.notes)),
        _write(to / f"{table.id}.csv", text.csv(table, measured)),
        _write(to / f"{table.id}.tex", text.latex(table, measured, found.notes)),
    ]
    _put([(table, measured)], paths, as_json)
    raise typer.Exit(found.code)


@app.command()
def plot_hparams(
    dataset: Dataset = "cifar100",
    ratio: Annotated[float | None, typer.Option(help="Imbalance ratio.", show_default="100")] = None,
    epochs: Epochs = None,
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

    pool, name = _pool(dataset, data_root, plan=plan, run=run)
    tables = [_seeded(figure.within(dataset=name, ratio=ratio, epochs=epochs), seeds) for figure in FIG3]
    found = _found(runs, may_be_new=plan or run)
    if plan:
        return _put_plan(tables, found, dataset, _where(runs, data_root), as_json)
    if run:
        found = _run_missing(tables, found, pool, device)
    shown = [(table, found.measure(table)) for table in tables]
    paths = []
    for table, measured in shown:
        paths += figures.save(figures.hparam_figure(table, measured), to / table.id)
        paths.append(_write(to / f"{table.id}.csv", text.csv(table, measured)))
    _put(shown, paths, as_json)
    raise typer.Exit(found.code)


@app.command()
def demo(
    to: Annotated[Path, typer.Option("--out", help="Folder of everything the demo writes.")] = Path("demo"),
    device: Device = "auto",
) -> None:
    """Run the paper's ablation on the handwritten digits inside the package: nine rows, three seeds, no download.

    [bold]ltrepro demo[/bold]
    """
    from lt_repro.data.pools import load_pool
    from lt_repro.paper.dbn_mix import TABLE4, ratios
    from lt_repro.render import cells, figures, text

    table, pool = TABLE4.within(ratios(60), dataset="digits"), load_pool("digits", to)
    found = _run_missing([table], Found([to / "runs"]), pool, device)
    measured = found.measure(table)
    paths = [
        _write(to / "table4.json", json.dumps(cells.to_json(table, measured), indent=1)),
        _write(to / "table4.md", text.markdown(table, measured, found.notes)),
    ]
    first, *_, last = measured
    series = {one.cell.row.title: [run.result["per_class"] for run in one.runs if run.result] for one in (first, last)}
    counts = next(run.split["counts"] for one in measured for run in one.runs)
    title = f"Handwritten digits, ratio 60, {first.n} seeds"
    paths += figures.save(figures.class_figure(title, counts, pool.class_names, series), to / "classes")
    _put([(table, measured)], paths, as_json=False)
    put(text.sentences(table, measured))
    raise typer.Exit(found.code)


class Found:
    """The runs stored in some folders that may be shown, and what is wrong with the others.

    Args:
        folders: Where to look; training writes into the first.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        from lt_repro import runs as store
        from lt_repro.data.pools import known_digest
        from lt_repro.render.cells import conflicts

        self.folders = folders
        runs, damaged = store.load(folders)
        self.runs: list[Run]
        self.runs, others = conflicts(runs, known_digest)
        self.notes = [str(error).splitlines()[0] for error in damaged] + others
        self.code = 1 if damaged else 0

    def measure(self, table: "Table") -> "list[Measured]":
        """Returns the table's cells; what was left out or is too short for it is said on stderr."""
        from lt_repro.render.cells import measure, short_runs

        for note in self.notes:
            say(f"note: {note}")
        lengths = [run.recipe.epochs for run in short_runs(table, self.runs)]
        if lengths:
            words = ", ".join(f"{lengths.count(epochs)} of {epochs} epochs" for epochs in sorted(set(lengths)))
            say(f"note: {table.id} leaves out shorter runs ({words}); --epochs {max(lengths)} shows them")
        return measure(table, self.runs)


def _where(runs: list[Path] | None, data_root: Path | None) -> str:
    """Returns the options that make a planned command read and write where this one was told to."""
    typed = {"--out": runs[0] if runs else None, "--data-root": data_root}
    known = {os.environ.get("LTREPRO_RUNS"), os.environ.get("LTREPRO_DATA")}  # `train` reads these by itself
    words = [word for name, path in typed.items() if path and str(path) not in known for word in (name, str(path))]
    return f" {shlex.join(words)}" if words else ""


def _found(runs: list[Path] | None, *, may_be_new: bool) -> Found:
    from lt_repro import runs as store

    for folder in runs or []:
        if not folder.is_dir() and not may_be_new:
            raise RequestError(
                f"no folder {folder}", "allowed: folders of run files", "`ltrepro train --out` makes one"
            )
    return Found(store.folders(runs))


def _pool(dataset: str, root: Path | None, *, plan: bool, run: bool) -> "tuple[Pool | None, str]":
    """Returns the pool, read only where it must be, and the data set's name in recipes."""
    from lt_repro.data import pools

    if plan and run:
        raise RequestError("--plan and --run at once", "allowed: --plan to see what is missing, --run to train it")
    if run or dataset not in pools.NAMES:
        pool = pools.load_pool(dataset, pools.data_root(root))
        return pool, pool.name
    return None, dataset


def _seeded(table: "Table", seeds: str | None) -> "Table":
    if seeds is None:
        return table
    parts = [re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", part) for part in seeds.split(",")]
    ends = [(int(part[1]), int(part[2] or part[1])) for part in parts if part]
    if len(ends) < len(parts) or not all(low <= high < low + 1000 for low, high in ends):
        raise RequestError(f"--seeds {seeds}", "allowed: whole numbers, such as 0-2 or 0,3")
    chosen = dict.fromkeys(seed for low, high in ends for seed in range(low, high + 1))
    return dataclasses.replace(table, seeds=tuple(chosen))


def _run_missing(tables: "Sequence[Table]", found: Found, pool: "Pool | None", device: str) -> Found:
    from lt_repro.sweep.local import run_all
    from lt_repro.sweep.plan import missing

    assert pool is not None, "the pool is read whenever something is to be run"
    wanted = list({recipe.key(): recipe for table in tables for recipe in missing(table, found.runs)}.values())
    with Watch() as watch:
        ended = run_all(wanted, pool, found.folders[0], device=device, watch=watch)
        diverged = 0
        for number in range(1, len(wanted) + 1):
            watch.label = f"run {number}/{len(wanted)}, "
            diverged += next(ended).status == "diverged"
    filled = Found(found.folders)
    filled.code = max(filled.code, 1 if diverged else 0)
    return filled


def _put_plan(tables: "Sequence[Table]", found: Found, dataset: str, where: str, as_json: bool) -> None:
    from lt_repro.sweep.plan import command, missing

    for note in found.notes:
        say(f"note: {note}")
    wanted = {r.key(): command(r, dataset) + where for table in tables for r in missing(table, found.runs)}
    if as_json:
        put_json({"plan": [{"key": key, "command": line} for key, line in wanted.items()]})
    else:
        for line in wanted.values():
            put(line)
        say(f"{len(wanted)} runs are missing")
    raise typer.Exit(found.code)


def _put(shown: "Sequence[tuple[Table, list[Measured]]]", paths: Sequence[Path], as_json: bool) -> None:
    from lt_repro.render import cells, text

    if as_json:
        return put_json({"cells": [cell for table, m in shown for cell in cells.to_json(table, m)["cells"]]})
    for table, measured in shown:
        whole, footer = _grid(table, measured), text.rows(table, measured)[2]
        grids = [whole]
        if (
            out.measure(whole, options=out.options.update(width=10_000)).maximum > out.width
        ):  # a grid per column, rather than columns that are cut
            pairs = ((column, measured[i :: len(table.columns)]) for i, column in enumerate(table.columns))
            grids = [_grid(dataclasses.replace(table, columns=[column]), cells) for column, cells in pairs]
        put(table.caption)
        for grid in grids:
            out.print(grid)
        for line in footer:
            put(line)
    for path in paths:
        put(str(path))


def _grid(table: "Table", measured: "Sequence[Measured]") -> Grid:
    from lt_repro.render import text

    header, rows, _ = text.rows(table, measured)
    grid = Grid()
    for number, word in enumerate(header):
        grid.add_column(escape(word), justify="right" if number else "left", no_wrap=True)
    for row in rows:
        grid.add_row(*map(escape, row))
    return grid


def _write(path: Path, content: str) -> Path:
    from lt_repro import files

    files.write(path, content.encode())
    return path
