"""Which recipes a table still needs, and the command that fills each."""

import shlex
from collections.abc import Iterable
from typing import Any

from lt_repro import fields
from lt_repro.paper.settings import recipe as paper_recipe
from lt_repro.paper.table import Table
from lt_repro.recipe import Recipe, settings
from lt_repro.runs import Run

FLAGS = ("ratio", "epochs", "seed", "split_seed", "precision", "alpha", "eta", "eps", "gamma")
"""Settings of `ltrepro train` that have an option of their own; the others go by `--set`."""


def missing(table: Table, runs: Iterable[Run]) -> list[Recipe]:
    """Returns the recipes of a table that have no run yet, seed by seed; a diverged run is a result, not a gap."""
    there = {run.recipe.key() for run in runs}
    return [recipe for recipe in table.recipes() if recipe.key() not in there]


def command(recipe: Recipe, dataset: str) -> str:
    """Returns the shortest `ltrepro train` command that trains a recipe.

    Args:
        recipe: What is to be trained.
        dataset: As typed on the command line; for images of one's own that is `npz:FILE`, not the recipe's name for it.
    """
    method = type(recipe.method)
    usual = paper_recipe(recipe.dataset, method.name())
    words = ["ltrepro", "train"] + (["--dataset", dataset] if dataset != "cifar100" else [])
    words += [] if method.name() == "dbn_mix" else ["--method", method.name()]
    for name in settings(method):
        value = _value(recipe, name)
        if name == "dataset" or value == _value(usual, name):
            continue
        if method.name() == "dbn_mix" and name in ("branches", "mix", "tscale"):
            words += {"branches": ["--arch", "dbn"], "mix": ["--mix", value], "tscale": ["--tscale"]}[name]
        elif name in FLAGS:
            words += [f"--{name.replace('_', '-')}", _text(value)]
        else:
            words += ["--set", f"{name}={_text(value)}"]
    return shlex.join(words)


def _value(recipe: Recipe, name: str) -> Any:
    return getattr(recipe if name in fields.types(Recipe) else recipe.method, name)


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_text, value))
    return (
        str(value).lower() if isinstance(value, bool) else f"{value:.15g}" if isinstance(value, float) else str(value)
    )
