"""Canonical JSON and its SHA-256: every digest and key of the project is made with them."""

import hashlib
import json
import math
from collections.abc import Mapping
from types import NoneType


def canonical(value: object) -> str:
    """Returns the canonical JSON text of a value; equal values give the same text on every machine.

    Keys are sorted, there are no spaces, characters outside ASCII are escaped, tuples become lists, a float without a
    fraction becomes an integer (100.0 is `100`) and infinity becomes the string `"inf"`.

    Args:
        value: Anything made of mappings with string keys, lists, tuples, strings, numbers, booleans and None.

    Raises:
        ValueError: The value has a NaN, which is not equal to itself.
        TypeError: The value has another type, such as a NumPy array or a key that is not a string.
    """
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def _plain(value: object) -> object:
    if type(value) is float:  # first, as most values are floats and thousands of run files are hashed
        if math.isinf(value):
            return "inf" if value > 0 else "-inf"
        return int(value) if value.is_integer() else value
    if type(value) in (str, int, bool, NoneType):
        return value
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"the keys of a JSON object must be strings, not {list(value)}")
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return _plain(float(value)) if isinstance(value, float) else value


def digest(value: object) -> str:
    """Returns the SHA-256 of `canonical(value)` in UTF-8, as 64 hex digits.

    Raises:
        ValueError: See `canonical`.
        TypeError: See `canonical`.
    """
    return hashlib.sha256(canonical(value).encode()).hexdigest()
