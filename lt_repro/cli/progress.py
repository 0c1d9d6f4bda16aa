"""Progress on stderr: `Watch` for a single run, `Board` for a queue."""

import textwrap
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from rich.cells import cell_len
from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column
from rich.table import Table as Grid
from rich.text import Text

from lt_repro.cli.app import err, printable, say
from lt_repro.cli.output import NARROW, across
from lt_repro.sweep.progress import RunProgress, progress_of

if TYPE_CHECKING:
    from lt_repro.papers.table import Table
    from lt_repro.recipe import Recipe
    from lt_repro.render.cells import Measured
    from lt_repro.store.runs import Run
    from lt_repro.sweep.runner import Failed
    from lt_repro.train.state import TrainState


class Watch:
    """A live line on a terminal; elsewhere a plain line per point of the curve.

    Args:
        notes: Lines to print when training starts: by then nothing is refused any more.
        quiet: Show nothing but the notes.
    """

    def __init__(self, notes: Sequence[str] = (), quiet: bool = False) -> None:
        self.notes, self.quiet = notes, quiet
        epoch = TextColumn("{task.description}", markup=False)
        figures = TextColumn("{task.fields[figures]}", markup=False, table_column=Column(overflow="fold"))
        shown = not quiet and err.is_terminal
        self.bar = Progress(
            epoch, BarColumn(max(4, min(40, err.width - 70))), figures, console=err, transient=True, disable=not shown
        )
        self.task = self.bar.add_task("starting", total=None, figures="")
        self.started: tuple[float, int] | None = None
        self.points, self.shown = 0, 0.0

    def __enter__(self) -> Self:
        if not self.bar.disable:
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if not self.bar.disable:
            self.bar.stop()

    def __call__(self, lane: "TrainState") -> None:
        """Shows epoch, last loss and accuracy, images a second, time left."""
        now, at = time.monotonic(), progress_of(lane)
        if self.started is None:  # time what this process does, not what it found
            self.started, self.points = (now, at.step - 1), at.points
            for line in self.notes:
                say(f"note: {line}")
        left = (now - self.started[0]) / max(1, at.step - self.started[1]) * (at.steps - at.step)
        epoch, figures = f"epoch {at.epoch}/{at.epochs}", f"{at.words()}, {clock(left)} left"
        if self.bar.disable:
            if not self.quiet and at.points > self.points:
                self.points = at.points
                say(f"{epoch}: {figures}")
        elif now - self.shown > 0.1 or at.ended:
            self.shown = now
            self.bar.update(self.task, description=epoch, total=at.steps, completed=at.step, figures=figures)


