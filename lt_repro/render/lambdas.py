"""How far a run's last lambdas decide its test accuracy, as numbers: the change of both between two points of a curve.

At a test, BatchNorm's running statistics are those of the last few batches, and each batch is mixed by one lambda.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lt_repro.data.samplers import generator
from lt_repro.render import comma
from lt_repro.render.percent import signed

if TYPE_CHECKING:
    from lt_repro.render.cells import Measured
    from lt_repro.store.runs import Run

KEPT = 0.9
"""What one more batch leaves of BatchNorm's running statistics: 1 - the momentum, 0.1 in PyTorch."""
REACH = 66
"""Steps after which less than a thousandth of a batch is left. An epoch of CIFAR-100-LT (100) has 85."""
TRIES = 1000
"""Sets of other seeds whose lambdas a fit is compared with."""
OTHERS = 1000
"""The first of these seeds."""


class Change(NamedTuple):
    """What changed in one run between two neighbouring points of its curve.

    Args:
        series: The title of the run's row.
        run: The run.
        epochs: The two points, in epochs.
        x: `x_of` at both; None where nothing is mixed.
        accuracy: On test at both, fractions.
    """

    series: str
    run: "Run"
    epochs: tuple[int, int]
    x: tuple[float, float] | None
    accuracy: tuple[float, float]

    @property
    def moved(self) -> float | None:
        """Returns the change of x; None where nothing is mixed."""
        return None if self.x is None else self.x[1] - self.x[0]

    @property
    def points(self) -> float:
        """Returns the change of the test accuracy in percentage points."""
        return 100 * (self.accuracy[1] - self.accuracy[0])


class Fit(NamedTuple):
    """The least-squares line through (change of x, change of accuracy in points), a point for each mixed run.

    Args:
        n: Number of runs.
        seeds: Number of seeds among them. Runs of one seed share their lambdas, so there are only as many changes of x.
        r: Pearson's correlation.
        slope: Points per unit of x.
        intercept: Points at no change of x.
        chance: Share of `TRIES` in which the lambdas of other seeds give an r at least as high.
    """

    n: int
    seeds: int
    r: float
    slope: float
    intercept: float
    chance: float

    def words(self) -> list[str]:
        """Returns the fit in three short lines."""
        return [
            f"r = {signed(self.r, 2).removeprefix('+')}, n = {self.n} runs of {self.seeds} seeds",
            f"{signed(self.slope, 1).removeprefix('+')} points per unit of x",
            f"other seeds' lambdas reach this r in {100 * self.chance:.1f} % of tries",
        ]


