"""Running recipes in this process, one after the other."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from lt_repro import signals
from lt_repro.data.pools import Images, Pool, select
from lt_repro.data.split import make_split
from lt_repro.errors import RequestError
from lt_repro.recipe import Recipe
from lt_repro.runs import Run
from lt_repro.train import Lane, fit


def images_of(recipe: Recipe, pool: Pool) -> Images:
    """Returns the images that a recipe trains and tests on.

    Raises:
        RequestError: The ratio is too large for the pool, or another setting of the split is not allowed.
    """
    wanted = {"ratio": recipe.ratio, "profile": recipe.profile, "seed": recipe.split_seed}
    split = make_split(pool.train_labels, **wanted, hold_out=pool.hold_out, name=pool.name)  # type: ignore[arg-type]
    return select(pool, split)


def run_all(
    recipes: Sequence[Recipe],
    pool: Pool,
    out: Path,
    *,
    device: str = "auto",
    eval_every: int = 10,
    watch: Callable[[Lane], None] = lambda lane: None,
) -> Iterator[Run]:
    """Trains recipes one after the other and yields each run as it ends; one that stands in `out` is not trained again.

    Args:
        recipes: What to train, all on the same pool.
        pool: Where the images come from.
        out: Folder for checkpoints, weights and run files.
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
    with signals.caught() as stop:
        for recipe in recipes:
            subset = (recipe.ratio, recipe.profile, recipe.split_seed)
            if subset not in images:
                images[subset] = images_of(recipe, pool)
            there = out / f"{recipe.key()}.json"
            if there.exists():
                yield _checked(Run.read(there), images[subset])
                there.with_suffix(".ckpt").unlink(missing_ok=True)  # of a process killed right after it published
                continue
            yield from fit(
                [recipe], images[subset], out=out, device=device, eval_every=eval_every, watch=watch, stop=stop
            )


def _checked(run: Run, images: Images) -> Run:
    if run.split["digest"] != images.split.digest:
        raise RequestError(
            f"{run.path} is of another split, {run.split['digest'][:8]}, not {images.split.digest[:8]}",
            "allowed: runs on the split that the recipe names",
            "it is left as it is; move it away, or train into another folder with --out",
        )
    return run
