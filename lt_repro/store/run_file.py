"""Run files: one strict JSON file per run. They are read and checked here without torch, which is slow to import."""

import json
from pathlib import Path
from typing import Any

from lt_repro import errors
from lt_repro.canonical import digest
from lt_repro.errors import DamagedError, Kind

SCHEMA = 6
"""Schema 5 had other keys: its recipes held settings without effect. `store.migrate` re-keys its files."""
FAILED = ".failed.json"
"""The end of the name of a failed run's record, which is not a run file."""
_LARGEST = 10 << 20  # bytes; a run file has a few thousand


def sealed(values: dict[str, Any]) -> dict[str, Any]:
    """Returns a run file's content with its own SHA-256 added."""
    return values | {"payload_sha256": digest(values)}


def read(path: Path, schema: int = SCHEMA) -> dict[str, Any]:
    """Returns the content of a run file after checking its digest, key and name.

    Args:
        path: The file.
        schema: The schema that it must have.

    Raises:
        OlderSchema: It has an older one.
        DamagedError: It is not a whole, unchanged run file, or a newer version wrote it.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError(f"it has more than {_LARGEST} bytes")
        values = json.loads(path.read_bytes(), parse_constant=_refuse, object_pairs_hook=_unique)
        if not isinstance(values, dict) or not isinstance(values.get("schema"), int):
            raise ValueError("it is not a run file")
        if values["schema"] > SCHEMA:
            newer = f"{path} was written by a newer version of ltrepro: schema {values['schema']}"
            raise DamagedError(newer, f"this version reads schema {SCHEMA}", "update ltrepro")
        if values["schema"] < schema:
            raise OlderSchema(path, values["schema"])
        if values["schema"] != schema:
            raise ValueError(f"it has schema {values['schema']}, not {schema}")
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


class OlderSchema(DamagedError):
    """A run file was written by an older version of this project.

    Args:
        path: The file.
        schema: Its schema.
    """

    kind: Kind = "older schema"

    def __init__(self, path: Path, schema: int) -> None:
        was = f"{path} was written by an older version of ltrepro: schema {schema}"
        super().__init__(was, f"this version reads schema {SCHEMA}", "re-key the run files of this folder")
        self.folder = path.parent


def damaged(path: Path, error: Exception) -> DamagedError:
    """Returns the error for a run file that cannot be trusted."""
    why = str(error).splitlines()[0] if str(error) else type(error).__name__
    return errors.damaged(path, why, "it was not changed; move it away and train the run again")


def _refuse(word: str) -> None:
    raise ValueError(f"it contains {word}, which is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("it has the same key twice in one object")
    return values
