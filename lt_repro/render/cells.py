"""The cells of a table, measured: which runs belong to each, their mean and spread, and which runs may not be mixed."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lt_repro.data.split import Split
from lt_repro.papers.table import Cell, Published, Table
from lt_repro.recipe import Recipe
from lt_repro.render.intervals import interval, mean_sd
from lt_repro.render.percent import spread
from lt_repro.store.runs import Run

MISSING = "—"
ABSENT = "n/a"


@dataclass(frozen=True)
class Measured:
    """One cell and the runs that measured it. Accuracies are fractions; text is percent.

    Args:
        cell: The place in the table, which says which accuracy of which branch is shown.
        runs: The finished runs, by seed.
        diverged: The runs that diverged, by seed; never in a mean.
        reason: Why nothing can be measured here, or None.
    """

    cell: Cell
    runs: tuple[Run, ...]
    diverged: tuple[Run, ...] = ()
    reason: str | None = None

    @property
    def n(self) -> int:
        """Returns the number of finished runs."""
        return len(self.runs)

    @property
    def seeds(self) -> list[int]:
        """Returns the seeds of the finished runs, rising."""
        return [run.recipe.seed for run in self.runs]

    @property
    def precisions(self) -> list[str]:
        """Returns the precisions that its runs were trained in."""
        return sorted({run.precision for run in self.runs})

    @property
    def bn(self) -> str:
        """Returns the statistics of BatchNorm that it shows: as asked, or the reading's where every run has them."""
        if self.cell.bn:
            return self.cell.bn
        return self.cell.code_bn if all(run.outcome(self.cell.code_bn) for run in self.runs) else "running"

    @property
    def values(self) -> dict[int, float]:
        """Returns the accuracy (fraction) by seed; empty without runs and where the class group does not exist."""
        which = self.cell.metric, self.cell.branch, self.bn
        pairs = ((run.recipe.seed, run.accuracy(*which)) for run in self.runs)
        return {seed: value for seed, value in pairs if value is not None}

    @property
    def mean(self) -> float | None:
        """Returns the mean over the seeds, a fraction; None where there is no value."""
        return mean_sd(self.values.values())[0]

    @property
    def sd(self) -> float | None:
        """Returns the standard deviation over the seeds (ddof 1), a fraction; None with fewer than two values."""
        return mean_sd(self.values.values())[1]

    @property
    def status(self) -> str:
        """Returns "done" (every seed of the table is there), "partial", "diverged" (and none done) or "missing".

        Where the cell cannot be trained here it is "no method", "needs data" or "published only".
        """
        if self.cell.missing:
            return self.cell.missing.status
        if self.runs:
            return "done" if {recipe.seed for recipe in self.cell.recipes} <= set(self.seeds) else "partial"
        return "diverged" if self.diverged else "missing"

    def differences(self, base: "Measured") -> list[float]:
        """Returns this cell minus another, a fraction for each seed that both have, by seed."""
        return [value - base.values[seed] for seed, value in self.values.items() if seed in base.values]

    def gain(self, base: "Measured") -> tuple[float, float | None] | None:
        """Returns the mean of `differences` and the half width of its 95 % confidence interval, fractions.

        None where the cells share no seed; no half width where they share one.
        """
        pairs = self.differences(base)
        if len(pairs) > 1:
            return interval(pairs)
        return (pairs[0], None) if pairs else None

    @property
    def best(self) -> tuple[float | None, float | None]:
        """Returns mean and standard deviation of the best accuracy along the curve, chosen on test and so no result.

        Of the combined output over all classes only; else, and without runs, they are None.
        """
        if self.cell.metric != "all" or self.cell.branch:
            return None, None
        return mean_sd([run.result["best"]["all"] for run in self.runs if run.result and "best" in run.result])

    def unprinted(self) -> "Measured":
        """Returns the same without what the paper prints."""
        return replace(self, cell=replace(self.cell, published=None))

    def text(self) -> str:
        """Returns "mean ± sd (n)" in percent; "—" without a run, "n/a" where the class group does not exist."""
        if self.status == "published only":
            return self.status
        if self.mean is None:
            return ABSENT if self.runs else MISSING
        return f"{spread(self.mean, self.sd)} ({self.n})"


