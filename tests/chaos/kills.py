"""SIGKILL of training, again and again: the final result must equal that of an undisturbed run."""

import functools
import itertools
import json
import os
import shutil
import signal
import sys
import time
from io import BufferedWriter, FileIO
from pathlib import Path

import numpy as np

from chaos import processes

EPOCHS = 12
TRAINING = ["write", "fsync", "replace", "loop.train_step", "TrainState.save"]
POINTS = [*TRAINING, "unlink", "TrainState.predict", "loop.publish", "Run.publish", "hardlink_to"]
WITHIN = (0.0, 0.05, 60.0)  # seconds between checkpoints inside an epoch: every step, some steps, none
COLD = 13  # every so many kills a true cold start
LONGEST = 60.0  # seconds of one process


def round(count, seed, folder, forgets=False):
    """Returns what `count` kills of a run and of a second one that starts from it did.

    A killed process is started again until both runs are done. Each point of the code is killed at before and after, at
    its first call and at a later one; between these, and from then on, at drawn points and at drawn times. `forgets`
    plants a mistake for the control: the momentum is not restored.
    """
    kwargs = {"count": count, "seed": seed, "folder": str(folder), "forgets": forgets}
    return processes.run_module("chaos.kills", 120 + 10 * count, **kwargs)


def recipes():
    """Returns a run of two branches, and heads trained on its features."""
    from chaos import small

    parent = small.made(branches=2, mix="bilateral", tscale=True, epochs=EPOCHS)
    return [parent, small.made(method="crt", parents={"features": parent}, epochs=EPOCHS)]


def train(plan, out, log):
    """Trains both recipes in this process until the plan kills it.

    Args:
        plan: `within`, `commit` to write down, `forgets`, and `point`, `when` and `nth` where it kills itself.
        out: Where the runs go.
        log: A file that lists where each run starts, and its position after each checkpoint.
    """
    import torch

    from chaos import small
    from lt_repro.store import checkpoint, provenance
    from lt_repro.sweep import runner
    from lt_repro.train.state import TrainState

    torch.set_num_threads(1)
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def log_event(word, key, epoch, step, attempts):
        os.write(descriptor, (json.dumps([word, key, epoch, step, attempts]) + "\n").encode())

    def started(self, *args):
        original(self, *args)
        if plan["forgets"]:
            self.optimizer.state.clear()
        log_event("started", self.recipe.key(), self.epoch, self.step, len(self.attempts))

    def saved(path, state, position):
        save(path, state, position)
        log_event("saved", *(position[name] for name in ("key", "epoch", "step", "attempts")))

    original, TrainState.__init__ = TrainState.__init__, started
    save, checkpoint.save = checkpoint.save, saved
    provenance.commit = functools.partial(str, plan["commit"])  # git takes longer than an epoch, and others commit
    runner.fit = functools.partial(runner.fit, save_every=0.0, save_within=plan["within"])
    if "point" in plan:
        _arm(**{name: plan[name] for name in ("point", "when", "nth")})
    for ended in runner.run_all(recipes(), small.pool(), out, device="cpu", eval_every=2):
        assert not isinstance(ended, runner.Failed), ended.error


