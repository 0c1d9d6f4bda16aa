"""Which recipes a table still needs, and the command that fills each."""

import math
import shlex
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from lt_repro import fields
from lt_repro.errors import unknown
from lt_repro.paper.settings import CHOSEN, READINGS
from lt_repro.paper.settings import recipe as paper_recipe
from lt_repro.paper.table import Table
from lt_repro.recipe import Recipe, get, settings
from lt_repro.runs import Run
from lt_repro.sweep.cost import work

FLAGS = ("ratio", "epochs", "seed", "split_seed", "precision", "alpha", "eta", "eps", "gamma")
"""Settings of `ltrepro train` that have an option of their own; the others go by `--set`."""


class Missing(NamedTuple):
    """What must be trained, parents first, and a line for each run that cannot be used as a parent."""

    recipes: list[Recipe]
    notes: list[str]


def missing(tables: Iterable[Table], runs: Iterable[Run]) -> Missing:
    """Returns the recipes of tables that have no run yet, seed by seed, each after the parent that it begins with.

    A parent that has run counts as missing where its weights are gone and something is to begin with it. A diverged run
    is a result, not a gap; nothing begins with it.
    """
    there: dict[str, Run] = {}
    for run in runs:
        there.setdefault(run.recipe.key(), run)
    wanted: dict[str, Recipe] = {}
    notes: dict[str, str] = {}

    def want(recipe: Recipe) -> bool:
        """Asks for a recipe, after the parents that it begins with; returns whether it can be trained."""
        for parent in recipe.parents.values():
            run = there.get(parent.key())
            if run and run.status == "diverged":
                notes[run.recipe.key()] = f"the parent {run.recipe.key()} diverged: nothing can begin with it"
                return False
            if run and not run.weights_path:
                notes[run.recipe.key()] = f"the weights of the parent {run.recipe.key()} are gone: it is trained again"
            if not (run and run.weights_path) and not want(parent):
                return False
        wanted.setdefault(recipe.key(), recipe)
        return True

    for table in tables:
        for recipe in table.recipes():
            if recipe.key() not in there:
                want(recipe)
    return Missing(list(wanted.values()), list(notes.values()))


ORDERS = ("seed", "row", "column", "cheapest")


def ordered(recipes: Sequence[Recipe], tables: Iterable[Table], order: str) -> list[Recipe]:
    """Returns recipes in the order in which to train them; a parent has the place of the first that begins with it.

    Args:
        recipes: As `missing` gives them: seed by seed.
        tables: Whose cells they are.
        order: One of `ORDERS`.

    Raises:
        RequestError: The order is unknown.
    """
    if order not in ORDERS:
        raise unknown("--order", order, ORDERS)
    if order == "seed":
        return list(recipes)
    rank: dict[str, float] = {}
    for number, table in enumerate(tables):
        for i, cell in enumerate(table.cells()):
            place = {"row": i // len(table.columns), "column": i % len(table.columns)}.get(order, 0)
            for recipe in cell.recipes:
                at = work(recipe) or math.inf if order == "cheapest" else 1000.0 * number + place
                for one in recipe.lineage():
                    rank[one.key()] = min(at, rank.get(one.key(), math.inf))
    return sorted(recipes, key=lambda recipe: rank.get(recipe.key(), 0.0))


def command(recipe: Recipe, dataset: str, parent: str | None = None) -> str:
    """Returns the shortest `ltrepro train` command that trains a recipe, under whichever reading that is.

    Args:
        recipe: What is to be trained.
        dataset: As typed on the command line; for images of one's own that is `npz:FILE`, not the recipe's name for it.
        parent: How its parent is named; by its key, unless told otherwise.
    """
    return min((shlex.join(_words(recipe, dataset, parent, reading)) for reading in READINGS), key=len)


def _words(recipe: Recipe, dataset: str, parent: str | None, reading: str) -> list[str]:
    method, idle = type(recipe.method), recipe.unused()
    natural = recipe.imb_type == "as_is"
    bare = paper_recipe(recipe.dataset, method.name(), parents=recipe.parents)
    chosen = {name: get(recipe, name) for name in CHOSEN if name in settings(method)}
    usual = paper_recipe(recipe.dataset, method.name(), reading, parents=recipe.parents, **chosen)
    words = ["ltrepro", "train"] + (["--dataset", dataset] if dataset != "cifar100" else [])
    words += [] if method.name() == "dbn_mix" else ["--method", method.name()]
    for one in recipe.parents.values():
        words += ["--set", f"parent={parent or one.key()}"]
    words += [] if reading == "paper" else ["--reading", reading]
    words += ["--ratio", "as-is"] if natural and not recipe.parents else []
    for name in settings(method):
        value = get(recipe, name)
        if name in ("dataset", "parents") or name in idle or value == get(bare if name in CHOSEN else usual, name):
            continue
        if natural and name in ("ratio", "imb_type"):
            continue
        if method.name() == "dbn_mix" and name in ("branches", "mix", "tscale"):
            words += {"branches": ["--arch", "dbn"], "mix": ["--mix", value], "tscale": ["--tscale"]}[name]
        elif name in FLAGS:
            words += [f"--{name.replace('_', '-')}", fields.text(value)]
        else:
            words += ["--set", f"{name}={fields.text(value)}"]
    return words
