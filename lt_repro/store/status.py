"""The state of every run in a folder, derived from its files. Does not import torch, which is slow."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lt_repro.errors import DamagedError
from lt_repro.store import checkpoint, consistency, files, locks, run_file

FAILED = run_file.FAILED


class RunStatus(NamedTuple):
    """One run of a folder: key, state, a note (training position or what is wrong), and the stored content if ended."""

    key: str
    state: str
    folder: Path
    note: str = ""
    content: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns the state as JSON values; the accuracy is a fraction."""
        result = (self.content or {}).get("result") or {}
        accuracy = result.get("accuracy", {}).get("all")
        document = {"key": self.key, "state": self.state, "folder": str(self.folder), "note": self.note}
        return document | {"accuracy": accuracy}


def run_statuses(folders: Iterable[Path]) -> Iterator[RunStatus]:
    """Yields every run that has a file in a folder, each key once, folders in the given order.

    A run is "done" or "diverged" if its run file says so, "running" while a process holds its lock, "failed" if it
    failed and was not resumed, "interrupted" if it only has a checkpoint, and "damaged" if its run file is damaged.
    """
    seen: set[str] = set()
    for folder in folders:
        ended = {path.stem: path for path in folder.glob("*.json") if not path.name.endswith(FAILED)}
        unfinished = {checkpoint.key_of(path) for path in folder.glob(f"*{checkpoint.SUFFIX}")}
        unfinished |= {path.name.removesuffix(FAILED) for path in folder.glob(f"*{FAILED}")}
        unfinished |= {path.stem for path in folder.glob(f"*{locks.SUFFIX}") if locks.held(path)}
        for key in sorted((ended.keys() | unfinished) - seen):
            seen.add(key)
            yield _ended(key, ended[key]) if key in ended else _unfinished(key, folder)


def _ended(key: str, path: Path) -> RunStatus:
    try:
        content = run_file.read(path)
        return RunStatus(key, content["status"], path.parent, "", content)
    except DamagedError as error:
        return RunStatus(key, "damaged", path.parent, str(error).splitlines()[0])


def _unfinished(key: str, folder: Path) -> RunStatus:
    path, failed = folder / f"{key}{checkpoint.SUFFIX}", folder / f"{key}{FAILED}"
    try:
        position = checkpoint.where(path)
        note = f"epoch {position['epoch']}/{position['epochs']}, step {position['step']}/{position['steps']}"
    except DamagedError:
        note = "no checkpoint"
    if locks.held(lock := folder / f"{key}{locks.SUFFIX}"):
        return RunStatus(key, "running", folder, f"{note}; {who}" if (who := locks.holder(lock)) else note)
    if failed.exists():
        return RunStatus(key, "failed", folder, f"{note}; see {failed.name}")
    return RunStatus(key, "interrupted", folder, note)


class FileCheck(NamedTuple):
    """A checked file, and what is wrong with it; "" if nothing."""

    path: Path
    wrong: str


def check_files(folder: Path, class_groups: Callable[[Sequence[int]], consistency.Groups]) -> Iterator[FileCheck]:
    """Yields every run file, weights file and checkpoint of a folder, checked against its digest.

    Args:
        folder: The folder.
        class_groups: See `consistency.disagreement`, which checks the numbers of each run file.
    """
    digests: dict[str, str | None] = {}
    for path in sorted(folder.glob("*.json")):
        if not path.name.endswith(FAILED):
            content, wrong = {}, ""
            try:
                content = run_file.read(path)
                wrong = consistency.disagreement(content, class_groups)
            except DamagedError as error:
                wrong = error.why
            digests[path.stem] = (content.get("weights") or {}).get("sha256")
            yield FileCheck(path, wrong)
    for path in sorted(folder.glob("*.pt")):
        yield FileCheck(path, _weights(path, digests))
    for path in sorted(folder.glob(f"*{checkpoint.SUFFIX}")):
        try:
            checkpoint.check(path)
            yield FileCheck(path, "")
        except DamagedError as error:
            yield FileCheck(path, error.why)


def without_weights(folders: Iterable[Path]) -> list[tuple[RunStatus, list[str]]]:
    """Returns the finished runs whose weights file is in none of the folders, and the runs that started from each."""
    folders = list(folders)
    ended = [run for run in run_statuses(folders) if run.content]
    stored = {path.stem for folder in folders for path in folder.glob("*.pt")}
    children: dict[str, list[str]] = {}
    for run in ended:
        for parent in (run.content or {})["parents"].values():
            children.setdefault(parent["key"], []).append(run.key)
    missing = [run for run in ended if (run.content or {})["weights"] and run.key not in stored]
    return [(run, children.get(run.key, [])) for run in missing]


def strays(folder: Path) -> list[Path]:
    """Returns what killed processes left: temporary files, free locks, damaged checkpoints and those of ended runs.

    Files of a run whose lock is held are not included, nor are temporary files of a process that is alive.
    """
    ended = {path.stem for path in folder.glob("*.json")}
    left = [*folder.glob("*.damaged"), *folder.glob(f"*{locks.SUFFIX}")]
    left += [path for path in folder.glob(f"*{checkpoint.SUFFIX}") if checkpoint.key_of(path) in ended]
    free = [path for path in left if not locks.held(folder / f"{_key(path)}{locks.SUFFIX}")]
    return sorted(free + [path for path in folder.glob(".*.tmp") if not _alive(path)])


def clean(path: Path) -> bool:
    """Removes one of the `strays`, holding its run's lock; returns whether the file no longer exists."""
    if path.suffix == ".tmp":
        if not _alive(path):
            files.remove(path)
    else:
        with locks.lock(path.parent, _key(path)) as mine:  # the lock file is removed with the lock
            if mine and path.suffix != locks.SUFFIX:
                files.remove(path)
    return not path.exists()


def _key(path: Path) -> str:
    return path.name.removesuffix(locks.SUFFIX) if path.suffix == locks.SUFFIX else checkpoint.key_of(path)


def _alive(path: Path) -> bool:
    """Returns whether the process whose number is in a temporary file's name exists, of any user."""
    number = path.name.removesuffix(".tmp").rpartition(".")[2]
    try:
        os.kill(int(number), 0)
    except (ValueError, OverflowError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


def _weights(path: Path, digests: dict[str, str | None]) -> str:
    if path.stem not in digests:
        return "it has no run file"
    if (expected := digests[path.stem]) is None:
        return "its run file lists no weights"
    try:
        checkpoint.load_weights(path, expected)
    except DamagedError as error:
        return error.why
    return ""
