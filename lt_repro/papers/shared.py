"""Exhibits of any paper under the one recipe that every method has here: DBN-Mix's schedule, without its readings."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from lt_repro.papers.dbn_mix.settings import SETTINGS
from lt_repro.papers.quoted import as_printed, published, under_own_recipes
from lt_repro.papers.reading import Reading
from lt_repro.papers.rows import row
from lt_repro.papers.table import Table, Variant

_READING = Reading("shared", "one recipe for every method", "The schedule of DBN-Mix, Sec. 4.2")
SHARED = dataclasses.replace(SETTINGS, readings={_READING.name: _READING})
"""Runs of one method are the same runs in every paper."""


def tables(
    paper: str,
    exhibit: str,
    caption: str,
    columns: Sequence[Variant],
    numbers: str,
    source: str,
    protocol: str,
    titles: Mapping[str, str] = {},
    notes: Mapping[str, str] = {},
    second: bool = True,
    **how: Any,
) -> tuple[Table, ...]:
    """Returns an exhibit under the shared recipe, and one of the rows that have their authors' own, if there are any.

    Args:
        paper: The paper's name.
        exhibit: The first table's name; the second one's ends in "_own".
        caption: What is shown.
        columns: From left to right.
        numbers: A line for each row: its name, then its numbers in percent (`quoted.as_printed`). A name of
            `rows.KNOWN` is trained, any other published only.
        source: Where they were read.
        protocol: How they were measured, in one line; see `table.Published`.
        titles: Of rows that the paper prints under another title, by name.
        notes: Where the protocol of a row is not that of our recipe, by name.
        second: Whether the second table is made.
        how: Further arguments of `quoted.published`: tier, quoted, picture, errors.
    """
    values = as_printed(numbers)
    rows = [row(name, titles.get(name, ""), *filter(None, [notes.get(name)])) for name in values]
    printed = published(columns, values, source, protocol, **how)
    whole = Table(exhibit, caption, SHARED, {}, rows, columns, printed, paper=paper)
    again = list(under_own_recipes(rows))
    cifars = [column for column in columns if column.edits["dataset"] in ("cifar10", "cifar100")]
    across = [column for column in cifars if column.edits.get("method", "") is not None]
    if not (second and again and across):
        return (whole,)
    places = {(each.label, column.label) for each in again for column in across}
    kept = {place: number for place, number in printed.items() if place in places}
    title = f"{caption.rstrip('.')}; here under the authors' own recipes."
    repeated = dataclasses.replace(whole, exhibit=f"{exhibit}_own", heading=title, rows=again, columns=across)
    return whole, dataclasses.replace(repeated, published=kept)
