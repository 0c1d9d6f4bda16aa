"""The predictions of a run as an `.npz` file: plain arrays, no pickles."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def predictions(
    key: str,
    combined: NDArray[np.floating[Any]],
    branches: Mapping[str, NDArray[np.floating[Any]]],
    labels: NDArray[np.int64],
    class_names: Sequence[str],
) -> bytes:
    """Returns the file's content, the same bytes for the same arrays.

    It holds `logits` (n, K) float32, `logits_<branch>` for each branch, `labels` (n,) int64, `class_names` (K,) and
    `key`. Rows are the test images, sorted by class, within a class in the order of the data set.

    Args:
        key: Of the run.
        combined: (n, K), the logits that the run predicts by.
        branches: (n, K) by branch.
        labels: (n,) class indices.
        class_names: K names.
    """
    arrays: dict[str, NDArray[Any]] = {"logits": combined.astype(np.float32)}
    arrays |= {f"logits_{name}": logits.astype(np.float32) for name, logits in branches.items()}
    arrays |= {"labels": labels, "class_names": np.array(class_names, dtype=str), "key": np.array(key)}
    stream = io.BytesIO()
    np.savez(stream, **arrays)  # type: ignore[arg-type]  # its stub takes the names for its own options
    return stream.getvalue()
