"""A confusion matrix as numbers: how many test images of each class were classified as which."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lt_repro.render import comma


def csv(counts: NDArray[np.int64], class_names: Sequence[str]) -> str:
    """Returns a line for each true class: its name, then how many of its images were classified as each class.

    Args:
        counts: (K, K) int64, true classes by predicted ones.
        class_names: K names.
    """
    rows = zip(class_names, counts.tolist(), strict=True)
    return comma.lines(["true class", *class_names], ([name, *row] for name, row in rows))
