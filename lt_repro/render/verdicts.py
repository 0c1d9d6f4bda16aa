"""Verdicts: whether a published number is reproduced by a measured cell, and whether the paper's claims hold here."""

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

from lt_repro.papers.claim import Claim, Comparison, Place
from lt_repro.papers.table import Table
from lt_repro.render.cells import Measured
from lt_repro.render.intervals import interval, one_more, values_needed
from lt_repro.render.percent import percent, points, spread

Status = Literal["reproduced", "within one more run", "outside", "too few seeds", "not run"]
STATUSES: tuple[Status, ...] = get_args(Status)
Verdict = Literal["holds", "holds in part", "does not hold", "inconclusive", "not yet measured"]

_DIGITS = 12  # finer than any accuracy; sums of the same accuracies in another order become equal


class Checked(NamedTuple):
    """A cell and whether its published number is reproduced, by the criterion of `check_cell`.

    Args:
        measured: The cell.
        status: "reproduced", "within one more run", "outside", "too few seeds" or "not run".
        mean_half: Half the width of the 95 % confidence interval of our mean, a fraction; None with fewer than 3 seeds.
        run_half: Half the width of the 95 % prediction interval of one more run of ours, likewise.
    """

    measured: Measured
    status: Status
    mean_half: float | None = None
    run_half: float | None = None


class Compared(NamedTuple):
    """A comparison over n seeds: the mean of its differences (fraction) and the interval's half width."""

    mean: float | None
    half: float | None
    n: int


class Judged(NamedTuple):
    """A claim and its verdict: `measured` of `total` comparisons have an interval; `details` has one entry for each."""

    claim: Claim
    verdict: Verdict
    measured: int
    total: int
    details: list[Compared]


def check(table_cells: Sequence[Measured]) -> list[Checked]:
    """Returns every cell with a published number, and whether that number is reproduced; see `check_cell`."""
    return [result for entry in table_cells if (result := check_cell(entry))]


def check_once(exhibits: Iterable[tuple[Table, Sequence[Measured]]]) -> list[tuple[Checked, list[str]]]:
    """Returns what `check` does of several exhibits, with their ids: one number against the same recipe counts once.

    Of exhibits with more and fewer seeds, the one with the most runs is checked.
    """
    once: dict[tuple[Any, ...], list[tuple[Checked, str]]] = {}
    for table, measured in exhibits:
        for checked in check(measured):
            entry, cell = checked.measured, checked.measured.cell
            runs = (cell.recipe.key(),) if cell.recipe else (table.id, cell.row.label, cell.column.label)
            what = cell.metric, cell.branch, entry.bn, cell.published and cell.published.value
            once.setdefault((*runs, *what), []).append((checked, table.id))
    return [
        (max(same, key=lambda pair: pair[0].measured.n)[0], list(dict.fromkeys(name for _, name in same)))
        for same in once.values()
    ]


def check_cell(measured: Measured) -> Checked | None:
    """Returns whether a cell's published number is reproduced, or None where nothing is published.

    This is the one criterion of `ltrepro check`, the pages and the README. With n >= 3 seeds the published number is

    - "reproduced" inside the 95 % interval of our mean: |mean - published| <= t(.975, n-1) sd / sqrt(n);
    - "within one more run" beyond that, but inside the 95 % interval of one more run of ours, as it would be if the
      paper had made a single run like ours: |mean - published| <= t(.975, n-1) sd sqrt(1 + 1/n);
    - "outside" beyond both.

    With fewer seeds it is "too few seeds", with no value "not run".
    """
    if measured.cell.published is None:
        return None
    values = list(measured.values.values())
    if len(values) < 3:
        return Checked(measured, "too few seeds" if values else "not run")
    (mean, mean_half), (_, run_half) = interval(values), one_more(values)
    distance = abs(mean - measured.cell.published.value)
    within: Status = "within one more run" if distance <= run_half else "outside"
    return Checked(measured, "reproduced" if distance <= mean_half else within, mean_half, run_half)


