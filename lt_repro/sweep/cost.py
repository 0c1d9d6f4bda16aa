"""What recipes will cost, from the speed of runs that have ended."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from lt_repro.data.load import known_split
from lt_repro.recipe import Recipe
from lt_repro.store.runs import Run


class Cost(NamedTuple):
    """Seconds on one kind of device; how many recipes are not in them for want of a speed, and their `work`."""

    seconds: float
    unknown: int
    images: int


def work(recipe: Recipe) -> int | None:
    """Returns the training images that pass through the network in a run; None if unknown.

    epochs x (images an epoch) x (batches that a step passes), where an epoch is the set, K x N_max, or `epoch_steps`
    batches. The test images are left out: their time is in the measured speed.
    """
    split = known_split(recipe.dataset, recipe.ratio, recipe.imb_type, recipe.split_seed)
    if split is None:
        return None
    return recipe.epochs * _images(recipe, split.counts.tolist()) * _passes(recipe)


Speeds = Mapping[tuple[str, bool], float]
"""Images through the network per second of a whole run, evaluation included, by network and whether it has parents."""


def measured_speeds(runs: Iterable[Run], gpu: bool) -> Speeds:
    """Returns the median speeds of stored runs.

    Args:
        runs: Whose speeds are known.
        gpu: Whether the speeds of GPUs count, or those of CPUs.
    """
    speeds: dict[tuple[str, bool], list[float]] = {}
    for run in runs:
        if run.device.startswith("cpu") != gpu and run.status == "done" and run.seconds > 0:
            images = run.recipe.epochs * _images(run.recipe, run.split["counts"]) * _passes(run.recipe)
            speeds.setdefault(_kind(run.recipe), []).append(images / run.seconds)
    return {kind: statistics.median(found) for kind, found in speeds.items()}


def cost(recipes: Iterable[Recipe], speeds: Speeds) -> Cost:
    """Returns what recipes cost one after the other, at the speed of stored runs in the same network.

    Where no run with parents has been measured, one is taken to be as slow as a run without.
    """
    seconds, unknown, images = 0.0, 0, 0
    for recipe in recipes:
        passed, speed = work(recipe), speeds.get(_kind(recipe)) or speeds.get((recipe.net, False))
        if passed is None or speed is None:
            unknown += 1
            images += passed or 0
        else:
            seconds += passed / speed
    return Cost(seconds, unknown, images)


def _images(recipe: Recipe, counts: Sequence[int]) -> int:
    total = max(counts) * len(counts) if recipe.epoch_images == "balanced" else sum(counts)
    return min(total, recipe.epoch_steps * recipe.batch) if recipe.epoch_steps else total


def _passes(recipe: Recipe) -> int:
    """Returns how many batches a step passes through the network: one a branch, or one that feeds every branch."""
    return min(len(recipe.spec.branches), len(recipe.method.samplers(0.0)))


def _kind(recipe: Recipe) -> tuple[str, bool]:
    """Returns what decides a speed: the network, and whether heads are trained on features of a parent."""
    return recipe.net, bool(recipe.parents)
