"""Which recipes a table still needs, and in which order they are trained."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from lt_repro.errors import unknown
from lt_repro.papers.table import Table
from lt_repro.recipe import Recipe
from lt_repro.store.runs import Run
from lt_repro.sweep.cost import work


class Missing(NamedTuple):
    """What must be trained, parents first, and a line for each run that cannot be used as a parent."""

    recipes: list[Recipe]
    notes: list[str]


def missing(tables: Iterable[Table], runs: Iterable[Run]) -> Missing:
    """Returns the recipes of tables that have no run yet, seed by seed, each after its parents.

    A parent that has run counts as missing if a recipe needs its weights and the file is missing. A diverged run is a
    result, not a gap; it cannot be a parent.
    """
    stored: dict[str, Run] = {}
    for run in runs:
        stored.setdefault(run.recipe.key(), run)
    requested: dict[str, Recipe] = {}
    notes: dict[str, str] = {}

    def want(recipe: Recipe) -> bool:
        """Adds a recipe after its parents; returns whether it can be trained."""
        for parent in recipe.parents.values():
            run = stored.get(parent.key())
            if run and run.status == "diverged":
                notes[run.recipe.key()] = f"the parent {run.recipe.key()} diverged, so its children cannot be trained"
                return False
            if run and not run.weights_path:
                notes[run.recipe.key()] = f"parent {run.recipe.key()} has no weights file: it is trained again"
            if not (run and run.weights_path) and not want(parent):
                return False
        requested.setdefault(recipe.key(), recipe)
        return True

    for table in tables:
        for recipe in table.recipes():
            if recipe.key() not in stored:
                want(recipe)
    return Missing(list(requested.values()), list(notes.values()))


ORDERS = ("seed", "cheapest")


def ordered(recipes: Sequence[Recipe], order: str) -> list[Recipe]:
    """Returns recipes in the order in which to train them; a parent comes before what it is for.

    Args:
        recipes: As `missing` gives them: seed by seed.
        order: "seed", as they are, or "cheapest" first.

    Raises:
        RequestError: The order is unknown.
    """
    if order not in ORDERS:
        raise unknown("order", order, ORDERS)
    if order == "seed":
        return list(recipes)
    rank: dict[str, float] = {}
    for recipe in recipes:
        for ancestor in recipe.lineage():
            images = work(recipe)
            rank[ancestor.key()] = min(math.inf if images is None else images, rank.get(ancestor.key(), math.inf))
    return sorted(recipes, key=lambda recipe: rank[recipe.key()])