class Board:
    """A whole queue: live on a terminal, with the table filling up; elsewhere a plain line as each run ends.

    Args:
        recipes: What is to be trained.
        tables: The exhibits that it is for.
        runs: What there was.
    """

    def __init__(self, recipes: "Sequence[Recipe]", tables: "Sequence[Table]", runs: "Sequence[Run]") -> None:
        from lt_repro.render.cells import measure
        from lt_repro.sweep.cost import work

        self.tables, self.runs = tables, list(runs)
        self.cells = [measure(table, self.runs) for table in tables]
        self.places: dict[str, tuple[int, str]] = {}  # of a recipe: which table shows it, and where
        for number, (table, cells) in enumerate(zip(tables, self.cells, strict=True)):
            for entry in cells:
                for recipe in entry.cell.recipes:
                    where = f"{table.id}, {entry.cell.row.title}, {entry.cell.column.title}, seed {recipe.seed}"
                    self.places.setdefault(recipe.key(), (number, where))
                    for parent in recipe.lineage()[1:]:
                        self.places.setdefault(parent.key(), (number, f"a parent for {where}"))
        images = {recipe.key(): work(recipe) for recipe in recipes}
        known = None not in images.values()  # else an epoch counts as an epoch
        self.to_do = {r.key(): float((images[r.key()] if known else r.epochs) or 0) for r in recipes}
        self.whole = dict(self.to_do)
        self.total, self.failed = len(recipes), 0
        self.running: dict[str, RunProgress] = {}
        self.done_here = 0.0
        self.started: float | None = None
        self.live = Live(get_renderable=self.render, console=err, transient=True, refresh_per_second=2)

    def __enter__(self) -> Self:
        if err.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.live.stop()

    def at(self, at: RunProgress) -> None:
        """Takes in the progress of a run."""
        before = self.running[at.key].step if at.key in self.running else at.start
        if self.started is None:  # processes take seconds to start
            self.started = time.monotonic()
        else:
            self.done_here += self.whole[at.key] * (at.step - before) / at.steps
        self.running[at.key] = at
        self.to_do[at.key] = self.whole[at.key] * (1 - at.step / at.steps)

    def ended(self, run: "Run | Failed") -> None:
        """Takes in that a run has ended, and says so where nobody sees the board."""
        from lt_repro.render.cells import measure
        from lt_repro.store.runs import Run

        key = run.recipe.key()
        self.to_do.pop(key, None)
        was_running = self.running.pop(key, None)
        number, where = self.places.get(key, (0, key))
        if isinstance(run, Run):
            self.runs.append(run)
            if self.live.is_started and self.tables:
                self.cells[number] = measure(self.tables[number], self.runs)
            value = run.accuracy()
            what = "diverged" if value is None else f"accuracy {100 * value:.2f} %"
            trains = bool(run.recipe.method.param_groups)  # what trains nothing reports no progress
            what += ", by another process" if trains and not was_running else ""
        else:
            what = "failed"
            say(f"failed: {key}: {'; '.join(run.error.splitlines())}")
        self.failed += what.startswith(("failed", "diverged"))
        if not self.live.is_started:
            say(f"run {self.total - len(self.to_do)}/{self.total}, {self._left()}: {where}: {what}")

    def render(self) -> Group:
        """Returns what is on the terminal now."""
        broken = f", {self.failed} failed or diverged" if self.failed else ""
        done = self.total - len(self.to_do)
        waiting = len(self.to_do) - len(self.running)
        first = f"{done} of {self.total} done{broken}, {len(self.running)} running, {waiting} to go, {self._left()}"
        lines = [Text(_shortened(first), style="bold")]
        running = list(self.running.values())
        for at in running:
            where = self.places.get(at.key, (0, at.key))[1]
            lines.append(Text(_shortened(f"epoch {at.epoch}/{at.epochs}, {at.words()}: {where}")))
        for line in lines:
            line.no_wrap = True
        shown = {self.places[at.key][0] for at in running if at.key in self.places}
        room = err.height - len(lines) - 5  # borders, header and the line of the cursor
        grids = [self._grid(number, room) for number in sorted(shown)[:1] if room > 0]
        return Group(*lines, *grids)

    def _grid(self, number: int, room: int) -> Grid:
        """Returns the exhibit as far as it is measured: the rows under way and those next to them; … marks a run.

        On a narrow screen it has fewer columns, beginning with the first under way, and no number is cut.
        """
        table, cells = self.tables[number], self.cells[number]
        wide = len(table.columns)
        lines = [(row.title, cells[i * wide : (i + 1) * wide]) for i, row in enumerate(table.rows)]
        busy = [i for i, (_, entries) in enumerate(lines) if any(map(self._running, entries))]
        near = sorted(range(len(lines)), key=lambda i: min((abs(i - each) for each in busy), default=i))
        rows = [[table.id, *(column.title for column in table.columns)]]
        for title, entries in (lines[i] for i in sorted(near[:room])):
            rows.append([title, *(entry.text() + (" …" if self._running(entry) else "") for entry in entries)])
        rows = [list(map(printable, row)) for row in rows]
        widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
        widths[0] = min(widths[0], max(NARROW, err.width // 3))
        left = next((i for i in range(wide) if any(map(self._running, cells[i::wide]))), 0)
        parts = [range(min(left, wide - count), min(left, wide - count) + count) for count in range(wide, 0, -1)]
        part = next((part for part in parts if across([widths[0], *(widths[1 + i] for i in part)]) <= err.width), ())
        free = err.width - across([0, *(widths[1 + i] for i in part)])
        widths[0] = max(widths[0], min(max(map(cell_len, (row[0] for row in rows))), free))
        grid = Grid()
        for i in (0, *(1 + i for i in part)):
            grid.add_column(rows[0][i], no_wrap=True, overflow="ellipsis", width=widths[i])
        for row in rows[1:]:
            grid.add_row(row[0], *(row[1 + i] for i in part))
        return grid

    def _running(self, entry: "Measured") -> bool:
        return any(recipe.key() in self.running for recipe in entry.cell.recipes)

    def _left(self) -> str:
        """Returns about how long the rest takes at the speed of this queue so far."""
        left = sum(self.to_do.values())
        if not left:
            return "no time left"
        if self.started is None:
            return "starting"
        if not self.done_here:
            return "measuring the speed"
        return f"about {clock(left / self.done_here * (time.monotonic() - self.started))} left"


def _shortened(text: str) -> str:
    """Returns as many of the words as fit the screen."""
    return textwrap.shorten(printable(text), err.width, placeholder=" …")


def clock(seconds: float) -> str:
    """Returns seconds as "0:07", "12:34" or "1:02:03"."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"
