"""Running recipes in this process, one after the other."""

import contextlib
import json
import math
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lt_repro.data.images import Images, Pool, images_of
from lt_repro.data.split import Subset
from lt_repro.errors import DamagedError, LtReproError, RequestError
from lt_repro.recipe import Recipe
from lt_repro.store import checkpoint, files, run_file
from lt_repro.store.locks import SUFFIX, lock
from lt_repro.store.runs import Run
from lt_repro.train import signals
from lt_repro.train.loop import fit
from lt_repro.train.state import TrainState


class Failed(NamedTuple):
    """A run that failed or could not start: its recipe, and why in at most three lines."""

    recipe: Recipe
    error: str


def run_all(
    recipes: Sequence[Recipe],
    pool: Pool,
    out: Path,
    *,
    parents: Sequence[Path] = (),
    device: str = "auto",
    eval_every: int = 10,
    eval_bn: bool = False,
    watch: Callable[[TrainState], None] = lambda state: None,
    note: Callable[[str], None] = lambda line: None,
    until: float = math.inf,
    known: "Records | None" = None,
) -> Iterator[Run | Failed]:
    """Trains recipes one after the other and yields each run as it ends, whichever process trained it.

    A finished run in `out` is not trained again, unless another recipe needs its weights and the file is missing: then
    it is trained again and, if the weights match the run file, they are stored. A run that another process has locked
    is left to that process; if the process dies, this one resumes from the checkpoint. A run that fails leaves
    `<key>.failed.json` and does not stop the others.

    Args:
        recipes: What to train, all on the same pool.
        pool: Where the images come from.
        out: Folder for checkpoints, weights and run files.
        parents: See `train.fit`.
        device: See `train.fit`.
        eval_every: See `train.fit`.
        eval_bn: See `train.fit`.
        watch: See `train.fit`.
        note: Called with a line when all that is left is locked by another process.
        until: A time of `time.monotonic` at which to save and stop.
        known: What `records` gave when the queue began; a run whose record is another one has broken in another process
            of this queue and is not tried again. By default, that of now.

    Raises:
        RequestError: A recipe does not fit the pool or the machine, `out` cannot be written, or the run there
            has another split.
        FailedError: A file could not be written.
        Interrupted: A signal asked to stop, or it is later than `until`; everything is saved.
    """
    images: dict[Subset, Images] = {}
    pending = {recipe.key(): recipe for recipe in recipes}
    parent_keys = {parent.key() for recipe in recipes for parent in recipe.parents.values()}
    failed_parents: dict[str, str] = {}  # parents without weights, and why
    waited = False
    known = records(out) if known is None else known
    with signals.caught(until) as stop:
        while pending:
            left = len(pending)
            for key, recipe in list(pending.items()):
                above = [parent.key() for parent in recipe.parents.values()]
                if any(parent in pending for parent in above):
                    continue
                if lost := [parent for parent in above if parent in failed_parents]:
                    del pending[key]
                    failed_parents[key] = "failed"
                    yield Failed(recipe, f"its parent {lost[0]} {failed_parents[lost[0]]}")
                    continue
                subset = recipe.subset
                if subset not in images:
                    images[subset] = images_of(subset, pool)
                ended = _ended(recipe, out, images[subset], key in parent_keys)
                if ended:
                    _tidy(out, key)
                else:
                    stop.check()
                    with lock(out, key) as mine:
                        if not mine:
                            continue
                        options: dict[str, Any] = {
                            "device": device,
                            "eval_every": eval_every,
                            "eval_bn": eval_bn,
                            "watch": watch,
                            "stop": stop,
                        }
                        options |= {"parents": parents}
                        ended = _train(recipe, images[subset], out, key in parent_keys, known, options)
                del pending[key]
                if isinstance(ended, Failed):
                    failed_parents[key] = "failed"
                elif ended.status == "diverged":
                    failed_parents[key] = "diverged"
                yield ended
            if left == len(pending):
                if not waited:
                    note(f"waiting for another process that trains {next(iter(pending))}")
                    waited = True
                time.sleep(0.5)
                stop.check()


Records = Mapping[str, tuple[int, int]]


def records(out: Path) -> Records:
    """Returns what tells each record of a failed run in a folder from one written later, whatever the clocks say."""
    paths = [(path.name, path.stat()) for path in out.glob(f"*{run_file.FAILED}")]
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in paths}


def _train(
    recipe: Recipe, images: Images, out: Path, needed: bool, known: Records, options: dict[str, Any]
) -> Run | Failed:
    """Returns the run of a recipe that this process has locked."""
    failed = out / f"{recipe.key()}{run_file.FAILED}"
    files.remove_temporary(out, recipe.key())
    if ended := _ended(recipe, out, images, needed):  # another process published it before the lock was ours
        checkpoint.remove(out / f"{recipe.key()}{checkpoint.SUFFIX}")
        return ended
    with contextlib.suppress(OSError, ValueError):
        if failed.name in (now := records(out)) and now[failed.name] != known.get(failed.name):
            error = json.loads(failed.read_bytes())["error"]
            return Failed(recipe, f"{error}\nin an earlier attempt, by another process of this queue\nrerun to resume")
    try:
        run = fit(recipe, images, out=out, **options)
    except DamagedError as error:  # of this run's files: the others can be trained
        return Failed(recipe, str(error))
    except (LtReproError, signals.Interrupted):
        raise
    except Exception as error:
        line = f"{type(error).__name__}: {error}".splitlines()[0]
        record = {"key": recipe.key(), "recipe": recipe.to_json(), "error": line, "traceback": traceback.format_exc()}
        files.write(failed, (json.dumps(record, indent=1) + "\n").encode())
        return Failed(recipe, f"{line}\n{failed} has the traceback\nrerun to resume from the last checkpoint")
    files.remove(failed)
    return run


def _ended(recipe: Recipe, out: Path, images: Images, needed: bool) -> Run | Failed | None:
    """Returns the run of a recipe if it is in `out`, with its weights if they are needed."""
    path = out / f"{recipe.key()}.json"
    if not path.exists():
        return None
    try:
        run = Run.read(path)
    except DamagedError as error:
        return Failed(recipe, str(error))
    if needed and run.weights and not run.weights_path:
        return None
    if run.split["digest"] != images.split.digest:
        raise RequestError(
            f"{run.path} has split {run.split['digest'][:8]}, not {images.split.digest[:8]}",
            "allowed: runs on the split that the recipe names",
            "it was not changed; move it away, or train into another folder",
            kind="other split",
        )
    return run


def _tidy(out: Path, key: str) -> None:
    """Removes what a process left that was killed right after it published; its lock file is still there then."""
    path = out / f"{key}{checkpoint.SUFFIX}"
    if path.exists() or path.with_suffix(SUFFIX).exists():
        with contextlib.suppress(RequestError), lock(out, key) as mine:  # a folder that is only read stays as it is
            if mine:
                files.remove_temporary(out, key)
                checkpoint.remove(path)
