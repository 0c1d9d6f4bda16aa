"""Locks of runs: any number of processes may share a folder, and each run is trained by exactly one of them.

A run's lock is a kernel lock on `<key>.lock`. It ends with its process, however that process ends, so a lock is never
stale: after a crash the next process takes the lock and resumes from the checkpoint. Several users may share a folder:
to look at a lock, and to take one that another user's crashed process has left, reading the file is enough; the umask
and the folder's group decide who may.
"""

import contextlib
import fcntl
import getpass
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lt_repro.store import files

SUFFIX = ".lock"


@contextmanager
def lock(folder: Path, key: str) -> Iterator[bool]:
    """Yields whether this process got the lock of run `key` in `folder`; it is held until the block ends.

    Raises:
        RequestError: The folder cannot be written.
    """
    path, new = folder / f"{key}{SUFFIX}", not folder.exists()
    try:
        descriptor = _locked(path)
    except OSError as error:
        raise files.cannot_write(path, error, "runs not writable") from error
    if descriptor is None:
        yield False
        return
    try:
        yield True
    finally:
        files.remove(path)
        os.close(descriptor)
        if new:
            with contextlib.suppress(OSError):  # a folder made here is removed if it is empty
                folder.rmdir()


def held(path: Path) -> bool:
    """Returns whether a process holds the lock whose file is `path`; a file that may not be read says nothing."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def holder(path: Path) -> str:
    """Returns who holds a lock: "alice on node7 since 2026-11-30 14:05"; "" where the file does not say."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _sign(descriptor: int) -> None:
    """Writes into a lock file who holds it; another user's file stays as it is."""
    with contextlib.suppress(OSError, KeyError):  # KeyError: a user without a name
        who = f"{getpass.getuser()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M')}"
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{who}\n".encode())


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError:
        return os.open(path, os.O_RDONLY)


def _locked(path: Path) -> int | None:
    """Returns the descriptor of the lock file, now locked by us, or None if another process holds it."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = _opened(path)
        except FileNotFoundError:
            if path.parent.is_dir():
                raise
            continue  # a process that wrote nothing has removed the folder
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(descriptor).st_ino:
                _sign(descriptor)
                return descriptor
        os.close(descriptor)  # its last owner removed the file after we opened it and before we locked it
