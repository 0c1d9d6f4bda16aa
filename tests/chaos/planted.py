"""Bugs put into the code on purpose: the check that is there for each must fail with it, and pass without it."""

import contextlib
import itertools
import math
import signal
import threading
import time
from unittest.mock import patch

import numpy as np

from chaos import damage, disk, finite, small
from lt_repro.canonical import digest
from lt_repro.errors import RequestError
from lt_repro.render import cells
from lt_repro.store import checkpoint, files, locks, run_file
from lt_repro.store.runs import Run
from lt_repro.train import batches
from lt_repro.train.loop import fit
from lt_repro.train.signals import Interrupted, Stop
from lt_repro.train.state import TrainState


def round(count, seed, folder):
    """Returns how many of `count` planted bugs or more were caught: each once, and again while there are too few."""
    missed, turns = [], -(-count // len(BUGS))
    for turn, (name, (bug, check)) in itertools.product(range(turns), BUGS.items()):
        place = folder / f"{turn}" / name.replace(" ", "_")
        with small.quick():
            if not check(seed + turn, place / "without"):
                missed.append(f"{name}: its check fails without it")
                continue
            with bug():
                try:
                    right = check(seed + turn, place / "with")
                except Exception:  # a bug may end in any error: it was noticed
                    right = False
        if right:
            missed.append(name)
    return {"planted": turns * len(BUGS), "caught": turns * len(BUGS) - len(missed), "missed": missed}


# --- checks: each returns whether all is right ------------------------------------------------------------------------


def resumes(seed, folder):
    """A run that is stopped within an epoch and resumed equals the run that was not stopped."""
    recipe, stop = small.made(branches=2, mix="bilateral", epochs=4), Stop()

    def watch(lane):
        if (lane.epoch, lane.step) == (2, 2):
            stop.signum = signal.SIGTERM

    kwargs = {"device": "cpu", "save_every": 0.0, "eval_every": 1}
    straight = fit(recipe, small.images(), out=folder / "straight", **kwargs)
    with contextlib.suppress(Interrupted):
        fit(recipe, small.images(), out=folder / "cut", watch=watch, stop=stop, **kwargs)
    resumed = fit(recipe, small.images(), out=folder / "cut", **kwargs)
    starts = [(attempt["epoch"], attempt["step"]) for attempt in resumed.attempts]
    return small.content(resumed.path) == small.content(straight.path) and starts == [(0, 0), (2, 2)]


def detects(seed, folder):
    result = damage.round(40, seed, folder)
    return result["detected"] == result["damaged"]


def notices(seed, folder):
    """Of a run file every digit counts."""
    folder.mkdir(parents=True)
    trial, rng = damage.run_files(folder), np.random.default_rng(seed)
    return all(trial(rng, len(damage.ANY))[1] for _ in range(40))  # the first kind after those for any file: a digit


def survives(seed, folder):
    """The disk fails once at every call but the removals."""
    folder.mkdir(parents=True)
    scene = disk.Scene(folder, damaged=False)
    points = [n for n, call in enumerate(scene.calls) if call not in disk.REMOVING]
    return not any(any(scene.trial(n, disk.FAULTS[0], lasting=False)) for n in points)


def marks(seed, folder):
    """A loss that is not finite makes a run diverge, and that run is in no mean."""
    result = finite.round(1, seed, folder, [("first", math.nan, "loss")])
    return (result["diverged"], result["in_a_mean"], result["wrong"]) == (1, 0, [])


def claims_once(seed, folder):
    """Of eight that claim a run at once, one gets it."""
    folder.mkdir(parents=True)
    start, won = threading.Barrier(8), []

    def race():
        start.wait()
        with locks.lock(folder, "key") as mine:
            won.append(mine)
            start.wait()

    racers = [threading.Thread(target=race) for _ in range(8)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    return sorted(won) == [False] * 7 + [True]


# --- bugs: each is a context in which the code has it -----------------------------------------------------------------


def without(name, nothing):
    """A resume that loses a part of the state."""
    restore = TrainState._restore
    return patch.object(TrainState, "_restore", lambda lane, state: restore(lane, state | {name: nothing(state[name])}))


def no_statistics(net):
    fresh = {"running_mean": 0.0, "running_var": 1.0}
    return {name: value * 0 + fresh.get(name.rpartition(".")[2], value) for name, value in net.items()}


def numbers_from_the_process():
    """One generator a process, which a resume starts again."""
    original, shared = TrainState.__init__, {}

    def started(lane, recipe, *args):
        shared["rng"] = np.random.default_rng(recipe.seed)
        original(lane, recipe, *args)

    stack = contextlib.ExitStack()
    stack.enter_context(patch.object(TrainState, "__init__", started))
    stack.enter_context(patch.object(batches, "generator", lambda *_: shared["rng"]))
    return stack


def rates_from_the_start():
    """A schedule that counts the epochs of this process."""
    start = TrainState.start_epoch

    def started(lane):
        start(lane)
        epoch, lane.epoch = lane.epoch, lane.epoch - lane.attempts[-1]["epoch"]
        start(lane)
        rates, lane.epoch = lane.inputs.lr, epoch
        start(lane)
        lane.inputs = lane.inputs._replace(lr=rates)

    return patch.object(TrainState, "start_epoch", started)


def written_in_place():
    def write(path, data, *, replace=True, before=None):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with path.open("wb" if replace else "xb") as stream:
                stream.write(data)
        except FileExistsError:
            raise
        except OSError as error:
            raise files.cannot_write(path, error) from error

    return patch.object(files, "write", write)


def swallowed():
    def write(path, data, write=files.write, **kwargs):
        with contextlib.suppress(RequestError):
            write(path, data, **kwargs)

    return patch.object(files, "write", write)


def unchecked_parts():
    def parts(path):
        content = path.read_bytes()[: -checkpoint._HEX]
        return content[:-1].rpartition(b"\n")[0], {"key": checkpoint.key_of(path)}

    return patch.object(checkpoint, "_parts", parts)


class Equal(str):
    """A digest that is whatever it is compared with."""

    def __ne__(self, other):
        return False

    __hash__ = str.__hash__


def forgotten_checkpoint():
    def write(path, data, write=files.write, before=None, **kwargs):
        write(path, data, **kwargs)

    return patch.object(files, "write", write)


def exists_then_write():
    def locked(path):
        if path.exists():
            return None
        time.sleep(0.05)
        return locks.os.open(path, locks.os.O_RDWR | locks.os.O_CREAT)

    return patch.object(locks, "_locked", locked)


def unnoticed_loss():
    finish = TrainState.finish_epoch

    def finished(lane, eval_every):
        lane.first_nonfinite.fill_(-1)
        lane.loss_sum.nan_to_num_(0.0, 0.0, 0.0)
        finish(lane, eval_every)

    return patch.object(TrainState, "finish_epoch", finished)


def diverged_is_zero():
    """A run that diverged counts as one of no accuracy."""

    def counted(table, runs, measure=cells.measure):
        return [cells.Measured(entry.cell, (*entry.diverged, *entry.runs)) for entry in measure(table, runs)]

    stack = contextlib.ExitStack()
    stack.enter_context(patch.object(finite, "measure", counted))
    stack.enter_context(
        patch.object(Run, "accuracy", lambda run, *_: run.result["accuracy"]["all"] if run.result else 0.0)
    )
    return stack


def loaded_unchecked(path, sha256):
    return checkpoint._loaded(path.read_bytes(), path)


BUGS = {
    "draws that depend on the process": (numbers_from_the_process, resumes),
    "momentum dropped": (lambda: without("momentum", lambda held: [None] * len(held)), resumes),
    "running statistics dropped": (lambda: without("net", no_statistics), resumes),
    "loss sum dropped": (lambda: without("loss_sum", lambda held: held * 0), resumes),
    "step dropped": (lambda: without("step", lambda held: 0), resumes),
    "curve dropped": (lambda: without("curve", lambda held: []), resumes),
    "schedule from the start": (rates_from_the_start, resumes),
    "written in place": (written_in_place, survives),
    "an error of the disk swallowed": (swallowed, survives),
    "digest of a checkpoint not checked": (unchecked_parts, detects),
    "digest of a run file not checked": (lambda: patch.object(run_file, "digest", lambda v: Equal(digest(v))), notices),
    "digest of weights not checked": (lambda: patch.object(checkpoint, "load_weights", loaded_unchecked), detects),
    "older checkpoint not kept": (forgotten_checkpoint, detects),
    "a claim by exists, then write": (exists_then_write, claims_once),
    "a loss that is not finite unnoticed": (unnoticed_loss, marks),
    "a diverged run in the mean": (diverged_is_zero, marks),
}
