"""Published numbers as data: tables in percent, as they are printed; and rows under their authors' own recipes."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lt_repro import fields
from lt_repro.methods import METHODS
from lt_repro.papers.table import Published, Tier, Variant

Printed = float | tuple[float, float] | None
"""A number in percent, alone or with its standard deviation; None for a dash."""
AS_QUOTED = "not said: that of the paper it is quoted from"


def as_printed(text: str) -> dict[str, list[Printed]]:
    """Returns the numbers of a table in lines, by row: "ldam-drw 42.73±0.28 57.75±0.54 -" has a dash at its end."""
    result: dict[str, list[Printed]] = {}
    for name, *words in filter(None, map(str.split, text.splitlines())):
        pairs = [word.partition("±") for word in words]
        result[name] = [
            None if mean == "-" else (float(mean), float(sd)) if sd else float(mean) for mean, _, sd in pairs
        ]
    return result


def published(
    columns: Iterable[Variant],
    values: Mapping[str, Sequence[Printed]],
    source: str,
    protocol: str,
    tier: Tier = "measured",
    quoted: Mapping[str, str] | Iterable[str] = (),
    errors: bool = False,
    **more: Any,
) -> dict[tuple[str, str], Published]:
    """Returns what a table prints, by (row label, column label).

    Args:
        columns: The columns of `values`.
        values: The numbers of each row.
        source: Where they were read.
        protocol: How they were measured; see `Published`.
        tier: Of the rows that are not quoted.
        quoted: Rows, or cells as "row/column", that the source quotes; with where each is from, if that is known.
        errors: Whether the numbers are errors, not accuracies.
        more: Further fields of each `Published`.
    """
    origins = quoted if isinstance(quoted, Mapping) else dict.fromkeys(quoted, "")
    result = {}
    for row, numbers in values.items():
        for column, printed in zip(columns, numbers, strict=True):
            if printed is None:
                continue
            number, sd = printed if isinstance(printed, tuple) else (printed, None)
            origin = origins.get(f"{row}/{column.label}", origins.get(row))
            result[row, column.label] = Published(
                round((100 - number if errors else number) / 100, 6),
                f"{source}, {origin}" if origin else source,
                protocol if origin is None else AS_QUOTED,
                tier if origin is None else "quoted",
                sd if sd is None else round(sd / 100, 6),
                **more,
            )
    return result


def under_own_recipes(rows: Iterable[Variant]) -> Iterator[Variant]:
    """Yields the rows of methods whose authors train otherwise, under the preset that has their recipe.

    A second stage is left out where the preset does not say how the first one is trained.
    """
    for row in rows:
        name = row.edits.get("method")
        if not (method := METHODS.get(name or "")) or not (preset := method.presets.get("published")):
            continue
        given = {key: value for key, value in row.edits.items() if key in fields.types(method)}
        if preset.parent or not method(**given).parents:
            yield Variant(row.label, row.title, dict(row.edits) | {"preset": "published"}, notes=(preset.source,))
