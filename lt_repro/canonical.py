"""Canonical JSON and its SHA-256: what every digest and key of the project is made from."""

import hashlib
import json
import math
from typing import Any


def canonical(value: Any) -> str:
    """Returns JSON with sorted keys and no spaces; whole floats are integers, infinity is "inf", tuples are lists.

    Raises:
        ValueError: A number is NaN or minus infinity.
    """
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def digest(value: Any) -> str:
    """Returns the SHA-256, as 64 hex digits, of the canonical JSON of `value` in UTF-8."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):
        return "inf" if value == math.inf else int(value) if value.is_integer() else value
    return value
