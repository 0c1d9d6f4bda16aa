"""Batches: what an epoch draws, on the CPU and all at once, and what a step loads of it, on the device."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lt_repro.data import augment
from lt_repro.data.images import Images
from lt_repro.data.samplers import generator
from lt_repro.methods.base import Batch, Sampled
from lt_repro.recipe import Recipe


class Source(NamedTuple):
    """Images to draw batches from, on the device, class by class: padded (N, H + 2p, W + 2p, C), labels (N,)."""

    padded: Tensor
    labels: Tensor
    counts: NDArray[np.int64]


class Drawn(NamedTuple):
    """What one sampler draws for an epoch, on the device: (T,) each, T the images that all its batches hold.

    `angle` is in degrees, None where no image is turned.
    """

    sampled: Sampled
    size: int
    angle: Tensor | None
    chosen: Tensor
    top: Tensor
    left: Tensor
    flip: Tensor


class EpochInputs(NamedTuple):
    """Everything random of an epoch, and where in training each of its steps is (see `StepContext`)."""

    drawn: list[Drawn]
    random: dict[str, Tensor]
    progress: Tensor
    epoch_progress: Tensor
    lr: Tensor


def make_sources(images: Images, recipe: Recipe, device: torch.device) -> dict[str, Source]:
    """Returns the images that a recipe draws from, by source, padded for its crops; they lie class by class."""
    parts = {"train": (images.train_images, images.train_labels), **images.extra}
    return {name: _source(pixels, labels, recipe, device) for name, (pixels, labels) in parts.items()}


def _source(images: NDArray[np.uint8], labels: NDArray[np.int64], recipe: Recipe, device: torch.device) -> Source:
    padded = augment.pad(torch.from_numpy(images), recipe.crop, recipe.crop_pad)
    return Source(padded.to(device), torch.from_numpy(labels).to(device), np.bincount(labels))


def draw_epoch(recipe: Recipe, sources: Mapping[str, Source], epoch: int, device: torch.device) -> EpochInputs:
    """Returns all random numbers of an epoch, made on the CPU from (run seed, name, epoch) and copied to the device."""
    total = recipe.images_per_epoch(sources["train"].counts.tolist())
    steps = -(-total // recipe.batch)

    def rng(name: str) -> np.random.Generator:
        return generator(recipe.seed, name, epoch)

    drawn = []
    for sampled in recipe.method.samplers(epoch / recipe.epochs):
        size = sampled.batch or recipe.batch
        images = total if sampled.batch is None else steps * size
        index = sampled.sampler.indices(rng(sampled.name), sources[sampled.source].counts, images)
        corner = rng(f"{sampled.name}/crop").integers(0, 2 * recipe.crop + 1, (2, images))
        flip = rng(f"{sampled.name}/flip").random(images) < (0.5 if recipe.flip else 0.0)
        angle = None
        if recipe.rotation:
            angles = rng(f"{sampled.name}/rotation").uniform(-recipe.rotation, recipe.rotation, images)
            angle = torch.from_numpy(angles).float().to(device)
        columns = (torch.from_numpy(a).to(device) for a in (index, *corner, flip))
        drawn.append(Drawn(sampled, size, angle, *columns))
    random = {
        name: torch.from_numpy(make(rng(name), steps, recipe.batch)).float().to(device)
        for name, make in recipe.method.random_inputs.items()
    }
    moments = [(epoch * steps + step + 0.5) / (recipe.epochs * steps) for step in range(steps)]
    rates = [recipe.learning_rate(moment) for moment in moments]
    progress, lr = (torch.tensor(values, device=device) for values in (moments, rates))
    return EpochInputs(drawn, random, progress, torch.tensor(epoch / recipe.epochs, device=device), lr)


def load_batches(
    inputs: EpochInputs, sources: Mapping[str, Source], step: int, padding: int
) -> tuple[dict[str, Batch], dict[str, Tensor]]:
    """Returns the augmented batches of one step by sampler, and its numbers of each random input.

    Args:
        inputs: Of the epoch.
        sources: What they index.
        step: Of the epoch, from 0.
        padding: Pixels around the images of the sources.
    """
    batches, rows = {}, 0
    for sampled, size, angle, *columns in inputs.drawn:
        part = slice(step * size, (step + 1) * size)
        chosen, top, left, flip = (column[part] for column in columns)
        source = sources[sampled.source]
        images = augment.crop_flip(source.padded, chosen, top, left, flip, padding)
        if angle is not None:
            images = augment.rotate(images, angle[part])
        batches[sampled.name] = Batch(images, source.labels[chosen])
        rows = rows if sampled.batch else len(chosen)  # the last batch may be short
    random = {name: values[step] for name, values in inputs.random.items()}
    return batches, {name: value[:rows] if value.ndim else value for name, value in random.items()}
