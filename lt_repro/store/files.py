"""Writing files so that nothing is ever lost or half-written: temporary file, flush, fsync, rename."""

import contextlib
import glob
import os
from pathlib import Path

from lt_repro.errors import RequestError


def write(path: Path, data: bytes, *, replace: bool = True, before: Path | None = None) -> None:
    """Writes a whole file or nothing; what stood there before stays until the new file is on disk.

    Args:
        path: Where to; its folder is made when missing.
        data: The content.
        replace: Whether a file that stands there may be replaced.
        before: Where the file that stands there is put; None to lose it.

    Raises:
        FileExistsError: A file stands there and `replace` is off.
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
            raise cannot_write(path, "a file is in the way of its folder") from None
        raise
    except OSError as error:
        raise cannot_write(path, error.strerror or str(error)) from error
    finally:
        remove(temporary)


def remove_temporary(folder: Path, name: str) -> None:
    """Removes the temporary files that killed processes left of files whose name begins with `name`."""
    for path in folder.glob(f".{glob.escape(name)}*.tmp"):
        remove(path)


def remove(path: Path) -> None:
    """Removes a file that is not needed any more; one that cannot be removed stays."""
    with contextlib.suppress(OSError):
        path.unlink()


def ensure_writable(folder: Path, name: str = "probe") -> None:
    """Makes a folder and tries to write there, so that hours of work do not end in an error.

    What a process leaves that is killed at it, `remove_temporary` removes under the same name.

    Raises:
        RequestError: It cannot be written.
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
        raise cannot_write(probe, error.strerror or str(error)) from error


class CannotWrite(RequestError):
    """A file or folder that cannot be written; what was there before is unchanged."""


def cannot_write(path: Path, why: str) -> CannotWrite:
    """Returns the error for a place that cannot be written."""
    return CannotWrite(f"cannot write {path}: {why}", "nothing was changed", "choose another output folder")


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
