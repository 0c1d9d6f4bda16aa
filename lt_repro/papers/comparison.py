"""Published numbers of one method over all papers, and those of a file that a user brings."""

import csv
import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from lt_repro.errors import RequestError, first_line
from lt_repro.papers.claim import Paper
from lt_repro.papers.rows import names, plain
from lt_repro.papers.table import Cell, Published, Table


class Entry(NamedTuple):
    """A published accuracy over all classes, under names that papers share.

    Args:
        method: As `rows.plain` writes it: "ldam-drw".
        column: Data set and ratio: "cifar100:100", "cifar100:100:step".
        paper: Where it stands: the paper's title, or the name of a user's file.
        exhibit: The exhibit's id; "" for a user's file.
        title: Its row, as the paper calls it.
        published: The number.
    """

    method: str
    column: str
    paper: str
    exhibit: str
    title: str
    published: Published


def column_of(table: Table, cell: Cell) -> str | None:
    """Returns the shared name of a cell's images; None where it shows anything but the accuracy over all classes."""
    if cell.metric != "all" or cell.branch:
        return None
    edits = dict(table.base) | dict(cell.column.edits) | dict(cell.row.edits)
    images = cell.recipe and (cell.recipe.dataset, cell.recipe.ratio, cell.recipe.imb_type)
    dataset, ratio, kind = images or (edits["dataset"], edits["ratio"], edits.get("imb_type"))
    return f"{dataset}:{ratio:g}{':step' if kind == 'step' else ''}"


def compared(table: Table) -> bool:
    """Returns whether an exhibit's numbers are compared: figures repeat those of tables, readings are no methods."""
    return table.form == "table" and not any("reading" in row.edits for row in table.rows)


def entries(papers: Iterable[Paper]) -> list[Entry]:
    """Returns every published accuracy of every paper, each once in a paper, although several exhibits print it."""
    result: dict[tuple[str, str, str, float, str], Entry] = {}
    for paper in papers:
        for table in filter(compared, paper.tables()):
            for cell, method in names(table):
                if cell.published and (column := column_of(table, cell)):
                    place = method, column, paper.name, cell.published.value, cell.published.tier
                    entry = Entry(method, column, paper.title, table.id, cell.row.title, cell.published)
                    result.setdefault(place, entry)
    return list(result.values())


COLUMNS = ("method", "dataset", "ratio", "value", "source", "protocol")


def read_file(path: Path) -> list[Entry]:
    """Returns the published accuracies of a user's CSV, which count as somebody's transcription.

    Its header names `COLUMNS` in any order; a column `unit` says percent or fraction, else a value above 1 is percent.

    Raises:
        RequestError: It cannot be read, or a line is wrong.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                header = f"allowed: the header {','.join(COLUMNS)}, and unit where wanted"
                raise RequestError(f"{path}, line 1: no column {', '.join(missing)}", header)
            return [_entry(path, reader.line_num, line) for line in reader]
    except OSError as error:
        raise RequestError(f"cannot read {path}: {first_line(error)}", "allowed: a CSV file") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise RequestError(f"{path} is no CSV file: {first_line(error)}", "allowed: a CSV file in UTF-8") from error


def _entry(path: Path, number: int, line: dict[str, str | None]) -> Entry:
    def wrong(what: str, allowed: str) -> RequestError:
        return RequestError(f"{path}, line {number}: {what}", f"allowed: {allowed}")

    texts = {name: value.strip() if isinstance(value, str) else "" for name, value in line.items() if name}
    if None in line or any(line[name] is None for name in COLUMNS):
        raise wrong("not as many values as the header has", "a value for each column, in quotes where it has a comma")
    for name in ("method", "dataset", "ratio", "value", "source"):
        if not texts[name]:
            raise wrong(f"no {name}", "everything but the protocol is needed")
    ratio, _, kind = texts["ratio"].partition(":")
    if kind not in ("", "step") or not (size := _number(ratio)) or not 1 <= size <= 1e9:
        raise wrong(f"ratio {texts['ratio']}", "n_max / n_min, a number from 1 up, such as 100, or 100:step")
    unit = texts.get("unit", "").lower()
    if unit not in ("", "percent", "fraction"):
        raise wrong(f"unit {texts['unit']}", "percent, fraction, or nothing")
    value = _number(texts["value"].removesuffix("%"))
    if value is not None and (unit == "percent" or (not unit and (value > 1 or texts["value"].endswith("%")))):
        value /= 100
    if value is None or not 0 < value < 1:
        raise wrong(f"value {texts['value']}", "an accuracy, as 42.5 in percent or 0.425 as a fraction")
    column = f"{texts['dataset'].lower()}:{size:g}{kind and ':' + kind}"
    published = Published(round(value, 6), texts["source"], texts["protocol"] or "not said", "secondary")
    return Entry(plain(texts["method"]), column, path.name, "", texts["method"], published)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def beside(table: Table, others: Sequence[Entry]) -> Table:
    """Returns an exhibit whose rows have a note for each further published number of theirs."""
    if not others or not compared(table):
        return table
    notes: dict[str, list[str]] = {}
    for cell, method in names(table):
        notes.setdefault(cell.row.label, []).extend(_notes(cell, method, column_of(table, cell), others))
    return dataclasses.replace(
        table, rows=[row._replace(notes=(*row.notes, *dict.fromkeys(notes.get(row.label, ())))) for row in table.rows]
    )


def _notes(cell: Cell, method: str, column: str | None, others: Sequence[Entry]) -> Iterator[str]:
    for entry in others:
        if (entry.method, entry.column) == (method, column):
            where = f"{cell.column.title} ({entry.published.source}, as {entry.paper} has it"
            number = f"{100 * entry.published.value:.2f}"
            yield f"also published: {number} on {where}; protocol: {entry.published.protocol})"
