"""Claims: any number of processes on one folder, and every run is trained by exactly one of them.

A claim is a lock that the kernel holds on `<key>.lock` for a process: it ends with the process, however that ends. So
an owner that died leaves nothing to be judged; the next process takes the lock and goes on from the checkpoint.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lt_repro.store import files

SUFFIX = ".lock"


@contextmanager
def claim(folder: Path, key: str) -> Iterator[bool]:
    """Yields whether this process alone may train the run `key` in `folder` while the block runs.

    Raises:
        RequestError: The folder cannot be written.
    """
    path, new = folder / f"{key}{SUFFIX}", not folder.exists()
    try:
        descriptor = _locked(path)
    except OSError as error:
        raise files.cannot_write(path, error.strerror or str(error)) from error
    if descriptor is None:
        yield False
        return
    try:
        yield True
    finally:
        files.remove(path)
        os.close(descriptor)
        if new:
            with contextlib.suppress(OSError):  # unless something was written, the folder goes too
                folder.rmdir()


def held(path: Path) -> bool:
    """Returns whether some process holds the claim whose file is `path`."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _locked(path: Path) -> int | None:
    """Returns the descriptor of a lock file that is now ours, or None if another process holds it."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:
            if path.parent.is_dir():
                raise
            continue  # a claim that wrote nothing has taken the folder away again
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        os.close(descriptor)  # its last owner removed this file between our opening and our locking it
