"""Showing exhibits: on the terminal, as one JSON document, and as files, each in its own form."""

import functools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.cells import cell_len
from rich.table import Table as Grid

from lt_repro.cli.app import out, printable, put, put_json, put_prose
from lt_repro.errors import FailedError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lt_repro.data.images import Pool
    from lt_repro.papers.table import Table
    from lt_repro.render.cells import Measured
    from lt_repro.render.classes import Classes
    from lt_repro.render.lambdas import Change, Fit
    from lt_repro.render.verdicts import Judged
    from lt_repro.store.runs import Run

Exhibit = tuple["Table", "list[Measured]"]
Words = tuple[Sequence[str], Sequence[Sequence[str]]]  # a header and rows


class Content(NamedTuple):
    """What the files of an exhibit hold.

    Args:
        texts: By kind of file: a table's md, csv and json (and tex), the csv of a figure's numbers.
        draw: Draws the figure; None for a table.
        put: Prints the numbers of a figure.
        numbers: The same as JSON values, by name.
    """

    texts: dict[str, str]
    draw: "Callable[[], Figure] | None" = None
    put: Callable[[], None] = lambda: None
    numbers: Mapping[str, Any] = {}


def put_all(
    shown: Sequence[Exhibit],
    notes: Sequence[str],
    pool: "Pool | None",
    to: Path | None,
    as_json: bool,
    best: bool,
    claims: bool,
    latex: str | None = None,
) -> None:
    """Writes every exhibit in its own form, and prints all of them with verdicts on the paper's claims.

    Args:
        shown: Measured exhibits.
        notes: On skipped run files, for the foot of every table.
        pool: The images, where they were read.
        to: Folder of the files; by default `tables` or `figures`.
        as_json: Print one JSON document instead.
        best: Show in tables the best accuracy on test beside the last.
        claims: Judge the paper's claims also where an exhibit is not at the paper's settings.
        latex: Write tables as LaTeX too, with this beside each mean: sd, interval or gain.

    Raises:
        FailedError: A figure could not be drawn; everything else was written and printed.
    """
    from lt_repro.render.verdicts import claim_lines

    paths: list[Path] = []
    failed: list[str] = []
    more: dict[str, Any] = {}
    for table, measured in shown:
        content = content_of(table, measured, notes, pool, best, latex)
        try:
            paths += drawn(table, measured, content, notes, to)
        except FailedError as error:
            failed.append(f"{table.id}: {error}")
        paths += written(table, content, to)
        more |= content.numbers
        if not as_json:
            content.put()
    judged = _judged(shown, claims)
    put_exhibits(shown, paths, as_json, best, claims=claims_json(judged), **more)
    if not as_json and (measured_claims := [result for result in judged if result.measured]):
        put_prose("The paper's claims with its numbers, and our result:")
        for line in claim_lines(measured_claims):
            put_prose(line)
    if failed:
        raise FailedError("; ".join(failed))


def content_of(
    table: "Table",
    measured: "list[Measured]",
    notes: Sequence[str] = (),
    pool: "Pool | None" = None,
    best: bool = False,
    latex: str | None = None,
) -> Content:
    """Returns what the files of a measured exhibit hold. For the arguments see `put_all`."""
    from lt_repro.render import figures, lambdas, reliability, text

    if table.form == "classes":
        classes = classes_of(table, {entry.cell.row.title: entry.runs for entry in measured}, pool, table.bn)
        missing = [label for label, values in classes.series.items() if not values]
        note = f" Not run: {', '.join(missing)}." if missing else ""
        draw = functools.partial(figures.class_figure, table.caption + note, classes)
        put_numbers = functools.partial(put_classes, classes)
        return Content({"csv": classes.csv()}, draw, put_numbers, {"classes": classes.to_json()})
    if table.form == "lambdas":
        changes = lambdas.changes(measured)
        trend = lambdas.fit(changes)
        draw = functools.partial(figures.lambda_figure, table, changes, trend)
        put_numbers = functools.partial(put_lambdas, changes, trend)
        return Content({"csv": lambdas.csv(changes)}, draw, put_numbers, {"lambdas": lambdas.to_json(changes, trend)})
    if table.form == "reliability":
        panels = reliability.panels(measured)
        draw = functools.partial(figures.reliability_figure, table.caption, panels)
        return Content({"csv": reliability.csv(panels)}, draw)
    if table.form in ("lines", "groups"):
        chosen = figures.hparam_figure if table.form == "lines" else figures.group_figure
        return Content({"csv": text.csv(table, measured)}, functools.partial(chosen, table, measured))
    shown = (table, measured, notes, best or table.best)
    document = json.dumps(text.document(*shown), indent=1, allow_nan=False) + "\n"
    texts = {"md": text.markdown(*shown), "csv": text.csv(table, measured), "json": document}
    if latex:
        from lt_repro.render.latex import latex as source

        texts["tex"] = source(*shown, pm=latex)
    return Content(texts)


