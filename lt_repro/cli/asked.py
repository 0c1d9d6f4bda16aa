"""What every command that shows an exhibit does: find the runs, plan or train what is missing, measure, print."""

import dataclasses
import math
import os
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table as Grid

from lt_repro.cli.app import out, put, put_json, say
from lt_repro.cli.progress import Watch
from lt_repro.errors import RequestError

if TYPE_CHECKING:
    from lt_repro.data.pools import Pool
    from lt_repro.paper.table import Line, Table
    from lt_repro.recipe import Recipe
    from lt_repro.render.cells import Measured
    from lt_repro.runs import Run

Epochs = Annotated[int | None, typer.Option(help="Of the runs to show.", show_default="paper's, 200")]
Fill = Annotated[bool, typer.Option("--run", help="Train what is missing, one after the other, then render.")]
Plan = Annotated[bool, typer.Option("--plan", help="Print the command that fills each missing cell.")]
Seeds = Annotated[str | None, typer.Option(help="Such as 0-2 or 0,3.")]


@dataclasses.dataclass(frozen=True)
class Asked:
    """The options that every exhibit has, as they were typed."""

    dataset: str
    seeds: str | None
    plan: bool
    run: bool
    runs: list[Path] | None
    to: Path
    data_root: Path | None
    device: str
    as_json: bool

    def pool(self, *ratios: str | None) -> "Pool | None":
        """Returns the images, read only where they must be: to train, and where they give a name or the ratio."""
        from lt_repro.data import pools

        if self.plan and self.run:
            raise RequestError("--plan and --run at once", "allowed: --plan to see what is missing, --run to train it")
        if self.run or self.dataset not in pools.NAMES or "as-is" in ratios:
            return pools.load_pool(self.dataset, pools.data_root(self.data_root))
        return None

    def shown(self, tables: "Sequence[Table]", pool: "Pool | None") -> "tuple[Found, list[Exhibit]]":
        """Returns what was found and the exhibits, after training what is missing; or prints the plan and leaves."""
        from lt_repro import files

        tables = [seeded(table, self.seeds) for table in tables]
        found = found_in(self.runs, may_be_new=self.plan or self.run)
        if self.plan:
            self._put_plan(tables, found)
            raise typer.Exit(found.code)
        if self.run:
            files.ensure_writable(self.to)  # before hours of training, not after
            found = run_missing(tables, found, pool, self.device)
        return found, [(table, found.measure(table)) for table in tables]

    def _put_plan(self, tables: "Sequence[Table]", found: "Found") -> None:
        from lt_repro.sweep.plan import missing

        lacking = missing(tables, found.runs)
        for note in (*found.notes, *lacking.notes):
            say(f"note: {note}")
        wanted = planned(lacking.recipes, found, self.dataset, self.runs, self.data_root)
        if self.as_json:
            return put_json({"plan": [{"key": key, "command": line} for key, line in wanted.items()]})
        for line in wanted.values():
            put(line)
        say(f"{len(wanted)} runs are missing")


Exhibit = tuple["Table", "list[Measured]"]


