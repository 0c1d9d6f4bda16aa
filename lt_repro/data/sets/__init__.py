"""The data sets known by name, found by being there: a sibling file with a `DATASET` is known under the file's name."""

import importlib
import pkgutil
from typing import TYPE_CHECKING

from lt_repro.errors import unknown

if TYPE_CHECKING:  # `--help` lists the names, and imports nothing heavy
    from lt_repro.data.dataset import DataSet

SOURCES = ("npz:FILE", "folder:DIR")
"""How a user's own images are named."""


def names() -> list[str]:
    """Returns the names of the known data sets."""
    return [module.name for module in pkgutil.iter_modules(__path__)]


def find(name: str) -> "DataSet":
    """Returns the data set of a name.

    Raises:
        RequestError: No data set is known by that name.
    """
    if name not in names():
        raise unknown("data set", name, [*names(), *SOURCES])
    dataset: DataSet = importlib.import_module(f"{__name__}.{name}").DATASET
    return dataset


def is_unread(name: str) -> bool:
    """Returns whether a name is that of a data set that nobody reads yet; a user's images have a hyphen in theirs."""
    return name.isidentifier() and name not in names()
