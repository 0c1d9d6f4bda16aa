"""Papers as data: settings, tables and figures, the numbers they print and what they claim. One file a paper."""

import importlib
import pkgutil

from lt_repro.papers.claim import Paper
from lt_repro.papers.table import DEFAULT


def default_paper() -> Paper:
    """Returns the paper whose settings and exhibits hold where none is named."""
    return papers()[DEFAULT]


def papers() -> dict[str, Paper]:
    """Returns every paper by name, the default one first: a sibling file with a `PAPER` is found by being there."""
    modules = (importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__))
    result = [paper for module in modules if isinstance(paper := getattr(module, "PAPER", None), Paper)]
    return {paper.name: paper for paper in sorted(result, key=lambda paper: paper.name != DEFAULT)}
