"""Every random number of training: a pure function of (run seed, stream name, epoch), made on the CPU on every device.

So a resumed, a packed and a plain run see the same draws, and a checkpoint holds no generator state.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray


def generator(seed: int, stream: str, epoch: int) -> np.random.Generator:
    """Returns the generator of one stream of one epoch, seeded with the SHA-256 of (seed, stream, epoch)."""
    name = f"{seed}/{stream}/{epoch}".encode()
    return np.random.default_rng(int.from_bytes(hashlib.sha256(name).digest()))


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


def uniform(rng: np.random.Generator, images: int, total: int) -> NDArray[np.int64]:
    """Returns `total` image indices: every image once, shuffled, and again until there are enough.

    Args:
        rng: The stream's generator.
        images: N, the size of the training set.
        total: How many to draw.

    Returns:
        (total,) indices in [0, N).
    """
    rounds = -(-total // images)
    return np.concatenate([rng.permutation(images) for _ in range(rounds)])[:total]


def reverse(rng: np.random.Generator, counts: NDArray[np.int64], gamma: float, total: int) -> NDArray[np.int64]:
    """Returns `total` image indices drawn with replacement: the class by P_k, then an image of it uniformly.

    Args:
        rng: The stream's generator.
        counts: (K,) training images a class; the training set lies class by class.
        gamma: See `class_probabilities`.
        total: How many to draw.

    Returns:
        (total,) indices in [0, sum of counts).
    """
    classes = rng.choice(len(counts), size=total, p=class_probabilities(counts, gamma))
    inside = rng.random(total) * counts[classes]
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    return np.asarray(first[classes] + inside.astype(np.int64))
