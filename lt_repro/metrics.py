"""Accuracies and calibration as pure functions. Accuracies are fractions.

Legend: n test images, K classes; `predicted` and `labels` are (n,) class indices, `classes` is K.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


def accuracies(
    predicted: NDArray[np.int64], labels: NDArray[np.int64], groups: Mapping[str, NDArray[np.int64]]
) -> dict[str, float]:
    """Returns the top-1 accuracy over all test images ("all") and over those of each class group, by its name.

    `groups` are class indices by name; a group without classes is absent, there and in the result.
    """
    right = predicted == labels
    shares = {name: right[np.isin(labels, classes)].mean() for name, classes in groups.items()}
    return {"all": float(right.mean())} | {name: float(share) for name, share in shares.items()}


def per_class_accuracy(predicted: NDArray[np.int64], labels: NDArray[np.int64], classes: int) -> list[float | None]:
    """Returns the fraction of each class's test images that were classified correctly, None for one without images."""
    right, images = confusion(predicted, labels, classes).diagonal(), np.bincount(labels, minlength=classes)
    return [float(hits / count) if count else None for hits, count in zip(right, images, strict=True)]


def balanced_accuracy(per_class: Sequence[float | None]) -> float:
    """Returns the mean of the K classes' accuracies: each counts the same, but one without images (None) not at all."""
    return statistics.fmean(share for share in per_class if share is not None)


def confusion(predicted: NDArray[np.int64], labels: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Returns how many test images of each class (row) were classified as which (column), (K, K) int64."""
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


class Reliability(NamedTuple):
    """Test images binned by confidence: `images`, mean `confidence` and `accuracy`, (bins,) each.

    Bin b of B holds the confidences in ((b - 1) / B, b / B]. Both means of an empty bin are NaN.
    """

    images: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]


def reliability(logits: NDArray[np.float64], labels: NDArray[np.int64], bins: int = 15) -> Reliability:
    """Returns accuracy and mean confidence (the largest softmax probability of (n, K) logits) in equal bins of it."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    confidence = (shifted / shifted.sum(axis=1, keepdims=True)).max(axis=1)
    right = logits.argmax(axis=1) == labels
    which = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    images = np.bincount(which, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(which, weights=values, minlength=bins) / images for values in (confidence, right)]
    return Reliability(images, *means)


def calibration_error(result: Reliability) -> float:
    """Returns the expected calibration error: the mean gap of confidence and accuracy, weighted by images per bin.

    ECE = sum_b n_b / n |accuracy_b - confidence_b|.
    """
    gaps = result.images * np.abs(result.accuracy - result.confidence)
    return float(np.nansum(gaps) / result.images.sum())
