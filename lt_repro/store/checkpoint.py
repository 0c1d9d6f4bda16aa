"""Checkpoints: plain tensors and builtins, written whole or not at all. The last two are kept.

A checkpoint is torch's own file, then one line of JSON with the run's position, then the SHA-256 of both. The SHA-256
is checked before the file is opened, since torch does not check what it reads. The line can be read without torch.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lt_repro.canonical import canonical
from lt_repro.errors import DamagedError, damaged
from lt_repro.store import files

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX = ".ckpt"
_PREVIOUS, _DAMAGED = ".before.ckpt", ".damaged"
_HEX = 64  # the length of a SHA-256 in hexadecimal digits


def save(path: Path, state: dict[str, Any], position: dict[str, Any]) -> None:
    """Writes a checkpoint; the existing one is kept as the previous one.

    Args:
        path: `<key>.ckpt`.
        state: Tensors and builtins only.
        position: Where the run is in training, as JSON values, with its key; `where` returns it.

    Raises:
        RequestError: The file cannot be written; the last good checkpoint is kept.
    """
    content = dump(state) + b"\n" + canonical(position).encode() + b"\n"
    files.write(path, content + hashlib.sha256(content).hexdigest().encode(), before=_previous(path))


def load(path: Path) -> tuple[dict[str, Any] | None, list[str]]:
    """Returns the newest whole state that `save` wrote, on the CPU, or None; and the names of damaged newer files.

    Nothing in a file is executed. A damaged file is renamed to `<name>.damaged`, so that it never replaces a good one.
    """
    damaged: list[str] = []
    for file in (path, _previous(path)):
        if file.exists():
            try:
                return _loaded(_parts(file)[0], file), damaged
            except DamagedError:
                aside = file.with_name(file.name + _DAMAGED)
                try:
                    file.replace(aside)
                except OSError as error:
                    raise files.cannot_write(aside, error) from error
                damaged.append(file.name)
    return None, damaged


def where(path: Path) -> dict[str, Any]:
    """Returns the run's position in its newest whole checkpoint, without the tensors.

    Raises:
        DamagedError: There is no whole checkpoint.
    """
    try:
        return _parts(path)[1]
    except DamagedError:
        return _parts(_previous(path))[1]


def exists(path: Path) -> bool:
    """Returns whether there is a checkpoint, the newest or the previous one."""
    return path.exists() or _previous(path).exists()


def check(path: Path) -> None:
    """Checks one checkpoint file, without opening its tensors.

    Raises:
        DamagedError: The file was changed, or belongs to another run.
    """
    _parts(path)


def key_of(path: Path) -> str:
    """Returns the key of the run that a checkpoint file belongs to."""
    return path.name.removesuffix(_DAMAGED).removesuffix(_PREVIOUS).removesuffix(SUFFIX)


def remove(path: Path) -> None:
    """Removes the checkpoints of a finished run, damaged ones too."""
    for file in (path, _previous(path)):
        files.remove(file)
        files.remove(file.with_name(file.name + _DAMAGED))


def load_weights(path: Path, sha256: str) -> "dict[str, Tensor]":
    """Returns a run's final weights, on the CPU, if their `tensor_digest` is `sha256`; nothing in the file is executed.

    Raises:
        DamagedError: The file does not hold what the run wrote.
    """
    try:
        weights = _loaded(path.read_bytes(), path)
    except OSError as error:
        raise DamagedError(f"{path} cannot be read: {error.strerror}") from error
    try:
        same = tensor_digest(weights) == sha256
    except Exception:  # not named tensors: a file made by hand
        same = False
    if not same:
        fix = "it was not changed; move it and its run file away, then train that run again"
        raise damaged(path, "its tensors do not match the digest in the run file", fix)
    return weights


def tensor_digest(tensors: "Mapping[str, Tensor]") -> str:
    """Returns the SHA-256 of tensors (names, dtypes, shapes and bytes), independent of the file format.

    Tensors are hashed in the order of their names. Each adds the canonical JSON of [name, dtype, shape], a line feed,
    and its elements in row-major order as stored in memory (little-endian on every machine this runs on).
    """
    import torch

    result = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        plain = tensor.detach().cpu().contiguous()
        result.update(f"{canonical([name, str(plain.dtype), list(plain.shape)])}\n".encode())
        result.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
    return result.hexdigest()


def dump(state: dict[str, Any]) -> bytes:
    """Returns `state` as torch stores it, the same bytes for the same tensors."""
    import torch

    stream = io.BytesIO()
    torch.save(state, stream)
    return stream.getvalue()


def _previous(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(SUFFIX) + _PREVIOUS)


def _parts(path: Path) -> tuple[bytes, dict[str, Any]]:
    """Returns torch's bytes and the position from the JSON line, if the digest matches."""
    try:
        stored = path.read_bytes()
    except OSError as error:
        raise DamagedError(f"{path} cannot be read: {error.strerror}") from error
    content, result = stored[:-_HEX], stored[-_HEX:]
    if hashlib.sha256(content).hexdigest().encode() != result:
        raise damaged(path, "its content does not match its digest")
    tensors, _, line = content[:-1].rpartition(b"\n")
    try:
        position = json.loads(line)
        whole = position["key"] == key_of(path)
    except (ValueError, TypeError, KeyError):
        whole = False
    if not whole:
        raise damaged(path, "its JSON line is missing or names another run")
    return tensors, position


def _loaded(content: bytes, path: Path) -> dict[str, Any]:
    import torch

    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            if sum(member.file_size for member in file.infolist()) > len(content):  # torch does not compress
                raise ValueError("it would grow when opened")
        state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # a pickle made by hand can raise anything
        raise damaged(path, f"{type(error).__name__} when opening it") from error
    return state
