"""A Reading as data: how a paper is taken where its text, its code or its tables differ, and what that sets."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from lt_repro.recipe import Recipe


class Point(NamedTuple):
    """One point in which a reading differs from the paper's text.

    Args:
        label: Short, unique in its reading, as a row of a table would be called.
        title: What differs, in a few words.
        text: What the paper's text says.
        code: What this reading has instead.
        sets: Fields of the recipe or of the method, and their values; empty for a point that no setting covers.
        method: The only method whose fields it sets; None for every method that has them.
        unless: Values of the method's fields under which the point does not apply.
        checked: Whether and how the authors' code was run to check this point: "run: ..." or "not run: why".
    """

    label: str
    title: str
    text: str
    code: str
    sets: Mapping[str, Any] = {}
    method: str | None = None
    unless: Mapping[str, Any] = {}
    checked: str = ""


class Reading(NamedTuple):
    """A named way to read a paper.

    Args:
        name: As typed.
        title: For captions.
        source: Where it comes from.
        points: Where it differs from the paper's text; none for the text itself.
        notes: What else a reader should know, each a whole sentence or more.
        bn: Which of BatchNorm's statistics it tests a recipe with (`Run.outcome`).
    """

    name: str
    title: str
    source: str
    points: Sequence[Point] = ()
    notes: Sequence[str] = ()
    bn: Callable[[Recipe], str] = lambda recipe: "running"
