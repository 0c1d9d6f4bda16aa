"""Run files as they lie on disk: one strict JSON each. Read and checked here without torch, so that a look is quick."""

import json
from pathlib import Path
from typing import Any

from lt_repro.canonical import digest
from lt_repro.errors import DamagedError

SCHEMA = 5
"""Of the first release; nothing older is read."""
FAILED = ".failed.json"
"""How the name ends of the record that a run leaves which broke; it is no run file."""
_LARGEST = 10 << 20  # bytes; a run file has a few thousand


def sealed(values: dict[str, Any]) -> dict[str, Any]:
    """Returns a run file's content with the SHA-256 of all the rest."""
    return values | {"payload_sha256": digest(values)}


def read(path: Path) -> dict[str, Any]:
    """Returns the content of a run file, checked from its digest to its name.

    Raises:
        DamagedError: It is not a whole, unchanged run file of a schema that this version knows.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError(f"it has more than {_LARGEST} bytes")
        values = json.loads(path.read_bytes(), parse_constant=_refuse, object_pairs_hook=_unique)
        if not isinstance(values, dict) or not isinstance(values.get("schema"), int):
            raise ValueError("it is no run file")
        if values["schema"] != SCHEMA:
            raise ValueError(f"it has schema {values['schema']}, this version reads schema {SCHEMA}")
        payload = values.pop("payload_sha256", None)
        if payload != digest(values):
            raise ValueError("its content does not match its digest")
        key = values["key"]
        if path.stem != key or not key.endswith(f"-{digest(values['recipe'])[:8]}"):
            raise ValueError("its name, its key and its recipe do not belong together")
        return values
    except OSError as error:
        raise DamagedError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> DamagedError:
    """Returns the error for a run file that cannot be trusted."""
    why = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DamagedError(f"{path} is damaged: {why}", "", "it is left as it is; move it away and train again")


def _refuse(word: str) -> None:
    raise ValueError(f"it holds {word}, which is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a name stands twice in it")
    return values
