"""Splits: the long-tailed subset of a pool that the field trains on, and the digest that names it."""

import functools
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lt_repro.canonical import digest
from lt_repro.errors import RequestError, unknown

IMB_TYPES = ("exp", "step", "as_is")
Subset = tuple[str, float, str, int, int]
"""What names a split: data set, ratio, imb_type, split seed and meta images of a class."""


@dataclass(frozen=True)
class Split:
    """Which images of a pool are for training and which are held out for testing.

    Positions count within a class, so a pool sorted by class and one in file order have the same split.

    Attributes:
        name: The pool's name.
        ratio: The requested n_max / n_min, >= 1. Truncation can make the real one larger, except with "as_is".
        imb_type: How the counts fall from the first class to the last, "exp" or "step"; "as_is" takes all images.
        seed: The seed of the draw.
        positions: For each of the K classes, its n_k training images in the drawn order.
        held_out: For each class, the images held out for testing; empty if the pool has its own test images.
        meta: For each class, the images of a balanced set beside the training set; () without one.
    """

    name: str
    ratio: float
    imb_type: str
    seed: int
    positions: tuple[tuple[int, ...], ...]
    held_out: tuple[tuple[int, ...], ...]
    meta: tuple[tuple[int, ...], ...] = ()

    @functools.cached_property
    def counts(self) -> NDArray[np.int64]:
        """Returns the number of training images of each class, (K,); never changed in place."""
        return np.array([len(drawn) for drawn in self.positions], dtype=np.int64)

    @property
    def digest(self) -> str:
        """Returns the SHA-256 that names this split, the same for every source of the pool."""
        named = {
            "name": self.name,
            "imb_type": self.imb_type,
            "ratio": self.ratio,
            "split_seed": self.seed,
            "positions": self.positions,
        }
        return digest(named | ({"meta": self.meta} if self.meta else {}))

    def to_json(self) -> dict[str, Any]:
        """Returns the split as JSON values; a class group without classes has the number 0."""
        groups = class_groups(self.counts)
        return {
            "name": self.name,
            "ratio": self.ratio,
            "imb_type": self.imb_type,
            "split_seed": self.seed,
            "n_train": int(self.counts.sum()),
            "counts": self.counts.tolist(),
            "groups": {group: len(groups.get(group, ())) for group in ("many", "medium", "few")},
            "positions": [list(drawn) for drawn in self.positions],
            "digest": self.digest,
        }


def class_sizes(labels: ArrayLike) -> NDArray[np.int64]:
    """Returns the number of images of each class, (K,) int64.

    Args:
        labels: (N,) integers 0..K-1, each present, K >= 2.

    Raises:
        RequestError: Wrong shape or dtype, fewer than two classes, or a gap in 0..K-1.
    """
    array = np.asarray(labels)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise RequestError(f"labels of shape {array.shape} and dtype {array.dtype}", "allowed: integers of shape (N,)")
    classes, sizes = np.unique(array, return_counts=True)
    if len(classes) < 2 or not np.array_equal(classes, np.arange(len(classes))):
        result = f"{len(classes)} classes from {classes[0]} to {classes[-1]}" if len(classes) else "no images"
        raise RequestError(f"labels of {result}", "allowed: 0..K-1 for at least two classes, each with an image")
    return sizes.astype(np.int64)


def natural_ratio(labels: ArrayLike, hold_out: int = 0) -> float:
    """Returns n_max / n_min of all images: the only ratio allowed with imb_type "as_is".

    Args:
        labels: (N,) integers 0..K-1, each present, K >= 2.
        hold_out: Images of each class that are held out for testing and not counted.

    Raises:
        RequestError: Labels with a gap, or `hold_out` out of range.
    """
    left = _left(class_sizes(labels), hold_out)
    return float(left.max() / left.min())


def _left(sizes: NDArray[np.int64], hold_out: int) -> NDArray[np.int64]:
    """Returns how many images of each class are not held out, (K,), each > 0."""
    smallest = int(sizes.min())
    if not _is_integer(hold_out) or not 0 <= hold_out < smallest:
        raise RequestError(
            f"hold_out is {hold_out!r} images of each class",
            f"allowed: 0 to {smallest - 1}, since the smallest class has {smallest}",
        )
    return sizes - hold_out


