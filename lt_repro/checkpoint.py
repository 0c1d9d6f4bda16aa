"""Checkpoints: plain tensors and builtins, written whole or not at all, and checked before they are opened."""

import hashlib
import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lt_repro import files
from lt_repro.errors import DamagedError

_HEX = 64  # the length of a SHA-256 in hexadecimal digits


def save(path: Path, state: dict[str, Any]) -> None:
    """Writes `state`, tensors and builtins only, followed by the SHA-256 of what it wrote: torch checks none itself.

    Raises:
        RequestError: The file cannot be written.
    """
    content = dump(state)
    files.write(path, content + hashlib.sha256(content).hexdigest().encode())


def load(path: Path) -> dict[str, Any]:
    """Returns what `save` wrote, on the CPU; nothing in the file is executed.

    Raises:
        DamagedError: The file is not whole, or not what was written.
    """
    stored = path.read_bytes()
    mend = "it is left as it is; move it away to start the run again"
    return _opened(path, stored[:-_HEX], stored[-_HEX:].decode(errors="replace"), mend)


def load_weights(path: Path, sha256: str) -> dict[str, Tensor]:
    """Returns a run's final weights, on the CPU, if their digest is `sha256`; nothing in the file is executed.

    Raises:
        DamagedError: The file is not what the run wrote.
    """
    mend = "it is left as it is; move it away with its run file and train that run again"
    return _opened(path, path.read_bytes(), sha256, mend)


def _opened(path: Path, content: bytes, sha256: str, mend: str) -> dict[str, Any]:
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DamagedError(f"{path} is damaged: its content does not match its digest", "", mend)
    state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return state


def dump(state: dict[str, Any]) -> bytes:
    """Returns `state` as torch stores it, the same bytes for the same tensors."""
    stream = io.BytesIO()
    torch.save(state, stream)
    return stream.getvalue()
