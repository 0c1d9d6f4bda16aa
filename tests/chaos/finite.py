"""A NaN or an infinity, put in somewhere in training: the run ends as diverged there, and is in no mean."""

import contextlib
import itertools
import json
import math
from functools import partial
from unittest.mock import patch

import numpy as np
import torch

from chaos import small
from lt_repro.methods.dbn_mix import DbnMix
from lt_repro.papers.dbn_mix.settings import SETTINGS
from lt_repro.papers.table import Table, Variant
from lt_repro.render.cells import measure
from lt_repro.render.text import markdown
from lt_repro.store import checkpoint
from lt_repro.store.runs import Run
from lt_repro.sweep import runner
from lt_repro.train import loop
from lt_repro.train.evaluate import Logits
from lt_repro.train.state import TrainState

KINDS = {"loss": 0, "gradient": 4, "weight": 4, "momentum": 5, "statistics": 4, "logged": 4, "logits": 12}
"""What is spoiled, and after how many steps at the latest it must have been noticed: some things only a test shows."""
PLACES = {"first": (0, 0), "middle": (1, 1), "end of an epoch": (1, 3), "last": (2, 3)}  # of 3 epochs of 4 steps
NO_MATTER = ("last", "momentum")  # no step follows that would use it
TURNS = [turn for turn in itertools.product(PLACES, (math.nan, math.inf), KINDS) if turn[::2] != NO_MATTER]


def round(count, seed, folder, turns=TURNS):
    """Returns how `count` runs ended into which a value was put that is not finite; all kinds and places in turn."""
    rng, diverged, in_a_mean, wrong = np.random.default_rng([seed, 4]), 0, 0, []
    with small.quick():
        good = _trained(small.made(method="dbn_mix", branches=1, seed=1), folder)
        order = itertools.chain.from_iterable(rng.permutation(len(turns)) for _ in itertools.count())
        for number, turn in zip(range(count), order, strict=False):
            place, value, kind = turns[turn]
            recipe, out = small.made(method="dbn_mix", branches=1 + number % 2), folder / f"{number}"
            saved = []
            with _put(kind, *PLACES[place], value, rng), patch.object(checkpoint, "save", _spied(saved)):
                run = _trained(recipe, out)
            name = f"{kind}, {place}, {value}"
            if isinstance(run, runner.Failed):
                wrong.append(f"{name}: {run.error}")
                continue
            diverged += run.status == "diverged"
            in_a_mean += _counted(run, good)
            wrong += [f"{name}: {line}" for line in _wrong(run, out, PLACES[place], KINDS[kind])]
            wrong += [f"{name}: {epoch} epochs and {step} steps saved with it" for epoch, step in saved]
    return {"injected": count, "diverged": diverged, "in_a_mean": in_a_mean, "wrong": wrong}


def _trained(recipe, out):
    (run,) = runner.run_all([recipe], small.pool(), out, device="cpu", eval_every=1 + len(recipe.spec.branches) % 2 * 9)
    return run


def _put(kind, epoch, step, value, rng):
    """Returns a context in which a step of training, or the test after it, meets the value."""
    loss, train_step, predict = DbnMix.loss, loop.train_step, TrainState.predict

    def is_target(lane):
        return (lane.epoch, lane.step) == (epoch, step)

    def drawn(tensors):
        return tensors[int(rng.integers(len(tensors)))]

    def spoil(tensor):
        tensor[tuple(int(rng.integers(size)) for size in tensor.shape)] = value

    def spoiled(gradient):
        gradient = gradient.clone()
        spoil(gradient)
        return gradient

    def step_with(lane):
        hit, handle = is_target(lane), None
        if hit and kind == "gradient":
            handle = drawn(list(lane.net.parameters())).register_hook(spoiled)
        with patch.object(DbnMix, "loss", loss_with) if hit and kind in ("loss", "logged") else patch.dict({}):
            train_step(lane)
        if handle:
            handle.remove()
        with torch.no_grad():
            if hit and kind == "weight":
                spoil(drawn(list(lane.net.parameters())))
            if hit and kind == "momentum":
                spoil(drawn([held["momentum_buffer"] for held in lane.optimizer.state.values()]))
            if hit and kind == "statistics":
                spoil(drawn([held for name, held in lane.net.named_buffers() if "running" in name]))

    def loss_with(method, net, batches, ctx):
        if kind == "logged":
            ctx.log("probe", torch.tensor(value))
        return loss(method, net, batches, ctx) + (value if kind == "loss" else 0.0)

    def predict_with(lane):
        combined, branches = predict(lane)
        if kind == "logits" and lane.epoch >= epoch + 1:
            spoil(torch.from_numpy(combined))
        return Logits(combined, branches)

    stack = contextlib.ExitStack()
    stack.enter_context(patch.object(loop, "train_step", step_with))
    stack.enter_context(patch.object(TrainState, "predict", predict_with))
    return stack


def _spied(saved, save=checkpoint.save):
    """Returns `checkpoint.save` that notes where it wrote a network that is not finite."""

    def spied(path, state, position):
        if not all(held.isfinite().all() for held in state["net"].values()):
            saved.append((state["epoch"], state["step"]))
        save(path, state, position)

    return spied


def _wrong(run, out, place, within):
    """Yields what is wrong with a run that met a value that is not finite, and with what it left."""
    if run.status != "diverged" or run.result is not None or run.weights is not None:
        yield f"it ended as {run.status}"
        return
    at, met = (4 * e + s for e, s in (place, (run.diverged["epoch"], run.diverged["step"])))
    if not at <= met <= at + within:
        yield f"it happened at step {at} and was noticed at {met}"
    if [path.name for path in out.iterdir()] != [run.path.name]:
        yield f"left behind: {sorted(path.name for path in out.iterdir())}"
    content = run.path.read_bytes()
    json.loads(content, parse_constant=lambda word: (_ for _ in ()).throw(AssertionError(f"{word} in {run.path}")))
    with patch.object(runner, "fit", partial(AssertionError, "trained again")):
        if Run.read(run.path) != run or _trained(run.recipe, out) != run or run.path.read_bytes() != content:
            yield "it is not what its file says"


def _counted(run, good):
    """Returns whether a run changed the mean of its cell, or is not named under the table."""
    base = {"dataset": "made_up", **{n: getattr(run.recipe, n) for n in ("ratio", "net", "epochs", "batch", "crop")}}
    base |= {"precision": "fp32"}
    edits = {"method": "dbn_mix", "branches": run.recipe.method.branches}
    rows, columns = [Variant("a", "A", edits)], [Variant("b", "B")]
    table = Table("t", "T.", SETTINGS, base, rows, columns, seeds=(0, 1))
    beside = [good] if run.recipe.method.branches == 1 else []
    (cell,) = measure(table, [run, *beside])
    mean = good.accuracy() if beside else None
    named = run.recipe.key() in markdown(table, [cell], []) if run.status == "diverged" else False
    return (cell.mean, cell.n) != (mean, len(beside)) or not named
