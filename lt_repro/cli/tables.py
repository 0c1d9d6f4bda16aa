"""`tables`: renders everything that is committed under tables/, figures/ and docs/ from the runs stored beside it."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lt_repro.cli.app import app, put, say
from lt_repro.cli.output import content_of, drawn, write, written
from lt_repro.cli.request import Request, StoredRuns, requested_tables, stored_in
from lt_repro.errors import FailedError, RequestError

if TYPE_CHECKING:
    from lt_repro.cli.output import Exhibit
    from lt_repro.papers.table import Table

LIST = Path("tables/rendered.json")


@app.command()
def tables(
    to: Annotated[Path, typer.Option("--out", help="Folder that gets tables/, figures/ and docs/.")] = Path(),
) -> None:
    """Render all that is committed, from tables/runs.

    [bold]ltrepro tables[/bold]

    Every exhibit of tables/rendered.json that has a run is written to tables/ or
    figures/; an entry of that list has the names of exhibits and options of
    `reproduce`. docs/two-readings.md, docs/departures.md and the overviews in
    docs/status.md are written too.
    """
    from lt_repro.render.cells import measure

    stored = stored_in([Path("tables/runs")], may_be_new=False)
    for note in stored.notes:
        say(f"note: {note}")
    failed = []
    shown = [(table, measure(table, stored.runs)) for table in listed()]
    for table, measured in shown:
        if not any(cell.runs for cell in measured):
            continue
        content = content_of(table, measured, stored.notes)
        place = to / ("tables" if content.draw is None else "figures")
        paths = written(table, content, place)
        try:
            paths += drawn(table, measured, content, stored.notes, place)
        except FailedError as error:
            failed.append(f"{table.id}: {error}")
        for path in paths:
            put(str(path))
    for name, page in pages(stored, shown).items():
        put(str(write(to / "docs" / name, page)))
    if failed:
        raise FailedError("; ".join(failed))
    raise typer.Exit(stored.code)


def listed() -> "list[Table]":
    """Returns the exhibits of the list.

    Raises:
        RequestError: The list cannot be read, or an entry of it is a wrong request.
    """
    try:
        entries = json.loads(LIST.read_text(encoding="utf-8"))
        return [table for entry in entries for table in requested_tables(_entry(**entry))[0]]
    except (AttributeError, OSError, TypeError, UnicodeError, json.JSONDecodeError) as error:
        allowed = "allowed: a list of objects: exhibits and options of `ltrepro reproduce`, all of them strings"
        raise RequestError(f"cannot read {LIST}: {error}", allowed) from None


def _entry(
    exhibits: str,
    dataset: str | None = None,
    ratio: str = "",
    reading: str | None = None,
    profile: str = "paper",
    seeds: str | None = None,
) -> Request:
    where: dict[str, Any] = {"runs": None, "to": None, "data_root": None, "device": "cpu"}
    which: dict[str, Any] = {"dataset": dataset, "ratio": ratio.split(), "seeds": seeds}
    how: dict[str, Any] = {"reading": reading, "profile": profile}
    return Request(exhibits.split(), train=False, plan=False, as_json=False, **where, **which, **how)


def pages(stored: StoredRuns, shown: "Sequence[Exhibit]") -> dict[str, str]:
    """Returns what is made of the pages of docs/ from the runs and the docstrings of the methods, by name."""
    from lt_repro import cards
    from lt_repro.methods import METHODS
    from lt_repro.papers import default_paper
    from lt_repro.render import departures, readings

    made = {
        "two-readings.md": readings.page(default_paper(), stored.runs) + "\n",
        "departures.md": departures.page(map(cards.card, METHODS.values())) + "\n",
    }
    status = Path("docs/status.md")
    return made | ({status.name: _status(status.read_text(encoding="utf-8"), shown)} if status.exists() else {})


def _status(text: str, shown: "Sequence[Exhibit]") -> str:
    """Returns the page on what is measured, its two tables made again: of the papers' images, and of bundled ones."""
    from lt_repro.data import sets
    from lt_repro.render.overview import overview

    parts = re.split(r"(?m)(?:^\| exhibit .*\n)(?:^\|.*\n)+", text)
    bundled = [name for name in sets.names() if sets.find(name).bundled]
    ordered = sorted(shown, key=lambda pair: pair[0].id)
    for i, on_bundled in enumerate((False, True)[: len(parts) - 1]):
        chosen = [pair for pair in ordered if (pair[0].base.get("dataset") in bundled) is on_bundled]
        parts[i] += "\n".join(overview(chosen)) + "\n"
    return "".join(parts)
