"""Checkpoints: plain tensors and builtins, written whole or not at all."""

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from lt_repro import files
from lt_repro.errors import DamagedError


def save(path: Path, state: dict[str, Any]) -> str:
    """Writes `state`, tensors and builtins only, and returns the SHA-256 of the file.

    Raises:
        RequestError: The file cannot be written.
    """
    stream = io.BytesIO()
    torch.save(state, stream)
    files.write(path, stream.getvalue())
    return hashlib.sha256(stream.getvalue()).hexdigest()


def load(path: Path) -> dict[str, Any]:
    """Returns what `save` wrote, on the CPU; nothing in the file is executed.

    Raises:
        DamagedError: The file is no checkpoint, or a part of it is missing.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return state
    except Exception as error:  # torch names no common ancestor for what a damaged archive makes it raise
        raise DamagedError(
            f"{path} is damaged: it is not a whole checkpoint",
            "",
            "it is left as it is; move it away to start the run again",
        ) from error
