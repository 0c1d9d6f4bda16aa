"""SIGKILL of a process that writes run files: every file is whole, and none that was written is lost."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from chaos import processes
from lt_repro.errors import DamagedError
from lt_repro.papers.dbn_mix.settings import recipe
from lt_repro.store import files
from lt_repro.store.runs import Run

POINTS = 2600  # of the curve: a run file of 60 KB


def round(count, seed, folder, in_place=False):
    """Returns what `count` kills left of a run file that is replaced over and over, and of new ones, by turns.

    `in_place` plants a mistake for the control: the file is written in place, in two halves.
    """
    kwargs = {"count": count, "seed": seed, "folder": str(folder), "in_place": in_place}
    return processes.run_module("chaos.writers", 60 + count, **kwargs)


def made(seed):
    """Returns a run of 60 KB."""
    nothing = {"result": None, "diverged": None, "weights": None, "commit": None, "history": {}, "attempts": []}
    nothing |= {"parents": {}, "command": "", "threads": None, "determinism": "C"}
    machine = {"seconds": 1.0, "images_per_second": 1.0, "device": "cpu", "precision": "fp32", "versions": {}}
    curve = [{"epoch": epoch, "all": 0.5} for epoch in range(POINTS)]
    split = {"digest": "", "counts": [1]}
    return Run(recipe("digits", seed=seed), "diverged", curve=curve, split=split, data_digest="", **nothing, **machine)


def write(folder, log, contents, in_place):
    """Replaces one run file by another content over and over until it is killed; each is logged when it is done."""
    path = folder / f"{made(0).recipe.key()}.json"
    for content in itertools.cycle(contents):
        if in_place:
            with path.open("wb") as stream:
                stream.write(content[: len(content) // 2])
                stream.flush()
                stream.write(content[len(content) // 2 :])
        else:
            files.write(path, content)
        _written(log, path)


def publish(folder, log):
    """Publishes one new run after the other until it is killed; each is logged when it is done."""
    for seed in itertools.count(1):
        _written(log, made(seed).publish(folder).path)


def _written(log, path):
    with log.open("a") as stream:
        stream.write(f"{path.name}\n")


def main(count, seed, folder, in_place):
    """Returns what `round` does."""
    folder, rng = Path(folder), np.random.default_rng(seed)
    runs, log = folder / "runs", folder / "written.log"
    runs.mkdir(parents=True)
    contents = [json.dumps(replace(made(0), commit=word).to_json(), indent=1).encode() for word in "ab"]
    replaced, written, torn, strays = made(0).recipe.key(), set(), [], 0
    for number in range(count):
        log.write_text("")
        replaces = in_place or number % 2 == 0
        pid = processes.fork(*((write, runs, log, contents, in_place) if replaces else (publish, runs, log)))
        code = None
        try:
            code = processes.ended(pid, rng.uniform(0.002, 0.05))
        finally:
            if code is None:
                processes.kill(pid)
        assert code is None, f"the writer ended with {code}"
        written = {name for name in written if replaced in name} | set(log.read_text().splitlines())
        for path in {runs / name for name in written} | set(runs.glob("*.json")):
            try:
                Run.read(path)  # which calls stored.read first; what was lost cannot be read either
            except DamagedError as error:
                torn.append(str(error))
            if path.stem != replaced:
                path.unlink(missing_ok=True)
        strays += len(list(runs.glob(".*")))
        files.remove_temporary(runs, "digits")
        assert not list(runs.glob(".*")), "a temporary file was not swept"
    return {"seed": seed, "kills": count, "torn": len(torn), "strays": strays}


if __name__ == "__main__":
    processes.answer(main)
