"""Canonical JSON and its SHA-256: what every digest and key of the project is made from."""

import hashlib
import json
import math
from collections.abc import Mapping
from types import NoneType


def canonical(value: object) -> str:
    """Returns the one JSON text of a value, the same on every machine and for every way of writing the value.

    Keys are sorted, nothing is padded, characters outside ASCII are escaped, tuples are lists, an integral float is
    an integer (100.0 is `100`) and infinity is the string `"inf"`.

    Args:
        value: Anything made of mappings with string keys, lists, tuples, strings, numbers, booleans and None.

    Raises:
        ValueError: A NaN, which is equal to nothing and so can name nothing.
        TypeError: Something else, a NumPy array or a key that is not a string included.
    """
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def _plain(value: object) -> object:
    if type(value) is float:  # most values are: thousands of run files are digested at a time
        if math.isinf(value):
            return "inf" if value > 0 else "-inf"
        return int(value) if value.is_integer() else value
    if type(value) in (str, int, bool, NoneType):
        return value
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"the keys of a JSON object are strings, not {list(value)}")
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return _plain(float(value)) if isinstance(value, float) else value


def digest(value: object) -> str:
    """Returns the SHA-256 of `canonical(value)` in UTF-8, as 64 hex digits.

    Raises:
        ValueError: As `canonical`.
        TypeError: As `canonical`.
    """
    return hashlib.sha256(canonical(value).encode()).hexdigest()