def judge(claim: Claim, cells: Mapping[Place, Measured]) -> Judged:
    """Returns a claim's verdict on the measured cells.

    A comparison is the mean of sum(more) - sum(less) per seed, over the seeds that have finished runs in all its
    places, with its 95 % confidence interval. It counts as measured with two seeds or more. It holds if the whole
    interval is above 0, and does not hold if none of it is. With an `equivalence_margin` it holds if the interval is
    within ± the margin, and does not hold if it is wholly outside. In all other cases it is inconclusive.

    The claim holds if every comparison is measured and holds. If a comparison does not hold, the claim holds in part
    where another one holds, and does not hold where none does. In all other cases the claim is inconclusive.

    Args:
        claim: The claim.
        cells: The measured cells by place; a missing one has no runs.
    """
    details = [_compare(comparison, cells) for comparison in claim.comparisons]
    result = _verdicts(claim, details)
    verdict: Verdict = "inconclusive"
    if not result:
        verdict = "not yet measured"
    elif "does not hold" in result:
        verdict = "holds in part" if "holds" in result else "does not hold"
    elif result.count("holds") == len(details):
        verdict = "holds"
    return Judged(claim, verdict, len(result), len(details), details)


def places(tables_measured: Iterable[tuple[Table, Sequence[Measured]]]) -> dict[Place, Measured]:
    """Returns the measured cells of one paper by place; "table4-digits-r60" and "table4@released" are cells of table4.

    Raises:
        ValueError: Two tables have the same place, so it is not clear which one to use.
    """
    result: dict[Place, Measured] = {}
    for table, measured in tables_measured:
        for entry in measured:
            place = Place(table.exhibit, entry.cell.row.label, entry.cell.column.label)
            if place in result:
                raise ValueError(f"{table.id}: {' '.join(place)} appears twice")
            result[place] = entry
    return result


def on(claim: Claim, table: Table) -> Claim | None:
    """Returns the claim as it applies to this table of its paper alone, or None if it does not apply.

    It is the claim itself if the table has all its places. If the table has one column and the claim is about one
    other column, it is the claim on the table's column, unless that column shows a class group.
    """
    named = [place for comparison in claim.comparisons for place in (*comparison.more, *comparison.less)]
    rows, columns = {row.label for row in table.rows}, {column.label for column in table.columns}
    if any(place.exhibit != table.exhibit or place.row not in rows for place in named):
        return None
    if all(place.column in columns for place in named):
        return claim
    if len(table.columns) > 1 or len({place.column for place in named}) > 1 or table.columns[0].metric:
        return None

    def moved(side: tuple[Place, ...]) -> tuple[Place, ...]:
        return tuple(place._replace(column=table.columns[0].label) for place in side)

    comparisons = tuple(Comparison(moved(comparison.more), moved(comparison.less)) for comparison in claim.comparisons)
    return dataclasses.replace(claim, comparisons=comparisons)


def checked_line(checked: Checked, exhibits: Sequence[str]) -> str:
    """Returns a line on a cell with a published number, in percent; with fewer than three seeds it has no intervals.

    "outside: Dual branch, ratio 100 (table4): 40.10 ± 0.30 (3), published 40.99; 95 % interval of our mean ± 0.75, of
    one more run ± 1.49, n = 3" has status, place, exhibits, ours, theirs and how far ours may be from theirs.
    """
    cell = checked.measured.cell
    place = f"{cell.row.title}, {cell.column.title} ({', '.join(exhibits)})"
    line = f"{checked.status}: {place}: {checked.measured.text()}"
    line += f", published {percent(cell.published.value)}" if cell.published else ""
    if checked.mean_half is None or checked.run_half is None:
        return line
    line += f"; 95 % interval of our mean ± {percent(checked.mean_half)}, of one more run ± {percent(checked.run_half)}"
    return f"{line}, n = {len(checked.measured.values)}"


def checked_text(checked: Checked) -> str:
    """Returns "outside: −0.89 (± 0.75, ± 1.49), n = 3": ours − published and both half widths, in points.

    With fewer than three seeds it is "too few seeds: −0.89, n = 1", with none "not run".
    """
    measured, published = checked.measured, checked.measured.cell.published
    if measured.mean is None or published is None:
        return checked.status
    halves = [f"± {percent(half)}" for half in (checked.mean_half, checked.run_half) if half is not None]
    widths = f" ({', '.join(halves)})" if halves else ""
    return f"{checked.status}: {points(measured.mean - published.value)}{widths}, n = {len(measured.values)}"