def lambdas(run: "Run", epoch: int, seed: int | None = None) -> NDArray[np.float32] | None:
    """Returns the lambdas of one epoch, drawn again as training draws them.

    Args:
        run: The run.
        epoch: Which, from 1, as the points of the curve count them.
        seed: Whose lambdas; None for the run's own.

    Returns:
        (T,) for T steps, or (T, B) where each sample has its own; None where nothing is mixed.
    """
    recipe = run.recipe
    draw = recipe.method.random_inputs.get("lam")
    if draw is None:
        return None
    steps = -(-recipe.images_per_epoch(run.split["counts"]) // recipe.batch)
    rng = generator(recipe.seed if seed is None else seed, "lam", epoch - 1)
    return np.asarray(draw(rng, steps, recipe.batch), np.float32)


def remembered(lam: NDArray[np.float32]) -> float:
    """Returns x: the mean of max(lam, 1 - lam), each step weighted by what the running statistics keep of it.

    The weight of a step is `KEPT` to the power of its age, the number of steps after it. A batch mixed by lam and one
    mixed by 1 - lam are equally far from unmixed images; x is 1 if nothing was mixed and 0.5 at most mixing.

    Args:
        lam: (T,) or (T, B), in [0, 1], in the order of the steps.
    """
    larger = np.maximum(lam, 1 - lam).astype(np.float64)
    steps = larger.reshape(len(larger), -1).mean(axis=1)
    weights = KEPT ** np.arange(len(steps))[::-1]
    return float(weights @ steps / weights.sum())


def x_of(run: "Run", epoch: int, seed: int | None = None) -> float | None:
    """Returns `remembered` over the steps before a point of the curve, at least `REACH` if there were as many.

    Args:
        run: The run.
        epoch: The point, >= 1.
        seed: Whose lambdas; None for the run's own.

    Returns:
        A number in [0.5, 1]; None where nothing is mixed.
    """
    drawn: list[NDArray[np.float32]] = []
    while epoch >= 1 and sum(map(len, drawn)) < REACH:
        lam = lambdas(run, epoch, seed)
        if lam is None:
            return None
        drawn.insert(0, lam)
        epoch -= 1
    return remembered(np.concatenate(drawn))


def changes(measured: "Sequence[Measured]", earlier: int = 0) -> list[Change]:
    """Returns the change of every finished run between the last two points of its curve, row by row, then by seed.

    Args:
        measured: Cells of a table; runs with too short a curve are skipped.
        earlier: How many points before the last the second of the two lies.
    """
    result = []
    for entry in measured:
        for run in entry.runs:
            pair = run.curve[-2 - earlier : len(run.curve) - earlier]
            if len(pair) < 2:
                continue
            before, after = pair
            epochs = before["epoch"], after["epoch"]
            result.append(
                Change(entry.cell.row.title, run, epochs, _x(run, epochs), (float(before["all"]), float(after["all"])))
            )
    return result


def fit(result: Sequence[Change]) -> Fit | None:
    """Returns the line through the mixed runs; None with fewer than three, or if x or the accuracy moved in none.

    Args:
        result: From `changes`; runs that mix nothing are ignored.
    """
    mixed = [change for change in result if change.moved is not None]
    moved = np.array([change.moved for change in mixed], dtype=float)
    points = np.array([change.points for change in mixed])
    if len(mixed) < 3 or np.ptp(moved) < 1e-9 or np.ptp(points) < 1e-9:
        return None
    seeds = sorted({change.run.recipe.seed for change in mixed})
    r = _correlation(moved, points)
    slope = r * points.std() / moved.std()
    others = [_others(mixed, {seed: OTHERS + t * len(seeds) + i for i, seed in enumerate(seeds)}) for t in range(TRIES)]
    chance = float(np.mean([np.ptp(other) > 1e-9 and _correlation(other, points) >= r for other in others]))
    return Fit(len(mixed), len(seeds), r, float(slope), float(points.mean() - slope * moved.mean()), chance)


def rows(result: Sequence[Change]) -> tuple[list[str], list[list[str]]]:
    """Returns the header and a row per run: series, seed, epochs, x at both, its change, and that of the accuracy."""
    header = ["run", "seed", "epochs", "x", "change of x", "change, points"]
    listed = []
    for change in result:
        x = ["—", "—"]
        if change.x and change.moved is not None:
            x = [f"{change.x[0]:.3f} to {change.x[1]:.3f}", signed(change.moved, 3)]
        epochs = "{} to {}".format(*change.epochs)
        listed.append([change.series, str(change.run.recipe.seed), epochs, *x, signed(change.points, 2)])
    return header, listed


def csv(result: Sequence[Change]) -> str:
    """Returns one line per run; accuracies in percent, their change in points, x empty where nothing is mixed."""
    header = ["series", "seed", "unit", "epoch_before", "epoch_after", "x_before", "x_after", "x_change"]
    header += ["accuracy_before", "accuracy_after", "accuracy_change", "key"]
    rows: list[list[object]] = []
    for change in result:
        x: list[Any] = ["", "", ""]
        if change.x and change.moved is not None:
            x = [round(value, 6) for value in (*change.x, change.moved)]
        accuracies = [round(value, 6) for value in (100 * change.accuracy[0], 100 * change.accuracy[1], change.points)]
        recipe = change.run.recipe
        rows.append([change.series, recipe.seed, "percent", *change.epochs, *x, *accuracies, recipe.key()])
    return comma.lines(header, rows)


def to_json(result: Sequence[Change], line: Fit | None) -> dict[str, Any]:
    """Returns the changes and their fit as JSON values: accuracies are fractions, the slope is points per unit of x."""
    listed = [
        {"series": change.series, "key": change.run.recipe.key(), "seed": change.run.recipe.seed}
        | {"epochs": list(change.epochs), "x": change.x and list(change.x), "accuracy": list(change.accuracy)}
        for change in result
    ]
    return {"changes": listed, "fit": line and line._asdict()}


def _x(run: "Run", epochs: tuple[int, int], seed: int | None = None) -> tuple[float, float] | None:
    first, last = (x_of(run, epoch, seed) for epoch in epochs)
    return None if first is None or last is None else (first, last)


def _others(mixed: Sequence[Change], seeds: dict[int, int]) -> NDArray[np.float64]:
    """Returns the change of x that each run would have with the lambdas of another seed."""
    known: dict[Any, float] = {}
    for change in mixed:
        if (place := _place(change)) not in known:
            before, after = _x(change.run, change.epochs, seeds[change.run.recipe.seed]) or (0.0, 0.0)
            known[place] = after - before
    return np.array([known[_place(change)] for change in mixed])


def _place(change: Change) -> tuple[Any, ...]:
    """Returns what runs with the same lambdas have in common."""
    return change.run.recipe.seed, change.x


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(np.mean((a - a.mean()) * (b - b.mean())) / (a.std() * b.std()))
