"""Running recipes in this process, one after the other."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lt_repro import signals
from lt_repro.data.pools import Images, Pool, select
from lt_repro.data.split import Split, make_split
from lt_repro.errors import RequestError
from lt_repro.recipe import Recipe
from lt_repro.runs import Run
from lt_repro.train import Lane, fit


def images_of(recipe: Recipe, pool: Pool) -> Images:
    """Returns the images that a recipe trains and tests on.

    Raises:
        RequestError: The ratio is too large for the pool, or another setting of the split is not allowed.
    """
    return select(pool, split_of(recipe, pool))


def split_of(recipe: Recipe, pool: Pool) -> Split:
    """Returns the split of a pool that a recipe names.

    Raises:
        RequestError: As `images_of`.
    """
    wanted: dict[str, Any] = {"ratio": recipe.ratio, "profile": recipe.profile, "seed": recipe.split_seed}
    return make_split(pool.train_labels, **wanted, hold_out=pool.hold_out, name=pool.name)


def run_all(
    recipes: Sequence[Recipe],
    pool: Pool,
    out: Path,
    *,
    parents: Sequence[Path] = (),
    device: str = "auto",
    eval_every: int = 10,
    watch: Callable[[Lane], None] = lambda lane: None,
) -> Iterator[Run]:
    """Trains recipes one after the other and yields each run as it ends; one that stands in `out` is not trained again.

    Unless its weights are gone and a later recipe begins with them: then they are trained again and, if they come out
    as the run file says, put beside it.

    Args:
        recipes: What to train, all on the same pool, each after its parent.
        pool: Where the images come from.
        out: Folder for checkpoints, weights and run files.
        parents: See `train.fit`.
        device: See `train.fit`.
        eval_every: See `train.fit`.
        watch: See `train.fit`.

    Raises:
        RequestError: A recipe does not fit the pool or the machine, `out` cannot be written, or the run that stands
            there is of another split.
        DamagedError: A run file or a checkpoint is damaged.
        Interrupted: A signal asked to stop; everything is saved.
    """
    images: dict[tuple[float, str, int], Images] = {}
    wanted = {recipe.parent.key() for recipe in recipes if recipe.parent}
    with signals.caught() as stop:
        for recipe in recipes:
            subset = (recipe.ratio, recipe.profile, recipe.split_seed)
            if subset not in images:
                images[subset] = images_of(recipe, pool)
            there = out / f"{recipe.key()}.json"
            lacking = recipe.key() in wanted and not there.with_suffix(".pt").exists()
            if there.exists() and not lacking:
                yield _checked(Run.read(there), images[subset])
                there.with_suffix(".ckpt").unlink(missing_ok=True)  # of a process killed right after it published
                continue
            told: dict[str, Any] = {"device": device, "eval_every": eval_every, "watch": watch, "stop": stop}
            yield from fit([recipe], images[subset], out=out, parents=parents, **told)


def _checked(run: Run, images: Images) -> Run:
    if run.split["digest"] != images.split.digest:
        raise RequestError(
            f"{run.path} is of another split, {run.split['digest'][:8]}, not {images.split.digest[:8]}",
            "allowed: runs on the split that the recipe names",
            "it is left as it is; move it away, or train into another folder with --out",
        )
    return run