def claim_lines(judged: Sequence[Judged]) -> list[str]:
    """Returns a line for each claim: "holds: TEXT (Sec. 4.4). Here +5.90 ± 1.20 points, n = 3".

    For several comparisons it says how many hold, and the smallest difference; if the claim is that both sides are
    alike, the largest in size. ± is the 95 % interval. A claim that is not yet measured has no number. Of one that is
    inconclusive it says how many seeds would decide, if mean and spread stayed as they are.
    """
    lines = [
        f"{result.verdict}{_needed(result)}: {result.claim.text.rstrip('.')} ({result.claim.source})"
        for result in judged
    ]
    return [
        f"{line}. Here {fact}" if (fact := _fact(result)) else line for line, result in zip(lines, judged, strict=True)
    ]


def _compare(comparison: Comparison, cells: Mapping[Place, Measured]) -> Compared:
    more, less = (
        [cells[place].values if place in cells else {} for place in side] for side in (comparison.more, comparison.less)
    )
    shared = sorted(set.intersection(*(set(values) for values in (*more, *less))))
    differences = [
        round(math.fsum([values[seed] for values in more] + [-values[seed] for values in less]), _DIGITS)
        for seed in shared
    ]
    if len(differences) < 2:
        return Compared(differences[0] if differences else None, None, len(differences))
    return Compared(*interval(differences), len(differences))


def _verdicts(claim: Claim, details: Iterable[Compared]) -> list[Verdict]:
    """Returns the verdict of each measured comparison."""
    return [
        _verdict(compared.mean, compared.half, claim.equivalence_margin)
        for compared in details
        if compared.mean is not None and compared.half is not None  # a single seed has no interval
    ]


def _verdict(mean: float, half: float, equivalence_margin: float | None) -> Verdict:
    if equivalence_margin is None:
        return "holds" if mean > half else "does not hold" if mean <= -half else "inconclusive"
    if abs(mean) + half <= equivalence_margin:
        return "holds"
    return "does not hold" if abs(mean) - half > equivalence_margin else "inconclusive"


def _needed(judged: Judged) -> str:
    """Returns " (needs about 5 seeds)" for an inconclusive claim with inconclusive comparisons, else nothing."""
    limit = judged.claim.equivalence_margin or 0.0
    counts = [
        values_needed(abs(abs(compared.mean) - limit), compared.half, compared.n)
        for compared in judged.details
        if compared.mean is not None and compared.half is not None
        if _verdict(compared.mean, compared.half, judged.claim.equivalence_margin) == "inconclusive"
    ]
    if judged.verdict != "inconclusive" or not counts:
        return ""
    most = max(counts, key=lambda count: count or math.inf)
    return f" (needs about {most} seeds)" if most else " (needs more than 100 seeds)"


def _fact(judged: Judged) -> str:
    claim, measured = judged.claim, [compared for compared in judged.details if compared.half is not None]
    if not measured:
        return ""
    limit = "" if claim.equivalence_margin is None else f", alike within {percent(claim.equivalence_margin)}"
    worst = min(measured, key=lambda compared: _support(compared, claim.equivalence_margin))
    number = f"{spread(worst.mean or 0.0, worst.half, sign=True)} points{limit}, n = {worst.n}"
    if judged.total == 1:
        return number
    result = Counter(_verdicts(claim, measured))
    failed = result["does not hold"]
    rest = {
        "does not" if failed == 1 else "do not": failed,
        "inconclusive": result["inconclusive"],
        "not yet measured": judged.total - judged.measured,
    }
    counts = [
        f"{result['holds']} of {judged.total} comparisons hold",
        *(f"{n} {name}" for name, n in rest.items() if n),
    ]
    return f"{', '.join(counts)}, the {'smallest' if claim.equivalence_margin is None else 'largest'} {number}"


def _support(compared: Compared, equivalence_margin: float | None) -> float:
    mean = compared.mean or 0.0
    return mean if equivalence_margin is None else -abs(mean)
