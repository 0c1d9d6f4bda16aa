"""Many processes that lock the same runs, half of them killed: each run is done once, by one of them at a time."""

import json
import os
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from chaos import processes
from lt_repro.store import files, locks

PROCESSES, KILLED, KEYS = 16, 8, 200
LONGEST = 60.0  # seconds of one round


def round(count, seed, folder, gullible=False):
    """Returns how often each of 200 runs was done, and how many had two owners at a time, in `count` rounds.

    `gullible` plants a mistake for the control: a lock looks whether the file is there, then writes it. Nobody is
    killed then, as its leftovers would stop the others for ever.
    """
    kwargs = {"count": count, "seed": seed, "folder": str(folder), "gullible": gullible}
    return processes.run_module("chaos.claiming", (LONGEST + 10) * count, **kwargs)


@contextmanager
def gullible_lock(folder, key):
    """Yields whether the run is ours, as one would write it without care."""
    path = folder / f"{key}.lock"
    if path.exists():
        yield False
        return
    time.sleep(0.001)
    path.write_text("")
    yield True
    path.unlink(missing_ok=True)


def work(folder, seed, lock):
    """Does the runs that are not done, one after the other, until all are; `<key>.log` lists who started and ended it.

    `<key>.owner` is a link to the id of who is at it: made at once, with its content. `<id>.doomed` is there before
    that process is killed, so what is left of it is no overlap.
    """
    rng, runs, me = np.random.default_rng(seed), folder / "runs", str(os.getpid())
    left = [f"run{i}" for i in rng.permutation(KEYS)]
    while left := [key for key in left if not (runs / f"{key}.json").exists()]:
        for key in left:
            with lock(runs, key) as mine:
                path, owner = runs / f"{key}.json", folder / f"{key}.owner"
                if not mine or path.exists():
                    continue
                _log(folder, key, "start")
                if not _alone(owner, me):
                    _log(folder, key, "overlap")
                time.sleep(rng.uniform(0.0, 0.02))
                owner.unlink(missing_ok=True)
                try:
                    files.write(path, json.dumps({"key": key, "owner": me}).encode(), replace=False)
                    _log(folder, key, "done")
                except FileExistsError:
                    _log(folder, key, "overlap")


def _log(folder, key, word):
    descriptor = os.open(folder / f"{key}.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{word} {os.getpid()}\n".encode())
    os.close(descriptor)


def _alone(owner, me):
    """Returns whether nobody else is at a run, and puts our mark there."""
    while True:
        try:
            owner.symlink_to(me)
            return True
        except FileExistsError:
            try:
                doomed = owner.with_name(f"{owner.readlink()}.doomed").exists()
            except FileNotFoundError:  # it went away in this moment, so somebody was at it
                doomed = False
            if not doomed:
                return False
            owner.unlink(missing_ok=True)


def once(folder, seed, lock, killed):
    """Returns how many runs were done exactly once, had two owners at a time, were taken over from a killed one."""
    rng, runs, until = np.random.default_rng(seed), folder / "runs", time.monotonic() + LONGEST
    runs.mkdir(parents=True)
    alive = [processes.fork(work, folder, [*seed, number], lock) for number in range(PROCESSES)]
    try:
        for enough in sorted(rng.integers(1, KEYS - 20, killed)):
            while len(list(runs.glob("*.json"))) < enough and time.monotonic() < until:
                time.sleep(0.001)
            time.sleep(rng.uniform(0.0, 0.02))
            victim = alive.pop(rng.integers(len(alive)))
            (folder / f"{victim}.doomed").touch()
            assert processes.kill(victim) < 0, "it had come to its end before it was killed"
        while alive:
            code = processes.ended(alive[0], until - time.monotonic())
            assert code is not None, f"not done after {LONGEST} s"
            alive.pop(0)
            assert code == 0, f"it ended with {code}"
    finally:
        for pid in alive:
            processes.kill(pid)
    right = overlaps = taken_over = 0
    for key in (f"run{i}" for i in range(KEYS)):
        entries = [line.split() for line in (folder / f"{key}.log").read_text().splitlines()]
        winner = json.loads((runs / f"{key}.json").read_text())["owner"]
        starters, done = ([pid for word, pid in entries if word == requested] for requested in ("start", "done"))
        doomed = {pid for pid in starters if (folder / f"{pid}.doomed").exists()}
        right += (
            (done or [winner]) == [winner] and {winner, *doomed} >= {*starters} and (bool(done) or winner in doomed)
        )
        overlaps += any(word == "overlap" for word, _ in entries)
        taken_over += bool(doomed - {winner})
    return right, overlaps, taken_over


def main(count, seed, folder, gullible):
    """Returns what `round` does."""
    lock_args = (gullible_lock, 0) if gullible else (locks.lock, KILLED)
    stored = [once(Path(folder) / f"round{number}", [seed, number], *lock_args) for number in range(count)]
    right, overlaps, taken_over = (sum(numbers) for numbers in zip(*stored, strict=True))
    counts = {"rounds": count, "keys": count * KEYS, "seed": seed}
    return counts | {"exactly_once": right, "overlaps": overlaps, "taken_over": taken_over}


if __name__ == "__main__":
    processes.answer(main)