def drawn(
    table: "Table", measured: "Sequence[Measured]", content: Content, notes: Sequence[str], to: Path | None
) -> list[Path]:
    """Draws an exhibit that is a figure and returns the paths.

    Raises:
        FailedError: It cannot be drawn.
    """
    from lt_repro.render import figures, text

    if content.draw is None:
        return []
    if table.form not in ("lines", "groups"):  # the foot is on published numbers only where the figure has them
        measured = [entry.unprinted() for entry in measured]
    foot = [*text.footer(table, measured, best=False), *notes]
    return figures.save(content.draw(), folder(table, to) / table.file_name, foot)


def written(table: "Table", content: Content, to: Path | None) -> list[Path]:
    """Writes the texts of an exhibit and returns the paths."""
    return [write(folder(table, to) / f"{table.file_name}.{kind}", text) for kind, text in content.texts.items()]


def folder(table: "Table", to: Path | None) -> Path:
    """Returns the folder of an exhibit's files."""
    return to or Path("tables" if table.form == "table" else "figures")


def put_exhibits(
    shown: Sequence[Exhibit], paths: Sequence[Path], as_json: bool = False, best: bool = False, **more: Any
) -> None:
    """Prints measured tables and the files they were written to, or their cells as one JSON document with `more`."""
    from lt_repro.render import cells, text

    if as_json:
        listed = [cell for table, measured in shown for cell in cells.to_json(table, measured)["cells"]]
        return put_json({"cells": listed} | more)
    for table, measured in shown:
        put_prose(table.caption)
        both = best or table.best
        _print(len(table.columns), 1, functools.partial(_part, table, measured, both))
        for line in text.footer(table, measured, both):
            put_prose(line)
    for path in paths:
        put(str(path))


def put_grid(header: Sequence[str], rows: Sequence[Sequence[str]], fixed: int) -> None:
    """Prints a name and numbers a row; what does not fit beside the `fixed` first columns follows in further grids."""

    def part(begin: int, end: int) -> Words:
        chosen = [*range(fixed), *range(fixed + begin, fixed + end)]
        return [header[i] for i in chosen], [[row[i] for i in chosen] for row in rows]

    _print(len(header) - fixed, fixed, part)


