"""Data sets by name: finding and reading them, and the splits of known ones, made without images."""

import functools
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

from lt_repro.data import sets
from lt_repro.data.folder import read_folder
from lt_repro.data.images import SIZE, Pool, checked_pool, duplicates, is_large
from lt_repro.data.npz import content_name, read_npz
from lt_repro.data.published import differences
from lt_repro.data.split import Split, make_split


def data_root(given: Path | None = None) -> Path:
    """Returns the folder that holds the data sets: `given`, else `LTREPRO_DATA`, else the user's data folder."""
    if given is not None:
        return given
    if named := os.environ.get("LTREPRO_DATA"):
        return Path(named).expanduser()
    return platformdirs.user_data_path("ltrepro")


def is_own(name: str) -> bool:
    """Returns whether a pool of this name has a user's images: it is not a data set known by name."""
    return name not in sets.names()


def load_pool(name: str, root: Path) -> Pool:
    """Returns the named images, read and checked. Nothing is downloaded and nothing is written.

    Args:
        name: A known data set (`sets.names`), "npz:FILE" or "folder:DIR" (see `read_folder`).
        root: The folder of the known data sets.

    Raises:
        NotThere: A known data set is not in `root`, and can be downloaded.
        RequestError: An unknown name, or a file or folder that is missing or has wrong content.
        DamagedError: An archive is not the published one, or cannot be read.
    """
    if name.startswith("npz:"):
        pool = read_npz(_typed_path(name))
        return replace(pool, notes=(*_size(pool), *duplicates(pool)))
    if name.startswith("folder:"):
        folder = _typed_path(name)
        sha256, arrays, names, notes = read_folder(folder)
        pool = checked_pool(content_name(folder.resolve().name, sha256), arrays, folder, hold_out=0)
        return replace(pool, notes=(*notes, *duplicates(pool, names)))
    known = sets.find(name)
    pool = known.read(root)
    if pool.content is None and known.published:
        pool = replace(pool, content=differences(pool, known.published) or "published")
    if pool.content == "published":
        return pool
    other = [f"{pool.source} is not the published {known.title}: {pool.content}"] if pool.content else []
    return replace(pool, notes=(*pool.notes, *other, *duplicates(pool)))


def _size(pool: Pool) -> list[str]:
    """Returns a line for images that are large for the networks here: those of a file stay as they are."""
    height, width = pool.train_images.shape[1:3]
    if not is_large(width, height):
        return []
    slower = height * width / SIZE**2
    line = f"images are {width}x{height}: a step takes about {slower:.0f} times as long as at {SIZE}x{SIZE}"
    return [f"{line}; `folder:DIR` brings images to {SIZE}x{SIZE}"]


@functools.lru_cache(64)  # a plan asks hundreds of times for a dozen splits
def known_split(name: str, ratio: float, imb_type: str, seed: int, meta_images: int = 0) -> Split | None:
    """Returns the split of a known data set, made without its images; None for any other data set."""
    if is_own(name):
        return None
    known = sets.find(name)
    labels = np.repeat(np.arange(len(known.sizes)), known.sizes)
    shape: dict[str, Any] = {"ratio": ratio, "imb_type": imb_type, "seed": seed, "meta_images": meta_images}
    return make_split(labels, **shape, hold_out=known.hold_out, name=name)


def _typed_path(name: str) -> Path:
    path = Path(name.partition(":")[2])
    try:
        return path.expanduser()
    except RuntimeError:  # no such user: the path is used as given
        return path
