"""Rows that need another run: the recipe of a second stage, of its parent, and what each takes of a row's settings."""

from collections.abc import Mapping
from typing import Any

from lt_repro import fields
from lt_repro.methods.base import Method, ParentRole
from lt_repro.papers.settings import INHERITED, Settings
from lt_repro.recipe import Recipe, find, settings


def second_stage(
    paper: Settings, parent: Recipe, method: str | None = None, role: ParentRole = "features", **given: Any
) -> Recipe:
    """Returns a second stage: the given settings, except its length and what it takes from the parent."""
    kept = {name: value for name, value in given.items() if name not in ("epochs", *INHERITED)}
    return paper.recipe(parent.dataset, method, parents={role: parent}, **kept)


def of_the_stage(given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what is given for a recipe, the reading with it, without what is given for the parent's method."""
    kept = {"reading", *fields.types(Recipe)}
    return {name: value for name, value in given.items() if name in kept or "." in name}


def staged(paper: Settings, dataset: str, method: str | None = None, preset: str = "", **variant: Any) -> Recipe:
    """Returns the recipe of a row; a method that needs a parent gets its first stage or one branch, as the row says.

    There "mix" is the parent's field, "lws.bn" the method's; "parent.experts" is the parent's where it is of the same
    method. The parent of a preset has the preset's settings too.
    """
    name, base, variant = paper.method_of(method, variant)
    cls, method = find(name), None if base else name
    of_method = {field.partition(".")[2]: value for field, value in variant.items() if field.startswith(f"{name}.")}
    roles = cls(**of_method).parents
    if not roles:
        return paper.recipe(dataset, method, preset=preset, **variant)

    def taken(owner: type[Method]) -> dict[str, Any]:
        known = {"reading", *settings(owner)}
        return {name: value for name, value in variant.items() if name in known or "." in name}

    first = find(cls.first_stage)
    sets = {name.partition(".")[2]: value for name, value in variant.items() if name.startswith("parent.")}
    sets |= cls.presets[preset].parent if preset else {}
    parent = paper.recipe(dataset, cls.first_stage, **taken(first) | sets)
    if roles[0] == "teacher":  # beside a run of full length
        return paper.recipe(dataset, method, preset=preset, parents={"teacher": parent}, **taken(cls))
    return second_stage(paper, parent, name, roles[0], preset=preset, **of_the_stage(variant))
