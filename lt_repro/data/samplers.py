"""Samplers: which images an epoch's batches hold. Every random number comes from (run seed, its name, epoch).

They are made on the CPU on every device: a resumed and a plain run see the same, and a checkpoint holds no generator.
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
    """Which images an epoch's batches hold."""

    def indices(self, rng: np.random.Generator, counts: NDArray[np.int64], total: int) -> NDArray[np.int64]:
        """Returns `total` image indices, (total,) in [0, sum of counts).

        Args:
            rng: The generator of this sampler and epoch.
            counts: (K,) images a class; the images lie class by class.
            total: How many to draw.
        """


@dataclass(frozen=True)
class Uniform:
    """Every image once, shuffled, and again until there are enough: P = 1 / N."""

    def indices(self, rng: np.random.Generator, counts: NDArray[np.int64], total: int) -> NDArray[np.int64]:
        """Returns `total` image indices, see `Sampler`."""
        images = int(counts.sum())
        return np.concatenate([rng.permutation(images) for _ in range(-(-total // images))])[:total]


@dataclass(frozen=True)
class Reverse:
    """The reverse sampler, equations (1) and (2) of DBN-Mix: a class by P_k, then an image of it uniformly.

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
    """A class uniformly, then an image of it uniformly: the reverse sampler at gamma infinite."""

    def indices(self, rng: np.random.Generator, counts: NDArray[np.int64], total: int) -> NDArray[np.int64]:
        """Returns `total` image indices, drawn with replacement, see `Sampler`."""
        return Reverse(math.inf).indices(rng, counts, total)


def class_probabilities(counts: NDArray[np.int64], gamma: float) -> NDArray[np.float64]:
    """Returns the reverse sampler's probability of each class, equations (1) and (2) of DBN-Mix.

    w_k = (N_max / N_k)^(1 / gamma);  P_k = w_k / sum w. gamma = 1 is BBN's reversed
    distribution, infinity the balanced one.

    Args:
        counts: (K,) training images a class, each > 0.
        gamma: > 0, infinity allowed.

    Returns:
        (K,) probabilities that sum to 1.
    """
    logs = np.log(counts.max() / counts) / gamma
    weights = np.exp(logs - logs.max())  # over the largest weight, so that a small gamma cannot overflow
    return np.asarray(weights / weights.sum())
