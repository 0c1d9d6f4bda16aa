"""Settings as typed fields of frozen dataclasses: names, types, parsing and checks."""

import dataclasses
import math
import types as kinds
import typing
from collections.abc import Mapping
from typing import Any, Literal

from lt_repro.errors import RequestError, unknown


def types(owner: type) -> dict[str, Any]:
    """Returns the type of every field of the dataclass `owner`, by name."""
    if owner not in _TYPES:
        hints = typing.get_type_hints(owner)
        _TYPES[owner] = {field.name: hints[field.name] for field in dataclasses.fields(owner)}
    return _TYPES[owner]


_TYPES: dict[type, dict[str, Any]] = {}  # cached: thousands of run files are checked against them


def added_later(before: Any) -> Any:
    """Returns a dataclass field that was added after runs had been stored; `before`, its default, is what they used.

    A recipe's key leaves the field out when it has that value, and stored recipes may lack it.
    """
    if before == {}:  # a dataclass needs a new dict for each instance
        return dataclasses.field(default_factory=dict, metadata={"before": before})
    return dataclasses.field(default=before, metadata={"before": before})


def worded(default: Any, *words: str) -> Any:
    """Returns a dataclass field that a command line can also give as a word, which has a value once a run is known."""
    return dataclasses.field(default=default, metadata={"words": words})


def legacy_values(owner: type) -> dict[str, Any]:
    """Returns the default of every field of `owner` that was made by `added_later`, by name."""
    return {f.name: f.metadata["before"] for f in dataclasses.fields(owner) if "before" in f.metadata}


def parse(owner: type, name: str, text: str) -> Any:
    """Returns the value of the field `name` of `owner` that `text` from a command line stands for.

    Args:
        owner: A dataclass.
        name: One of its fields.
        text: "0.5", "inf", "true", "0.6,0.8" for a tuple, or one of the field's choices or of its `words`.

    Raises:
        RequestError: The text is not a value of the field's type.
    """
    kind = types(owner)[name]
    if text in owner.__dataclass_fields__[name].metadata.get("words", ()):  # type: ignore[attr-defined]
        return text
    try:
        if typing.get_origin(kind) is Literal:
            choices = typing.get_args(kind)
            return next((choice for choice in choices if str(choice) == text), text)
        if kind is bool:
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[text.lower()]
        if typing.get_origin(kind) is tuple:
            return tuple(float(part) for part in text.split(",") if part)
        return kind(text)
    except (ValueError, KeyError) as error:
        allowed = describe(kind, getattr(owner, "bounds", {}).get(name))
        raise RequestError(f"{name} = {text!r}", f"allowed: {allowed}") from error


def text(value: Any) -> str:
    """Returns a value as typed on a command line; `parse` reads it back."""
    if isinstance(value, tuple):
        return ",".join(map(text, value))
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


def describe(kind: Any, bounds: tuple[float, float] | None = None) -> str:
    """Returns the allowed values of a field in words, for help and errors: "a number from 0 to 1".

    Args:
        kind: The field's type.
        bounds: Its smallest and largest value, where it has any.
    """
    if typing.get_origin(kind) is Literal:
        return ", ".join(str(choice) for choice in typing.get_args(kind))
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a name"}
    if kind not in words:
        return "numbers separated by commas" if typing.get_origin(kind) is tuple else "a run"
    low, high = bounds or (-math.inf, math.inf)
    if math.isinf(low):
        return words[kind] + (", or inf" if kind is float else "")
    least = " above 0" if low == ABOVE_0 else f" from {text(low)}"
    if math.isinf(high):
        return words[kind] + least + (", or inf" if kind is float else " up" if low != ABOVE_0 else "")
    return f"{words[kind]}{least}{' up' if low == ABOVE_0 else ''} to {text(high)}"


def check(settings: Any) -> None:
    """Checks the types of a frozen dataclass's values and converts them where needed: 1 becomes 1.0; NaN is an error.

    Args:
        settings: A frozen dataclass instance; call this from its `__post_init__`.

    Raises:
        RequestError: A value does not have its field's type.
    """
    for name, kind, origin, choices in _checks(type(settings)):
        value = getattr(settings, name)
        if choices:
            if value not in choices or isinstance(value, bool):
                raise unknown(name, str(value), map(str, choices))
        elif type(value) is not kind or value != value:  # NaN
            object.__setattr__(settings, name, _converted(name, value, kind, origin, getattr(settings, "bounds", {})))


def _converted(name: str, value: Any, kind: Any, origin: Any, bounds: Mapping[str, tuple[float, float]]) -> Any:
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        value = float(value)
    elif origin is tuple and isinstance(value, list | tuple):
        value = tuple(float(part) for part in value)
    right = isinstance(value, origin) and (kind is bool or not isinstance(value, bool))
    if not right or (isinstance(value, float) and math.isnan(value)):
        raise RequestError(f"{name} = {value!r}", f"allowed: {describe(kind, bounds.get(name))}")
    return value


def _checks(owner: type) -> list[tuple[str, Any, Any, tuple[Any, ...]]]:
    """Returns name, type, what `isinstance` takes and the choices of each field."""
    if owner not in _CHECKS:
        _CHECKS[owner] = []
        for name, kind in types(owner).items():
            origin = kind if isinstance(kind, kinds.UnionType) else typing.get_origin(kind) or kind
            _CHECKS[owner].append((name, kind, origin, typing.get_args(kind) if origin is Literal else ()))
    return _CHECKS[owner]


_CHECKS: dict[type, list[tuple[str, Any, Any, tuple[Any, ...]]]] = {}  # thousands of recipes are made at a time

ABOVE_0 = math.ulp(0.0)
"""The smallest number above 0: the lower bound of a field that may not be 0."""


def check_bounds(settings: Any, bounds: Mapping[str, tuple[float, float]]) -> None:
    """Checks that fields lie inside closed intervals.

    Args:
        settings: A dataclass instance.
        bounds: Smallest and largest value by field name, both allowed.

    Raises:
        RequestError: A value is outside.
    """
    for name, (low, high) in bounds.items():
        value = getattr(settings, name)
        if not low <= value <= high:
            least = "> 0" if low == ABOVE_0 else f">= {low:g}"
            top = "" if math.isinf(high) else f" and <= {high:g}"
            raise RequestError(f"{name} = {value:g}", f"allowed: {name} {least}{top}")
