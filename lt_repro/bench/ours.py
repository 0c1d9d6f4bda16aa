"""Our loop, in turns: the same `TrainState` and `train_step` as `fit`, timed from outside."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch.autograd import DeviceType  # type: ignore[attr-defined]

from lt_repro.bench.turn import Turn, synchronise
from lt_repro.data import augment
from lt_repro.data.images import Images
from lt_repro.data.samplers import generator
from lt_repro.recipe import Recipe
from lt_repro.train import evaluate
from lt_repro.train.loop import train_step
from lt_repro.train.state import TrainState


class Ours:
    """Our loop on one recipe.

    Args:
        recipe: What to train.
        images: What it trains and tests on.
        device: What it runs on.
        parents: Folders with the runs that the recipe starts from.
    """

    eval_every = 10  # what `train` and `reproduce` do

    def __init__(self, recipe: Recipe, images: Images, device: torch.device, parents: Sequence[Path] = ()) -> None:
        self.state = TrainState(recipe, images, Path("unwritten"), device, parents)

    def turn(self, steps: int, tested: int) -> Turn:
        """Returns the times of a turn: starting an epoch, `steps` steps of it, and testing `tested` images."""
        state = self.state
        start = time.perf_counter()
        state.start_epoch()
        ready = time.perf_counter()
        before, state.step = state.images_passed, 0
        for _ in range(steps):
            if state.step == state.steps:  # few images: a turn is several epochs
                state.start_epoch()
                state.step = 0
            train_step(state)
        synchronise(state.device)
        trained = time.perf_counter()
        seen = state.images_passed - before
        if tested:
            images = state.images.test_images[:tested]
            evaluate.predict(state.recipe.method, state.net, images, state.device)
        return Turn(ready - start, trained - ready, seen, time.perf_counter() - trained, tested)

    def parts(self, steps: int) -> dict[str, float]:
        """Returns the mean seconds of a step by part: augmentation, forward (with the loss), backward, optimiser."""
        state, last = self.state, 0.0
        optimizer = state.optimizer
        assert optimizer is not None
        parts = dict.fromkeys(("augmentation", "forward", "backward", "optimiser"), 0.0)

        def mark(part: str | None = None) -> None:
            nonlocal last
            synchronise(state.device)
            now = time.perf_counter()
            if part:
                parts[part] += (now - last) / steps
            last = now

        def load_batches() -> Any:
            loaded = load()
            mark("augmentation")
            return loaded

        def zero_grad(set_to_none: bool = True) -> None:  # called between the loss and its backward pass
            mark("forward")
            clear(set_to_none)

        state.start_epoch()
        state.step, load, clear = 0, state.load_batches, optimizer.zero_grad
        hooks = [
            optimizer.register_step_pre_hook(lambda *_: mark("backward")),
            optimizer.register_step_post_hook(lambda *_: mark("optimiser")),
        ]
        with patch.object(state, "load_batches", load_batches), patch.object(optimizer, "zero_grad", zero_grad):
            for _ in range(steps):
                mark()
                train_step(state)
        for hook in hooks:
            hook.remove()
        return parts

    def launches(self, steps: int) -> dict[str, float]:
        """Returns how many kernels a step launches on a GPU, and the share of its time that the host needs to do so."""
        state = self.state
        state.start_epoch()
        state.step = 0
        synchronise(state.device)
        start = time.perf_counter()
        for _ in range(steps):
            train_step(state)
        issued = time.perf_counter()
        synchronise(state.device)
        share = (issued - start) / (time.perf_counter() - start)
        kinds = torch.profiler.ProfilerActivity
        state.step = 0
        with torch.profiler.profile(activities=[kinds.CPU, kinds.CUDA]) as profile:
            train_step(state)
            synchronise(state.device)
        kernels = sum(event.device_type == DeviceType.CUDA for event in profile.events())
        return {"per_step": float(kernels), "host_share": share}


def images_per_second(images: Images, number: int) -> float:
    """Returns the images/s of crop, flip and conversion in batches of 128, draws included."""
    padded = augment.pad(torch.from_numpy(images.train_images), 4)
    start = time.perf_counter()
    rng = generator(0, "bench", 0)
    for _ in range(number // 128):
        index = torch.from_numpy(rng.integers(0, len(padded), 128))
        top, left = torch.from_numpy(rng.integers(0, 9, (2, 128)))
        augment.crop_flip(padded, index, top, left, torch.from_numpy(rng.random(128) < 0.5), 4)
    return number / (time.perf_counter() - start)
