"""Which exhibits show a run: every table and figure of every paper, as it can be rendered for the run's images."""

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator

from lt_repro.errors import RequestError
from lt_repro.papers import papers
from lt_repro.papers.table import PROFILES, Table, Variant, ratios
from lt_repro.recipe import Recipe
from lt_repro.render.cells import Measured, measure
from lt_repro.store.runs import Run


def cells_of(run: Run) -> list[tuple[Table, Measured]]:
    """Returns every cell that shows a run, with its exhibit, whose own `seeds` may lack the run's."""
    tables = exhibits_of([run.recipe])
    alone = [(table, dataclasses.replace(table, seeds=(run.recipe.seed,))) for table in tables]
    every = [(table, entry) for table, narrow in alone for entry in measure(narrow, [run])]
    return [(table, entry) for table, entry in every if entry.runs or entry.diverged]


def exhibits_of(recipes: Iterable[Recipe]) -> list[Table]:
    """Returns the exhibits that recipes may be in, each once: in every reading, on its own images and on theirs.

    Each has the profiles and protocols that a recipe may be of. With other settings there are further exhibits.
    """
    tables: dict[str, Table] = {}
    for dataset, ratio, as_is, epoch_steps, drawn in dict.fromkeys(map(_kind, recipes)):
        profiles = [name for name, sets in PROFILES.items() if sets.get("epoch_steps", 0) == epoch_steps]
        images = Variant("as-is", "as is", {"ratio": ratio, "imb_type": "as_is"}) if as_is else ratios(ratio)[0]
        for table in _on(dataset, images):
            for short in map(table.profiled, profiles):
                for each in (short, short.protocol("released")) if drawn else (short,):
                    tables.setdefault(each.id, each)
    return list(tables.values())


def _kind(recipe: Recipe) -> tuple[str, float, bool, int, bool]:
    """Returns data set, ratio, whether that is its own, the steps of an epoch, and whether the seed draws the split."""
    first = recipe.lineage()[-1]
    images = recipe.dataset, recipe.ratio, recipe.imb_type == "as_is"
    return *images, first.epoch_steps, first.split_seed == first.seed != 0


def _on(dataset: str, images: Variant) -> Iterator[Table]:
    """Yields every exhibit of every paper in each reading that it can have, on its own images and on others."""
    on = dataset, images.edits["ratio"]
    for table in (table for paper in papers().values() for table in paper.tables()):
        for reading in table.settings.readings:
            with contextlib.suppress(RequestError):  # its rows decide the reading, or its columns the images
                yield (read := table.read_as(reading))
                if not any((has := cell.recipe) and (has.dataset, has.ratio) == on for cell in read.cells()):
                    yield read.on_images(dataset, (images,))
