"""Every method, found by being there: a sibling file that defines a `Method` is registered under the file's name."""

import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any

from lt_repro.methods.base import Method


def _found() -> dict[str, type[Method]]:
    methods: dict[str, type[Method]] = {}
    for module in pkgutil.iter_modules(__path__):
        for member in vars(importlib.import_module(f"{__name__}.{module.name}")).values():
            if isinstance(member, type) and issubclass(member, Method) and member.name() == module.name != "base":
                methods[module.name] = member
    return methods


METHODS = _found()
ALIASES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "ce": ("cross_entropy", {}),
    "mixup": ("cross_entropy", {"mix": "mixup"}),
}
"""Other names that can be typed: the method, and the fields that the name sets."""
