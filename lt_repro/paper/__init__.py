"""Papers as data: settings, tables and figures, the numbers they print and what they claim. One file a paper."""

import importlib
import pkgutil

from lt_repro.paper.claim import Paper


def papers() -> dict[str, Paper]:
    """Returns every paper, found by being there: a sibling file with a `PAPER` is registered under the file's name."""
    modules = (importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__))
    return {paper.name: paper for module in modules if isinstance(paper := getattr(module, "PAPER", None), Paper)}
