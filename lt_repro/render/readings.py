"""The readings of a paper held against each other: point by point, and what each gives."""

from collections.abc import Sequence
from typing import Any

from lt_repro import fields
from lt_repro.papers.claim import Paper
from lt_repro.papers.reading import Reading
from lt_repro.papers.table import Table
from lt_repro.render.cells import Measured, measure
from lt_repro.render.text import grid, markdown, one_line
from lt_repro.render.verdicts import check_cell, checked_text
from lt_repro.store.runs import Run

SCREEN = 40
"""Epochs of a screen: a fifth of the paper's length, evidence of direction and never the number."""

_CRITERION = """\
Whether a published number is reproduced: below each table are ours − published, in points, and half the widths of two
95 % intervals. It is reproduced if it lies in the first, the confidence interval of our mean; within one more run if it
lies only in the second, the prediction interval of one more run of ours; outside if it lies in neither. Few seeds give
wide intervals, so n is named; fewer than three are not judged. `ltrepro check` has the same criterion."""


def to_json(reading: Reading) -> dict[str, Any]:
    """Returns a reading as JSON values; settings are as typed after `--set`."""
    points = [
        point._asdict() | {"sets": {name: fields.text(value) for name, value in point.sets.items()}}
        for point in reading.points
    ]
    named = {name: getattr(reading, name) for name in ("name", "title", "source", "notes")}
    return named | {"points": points}


def page(paper: Paper, runs: Sequence[Run]) -> str:
    """Returns the Markdown page: the points, then every exhibit that compares readings, and its screen if any has run.

    Args:
        paper: Whose readings.
        runs: All that may be shown.
    """
    rows = [
        [
            *(point["title"], point["text"], point["code"]),
            ", ".join(f"{n}={v}" for n, v in point["sets"].items()) or "none",
            point["checked"],
        ]
        for reading in paper.settings.readings.values()
        for point in to_json(reading)["points"]
    ]
    if not rows:
        listed = [
            f"- `{name}`: {reading.title}. {reading.source}." for name, reading in paper.settings.readings.items()
        ]
        return "\n".join([f"# Readings of {paper.title}", "", f"{paper.citation}.", "", *listed])
    return "\n".join(
        [
            f"# Two readings of {paper.title}",
            "",
            f"{paper.citation}. Its text and its authors' code differ where it decides the numbers. Each reading is "
            "one word after `--reading`, each setting below one after `--set`.",
            "",
            *(
                f"- `{reading.name}`: {reading.title}. {reading.source}."
                for reading in paper.settings.readings.values()
            ),
            "",
            f"A setting after `--set` switches {sum(row[3] != 'none' for row in rows)} of the {len(rows)} points. The "
            "last column says whether and how the authors' code was run to check the point.",
            "",
            *grid(["point", "the paper's text", "the released code", "setting", "run beside ours"], rows),
            "",
            *(line for reading in paper.settings.readings.values() for note in reading.notes for line in (note, "")),
            "## What each gives",
            "",
            one_line(_CRITERION),
            "",
            *_measured(paper, runs),
            "This page is what `ltrepro readings --markdown` prints; a test holds it to the stored runs.",
        ]
    )


def _measured(paper: Paper, runs: Sequence[Run]) -> list[str]:
    texts = []
    for table in paper.exhibits.get("readings", ()):
        screen = table.with_settings(epochs=SCREEN)
        for shown in (table, screen):
            cells = measure(shown, runs)
            if shown is table or any(entry.runs for entry in cells):
                label = "" if shown is table else f"A screen of {SCREEN} epochs, evidence of direction:\n\n"
                texts.append(label + markdown(shown, cells, best=shown.best))
                texts += _judged(shown, cells)
    return texts


def _judged(table: Table, measured: Sequence[Measured]) -> list[str]:
    """Returns the lines of a table that says of every measured row which published numbers it reproduces."""
    wide = len(table.columns)
    checked = [check_cell(entry) for entry in measured]
    texts = [checked_text(result) if result else "" for result in checked]
    columns = [i for i in range(wide) if any(texts[i::wide])]
    rows = [
        [row.title, *(texts[at + i] for i in columns)]
        for row, at in zip(table.rows, range(0, len(texts), wide), strict=True)
        if any(result and result.status != "not run" for result in checked[at : at + wide])
    ]
    header = ["is the published number reproduced?", *(table.columns[i].title for i in columns)]
    return [*grid(header, rows), ""] if rows else []
