"""Run files: one strict JSON file per run. They are read and checked here without torch, which is slow to import."""

import json
from pathlib import Path
from typing import Any

from lt_repro.canonical import digest
from lt_repro.errors import DamagedError

SCHEMA = 5
"""The schema of the first release; older ones are not read."""
FAILED = ".failed.json"
"""The end of the name of a failed run's record, which is not a run file."""
_LARGEST = 10 << 20  # bytes; a run file has a few thousand


def sealed(values: dict[str, Any]) -> dict[str, Any]:
    """Returns a run file's content with its own SHA-256 added."""
    return values | {"payload_sha256": digest(values)}


def read(path: Path) -> dict[str, Any]:
    """Returns the content of a run file after checking its digest, key and name.

    Raises:
        DamagedError: It is not a whole, unchanged run file of the schema this version reads.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError(f"it has more than {_LARGEST} bytes")
        values = json.loads(path.read_bytes(), parse_constant=_refuse, object_pairs_hook=_unique)
        if not isinstance(values, dict) or not isinstance(values.get("schema"), int):
            raise ValueError("it is not a run file")
        if values["schema"] != SCHEMA:
            raise ValueError(f"it has schema {values['schema']}, this version reads schema {SCHEMA}")
        payload = values.pop("payload_sha256", None)
        if payload != digest(values):
            raise ValueError("its content does not match its digest")
        key = values["key"]
        if path.stem != key or not key.endswith(f"-{digest(values['recipe'])[:8]}"):
            raise ValueError("its name, its key and its recipe do not match")
        return values
    except OSError as error:
        raise DamagedError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> DamagedError:
    """Returns the error for a run file that cannot be trusted."""
    why = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DamagedError(f"{path} is damaged: {why}", "", "it was not changed; move it away and train the run again")


def _refuse(word: str) -> None:
    raise ValueError(f"it contains {word}, which is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("it has the same key twice in one object")
    return values