def measure(table: Table, runs: Iterable[Run]) -> list[Measured]:
    """Returns every cell of the table, row by row, with the runs of its recipes, one a seed of the table.

    Args:
        table: What to measure.
        runs: Any runs; those that belong nowhere are ignored, and of one recipe the first counts.
    """
    result: dict[str, Run] = {}
    for run in runs:
        result.setdefault(run.recipe.key(), run)
    measured = []
    for cell in table.cells():
        by_seed = sorted(cell.recipes, key=lambda recipe: recipe.seed)
        seed_runs = [result[recipe.key()] for recipe in by_seed if recipe.key() in result]
        ended = {status: tuple(run for run in seed_runs if run.status == status) for status in ("done", "diverged")}
        parents = (result.get(parent.key()) for recipe in by_seed for parent in recipe.parents.values())
        failed_parents = [run.recipe.key() for run in parents if run and run.status == "diverged"]
        reason = f"its parent {', '.join(failed_parents)} diverged" if failed_parents and not seed_runs else None
        shown = table.compared_bn or {cell.bn or "running"}
        done = tuple(run for run in ended["done"] if all(run.outcome(bn) for bn in shown))
        if ended["done"] and not done:
            reason = "older runs, which store running statistics alone; their weights still give the others"
        measured.append(Measured(cell, done, ended["diverged"], reason))
    return measured


def to_json(table: Table, measured: Sequence[Measured]) -> dict[str, Any]:
    """Returns the cells as JSON values: accuracies are fractions, published ones too, and null where there is none."""
    return {"cells": [_cell(table, entry, measured[i % len(table.columns)]) for i, entry in enumerate(measured)]}


def conflicts(
    runs: Iterable[Run], known: Callable[[str, float, str, int, int], Split | None]
) -> tuple[list[Run], list[str]]:
    """Returns the runs on the right split, and a line for each run that is skipped or has other pixels.

    Runs of the same `Recipe.subset` must be of the split that is known for it; where none is
    known the commonest (the first seen among equals) stays. Another digest of the images alone is only reported:
    sources of one pool can differ in how a few pictures were decoded.

    Args:
        runs: Any runs.
        known: Gives the split of a `Recipe.subset`, or None.
    """
    groups: dict[tuple[str, float, str, int, int], list[Run]] = {}
    for run in runs:
        groups.setdefault(run.recipe.subset, []).append(run)
    kept, lines = [], []
    for subset, group in groups.items():
        where = f"{subset[0]} (ratio {subset[1]:g})"
        whole = known(*subset)
        split = whole.digest if whole else Counter(run.split["digest"] for run in group).most_common(1)[0][0]
        same = [run for run in group if run.split["digest"] == split]
        lines += [
            f"skipped {_file(run)}: different split of {where}, {run.split['digest'][:8]} instead of {split[:8]}"
            for run in group
            if run.split["digest"] != split
        ]
        pixels = [digest for digest, _ in Counter(run.data_digest for run in same).most_common()]
        for digest in pixels[1:]:
            names = [_file(run) for run in same if run.data_digest == digest]
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            lines.append(f"same split, other pixels: {names[0]}{more} ({digest[:8]}, not {pixels[0][:8]}), {where}")
        kept += same
    return kept, lines


def short_runs(table: Table, runs: Iterable[Run]) -> list[Run]:
    """Returns the runs that are a cell's except for the seed and fewer epochs; they are never mixed into the table."""
    runs, epochs = list(runs), dict[str, set[int]]()
    if not runs:  # a plan from nothing
        return []
    for recipe in (cell.recipe for cell in table.cells() if cell.recipe):
        epochs.setdefault(_shortened(recipe), set()).add(length(recipe))
    longest = max((count for counts in epochs.values() for count in counts), default=0)
    shorter = (run for run in runs if length(run.recipe) < longest)
    pairs = ((run, epochs.get(_shortened(run.recipe), {0})) for run in shorter)
    return [run for run, known in pairs if length(run.recipe) not in known and length(run.recipe) < max(known)]


def unmatched(table: Table, runs: Iterable[Run]) -> list[tuple[Run, dict[str, tuple[Any, Any]]]]:
    """Returns the runs on a cell's data set by its method that have other settings, with what sets each apart.

    That is every setting in which it differs from the nearest cell, name -> (the run's value, the cell's). A run that
    differs in what experiments choose or what rows and columns decide, except the ratio of columns, belongs to
    another table and is not returned; nor are `short_runs`, nor runs that differ in the seed only.
    """
    decided = {name.rpartition(".")[2] for variant in (*table.rows, *table.columns) for name in variant.edits}
    decided |= set(table.settings.chosen)
    if not any("dataset" in column.edits for column in table.columns):
        decided.discard("ratio")
    cells = list({cell.recipe.key(): cell.recipe for cell in table.cells() if cell.recipe}.values())
    runs, result = list(runs), []
    short = {run.recipe.key() for run in short_runs(table, runs)}
    for run in runs:
        every = [pairs for cell in cells if (pairs := differences(run.recipe, cell)) is not None]
        near = [pairs for pairs in every if decided.isdisjoint(name.removeprefix("parent ") for name in pairs)]
        if near and all(every) and run.recipe.key() not in short:
            result.append((run, min(near, key=len)))
    return result


