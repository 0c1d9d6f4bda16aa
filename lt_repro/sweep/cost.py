"""What recipes will cost, from the speed of runs that have ended, or measured in a few steps."""

import dataclasses
import functools
import json
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from lt_repro import fields
from lt_repro.data import sets
from lt_repro.data.images import Pool, images_of
from lt_repro.data.load import known_split
from lt_repro.nets.resnet_cifar import BLOCKS
from lt_repro.recipe import Recipe, find
from lt_repro.store.runs import Run
from lt_repro.train.loop import train_step
from lt_repro.train.state import TrainState

COSTS = Path(__file__).with_name("costs.json")
"""What `ltrepro bench --methods --json` gave: what each method costs beside plain cross-entropy."""


class Cost(NamedTuple):
    """Seconds on one kind of device; how many recipes are not in them, as their speed is unknown, and their `work`."""

    seconds: float
    unknown: int
    images: int


def work(recipe: Recipe) -> int | None:
    """Returns how many images plain cross-entropy trains on with as much arithmetic as a run takes; None if unknown.

    epochs x `Recipe.images_per_epoch` x (arithmetic of the method's epoch over cross-entropy's). The test images are
    left out: their time is in the measured speed.
    """
    split = known_split(*recipe.subset)
    if split is None:
        return None
    return _work(recipe, split.counts.tolist())


Speeds = Mapping[str, float]
"""`work` per second of a whole run, evaluation included, by network."""


def measured_speeds(runs: Iterable[Run], gpu: bool) -> Speeds:
    """Returns the median speeds of stored runs.

    Args:
        runs: Whose speeds are known.
        gpu: Whether the speeds of GPUs count, or those of CPUs.
    """
    speeds: dict[str, list[float]] = {}
    for run in runs:
        images = _work(run.recipe, run.split["counts"])
        if run.device.startswith("cpu") != gpu and run.status == "done" and run.seconds > 0 and images:
            speeds.setdefault(run.recipe.net, []).append(images / run.seconds)
    return {net: statistics.median(result) for net, result in speeds.items()}


def speeds_on(device: str, recipes: Iterable[Recipe], stored: Speeds) -> Speeds:
    """Returns the speeds of networks that no stored run has, measured now on a device of this machine.

    Args:
        device: "cpu" or "cuda"; nothing is measured where there is no such device.
        recipes: Whose networks are measured, on images of their size, if their `work` is known.
        stored: The speeds that are known.
    """
    if device == "cuda" and not torch.cuda.is_available():
        return {}
    missing = {
        recipe.net: sets.find(recipe.dataset).side
        for recipe in recipes
        if recipe.net not in stored and recipe.net in BLOCKS and work(recipe)
    }
    return {net: measure_speed(net, side, device) for net, side in missing.items()}


@functools.cache
def measure_speed(net: str, side: int, device: str) -> float:
    """Returns how many images/s a network trains on in 20 steps of 128 random images, or as many as fit 3 seconds.

    Args:
        net: One of `nets.resnet_cifar.BLOCKS`.
        side: Pixels of an image's side.
        device: "cpu" or "cuda".
    """
    labels, batch, steps = np.repeat(np.arange(10), 256), 128, 20
    pixels = np.random.default_rng(0).integers(0, 256, (len(labels), side, side, 3), dtype=np.uint8)
    pool = Pool("random", pixels, labels, pixels, labels, tuple("0123456789"), 0, Path("random"))
    rates: dict[str, Any] = {"epochs": 1, "batch": batch, "lr": 0.01, "weight_decay": 0.0}
    recipe = Recipe.create(find("cross_entropy"), dataset="random", ratio=1.0, net=net, **rates)
    state = TrainState(recipe, images_of(recipe.subset, pool), Path("unwritten"), torch.device(device))
    state.start_epoch()
    train_step(state)  # the first step chooses kernels and asks for memory
    state.loss_sum.item()
    start, seconds = time.perf_counter(), 0.0
    while state.step < steps and seconds < 3:
        train_step(state)
        state.loss_sum.item()
        seconds = time.perf_counter() - start
    return batch * (state.step - 1) / seconds


def cost(recipes: Iterable[Recipe], speeds: Speeds) -> Cost:
    """Returns what recipes cost one after the other, at the speed of stored runs in the same network."""
    seconds, unknown, images = 0.0, 0, 0
    for recipe in recipes:
        passed, speed = work(recipe), speeds.get(recipe.net)
        if passed is None or speed is None:
            unknown += 1
            images += passed or 0
        else:
            seconds += passed / speed
    return Cost(seconds, unknown, images)


def _work(recipe: Recipe, counts: Sequence[int]) -> int:
    return round(recipe.epochs * recipe.images_per_epoch(counts) * _arithmetic(recipe))


@functools.cache
def _arithmetic(recipe: Recipe) -> float:
    """Returns the arithmetic of an epoch, on average over training, relative to plain cross-entropy's.

    Of the method's measured variants, that which agrees with the recipe in the most settings, whenever its second part
    begins; without any, the number of batches that a step passes through the network: one a branch, or one for all.
    """
    method = recipe.method
    values = {field.name: fields.text(getattr(method, field.name)) for field in dataclasses.fields(method)}
    defaults = {field.name: fields.text(field.default) for field in dataclasses.fields(method)}
    fitting = [
        entry
        for entry in _measured(method.name())
        if entry["settings"].items() <= values.items()
        and (defaults | entry["settings"]).get("branches") == values.get("branches")  # which no other setting outweighs
    ]
    if not fitting:
        return min(len(recipe.spec.branches), len(method.samplers(0.0)))
    best = max(fitting, key=lambda entry: (len(entry["settings"]), sum(entry["arithmetic"])))  # of equals, the larger
    early, late = best["arithmetic"] or (0.0, 0.0)
    switch: float = getattr(method, "switch", 0.5)
    return float(switch * early + (1 - switch) * late)


@functools.cache
def _measured(method: str) -> list[dict[str, Any]]:
    entries = [entry for entry in json.loads(COSTS.read_text())["costs"] if entry["method"] == method]
    return [entry | {"settings": {n: v for n, v in entry["settings"].items() if n != "switch"}} for entry in entries]
