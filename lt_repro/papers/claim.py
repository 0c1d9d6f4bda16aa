"""What a paper claims in words, as data: the cells compared, and in which direction. And a Paper: all that it shows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lt_repro.papers.settings import Settings
from lt_repro.papers.table import Table
from lt_repro.recipe import Recipe


class Place(NamedTuple):
    """A cell, by its exhibit's name in the paper and the labels of its row and column."""

    exhibit: str
    row: str
    column: str


class Comparison(NamedTuple):
    """Cells whose sum is claimed to be larger than the sum of others, seed by seed; both sides have as many.

    A > B is `Comparison((A,), (B,))`. That the gain of A over B grows from column 1 to column 2 is
    `Comparison((A in 2, B in 1), (B in 2, A in 1))`.
    """

    more: tuple[Place, ...]
    less: tuple[Place, ...]


@dataclass(frozen=True)
class Claim:
    """One claim of a paper.

    Args:
        id: "dbn+bm+ts beats all" or so: unique in the paper, short, as a file name would be.
        text: The claim in a sentence of our own.
        source: Where the paper says it: "Sec. 4.4".
        comparisons: What must be true of it.
        equivalence_margin: None where `more` is claimed to be larger; else the two sides are claimed to differ by at
            most this fraction.
    """

    id: str
    text: str
    source: str
    comparisons: tuple[Comparison, ...]
    equivalence_margin: float | None = None

    def places(self) -> set[Place]:
        """Returns every cell that it speaks of."""
        return {place for comparison in self.comparisons for side in comparison for place in side}


class Question(NamedTuple):
    """What a paper leaves open although a number depends on it: the setting that answers it, our choice, and why.

    Args:
        setting: A field of the recipe or the method.
        asked: The question.
        why: Our choice, and why.
        methods: By which methods it decides a run.
        datasets: On which data sets; empty for all.
        when: Whether it concerns a recipe of these.
    """

    setting: str
    asked: str
    why: str
    methods: tuple[str, ...]
    datasets: tuple[str, ...] = ()
    when: Callable[[Recipe], bool] = lambda recipe: True

    def concerns(self, recipe: Recipe) -> bool:
        """Returns whether a recipe's number depends on it; never where the setting is inactive."""
        here = recipe.method.name() in self.methods and recipe.dataset in (self.datasets or (recipe.dataset,))
        return here and self.setting not in recipe.inactive_fields() and self.when(recipe)


@dataclass(frozen=True)
class Paper:
    """Everything of one paper that this project knows. Papers are found by being in `lt_repro/papers/` as `PAPER`.

    Args:
        name: As typed; that of its file.
        title: "DBN-Mix".
        citation: Authors, title, place, year.
        settings: What decides its recipes, its readings among them.
        exhibits: The tables behind each name that one can ask for ("table6" has two halves), in the paper's order.
        claims: What it says in words.
        questions: What it leaves open.
    """

    name: str
    title: str
    citation: str
    settings: Settings
    exhibits: Mapping[str, Sequence[Table]]
    claims: Sequence[Claim] = ()
    questions: Sequence[Question] = ()

    def __post_init__(self) -> None:
        """Checks that the exhibits are of this paper, each under one name.

        Raises:
            ValueError: One says that it is of another paper, or two have the same name.
        """
        tables = self.tables()
        if wrong := [table for table in tables if table.paper != self.name]:
            raise ValueError(f"{wrong[0].exhibit} is of paper {wrong[0].paper!r}, not {self.name!r}")
        if len({table.exhibit for table in tables}) < len(tables):
            raise ValueError(f"two exhibits of {self.name} have the same name")

    def tables(self) -> list[Table]:
        """Returns every exhibit, in the paper's order."""
        return [table for tables in self.exhibits.values() for table in tables]

    def datasets(self) -> set[str]:
        """Returns the data sets that it prints numbers for."""
        cells = (cell for table in self.tables() for cell in table.cells())
        return {cell.recipe.dataset for cell in cells if cell.published and cell.recipe}