def make_split(
    labels: ArrayLike,
    *,
    ratio: float,
    imb_type: str = "exp",
    seed: int = 0,
    hold_out: int = 0,
    name: str = "",
    meta_images: int = 0,
) -> Split:
    """Returns the long-tailed split used in the field.

    LDAM-DRW's rule (Cao et al., 2019, and its public code): class k has n_k = int(n_max (1/ratio)^(k/(K-1))) images,
    the first n_k of its list after a shuffle by `RandomState(seed)`, classes in label order. Each class's whole list
    is shuffled whatever n_k is, so the splits of one seed are nested over ratios.

    Args:
        labels: (N,) integers 0..K-1, each present, K >= 2, in the pool's order.
        ratio: n_max / n_min, finite and >= 1; with "as_is" it must be the `natural_ratio`.
        imb_type: "exp" for the rule above; "step" gives the first K // 2 classes n_max images and the others
            int(n_max / ratio); "as_is" gives every class all its images.
        seed: Seed of a private generator, 0..2^32-1; NumPy's global generator is not used.
        hold_out: Images of each class held out for testing: the first ones after the shuffle. n_max is the number of
            images of the smallest class that are left.
        name: The pool's name.
        meta_images: Images of each class for a balanced set beside the training set, 0 with "as_is": the last ones
            after the shuffle, so that the training images are among those of the split without them. n_max is smaller
            by as many.

    Raises:
        RequestError: Labels with a gap; an unknown imb_type; a ratio, seed, hold_out or meta_images out of range; a
            ratio so large that a class would be empty; or a ratio that is not the `natural_ratio` with "as_is".
    """
    sizes = class_sizes(labels)
    if imb_type not in IMB_TYPES:
        raise unknown("imb_type", imb_type, IMB_TYPES)
    if not (math.isfinite(ratio) and ratio >= 1):
        raise RequestError(f"ratio {ratio}", "allowed: n_max / n_min, a finite number from 1 up")
    if not _is_integer(seed) or not 0 <= seed < 2**32:
        raise RequestError(f"split seed {seed!r}", "allowed: a whole number from 0 to 4294967295")
    left = _left(sizes, hold_out)
    n_max = int(left.min()) - meta_images
    if not _is_integer(meta_images) or meta_images < 0 or n_max < 1 or (meta_images and imb_type == "as_is"):
        raise RequestError(
            f"meta_images is {meta_images!r} images of each class, with imb_type {imb_type}",
            f"allowed: 0 to {int(left.min()) - 1} with imb_type exp or step, 0 with as_is",
        )
    if imb_type == "as_is":
        natural = natural_ratio(labels, hold_out)
        if not math.isclose(ratio, natural, rel_tol=1e-9):
            raise RequestError(
                f"ratio {ratio} with imb_type as_is: the images have ratio {natural}",
                f"allowed: ratio {natural} with imb_type as_is; any ratio from 1 up with imb_type exp or step",
                kind="ratio of as-is",
            )
        ratio, counts = natural, left.tolist()
    else:
        counts = _counts(n_max, len(sizes), ratio, imb_type)
    if counts[-1] == 0:
        # Rounding in (1/ratio) can make n_max itself too large, so the largest ratio is found by search.
        largest = next(whole for whole in range(n_max, 0, -1) if _counts(n_max, len(sizes), whole, imb_type)[-1])
        raise RequestError(
            f"ratio {ratio:g} leaves the last class without images: n_max is {n_max}, as in the smallest class",
            f"allowed: a ratio up to {largest}",
            kind="empty class",
        )
    generator = np.random.RandomState(seed)  # the published splits use NumPy's old generator
    positions, held_out, meta = [], [], []
    for size, count in zip(sizes, counts, strict=True):
        drawn = np.arange(size)
        generator.shuffle(drawn)
        held_out.append(tuple(drawn[:hold_out].tolist()))
        positions.append(tuple(drawn[hold_out : hold_out + count].tolist()))
        meta.append(tuple(drawn[size - meta_images :].tolist()))
    split = Split(name, float(ratio), imb_type, int(seed), tuple(positions), tuple(held_out))
    return replace(split, meta=tuple(meta)) if meta_images else split


def _is_integer(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _counts(n_max: int, classes: int, ratio: float, imb_type: str) -> list[int]:
    if imb_type == "step":
        return [n_max if k < classes // 2 else int(n_max / ratio) for k in range(classes)]
    return [int(n_max * (1 / ratio) ** (k / (classes - 1))) for k in range(classes)]


def class_groups(counts: ArrayLike) -> dict[str, NDArray[np.int64]]:
    """Returns the classes of each group, by number of training images; a group without classes is absent.

    Args:
        counts: (K,) training images of each class.

    Returns:
        Class indices, int64, under "many" (more than 100), "medium" (20 to 100) and "few" (fewer than 20).
    """
    counts = np.asarray(counts)
    many, few = counts > 100, counts < 20
    members = {"many": many, "medium": ~many & ~few, "few": few}
    return {group: np.flatnonzero(inside).astype(np.int64) for group, inside in members.items() if inside.any()}
