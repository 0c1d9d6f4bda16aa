"""Accuracies and calibration as pure functions. Accuracies are fractions. Legend: n test images, K classes."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray


def accuracies(
    predicted: NDArray[np.int64], labels: NDArray[np.int64], groups: Mapping[str, NDArray[np.int64]]
) -> dict[str, float]:
    """Returns the top-1 accuracy over all test images and over those of each class group.

    Args:
        predicted: (n,) class indices.
        labels: (n,) class indices.
        groups: Class indices by group name; a group without classes is absent, here and in what comes back.

    Returns:
        {"all": fraction, group name: fraction, ...}.
    """
    right = predicted == labels
    shares = {name: right[np.isin(labels, classes)].mean() for name, classes in groups.items()}
    return {"all": float(right.mean())} | {name: float(share) for name, share in shares.items()}


def per_class_accuracy(predicted: NDArray[np.int64], labels: NDArray[np.int64], classes: int) -> list[float]:
    """Returns the fraction of each class's test images that were predicted right.

    Args:
        predicted: (n,) class indices.
        labels: (n,) class indices; every class has at least one image.
        classes: K.

    Returns:
        K fractions.
    """
    right = np.bincount(labels[predicted == labels], minlength=classes)
    shares: list[float] = (right / np.bincount(labels, minlength=classes)).tolist()
    return shares


def calibration_error(logits: NDArray[np.float64], labels: NDArray[np.int64], bins: int = 15) -> float:
    """Returns the expected calibration error: the mean gap of confidence and accuracy, weighted by images per bin.

    ECE = sum_b n_b / n |accuracy_b - confidence_b| over equal confidence bins ((b - 1) / bins, b / bins].

    Args:
        logits: (n, K).
        labels: (n,) class indices.
        bins: The number of bins.
    """
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    confidence = (shifted / shifted.sum(axis=1, keepdims=True)).max(axis=1)
    right = logits.argmax(axis=1) == labels
    which = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gap = np.bincount(which, weights=right - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(labels))
