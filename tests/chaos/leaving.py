"""Signals that ask to leave: how long it takes, with which code, and whether the run equals an undisturbed one."""

import itertools
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from chaos import processes
from lt_repro.train.signals import SAME

CODES = {"SIGTERM": 143, "SIGUSR1": 138, "SIGINT": 130, "SIGHUP": 129}
WORDS = ["train", "--dataset", "digits", "--ratio", "60", "--epochs", "400", "--arch", "dbn", "--mix", "bilateral"]
LONGEST = 60.0  # seconds until a process must have started or left


def round(count, seed, folder):
    """Returns how `count` processes left that were signalled at drawn times, and as many more by a second Ctrl-C."""
    return processes.run_module("chaos.leaving", 120 + 15 * count, count=count, seed=seed, folder=str(folder))


def command(words, stuck=False):
    """Is the command line in this process; `stuck` makes a step so long that no first Ctrl-C ends it in time."""
    import torch

    from lt_repro.cli import main
    from lt_repro.train import loop

    torch.set_num_threads(1)
    if stuck:
        loop.train_step = lambda state: time.sleep(LONGEST)
    sys.argv = ["ltrepro", *words]
    with Path(os.devnull).open("w") as nowhere:
        sys.stdout = sys.stderr = nowhere
        try:
            main()
        except SystemExit as left:
            os._exit(left.code)


def wait_until_started(folder):
    """Waits until a run of the folder has been claimed, which is when signals are caught."""
    until = time.monotonic() + LONGEST
    while not list(folder.glob("*.lock")):
        assert time.monotonic() < until, f"not started after {LONGEST} s"
        time.sleep(0.001)


def left(pid, signum):
    """Returns the seconds that a process took to leave when it was signalled, and its code."""
    start = time.monotonic()
    os.kill(pid, signum)
    code = processes.ended(pid, LONGEST)
    if code is None:
        processes.kill(pid)
    return time.monotonic() - start, code


def main(count, seed, folder):
    """Returns what `round` does."""
    import lt_repro.train.loop  # noqa: F401
    from lt_repro import cli  # noqa: F401

    rng, folder, wrong, seconds = np.random.default_rng([seed, 9]), Path(folder), [], {name: [] for name in CODES}
    for number, name in zip(range(count), itertools.cycle(CODES), strict=False):
        out = folder / f"{number}"
        pid = processes.fork(command, [*WORDS, "--out", str(out)])
        wait_until_started(out)
        time.sleep(rng.uniform(0.0, 2.0))
        took, code = left(pid, getattr(signal, name))
        seconds[name].append(took)
        if code != CODES[name]:
            wrong.append(f"{name} ended with {code}")
        wrong += [f"{name} left {path.name}" for path in out.iterdir() if ".ckpt" not in path.name]
        if not list(out.glob("*.ckpt")):
            wrong.append(f"{name} saved nothing")
    at_once = []
    for number in range(count):
        out = folder / f"stuck{number}"
        pid = processes.fork(command, [*WORDS, "--out", str(out)], True)
        wait_until_started(out)
        time.sleep(rng.uniform(0.5, 1.0))
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGINT)  # passed on by a wrapper, say: the same request
        if (early := processes.ended(pid, SAME + 0.1)) is not None:
            wrong.append(f"it was not stuck: {early}")
            continue
        took, code = left(pid, signal.SIGINT)
        at_once.append(took)
        if code != CODES["SIGINT"]:
            wrong.append(f"a second Ctrl-C ended with {code}")
    slowest = {name: max(result) for name, result in seconds.items() if result} | {"second SIGINT": max(at_once)}
    return {"signals": 2 * count, "slowest_s": {n: float(f"{s:.3f}") for n, s in slowest.items()}, "wrong": wrong}


if __name__ == "__main__":
    processes.answer(main)
