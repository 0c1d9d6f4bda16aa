"""Showing a run under way on stderr."""

import time
from typing import TYPE_CHECKING, Self

from rich.progress import BarColumn, Progress, TextColumn

from lt_repro.cli.app import err, say

if TYPE_CHECKING:
    from lt_repro.train import Lane


class Watch:
    """A live line on a terminal; elsewhere a plain line per point of the curve, or per run of a queue.

    Args:
        quiet: Show nothing.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet, self.label = quiet, ""
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[figures]}"))
        self.bar = Progress(*columns, console=err, transient=True, disable=quiet or not err.is_terminal)
        self.task = self.bar.add_task("starting", total=None, figures="")
        self.lane: Lane | None = None
        self.points, self.began, self.shown = 0, (0.0, 0), 0.0

    def __enter__(self) -> Self:
        if not self.bar.disable:
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if not self.bar.disable:
            self.bar.stop()

    def __call__(self, lane: "Lane") -> None:
        """Shows where a run stands: epoch, last loss and accuracy, images through the network per second, time left."""
        now, total = time.monotonic(), lane.recipe.epochs * lane.steps
        done = lane.epoch * lane.steps + lane.step
        if lane is not self.lane:  # a new run: time what this process does, not what it found
            self.lane, self.began, self.points = lane, (now, done - 1), len(lane.curve)
        left = (now - self.began[0]) / max(1, done - self.began[1]) * (total - done)
        speed = lane.passes / max(1e-9, lane.train_seconds + (now - lane.begun if lane.step else 0.0))
        losses = lane.history["loss"]
        loss = f"loss {losses[-1]:.3f}, " if losses else ""
        accuracy = f"accuracy {100 * lane.curve[-1]['all']:.2f} %, " if lane.curve else ""
        epoch = f"{self.label}epoch {lane.epoch}/{lane.recipe.epochs}"
        figures = f"{loss}{accuracy}{speed:,.0f} images/s, {clock(left)} left"
        if self.bar.disable:
            if not self.quiet and (lane.done if self.label else len(lane.curve) > self.points):
                self.points = len(lane.curve)
                say(f"{epoch}: {figures}")
        elif now - self.shown > 0.1 or done == total:
            self.shown = now
            self.bar.update(self.task, description=epoch, total=total, completed=done, figures=figures)


def clock(seconds: float) -> str:
    """Returns seconds as "0:07", "12:34" or "1:02:03"."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"
