"""The mean and standard deviation of each channel, which the network's first layer normalises by."""

import numpy as np
from numpy.typing import NDArray

from lt_repro.data import sets
from lt_repro.data.dataset import Statistics
from lt_repro.errors import RequestError

SHARED: Statistics = (
    (0.4914, 0.4822, 0.4465),
    (0.2023, 0.1994, 0.2010),
)  # CIFAR-10's, as in the code of LDAM, BBN and MiSLAS


def channel_statistics(dataset: str, setting: str, images: NDArray[np.uint8]) -> Statistics:
    """Returns the mean and standard deviation of each channel, on the scale of [0, 1].

    Args:
        dataset: The data set's name.
        setting: "shared" for CIFAR-10's constants; "own" for the data set's, measured if no constants are known.
        images: (N, H, W, C), the training images.

    Raises:
        RequestError: "shared" with images that do not have three channels.
    """
    if setting == "shared":
        if images.shape[-1] != 3:
            raise RequestError(
                "normalise = 'shared' for grey images", "allowed: 'own' (the shared constants are for colour images)"
            )
        return SHARED
    if dataset in sets.names() and (known := sets.find(dataset).statistics):
        return known
    pixels = images.reshape(-1, images.shape[-1]) / 255.0
    return tuple(pixels.mean(axis=0).tolist()), tuple(np.maximum(pixels.std(axis=0), 1 / 255).tolist())
