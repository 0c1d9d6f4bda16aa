"""Samplers: which images are in an epoch's batches. Every random number comes from (run seed, its name, epoch).

Indices are drawn on the CPU, whatever the device. So a resumed run sees the same images as an uninterrupted one, and a
checkpoint stores no generator.
"""

import hashlib
import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


def generator(seed: int, name: str, epoch: int) -> np.random.Generator:
    """Returns the generator of one random input of one epoch, seeded with the SHA-256 of (seed, name, epoch)."""
    text = f"{seed}/{name}/{epoch}".encode()
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text).digest()))


class Sampler(Protocol):
    """Chooses the images of an epoch's batches."""

    def indices(self, rng: np.random.Generator, counts: NDArray[np.int64], total: int) -> NDArray[np.int64]:
        """Returns `total` image indices, (total,) in [0, sum of counts).

        Args:
            rng: The generator of this sampler and epoch.
            counts: (K,) images per class; the images are sorted by class.
            total: How many to draw.
        """


@dataclass(frozen=True)
class Uniform:
    """Every image once in random order, repeated until there are enough: P = 1 / N."""

    def indices(self, rng: np.random.Generator, counts: NDArray[np.int64], total: int) -> NDArray[np.int64]:
        """Returns `total` image indices, see `Sampler`."""
        images = int(counts.sum())
        return np.concatenate([rng.permutation(images) for _ in range(-(-total // images))])[:total]


@dataclass(frozen=True)
class Reverse:
    """The reverse sampler, equations (1) and (2) of DBN-Mix: draws a class by P_k, then one of its images uniformly.

    Args:
        gamma: > 0; 1 is BBN's reversed distribution, infinity the class-balanced one.
    """

    gamma: float

    def indices(self, rng: np.random.Generator, counts: NDArray[np.int64], total: int) -> NDArray[np.int64]:
        """Returns `total` image indices, drawn with replacement, see `Sampler`."""
        classes = rng.choice(len(counts), size=total, p=class_probabilities(counts, self.gamma))
        inside = rng.random(total) * counts[classes]
        first = np.concatenate([[0], np.cumsum(counts)[:-1]])
        return np.asarray(first[classes] + inside.astype(np.int64))


@dataclass(frozen=True)
class ClassBalanced:
    """Draws a class uniformly, then one of its images uniformly: the reverse sampler at infinite gamma."""

    def indices(self, rng: np.random.Generator, counts: NDArray[np.int64], total: int) -> NDArray[np.int64]:
        """Returns `total` image indices, drawn with replacement, see `Sampler`."""
        return Reverse(math.inf).indices(rng, counts, total)


def class_probabilities(counts: NDArray[np.int64], gamma: float) -> NDArray[np.float64]:
    """Returns the reverse sampler's probability of each class, equations (1) and (2) of DBN-Mix.

    w_k = (N_max / N_k)^(1 / gamma);  P_k = w_k / sum w. gamma = 1 is BBN's reversed
    distribution, infinity the balanced one.

    Args:
        counts: (K,) training images per class, each > 0.
        gamma: > 0, infinity allowed.

    Returns:
        (K,) probabilities that sum to 1.
    """
    logs = np.log(counts.max() / counts) / gamma
    weights = np.exp(logs - logs.max())  # divided by the largest weight, so that a small gamma cannot overflow
    return np.asarray(weights / weights.sum())