def matches(table: Table, recipe: Recipe) -> bool:
    """Returns whether a recipe is a cell's, whatever its seed."""
    return any(cell.recipe and differences(recipe, cell.recipe) == {} for cell in table.cells())


def differences(recipe: Recipe, other: Recipe) -> dict[str, tuple[Any, Any]] | None:
    """Returns every setting in which two recipes differ, except the seed: name -> (the first's value, the other's).

    A parent's setting is "parent NAME", and left out where the run differs in the same way. None if the data sets, the
    methods or the roles of parents differ.
    """
    if (recipe.dataset, type(recipe.method), {*recipe.parents}) != (
        other.dataset,
        type(other.method),
        {*other.parents},
    ):
        return None
    result = {
        name: (value, other.values[name])
        for name, value in recipe.values.items()
        if name not in ("seed", "parents") and value != other.values[name]
    }
    for role, parent in recipe.parents.items():
        inner = differences(parent, other.parents[role])
        if inner is None:
            return None
        result |= {f"parent {name}": pair for name, pair in inner.items() if result.get(name) != pair}
    return result


def length(recipe: Recipe) -> int:
    """Returns the epochs that a reader means: of the run itself, or of the first run that it builds on."""
    return recipe.lineage()[-1].epochs


def series_key(recipe: Recipe) -> str:
    """Returns the key that a recipe would have with seed 0, its parents' too: equal for runs of one series."""
    return _levelled(recipe).key()


_SHORTENED: dict[str, str] = {}  # by key: every table asks it of every stored run


def _shortened(recipe: Recipe) -> str:
    if recipe.key() not in _SHORTENED:
        _SHORTENED[recipe.key()] = _levelled(recipe, epochs=1).key()
    return _SHORTENED[recipe.key()]


def _levelled(recipe: Recipe, **of_the_first: Any) -> Recipe:
    """Returns a recipe with seed 0 throughout, and settings of the runs without parents that it builds on replaced."""
    if not recipe.parents:
        return recipe.replace(seed=0, **of_the_first)
    parents = {role: _levelled(parent, **of_the_first) for role, parent in recipe.parents.items()}
    return recipe.replace(seed=0, parents=parents)


def _file(run: Run) -> str:
    return run.path.name if run.path else run.recipe.key()


def published_json(published: Published | None) -> dict[str, Any]:
    """Returns a published number as JSON values, all null where nothing is published."""
    return {
        "published": published and published.value,
        "published_sd": published and published.sd,
        "published_n": published and published.n,
        "source": published and published.source,
        "protocol": published and published.protocol,
        "tier": published and published.tier,
        "read_from_picture": published and published.picture,
        "measured_by_paper": published and published.measured,
    }


def published_text(published: Published) -> str:
    """Returns "42.73 ± 0.28 (5)†" in percent, with marks: † quoted, ‡ secondary, § read from a picture."""
    count = "" if published.n is None else f" ({published.n})"
    return f"{spread(published.value, published.sd)}{count}{marks_of(published)}"


def marks_of(published: Published) -> str:
    """Returns the marks of a published number, "" for one that the paper measured and prints as text."""
    return {"quoted": "†", "secondary": "‡"}.get(published.tier, "") + ("§" if published.picture else "")


def gain_of(table: Table, entry: Measured, first: Measured) -> tuple[float | None, float | None, int | None]:
    """Returns a cell's gain over its column's first row in an ablation, its half width, and over how many seeds.

    None where there is none; see `Measured.gain`.
    """
    gain = entry.gain(first) if table.ablation and entry is not first else None
    return (*gain, len(entry.differences(first))) if gain else (None, None, None)


def _cell(table: Table, entry: Measured, first: Measured) -> dict[str, Any]:
    published, (gain, half, pairs), (best, best_sd) = entry.cell.published, gain_of(table, entry, first), entry.best
    return {
        "exhibit": table.id,
        "row": entry.cell.row.label,
        "column": entry.cell.column.label,
        "metric": entry.cell.metric,
        "branch": entry.cell.branch,
        "bn": entry.bn,
        "n": entry.n,
        "seeds": entry.seeds,
        "mean": entry.mean,
        "sd": entry.sd,
        "best_mean": best,
        "best_sd": best_sd,
        "gain": gain,
        "gain_ci95": half,
        "gain_n": pairs,
        **published_json(published),
        "notes": list(entry.cell.row.notes) if published else [],
        "recipe": entry.cell.recipe and entry.cell.recipe.key(),
        "reason": entry.reason or (str(entry.cell.missing) if entry.cell.missing else None),
        "status": entry.status,
        "keys": [run.recipe.key() for run in entry.runs],
    }
