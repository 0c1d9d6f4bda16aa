"""Comma-separated values, as every table and figure has its numbers beside it."""

import csv
import io
from collections.abc import Iterable


def lines(header: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    """Returns the header and the rows as lines."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([header, *rows])
    return stream.getvalue()


def percent(fraction: float | None) -> float | str:
    """Returns a fraction in percent, to 6 digits; None is an empty cell."""
    return "" if fraction is None else round(100 * float(fraction), 6)
