"""How the cost grows: with the classes, with the images, and with several runs at once."""

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch

from lt_repro.bench import compare
from lt_repro.bench.ours import Ours
from lt_repro.data import load
from lt_repro.data.images import Images, images_of
from lt_repro.recipe import Recipe
from lt_repro.sweep.workers import pin
from lt_repro.train.device import pick_device
from lt_repro.train.state import TrainState

CLASSES = (10, 100, 1_000, 8_142)  # CIFAR-10, CIFAR-100, ImageNet-LT, iNaturalist 2018
IMAGES = (1_000, 10_000, 100_000)


def by_classes(device: str, steps: int) -> dict[int, float]:
    """Returns training images/s of a step, by the number of classes."""
    result = {}
    for classes in CLASSES:
        pool = compare.random_pool(classes, max(2, 2_000 // classes), classes)
        flat = compare.recipe(ratio=1.0)
        ours = Ours(flat, images_of(flat.subset, pool), pick_device(device))
        ours.turn(2, 0)
        turn = ours.turn(steps, 0)
        result[classes] = turn.images / turn.train
    return result


def by_images(device: str) -> dict[int, tuple[float, float]]:
    """Returns (seconds to set up a run, seconds to draw an epoch), by the number of training images."""
    result = {}
    for number in IMAGES:
        flat = compare.recipe(ratio=1.0)
        images = images_of(flat.subset, compare.random_pool(100, number // 100, 100))
        times = [time.perf_counter()]
        state = TrainState(flat, images, Path("unwritten"), pick_device(device))
        times.append(time.perf_counter())
        state.start_epoch()
        times.append(time.perf_counter())
        result[number] = times[1] - times[0], times[2] - times[1]
    return result


def by_jobs(steps: int) -> dict[str, dict[str, float]]:
    """Returns the training images/s on all cores of one run with all threads and of a run a core, by the network."""
    threads = torch.get_num_threads()
    result: dict[str, dict[str, float]] = {}
    for name in ("ResNet-32, CIFAR", "ResNet-8, digits"):
        result[name] = {}
        for jobs in (1, threads):
            context = multiprocessing.get_context("spawn")
            barrier = context.Barrier(jobs)
            with ProcessPoolExecutor(jobs, context, _share, (barrier,)) as processes:
                places = [(job, jobs, threads // jobs) for job in range(jobs)]
                turns = list(processes.map(_train, [name] * jobs, places, [steps] * jobs))
            images, seconds = sum(turn[0] for turn in turns), max(turn[1] for turn in turns)
            result[name][f"{jobs} x {threads // jobs}"] = images / seconds
    return result


_barrier: Any = None


def _share(barrier: Any) -> None:
    global _barrier
    _barrier = barrier


def _train(name: str, place: tuple[int, int, int], steps: int) -> tuple[int, float]:
    """Returns (images, seconds) of one of several jobs that train at the same time; each is in a process of its own."""
    torch.set_num_threads(place[-1])
    pin(*place)
    ours = Ours(*_case(name), torch.device("cpu"))
    ours.turn(2, 0)
    _barrier.wait(timeout=600)
    turn = ours.turn(steps, 0)
    return turn.images, turn.train


def _case(name: str) -> tuple[Recipe, Images]:
    if name.startswith("ResNet-32"):
        requested = compare.recipe()
        return requested, images_of(requested.subset, compare.random_pool())
    digits = load.load_pool("digits", load.data_root(None))
    requested = compare.recipe(dataset="digits", ratio=60.0, net="resnet8", normalise="own", crop=1, flip=False)
    return requested, images_of(requested.subset, digits)
