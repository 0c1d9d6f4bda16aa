"""Evaluation: the logits of all test images, and the scores that a run file holds."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from lt_repro import metrics
from lt_repro.data import augment
from lt_repro.data.images import Images
from lt_repro.data.split import class_groups
from lt_repro.methods.base import Method
from lt_repro.nets.resnet_cifar import ResNet

BATCH_PIXELS = {"cpu": 200 * 32 * 32}  # a test batch whose activations fit into a CPU's caches
MORE_PIXELS = 1000 * 32 * 32  # on other devices


class Logits(NamedTuple):
    """The logits of n test images, (n, K) float64 each: combined, and of every branch."""

    combined: NDArray[np.float64]
    branches: list[NDArray[np.float64]]


PRECISION = "fp32"
"""What every test computes in, whatever trains: among logits in bf16 there are ties, and the first class wins them."""


def predict(method: Method, net: ResNet, images: NDArray[np.uint8], device: torch.device) -> Logits:
    """Returns the logits of images, computed in fp32; the network is left in evaluation mode.

    Args:
        method: Says how it predicts.
        net: The network.
        images: (n, H, W, C).
        device: Where the network is.
    """
    net.eval()
    parts = []
    batch_size = max(1, BATCH_PIXELS.get(device.type, MORE_PIXELS) // (images.shape[1] * images.shape[2]))
    with torch.inference_mode():
        for batch in torch.split(torch.from_numpy(images), batch_size):
            combined, branches = method.predict(net, augment.as_input(batch.to(device)))
            parts.append(torch.stack([combined, *branches]).float().cpu())
    logits = torch.cat(parts, dim=1).double().numpy()
    return Logits(logits[0], list(logits[1:]))


def scores(logits: Logits, images: Images, branches: Sequence[str]) -> dict[str, Any]:
    """Returns the accuracies of a run's result: accuracy and per_class of the combined output, and of the branches.

    Where the test classes differ in size, `accuracy` has `balanced` too.

    Args:
        logits: Of the test images.
        images: Their labels, and the training images of each class.
        branches: The branches' names.
    """
    labels, counts = images.test_labels, images.split.counts
    groups, even = class_groups(counts), np.ptp(np.bincount(labels, minlength=len(counts))) == 0

    def of_output(output: NDArray[np.float64]) -> dict[str, Any]:
        predicted = output.argmax(axis=1)
        per_class = metrics.per_class_accuracy(predicted, labels, len(counts))
        accuracy = metrics.accuracies(predicted, labels, groups)
        if not even:
            accuracy["balanced"] = metrics.balanced_accuracy(per_class)
        return {"accuracy": accuracy, "per_class": per_class}

    named = zip(branches, logits.branches, strict=True)
    return of_output(logits.combined) | {"branches": {name: of_output(output) for name, output in named}}


def outcome(logits: Logits, images: Images, branches: Sequence[str]) -> dict[str, Any]:
    """Returns `scores` with the calibration of the combined output: ece and reliability (`store.runs.Run`).

    Args:
        logits: As in `scores`.
        images: As in `scores`.
        branches: As in `scores`.
    """
    bins = metrics.reliability(logits.combined, images.test_labels)
    return scores(logits, images, branches) | {
        "ece": metrics.calibration_error(bins),
        "reliability": {name: _or_null(values) for name, values in bins._asdict().items()},
    }


def _or_null(values: np.ndarray[Any, Any]) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values.tolist()]
