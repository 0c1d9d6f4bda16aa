"""Checkpoints: plain tensors and builtins, written whole or not at all, the last two kept, checked before opened.

A checkpoint is what torch writes, then a line of JSON that says where the run stands, then the SHA-256 of both. torch
checks nothing of what it reads; and the line can be read without it.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lt_repro.canonical import canonical
from lt_repro.errors import DamagedError
from lt_repro.store import files

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX = ".ckpt"
_BEFORE, _DAMAGED = ".before.ckpt", ".damaged"
_HEX = 64  # the length of a SHA-256 in hexadecimal digits


def save(path: Path, state: dict[str, Any], stands: dict[str, Any]) -> None:
    """Writes a checkpoint; the one that stood there becomes the one before.

    Args:
        path: `<key>.ckpt`.
        state: Tensors and builtins only.
        stands: Where the run stands, JSON values, its key among them; `where` gives it back.

    Raises:
        RequestError: The file cannot be written; the last good checkpoint is still there.
    """
    content = dump(state) + b"\n" + canonical(stands).encode() + b"\n"
    files.write(path, content + hashlib.sha256(content).hexdigest().encode(), before=_before(path))


def load(path: Path) -> tuple[dict[str, Any] | None, list[str]]:
    """Returns the newest whole state that `save` wrote, on the CPU, or None; and the names of the files in its way.

    Nothing in a file is executed. A damaged file is put aside as `<name>.damaged`, so that it never takes the place of
    a good one.
    """
    damaged: list[str] = []
    for file in (path, _before(path)):
        if file.exists():
            try:
                return _loaded(_parts(file)[0], file), damaged
            except DamagedError:
                aside = file.with_name(file.name + _DAMAGED)
                try:
                    file.replace(aside)
                except OSError as error:
                    raise files.cannot_write(aside, error.strerror or str(error)) from error
                damaged.append(file.name)
    return None, damaged


def where(path: Path) -> dict[str, Any]:
    """Returns where the run of the newest whole checkpoint stands, without its tensors.

    Raises:
        DamagedError: There is no whole checkpoint.
    """
    try:
        return _parts(path)[1]
    except DamagedError:
        return _parts(_before(path))[1]


def exists(path: Path) -> bool:
    """Returns whether there is a checkpoint, this one or the one before."""
    return path.exists() or _before(path).exists()


def check(path: Path) -> None:
    """Checks one checkpoint file, without opening its tensors.

    Raises:
        DamagedError: It is not what was written under this name.
    """
    _parts(path)


def key_of(path: Path) -> str:
    """Returns the key of the run that a checkpoint file is of."""
    return path.name.removesuffix(_DAMAGED).removesuffix(_BEFORE).removesuffix(SUFFIX)


def remove(path: Path) -> None:
    """Removes the checkpoints of a run that has ended, and what was put aside of them."""
    for file in (path, _before(path)):
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
    except Exception:  # something else than named tensors, made by hand
        same = False
    if not same:
        fix = "it was left as it is; move it away with its run file and train that run again"
        raise DamagedError(f"{path} is damaged: its tensors do not match the digest in the run file", "", fix)
    return weights


def tensor_digest(tensors: "Mapping[str, Tensor]") -> str:
    """Returns the SHA-256 of tensors: of names, dtypes, shapes and bytes, whatever container they are stored in.

    Each tensor, by rising name, adds the canonical JSON of [name, dtype, shape], a line feed, and its elements in
    row-major order as they lie in memory (little-endian on every machine this runs on).
    """
    import torch

    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        plain = tensor.detach().cpu().contiguous()
        found.update(f"{canonical([name, str(plain.dtype), list(plain.shape)])}\n".encode())
        found.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def dump(state: dict[str, Any]) -> bytes:
    """Returns `state` as torch stores it, the same bytes for the same tensors."""
    import torch

    stream = io.BytesIO()
    torch.save(state, stream)
    return stream.getvalue()


def _before(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(SUFFIX) + _BEFORE)


def _parts(path: Path) -> tuple[bytes, dict[str, Any]]:
    """Returns the tensors as torch stored them and the line beside them, if the digest is right."""
    try:
        stored = path.read_bytes()
    except OSError as error:
        raise DamagedError(f"{path} cannot be read: {error.strerror}") from error
    content, found = stored[:-_HEX], stored[-_HEX:]
    if hashlib.sha256(content).hexdigest().encode() != found:
        raise DamagedError(f"{path} is damaged: its content does not match its digest")
    tensors, _, line = content[:-1].rpartition(b"\n")
    try:
        stands = json.loads(line)
        whole = stands["key"] == key_of(path)
    except (ValueError, TypeError, KeyError):
        whole = False
    if not whole:
        raise DamagedError(f"{path} is damaged: it is not what was written under this name")
    return tensors, stands


def _loaded(content: bytes, path: Path) -> dict[str, Any]:
    import torch

    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            if sum(member.file_size for member in file.infolist()) > len(content):  # torch compresses nothing
                raise ValueError("it would swell on opening")
        state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # a pickle made by hand can raise anything
        raise DamagedError(f"{path} is damaged: {type(error).__name__} on opening it") from error
    return state
