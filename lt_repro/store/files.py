"""Writes files so that none is lost or half-written: temporary file, flush, fsync, rename."""

import contextlib
import errno
import glob
import os
from pathlib import Path

from lt_repro.errors import Kind, RequestError


def write(path: Path, data: bytes, *, replace: bool = True, before: Path | None = None) -> None:
    """Writes a whole file or nothing; an existing file stays until the new one is on disk.

    Args:
        path: The file to write; its folder is made when missing.
        data: The content.
        replace: Whether an existing file may be replaced.
        before: Where an existing file is moved to; None to discard it.

    Raises:
        FileExistsError: The file exists and `replace` is off.
        RequestError: The folder or the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        if before and path.exists():
            path.replace(before)
        if replace:
            temporary.replace(path)
        else:
            path.hardlink_to(temporary)
        _sync(path.parent)
    except FileExistsError:
        if replace:
            raise cannot_write(path, "a file exists where its folder should be") from None
        raise
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        remove(temporary)


def remove_temporary(folder: Path, name: str) -> None:
    """Removes temporary files of killed processes, for files whose name begins with `name`."""
    for path in folder.glob(f".{glob.escape(name)}*.tmp"):
        remove(path)


def remove(path: Path) -> None:
    """Removes a file that is no longer needed; a file that cannot be removed stays."""
    with contextlib.suppress(OSError):
        path.unlink()


def ensure_writable(folder: Path, name: str = "probe") -> None:
    """Makes a folder and writes a test file there, so that hours of work do not end in an error.

    If the process is killed meanwhile, `remove_temporary` with the same name removes the test file.

    Raises:
        RequestError: The folder cannot be written.
    """
    probe = folder / f".{name}.{os.getpid()}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with probe.open("wb") as stream:
            stream.write(b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        probe.unlink()
    except OSError as error:
        raise cannot_write(probe, error) from error


class CannotWrite(RequestError):
    """A file or folder cannot be written; existing files are unchanged."""


def cannot_write(path: Path, why: OSError | str, kind: Kind = "not writable") -> CannotWrite:
    """Returns the error for a path that cannot be written; on a full disk its kind is "no room"."""
    text, fix = why if isinstance(why, str) else why.strerror or str(why), "choose another output folder"
    if isinstance(why, OSError) and why.errno in (errno.ENOSPC, errno.EDQUOT):
        kind, fix = "no room", "make room"
    return CannotWrite(f"cannot write {path}: {text}", "nothing was changed", fix, kind=kind)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