def text_grid(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Grid:
    """Returns rows of texts in columns, without lines between them; a text longer than its column is folded."""
    grid = Grid(box=None, padding=(0, 2, 0, 0), show_header=any(header))
    for word in header:
        grid.add_column(word, overflow="fold")
    for row in rows:
        grid.add_row(*map(printable, row))
    return grid


def put_texts(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints rows of texts in columns; long texts are folded, into `PAGE` columns where there is no screen."""
    out.print(text_grid(header, rows), width=min(out.width, PAGE))


def write(path: Path, content: str) -> Path:
    """Writes a text file whole and returns its path."""
    from lt_repro.store import files

    files.write(path, content.encode())
    return path


def classes_of(
    table: "Table", series: "dict[str, Sequence[Run]]", pool: "Pool | None", bn: str | None = None
) -> "Classes":
    """Returns the classes of a table's split, which is known before anything has run, and what its runs reach."""
    from lt_repro.data.images import split_of
    from lt_repro.data.load import known_split
    from lt_repro.render.classes import by_class

    recipe = table.recipes()[0]
    split = known_split(*recipe.subset)
    if pool is not None:
        split = split_of(recipe.subset, pool)
    assert split is not None, "the images are read whenever the data set is not a known one"
    stored_names = [run.split["class_names"] for runs in series.values() for run in runs]
    names = (
        pool.class_names if pool else stored_names[0] if stored_names else [str(k) for k in range(len(split.counts))]
    )
    return by_class(names, split.counts.tolist(), series, bn or "running")


def draw_classes(stem: Path, title: str, classes: "Classes", foot: Sequence[str] = ()) -> list[Path]:
    """Writes the figure of accuracies by class with its numbers and returns the paths."""
    from lt_repro.render import figures

    numbers = write(stem.with_name(f"{stem.name}.csv"), classes.csv())
    return [*figures.save(figures.class_figure(title, classes), stem, foot), numbers]


def put_classes(classes: "Classes") -> None:
    """Prints accuracies by class, where there are few enough to read."""
    if len(classes.names) > 20:
        return put(f"{len(classes.names)} classes: their numbers are in the .csv")
    header, rows = classes.rows()
    put("Top-1 accuracy by class, percent.")
    put_grid(header, rows, fixed=2)


def put_lambdas(changes: "Sequence[Change]", trend: "Fit | None") -> None:
    """Prints what changed in each run between its last two tests, and the line through the mixed ones."""
    from lt_repro.render import lambdas

    put("Change of x (the mean of max(lambda, 1 - lambda) that BatchNorm remembers) and of test accuracy, by run.")
    put_grid(*lambdas.rows(changes), fixed=2)
    if trend:
        put("; ".join(trend.words()) + ".")


def claims_json(judged: "Sequence[Judged]") -> list[dict[str, Any]]:
    """Returns verdicts as JSON values."""
    return [{"id": result.claim.id, "verdict": result.verdict, "measured": result.measured} for result in judged]


def _judged(shown: Sequence[Exhibit], everywhere: bool) -> "list[Judged]":
    """Returns the verdict on every claim of a paper that one of the exhibits alone has all cells for.

    Args:
        shown: Measured exhibits.
        everywhere: Judge also at other settings than the paper's, where a claim may move to another column.
    """
    from lt_repro.papers import papers
    from lt_repro.render.verdicts import judge, on, places

    by_name = papers()
    result = []
    for table, measured in shown:
        cells = places([(table, measured)])
        for claim in by_name[table.paper].claims:
            placed = on(claim, table)
            if placed and (everywhere or (placed is claim and not table.changed)):
                result.append(judge(placed, cells))
    return result


def _print(count: int, fixed: int, part: Callable[[int, int], Words]) -> None:
    """Prints `count` parts in grids of as many as fit beside each other, rather than columns that are cut.

    Args:
        count: Of the parts; one that does not fit by itself is printed column by column.
        fixed: Columns at the left that every grid has.
        part: Gives header and rows of the parts from one up to another, which is not in it.
    """
    begin = 0
    while begin < count:
        end = begin + 1
        while end < count and _fits(*part(begin, end + 1)):
            end += 1
        header, rows = part(begin, end)
        if len(header) > fixed + 1 and not _fits(header, rows):
            put_grid(header, rows, fixed)
        else:
            out.print(_number_grid(header, rows))
        begin = end


def _part(table: "Table", measured: "Sequence[Measured]", best: bool, begin: int, end: int) -> Words:
    from lt_repro.render import text

    return text.rows(*text.some_columns(table, measured, range(begin, end)), best)[:2]


PAGE = 120
"""Columns that folded texts take at most."""
NARROW = 8
"""Columns of the screen that a name has at least, however narrow the screen is."""


def _number_grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Grid:
    """Returns a grid of names and their numbers: names are folded where the screen is narrow, numbers never."""
    natural, least = _widths(header, rows)
    widths = natural if across(natural) <= out.width else least
    name = max(min(natural[0], NARROW), min(natural[0], out.width - across([0, *widths[1:]])))
    grid = Grid()
    for number, (word, width) in enumerate(zip(header, [name, *widths[1:]], strict=True)):
        grid.add_column(printable(word), justify="right" if number else "left", width=width, overflow="fold")
    for row in rows:
        grid.add_row(*map(printable, row))
    return grid


def _fits(header: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Returns whether a grid fits the screen with a third of it for the names."""
    natural, least = _widths(header, rows)
    return across([min(natural[0], max(NARROW, out.width // 3)), *least[1:]]) <= out.width


def _widths(header: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[list[int], list[int]]:
    """Returns the width of each column without a line break, and with its title broken between words."""
    columns = [[cell_len(printable(row[i])) for row in rows] for i in range(len(header))]
    natural = [max([cell_len(printable(word)), *column]) for word, column in zip(header, columns, strict=True)]
    words = [[cell_len(part) for part in printable(word).split()] for word in header]
    return natural, [max([*parts, *column]) for parts, column in zip(words, columns, strict=True)]


def across(widths: Sequence[int]) -> int:
    """Returns the width of a grid with lines, which has a space at both sides of a cell."""
    return sum(widths) + 3 * len(widths) + 1
