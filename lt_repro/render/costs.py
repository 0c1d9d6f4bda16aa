"""What methods cost, as rows of a table: each figure relative to plain cross-entropy's, 1 for the same."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

HEADER = ("method", "settings", "epoch", "its arithmetic", "run", "memory", "trained", "stored", "test", "statistics")
UNKNOWN = "—"
CHANGED = 1.1  # an epoch's figures at the beginning and at the end of training, further apart than this, are both shown


def rows(costs: Iterable[Mapping[str, Any]], methods: Iterable[str]) -> list[tuple[str, ...]]:
    """Returns the header, then a row for each entry of each method; a method without an entry has a row of dashes.

    Args:
        costs: Entries as `bench.costs.measure` makes them.
        methods: The names of the methods to show, in this order.
    """
    entries = list(costs)
    lines: list[tuple[str, ...]] = [HEADER]
    for name in methods:
        result = [_row(entry) for entry in entries if entry["method"] == name]
        lines += result or [(name, "", *[UNKNOWN] * (len(HEADER) - 2))]
    return lines


def conditions(measured: Mapping[str, Any]) -> str:
    """Returns in words where and when costs were measured."""
    plain = measured["cross_entropy"]
    return (
        f"measured on {measured['device']}, torch {measured['torch']}, {measured['precision']}, {measured['date']}:"
        f" {plain['net']} on 32x32 images, batches of {plain['batch']}, {plain['epochs']} epochs of cross-entropy"
    )


def _row(entry: Mapping[str, Any]) -> tuple[str, ...]:
    settings = " ".join(f"{name}={value}" for name, value in entry["settings"].items())
    single = (f"{entry[name]:.2f}" for name in ("run", "memory", "trained", "stored", "test"))
    once = f"{entry['statistics']:.2f}" if entry["statistics"] else "none"
    return entry["method"], settings, _along(entry["epoch"]), _along(entry["arithmetic"]), *single, once


def _along(stages: Sequence[float]) -> str:
    """Returns a figure of an epoch, or that at the beginning and that at the end of training where they differ."""
    if not stages:
        return "none"
    if max(stages) < CHANGED * min(stages):
        return f"{sum(stages) / len(stages):.2f}"
    return " then ".join(f"{value:.2f}" for value in stages)
