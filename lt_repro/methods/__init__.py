"""Every method, found by being there: a sibling file that defines a `Method` is registered under the file's name."""

import importlib
import pkgutil

from lt_repro.methods.base import Method


def _found() -> dict[str, type[Method]]:
    methods = {}
    for module in pkgutil.iter_modules(__path__):
        members = vars(importlib.import_module(f"{__name__}.{module.name}")).values()
        own = [m for m in members if isinstance(m, type) and issubclass(m, Method) and m.name() == module.name]
        methods |= {module.name: cls for cls in own if cls is not Method}
    return methods


METHODS = _found()