class Found:
    """The runs stored in some folders that may be shown, and what is wrong with the others.

    Args:
        folders: Where to look; training writes into the first.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        from lt_repro import runs as store
        from lt_repro.data.pools import known_split
        from lt_repro.render.cells import conflicts

        self.folders = folders
        runs, damaged = store.load(folders)
        self.runs: list[Run]
        self.runs, others = conflicts(runs, known_split)
        self.notes = [str(error).splitlines()[0] for error in damaged] + others
        self.code = 1 if damaged else 0

    def measure(self, table: "Table", epochs: str = "--epochs ") -> "list[Measured]":
        """Returns the table's cells; what was left out or is too short for it is said on stderr.

        Args:
            table: What to measure.
            epochs: How the command is told of another length.
        """
        from lt_repro.render.cells import length, measure, short_runs

        for note in self.notes:
            say(f"note: {note}")
        lengths = [length(run.recipe) for run in short_runs(table, self.runs)]
        if lengths:
            words = ", ".join(f"{lengths.count(epochs)} of {epochs} epochs" for epochs in sorted(set(lengths)))
            say(f"note: {table.id} leaves out shorter runs ({words}); {epochs}{max(lengths)} shows them")
        return measure(table, self.runs)


def planned(
    wanted: "Sequence[Recipe]", found: Found, dataset: str | None, runs: list[Path] | None, data_root: Path | None
) -> dict[str, str]:
    """Returns the command that trains each recipe, by key.

    Args:
        wanted: What is to be trained.
        found: What there is; a parent that has run elsewhere is named by its path.
        dataset: As typed, or None for the recipes' own.
        runs: As typed.
        data_root: As typed.
    """
    from lt_repro.sweep.plan import command

    where, first = _where(runs, data_root), found.folders[0]
    paths = {run.recipe.key(): run.path for run in found.runs if run.path and run.weights_path}
    lines = {}
    for recipe in wanted:
        path = paths.get(recipe.parent.key()) if recipe.parent else None
        named = str(path) if path and path.parent != first else None
        again = " --force" if (first / f"{recipe.key()}.json").exists() else ""
        lines[recipe.key()] = command(recipe, dataset or recipe.dataset, named) + where + again
    return lines


def run_missing(tables: "Sequence[Table]", found: Found, pool: "Pool | None", device: str) -> Found:
    """Returns what is found after everything that the tables lack has been trained into the first folder."""
    from lt_repro.sweep.plan import missing

    assert pool is not None, "the pool is read whenever something is to be run"
    wanted, notes = missing(tables, found.runs)
    for note in notes:
        say(f"note: {note}")
    return run_wanted(wanted, found, {pool.name: pool}, device)


def run_wanted(
    wanted: "Sequence[Recipe]", found: Found, pools: "dict[str, Pool]", device: str, until: float = math.inf
) -> Found:
    """Returns what is found after recipes have been trained into the first folder, data set by data set.

    Args:
        wanted: What to train.
        found: What there was.
        pools: The images, by the recipes' name for them.
        device: See `train.fit`.
        until: See `run_all`.
    """
    from lt_repro.sweep.local import Failed, run_all

    diverged = broken = number = 0
    with Watch() as watch:
        told: dict[str, Any] = {"parents": found.folders, "device": device, "watch": watch, "note": say}
        told["until"] = until
        watch.label = f"run 1/{len(wanted)}, "
        for name, pool in pools.items():
            own = [recipe for recipe in wanted if recipe.dataset == name]
            for ended in run_all(own, pool, found.folders[0], **told):
                number += 1
                watch.label = f"run {number + 1}/{len(wanted)}, "
                if isinstance(ended, Failed):
                    say(f"failed: {ended.recipe.key()}: {ended.error.splitlines()[0]}")
                    broken += 1
                else:
                    diverged += ended.status == "diverged"
    filled = Found(found.folders)
    filled.code = 3 if broken else max(filled.code, 1 if diverged else 0)
    return filled


def ratio_settings(text: str | None, pool: "Pool | None") -> dict[str, Any]:
    """Returns the settings that `--ratio` gives: a number's, those of the images as they are ("as-is"), or none.

    Raises:
        RequestError: It is neither.
    """
    if text is None:
        return {}
    if text == "as-is":
        from lt_repro.data.split import natural_ratio

        assert pool is not None, "the pool is read whenever its own ratio is asked for"
        return {"ratio": natural_ratio(pool.train_labels, pool.hold_out), "profile": "as_is"}
    try:
        return {"ratio": float(text)}
    except ValueError:
        raise RequestError(f"--ratio {text}", "allowed: a number from 1 up, or as-is") from None


def ratio_column(text: str, pool: "Pool | None") -> "Line":
    """Returns the column of a `--ratio`."""
    from lt_repro.paper.dbn_mix import ratios
    from lt_repro.paper.table import Line

    settings = ratio_settings(text, pool)
    return Line(text, "as is", settings) if "profile" in settings else ratios(settings["ratio"])[0]


def put_exhibits(shown: Sequence[Exhibit], paths: Sequence[Path], as_json: bool, **more: Any) -> None:
    """Prints measured tables and the files they were written to, or their cells as one JSON document with `more`."""
    from lt_repro.render import cells, text

    if as_json:
        listed = [cell for table, measured in shown for cell in cells.to_json(table, measured)["cells"]]
        return put_json({"cells": listed} | more)
    for table, measured in shown:
        grids = [_grid(table, measured)]
        if not _fits(grids[0]):  # a grid per column, rather than columns that are cut
            pairs = ((column, measured[i :: len(table.columns)]) for i, column in enumerate(table.columns))
            grids = [_grid(dataclasses.replace(table, columns=[column]), cells) for column, cells in pairs]
        put(table.caption)
        for grid in grids:
            out.print(grid)
        for line in text.rows(table, measured)[2]:
            put(line)
    for path in paths:
        put(str(path))


def put_grid(header: Sequence[str], rows: Sequence[Sequence[str]], fixed: int) -> None:
    """Prints rows under a header; where they do not fit, a grid for each column after the `fixed` first ones."""
    whole = _rows(header, rows)
    if _fits(whole):
        return out.print(whole)
    for i in range(fixed, len(header)):
        out.print(_rows([*header[:fixed], header[i]], [[*row[:fixed], row[i]] for row in rows]))


def write(path: Path, content: str) -> Path:
    """Writes a text file whole and returns its path."""
    from lt_repro import files

    files.write(path, content.encode())
    return path


def written(shown: Sequence[Exhibit], to: Path, notes: Sequence[str]) -> list[Path]:
    """Writes each table as Markdown, CSV and LaTeX and returns the paths."""
    from lt_repro.render import text

    forms: dict[str, Callable[..., str]] = {
        "md": lambda table, measured: text.markdown(table, measured, notes),
        "csv": text.csv,
        "tex": lambda table, measured: text.latex(table, measured, notes),
    }
    return [write(to / f"{table.id}.{kind}", form(table, m)) for table, m in shown for kind, form in forms.items()]


def _where(runs: list[Path] | None, data_root: Path | None) -> str:
    """Returns the options that make a planned command read and write where this one was told to."""
    typed = {"--out": (runs[0] if runs else None, "LTREPRO_RUNS"), "--data-root": (data_root, "LTREPRO_DATA")}
    words = []
    for name, (path, variable) in typed.items():
        if path and str(path) != os.environ.get(variable, "").split(os.pathsep)[0]:  # which `train` reads by itself
            words += [name, str(path)]
    return f" {shlex.join(words)}" if words else ""


def found_in(runs: list[Path] | None, *, may_be_new: bool) -> Found:
    """Returns what is found in the folders of `--runs`.

    Raises:
        RequestError: One is not there and nothing is to be trained into it.
    """
    from lt_repro import runs as store

    for folder in runs or []:
        if not folder.is_dir() and not may_be_new:
            raise RequestError(
                f"no folder {folder}", "allowed: folders of run files", "`ltrepro train --out` makes one"
            )
    return Found(store.folders(runs))


def seeded(table: "Table", seeds: str | None) -> "Table":
    """Returns the table with the seeds that `--seeds` names.

    Raises:
        RequestError: They are no seeds.
    """
    if seeds is None:
        return table
    parts = [re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", part) for part in seeds.split(",")]
    ends = [(int(part[1]), int(part[2] or part[1])) for part in parts if part]
    if len(ends) < len(parts) or not all(low <= high < low + 1000 for low, high in ends):
        raise RequestError(f"--seeds {seeds}", "allowed: whole numbers, such as 0-2 or 0,3")
    chosen = dict.fromkeys(seed for low, high in ends for seed in range(low, high + 1))
    return dataclasses.replace(table, seeds=tuple(chosen))


def _grid(table: "Table", measured: "Sequence[Measured]") -> Grid:
    from lt_repro.render import text

    header, rows, _ = text.rows(table, measured)
    return _rows(header, rows)


def _rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Grid:
    grid = Grid()
    for number, word in enumerate(header):
        grid.add_column(escape(word), justify="right" if number else "left", no_wrap=True)
    for row in rows:
        grid.add_row(*map(escape, row))
    return grid


def _fits(grid: Grid) -> bool:
    return out.measure(grid, options=out.options.update(width=10_000)).maximum <= out.width
