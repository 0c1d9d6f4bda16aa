"""What papers print of one method on one data set, beside what stored runs give: rows of strings, and JSON."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from lt_repro.papers.claim import Paper
from lt_repro.papers.comparison import Entry, column_of, compared
from lt_repro.papers.rows import names
from lt_repro.render.cells import Measured, length, marks_of, measure, published_json, published_text
from lt_repro.render.percent import percent
from lt_repro.store.runs import Run

HEADER = ("top-1 accuracy, percent", "where", "as", "protocol", "source")


class Ours(NamedTuple):
    """What stored runs give under one recipe: the cell, and under which reading, preset and profile it was found."""

    measured: Measured
    paper: str
    profile: str

    @property
    def recipe(self) -> str:
        """Returns which recipe it is, in words."""
        cell = self.measured.cell
        kind = f"preset {cell.preset}" if cell.preset else f"reading {cell.reading}"
        return f"{kind} of {self.paper}, profile {self.profile}, {length(self.measured.runs[0].recipe)} epochs"


def ours(papers: Iterable[Paper], method: str, column: str, runs: Sequence[Run]) -> Iterator[Ours]:
    """Yields what the runs give for a method on some images under every recipe that a paper's exhibits have, each once.

    Args:
        papers: Whose exhibits; the first that has a recipe names it.
        method: As `Entry.method`.
        column: As `Entry.column`.
        runs: Any runs.
    """
    seen: set[tuple[str, ...]] = set()
    for paper in papers:
        for table in filter(compared, paper.tables()):
            for reading in paper.settings.readings:
                read = table.read_as(reading)
                result = [(cell.row, cell.column) for cell, name in names(read) if name == method and cell.recipe]
                for row, across in result:
                    place = dataclasses.replace(read, rows=[row], columns=[across])
                    if column_of(place, next(place.cells())) != column:
                        continue
                    for profile in ("paper", "short"):
                        (measured,) = measure(place.profiled(profile), runs)
                        keys = tuple(run.recipe.key() for run in measured.runs)
                        if measured.values and keys not in seen:
                            seen.add(keys)
                            yield Ours(measured, paper.title, profile)


def ordered(entries: Iterable[Entry]) -> list[Entry]:
    """Returns the entries, the largest number first."""
    return sorted(entries, key=lambda entry: -entry.published.value)


def field_spread(entries: Sequence[Entry]) -> dict[str, Any]:
    """Returns the smallest and the largest of the numbers (fractions) and how many there are; null without any."""
    values = [entry.published.value for entry in entries]
    return {"min": min(values, default=None), "max": max(values, default=None), "n": len(values)}


def rows(entries: Sequence[Entry], result: Sequence[Ours]) -> list[list[str]]:
    """Returns a row under `HEADER` for each number, ours first, then the largest first."""
    lines = [
        ["ours " + each.measured.text(), "stored runs", each.measured.cell.row.title, each.recipe + ", last epoch", ""]
        for each in result
    ]
    for entry in ordered(entries):
        number = entry.published
        where = ", ".join(filter(None, (entry.paper, entry.exhibit.rpartition("/")[2])))
        lines.append([published_text(number), where, entry.title, number.protocol, number.source])
    return lines


def summary(entries: Sequence[Entry]) -> list[str]:
    """Returns the field's spread in a line, and what the marks mean."""
    measured = [entry for entry in entries if entry.published.measured]
    lines = [f"published: {_range(entries)}"]
    if 0 < len(measured) < len(entries):
        lines.append(f"of them measured by their authors: {_range(measured)}")
    signs = {"†": "quoted by the paper", "‡": "from a third party's transcription", "§": "read from a picture"}
    marks = "".join(marks_of(entry.published) for entry in entries)
    return lines + [f"{sign} {words}" for sign, words in signs.items() if sign in marks]


def to_json(method: str, column: str, entries: Sequence[Entry], result: Sequence[Ours]) -> dict[str, Any]:
    """Returns the comparison as JSON values; accuracies are fractions."""
    return {
        "row": method,
        "column": column,
        "published": [
            {"paper": entry.paper, "exhibit": entry.exhibit or None, "title": entry.title}
            | published_json(entry.published)
            for entry in ordered(entries)
        ],
        "spread": field_spread(entries),
        "ours": [
            {
                **{"mean": each.measured.mean, "sd": each.measured.sd, "n": each.measured.n},
                **{"seeds": each.measured.seeds, "paper": each.paper, "reading": each.measured.cell.reading},
                **{"preset": each.measured.cell.preset or None, "profile": each.profile, "bn": each.measured.bn},
                "epochs": length(each.measured.runs[0].recipe),
                "keys": [run.recipe.key() for run in each.measured.runs],
            }
            for each in result
        ],
    }


def _range(entries: Sequence[Entry]) -> str:
    result = field_spread(entries)
    return f"{percent(result['min'])} to {percent(result['max'])} % (n = {result['n']})"
