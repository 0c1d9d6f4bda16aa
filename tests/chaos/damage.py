"""Checkpoints, weights and run files that are damaged after they were written: each must be found out."""

import json

import numpy as np
import torch

from chaos import small
from lt_repro.canonical import digest
from lt_repro.errors import DamagedError
from lt_repro.store import checkpoint, run_file
from lt_repro.store.runs import Run
from lt_repro.train.loop import fit

PAGE = 4096


def round(count, seed, folder):
    """Returns how many of `count` damaged files were found out: half checkpoints, the others run files and weights."""
    rng, undetected = np.random.default_rng([seed, 1]), []
    folder.mkdir(parents=True, exist_ok=True)
    with small.quick():
        checkpoints, stored_runs, weights = _checkpoints(folder), run_files(folder), _weights(folder)
    for number in range(count):
        trial = checkpoints if number % 2 else weights if number % 8 == 0 else stored_runs
        kind, result = trial(rng, number // 2)
        if not result:
            undetected.append(f"{number}: {kind}")
    return {"damaged": count, "detected": count - len(undetected), "undetected": undetected}


def flipped(content, rng, low=0, high=None):
    at = int(rng.integers(low, high or len(content)))
    return content[:at] + bytes([content[at] ^ 1 << int(rng.integers(8))]) + content[at + 1 :]


def zeroed(content, rng):
    at = int(rng.integers(len(content))) // PAGE * PAGE
    return content[:at] + bytes(len(content[at : at + PAGE])) + content[at + PAGE :]


ANY = {
    "a bit anywhere": flipped,
    "a bit of the last 700 bytes": lambda content, rng: flipped(content, rng, max(0, len(content) - 700)),
    "cut": lambda content, rng: content[: int(rng.integers(len(content)))],
    "zeroed page": zeroed,
    "longer": lambda content, rng: content + rng.bytes(int(rng.integers(1, 200))),
}


def _drawn(kinds, number, content, rng, same):
    """Returns the name of a kind, each in its turn, and the damaged content, drawn until it says something else."""
    name = list(kinds)[number % len(kinds)]
    while same(damaged := kinds[name](content, rng)):
        pass
    return name, damaged


def _checkpoints(folder):
    """Returns a trial: the newest of two checkpoints is damaged; the previous one is loaded, the damaged one named."""
    lane = small.lane(folder / "checkpoint", small.made())
    path, before = lane.path, lane.path.with_suffix(".before.ckpt")
    other = small.lane(folder / "other", small.made(seed=5)).path.read_bytes()
    newest, older = path.read_bytes(), before.read_bytes()
    line = newest.rindex(b"\n", 0, -checkpoint._HEX - 1)
    kinds = ANY | {
        "a bit of the digest": lambda content, rng: flipped(content, rng, len(content) - checkpoint._HEX),
        "a bit of the line": lambda content, rng: flipped(content, rng, line, len(content) - checkpoint._HEX),
        "another run's": lambda content, rng: other,
        "another run's end": lambda content, rng: content[:line] + other[other.rindex(b"\n", 0, -65) :],
    }

    def trial(rng, number):
        kind, damaged = _drawn(kinds, number, newest, rng, newest.__eq__)
        path.write_bytes(damaged)
        before.write_bytes(older)
        state, named = checkpoint.load(path)
        whole = state is not None and (state["epoch"], state["key"]) == (1, lane.recipe.key())
        return f"checkpoint, {kind}", whole and named == [path.name] and not path.exists()

    return trial


def run_files(folder):
    made = (small.made(), small.made(seed=5, epochs=3))
    run, other = (fit(recipe, small.images(), out=folder / "runs", device="cpu") for recipe in made)
    path, text = run.path, run.path.read_bytes()

    def sealed(**changes):
        content = {name: value for name, value in json.loads(text).items() if name != "payload_sha256"} | changes
        return json.dumps(content | {"payload_sha256": digest(content)}, indent=1).encode()

    def digit(content, rng):
        at = int(rng.choice([i for i, byte in enumerate(content) if 48 <= byte < 58]))
        return content[:at] + bytes([48 + (content[at] - 48 + int(rng.integers(1, 10))) % 10]) + content[at + 1 :]

    kinds = ANY | {
        "a digit": digit,
        "NaN": lambda content, rng: content.replace(b'"ece": ', b'"ece": NaN, "was": '),
        "infinity": lambda content, rng: content.replace(b'"seconds": ', b'"seconds": -Infinity, "was": '),
        "a name twice": lambda content, rng: content.replace(b'"status": ', b'"status": "diverged",\n "status": '),
        "a newer schema": lambda content, rng: sealed(schema=run_file.SCHEMA + 1 + int(rng.integers(9))),
        "no schema": lambda content, rng: sealed(schema="2"),
        "another key": lambda content, rng: sealed(key=other.recipe.key()),
        "another recipe": lambda content, rng: sealed(recipe=other.recipe.to_json()),
        "another run's": lambda content, rng: other.path.read_bytes(),
        "renamed": lambda content, rng: content,
    }

    def same(damaged):  # a bit turns 1e-05 into 1E-05, a cut takes the last newline: nothing was lost
        try:
            return damaged is not text and damaged.count(b'"status"') == 1 and json.loads(damaged) == json.loads(text)
        except ValueError:
            return False

    def trial(rng, number):
        kind, damaged = _drawn(kinds, number, text, rng, same)
        place = path.with_stem(path.stem[:-1] + "x") if kind == "renamed" else path
        place.write_bytes(damaged)
        result = all(_refused(read, place) for read in (run_file.read, Run.read))
        return f"run file, {kind}", result and place.read_bytes() == damaged

    return trial


def _weights(folder):
    run = fit(small.made(seed=7), small.images(), out=folder / "weights", device="cpu")
    other = fit(small.made(seed=8), small.images(), out=folder / "weights", device="cpu")
    path, digest_of = run.weights_path, run.weights["sha256"]
    whole, kinds = path.read_bytes(), ANY | {"another run's": lambda content, rng: other.weights_path.read_bytes()}
    tensors = checkpoint.load_weights(path, digest_of)

    def harmless(place):  # a bit of the container that no tensor depends on
        loaded = checkpoint.load_weights(place, digest_of)
        return all(torch.equal(value, loaded[name]) for name, value in tensors.items()) and len(loaded) == len(tensors)

    def trial(rng, number):
        kind, damaged = _drawn(kinds, number // 4, whole, rng, whole.__eq__)
        path.write_bytes(damaged)
        result = _refused(lambda place: checkpoint.load_weights(place, digest_of), path) or harmless(path)
        return f"weights, {kind}", result and path.read_bytes() == damaged

    return trial


def _refused(read, path):
    """Returns whether reading a file raises the error that names it, in three lines."""
    try:
        read(path)
    except DamagedError as error:
        return path.name in str(error) and len(str(error).splitlines()) <= 3
    return False
