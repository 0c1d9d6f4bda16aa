"""An overview of exhibits: how much of each is measured, with how many seeds and epochs."""

from collections.abc import Iterable, Sequence

from lt_repro.papers.table import Table
from lt_repro.render.cells import Measured, length
from lt_repro.render.text import grid


def overview(shown: Iterable[tuple[Table, Sequence[Measured]]], root: str = "..") -> list[str]:
    """Returns the lines of a GitHub table, an exhibit a row; one with a number links to its file.

    Args:
        shown: Exhibits and their cells as `measure` returns them.
        root: The folder of `tables/` and `figures/`, from the page that the lines are for.
    """
    rows = [
        [_linked(table, root) if _count(cells) else table.id, table.caption.rstrip("."), _state(cells), *_runs(cells)]
        for table, cells in shown
    ]
    return grid(("exhibit", "what it shows", "cells measured", "seeds", "epochs"), rows)


def _linked(table: Table, root: str) -> str:
    place = f"tables/{table.file_name}.md" if table.form == "table" else f"figures/{table.file_name}.png"
    return f"[{table.id}]({root}/{place})"


def _count(cells: Sequence[Measured]) -> int:
    return sum(bool(cell.values) for cell in cells)


def _state(cells: Sequence[Measured]) -> str:
    count = _count(cells)
    return "not yet" if not count else f"all {count}" if count == len(cells) else f"{count} of {len(cells)}"


def _runs(cells: Sequence[Measured]) -> tuple[str, str]:
    """Returns the numbers of seeds that cells have, and the epochs of their runs (of the first stage)."""
    seeds = sorted({cell.n for cell in cells if cell.values})
    epochs = sorted({length(run.recipe) for cell in cells for run in cell.runs})
    return ", ".join(map(str, seeds)), ", ".join(map(str, epochs))
