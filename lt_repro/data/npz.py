"""`.npz` files in MedMNIST's layout."""

import hashlib
import re
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from lt_repro.data.images import Pool, checked_pool
from lt_repro.errors import RequestError, first_line

LARGEST_MEMBER = 256 << 20  # bytes; CIFAR-100's training images are 155 MB


def content_name(stem: str, sha256: str) -> str:
    """Returns the name for your own images: `<stem>-<8 hex of the content's SHA-256>`."""
    return f"{re.sub(r'[^a-z0-9_]+', '_', stem.lower())[:40]}-{sha256[:8]}"


def read_npz(path: Path, name: str = "", hold_out: int = 0) -> Pool:
    """Returns the pool of a file in MedMNIST's layout; without a name, it is named by its content.

    Raises:
        RequestError: The file cannot be read, or has wrong content.
    """
    try:
        with path.open("rb") as file:
            if not name:
                name = content_name(path.stem, hashlib.file_digest(file, "sha256").hexdigest())
            arrays = _arrays(file)
    # A broken zip file raises many kinds of error in zipfile, zlib and NumPy.
    except Exception as error:
        raise RequestError(
            f"{path} cannot be read: {first_line(error)}",
            "allowed: a whole .npz file of plain arrays (no pickled objects) in MedMNIST's layout",
        ) from error
    return checked_pool(name, arrays, path, hold_out)


def _arrays(file: BinaryIO) -> dict[str, NDArray[Any]]:
    if not zipfile.is_zipfile(file):
        raise ValueError("it is not an .npz file, or its end is missing")
    file.seek(0)
    requested = ("train_images", "train_labels", "test_images", "test_labels", "class_names")
    with zipfile.ZipFile(file) as members:
        size, packed = (sum(getattr(m, f) for m in members.infolist()) for f in ("file_size", "compress_size"))
        if size > max(LARGEST_MEMBER, 100 * packed):
            raise ValueError(f"{packed} bytes would unpack to {size}")
    file.seek(0)
    with np.load(file, allow_pickle=False) as stored:
        return {key: np.asarray(stored[key]) for key in requested if key in stored}
