"""Stored runs that a table skips although they are on its data set and by its methods: which, and what shows them."""

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from lt_repro.errors import RequestError

if TYPE_CHECKING:
    from lt_repro.papers.table import Table
    from lt_repro.recipe import Recipe
    from lt_repro.store.runs import Run

_NAMED = 3  # groups, the largest first


def skipped_line(table: "Table", runs: "Iterable[Run]") -> str | None:
    """Returns how many runs have other settings, which, and what shows them; None without any."""
    from lt_repro.fields import text
    from lt_repro.render.cells import matches, unmatched

    readings = {
        name: dataclasses.replace(
            table, base=dict(table.base) | {"reading": name}, rows=table.rows_by_reading.get(name, table.rows)
        )
        for name in table.settings.readings
        if name != table.base.get("reading", table.settings.default)
    }
    groups: dict[str, list[str]] = {}  # by what sets them apart, the options that show each
    runs = list(runs)
    skipped = unmatched(table, runs)
    seen = {run.recipe.key() for run, _ in skipped} | {recipe.key() for recipe in table.recipes()}
    read = {recipe.key() for other in readings.values() for recipe in other.recipes()}  # by another method here
    skipped += [(run, {}) for run in runs if run.recipe.key() in read - seen]
    for run, apart in skipped:
        if reading := next((name for name, other in readings.items() if matches(other, run.recipe)), None):
            words, options = f"the reading {reading}", f"--reading {reading}"
        else:
            pairs = [f"{name} {text(actual)} instead of {text(default)}" for name, (actual, default) in apart.items()]
            words = " and ".join(pairs)
            options = _options(table, run.recipe, {name: actual for name, (actual, _) in apart.items()})
        groups.setdefault(words, []).append(options)
    if not groups:
        return None
    largest = sorted(groups.items(), key=lambda group: -len(group[1]))
    parts = [
        f"{len(options)} with {words}{f' ({options[0]})' if options[0] else ''}" for words, options in largest[:_NAMED]
    ]
    if rest := sum(len(options) for _, options in largest[_NAMED:]):
        parts.append(f"{rest} with other settings")
    count = sum(map(len, groups.values()))
    subject = "1 stored run that matches" if count == 1 else f"{count} stored runs that match"
    typed = any(options[0] for _, options in largest[:_NAMED])
    hint = "`ltrepro reproduce` shows them with the options in brackets" if typed else "`ltrepro show RUN` shows one"
    return f"{table.id} skips {subject} no cell: {', '.join(parts)}; {hint}"


def _options(table: "Table", recipe: "Recipe", apart: dict[str, Any]) -> str:
    """Returns the options that give the table a cell for a recipe; "" where none do.

    Args:
        table: Which has no such cell.
        recipe: What was trained.
        apart: The recipe's settings that differ from the nearest cell's, by name.
    """
    from lt_repro.fields import text
    from lt_repro.papers.table import Variant, ratios
    from lt_repro.render.cells import matches

    changes = {name.removeprefix("parent "): value for name, value in apart.items()}
    across: tuple[Variant, ...] = ()
    if changes.get("imb_type") == "as_is":
        across = (Variant("as-is", "as is", {"ratio": recipe.ratio, "imb_type": "as_is"}),)
    elif "ratio" in changes:
        across = ratios(recipe.ratio)
    typed = {name: value for name, value in changes.items() if not across or name not in across[0].edits}
    try:
        if not matches(table.on_images(None, across, **typed), recipe):
            return ""
    except RequestError:  # a row or a column decides one of them
        return ""
    words = [f"--ratio {variant.label}" for variant in across]
    return " ".join([*words, *(f"--set {name}={text(value)}" for name, value in typed.items())])