class Halves(BufferedWriter):
    """A file that is written in two halves, so that there is a point between them."""

    def write(self, data):
        super().write(data[: len(data) // 2])
        self.flush()
        return self.rest(data[len(data) // 2 :])

    def rest(self, data):
        return super().write(data)


def _arm(point, when, nth):
    """Makes this process kill itself before or after the nth call of a point."""
    from lt_repro.store.runs import Run
    from lt_repro.train import loop
    from lt_repro.train.state import TrainState

    owners = {"TrainState": TrainState, "loop": loop, "Run": Run, "": Path}
    first, _, name = point.rpartition(".")
    owner, name = {"write": (Halves, "rest"), "fsync": (os, "fsync")}.get(point, (owners[first], name))
    original, calls, opened = getattr(owner, name), itertools.count(1), Path.open

    def armed(*args, **kwargs):
        hit = next(calls) == nth
        if hit and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **kwargs)
        if hit:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, armed)
    Path.open = lambda path, mode="r", *args, **kwargs: (
        Halves(FileIO(path, mode)) if mode == "wb" else opened(path, mode, *args, **kwargs)
    )


class Chain:
    """The processes that one after the other train the runs of one folder, and what is wrong about them.

    Args:
        out: The folder.
    """

    def __init__(self, out):
        self.out, self.launches, self.wrong, self.resumed = out, 0, [], []
        self.keys = [recipe.key() for recipe in recipes()]
        self.positions = {}  # of each run's newest checkpoint: epoch, step, attempts
        self.kept = {key: [] for key in self.keys}  # where each attempt started that the checkpoint knows of
        self.trail = {}  # the same with the last one

    def launch(self, plan):
        """Returns whether a process was killed before both runs were done."""
        log = self.out.with_name(f"{self.out.name}-{self.launches}.log")
        self.launches += 1
        if plan.get("cold"):
            words = [sys.executable, "-W", "error", "-m", "chaos.kills", json.dumps(plan), str(self.out), str(log)]
            pid = os.posix_spawn(sys.executable, words, processes.environment())
        else:
            pid = processes.fork(train, plan, self.out, log)
        try:
            code = processes.ended(pid, plan.get("delay", LONGEST))
        except BaseException:
            processes.kill(pid)
            raise
        if code is None:
            code = processes.kill(pid)
            assert "delay" in plan, f"{plan} was not done after {LONGEST} s"
        assert code in (0, -signal.SIGKILL), f"{plan} ended with {code}"
        self._look([json.loads(line) for line in log.read_text().splitlines()] if log.exists() else [])
        return code != 0

    def _look(self, lines):
        """Compares what a process logged, and what is stored now, with what was stored before it."""
        from lt_repro.store import checkpoint

        starts = [line[1:] for line in lines if line[0] == "started"]
        if self.launches > 1 and starts and starts[0][0] in self.positions:
            self.resumed.append(starts[0][1:3])
        for key, *where, attempts in starts:
            expected = self.positions.get(key, [0, 0, 0])
            self._check([*where, attempts - 1] == expected, f"{key} started at {where, attempts}, not at {expected}")
            self.trail[key] = [*self.kept[key], where]
        for key in self.keys:
            path = self.out / f"{key}.ckpt"
            if (self.out / f"{key}.json").exists() or not (path.exists() or path.with_suffix(".before.ckpt").exists()):
                self._check(
                    (self.out / f"{key}.json").exists() or key not in self.positions, f"{key} lost its checkpoint"
                )
                continue
            stored = checkpoint.where(path)
            position = [stored["epoch"], stored["step"], stored["attempts"]]
            last = next((line[2:] for line in reversed(lines) if line[:2] == ["saved", key]), self.positions.get(key))
            self._check(last is None or position >= last, f"{key} is at {position}, but was saved at {last}")
            if position != self.positions.get(key):
                self.kept[key] = self.trail[key]
            self._check(len(self.kept[key]) == position[2], f"{key} is at {position} after {self.kept[key]}")
            self.positions[key] = position

    def compare(self, reference):
        """Returns what differs from the reference runs, and the files that should not be there."""
        from chaos import small

        for key in self.keys:
            killed, expected_run = (small.content(folder / f"{key}.json") for folder in (self.out, reference))
            differs = [name for name in killed.keys() | expected_run if killed.get(name) != expected_run.get(name)]
            self._check(not differs, f"{key} differs in {differs}")
            same = (self.out / f"{key}.pt").read_bytes() == (reference / f"{key}.pt").read_bytes()
            self._check(same, f"{key} has other weights")
            expected = [{"epoch": epoch, "step": step, "ended": "lost"} for epoch, step in self.trail[key]]
            expected[-1]["ended"] = "done"
            attempts = json.loads((self.out / f"{key}.json").read_text())["attempts"]
            places = [{name: attempt[name] for name in ("epoch", "step", "ended")} for attempt in attempts]
            self._check(places == expected, f"{key} lists {places}, there were {expected}")
        default = {f"{key}.{suffix}" for key in self.keys for suffix in ("json", "pt")}
        return self.wrong, sorted({path.name for path in self.out.iterdir()} - default)

    def _check(self, right, wrong):
        if not right:
            self.wrong.append(f"{self.out.name}: {wrong}")


def plans(rng, reference_seconds):
    """Yields how to kill, of each kind a third: at every point in turn, at a drawn call in training, at a drawn time.

    Every point in turn is before and after it, at its first and at a later call.
    """
    every = list(itertools.product(POINTS, ("before", "after"), (False, True)))
    turns = itertools.cycle(rng.permutation(len(every)))
    while True:
        kind = rng.integers(3)
        if kind == 0:
            point, when, later = every[next(turns)]
            most = 2 if "ublish" in point or point == "hardlink_to" else 12  # of what is called once a run, and others
            yield {"point": point, "when": when, "nth": int(rng.integers(2, most + 1)) if later else 1}
        elif kind == 1:
            point, when = str(rng.choice(TRAINING)), str(rng.choice(["before", "after"]))
            yield {"point": point, "when": when, "nth": int(rng.integers(3, 20))}
        else:
            yield {"delay": float(rng.uniform(0.0, reference_seconds / 2))}


def main(count, seed, folder, forgets):
    """Returns what `round` does."""
    from lt_repro.store import provenance
    from lt_repro.sweep import runner  # noqa: F401

    folder, rng = Path(folder), np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    always = {"commit": provenance.commit(), "forgets": forgets}
    start, reference = time.monotonic(), Chain(folder / "calm")
    assert not reference.launch(always | {"within": 60.0})
    drawn, again = plans(rng, time.monotonic() - start), []
    kills, hit, resumed, wrong, left = 0, set(), [], [], []
    for chain in (Chain(folder / f"chain{n}") for n in itertools.count()):
        killed = True
        while killed:
            plan = {} if kills == count else again.pop() if again and not chain.launches else next(drawn)
            plan["cold"] = "point" in plan and kills % COLD == 5
            killed = chain.launch(always | plan | {"within": float(rng.choice(WITHIN))})
            kills += killed
            if "point" in plan and killed:
                hit.add((plan["point"], plan["when"], plan["nth"] > 1))
            elif "point" in plan and chain.launches > 1:
                again.append(plan)  # it was not called so often any more: a fresh chain starts with it, and drops it
        different, behind = chain.compare(reference.out)
        resumed, wrong, left = resumed + chain.resumed, wrong + different, left + behind
        shutil.rmtree(chain.out)
        if kills == count:
            break
    for line in [*wrong, *(f"left behind: {name}" for name in left)]:
        sys.stderr.write(f"{line}\n")
    inside = sum(step > 0 for _, step in resumed)
    epochs = sorted({epoch for epoch, _ in resumed})
    result = {"seed": seed, "kills": kills, "points": len(hit), "different": len(wrong), "left_behind": len(left)}
    return result | {"resumed": len(resumed), "resumed_epochs": epochs, "inside": inside}


if __name__ == "__main__":
    if len(sys.argv) == 4:  # a cold start
        train(json.loads(sys.argv[1]), *map(Path, sys.argv[2:]))
    else:
        processes.answer(main)
