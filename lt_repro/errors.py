"""What a user is told when something is wrong, in at most three lines: what, what is allowed, how to fix it."""

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

Kind = Literal[
    "",
    "not there",
    "older schema",
    "no weights",
    "unknown method",
    "no parent",
    "mixup on two branches",
    "empty class",
    "ratio of as-is",
    "decided by rows",
    "decided by columns",
    "other machine",
    "other split",
    "no room",
    "not writable",
    "runs not writable",
]
"""What is wrong, where the command line knows what to type about it; "" elsewhere."""


class LtReproError(Exception):
    """The base of every error that a user is told about in full.

    Args:
        given: What is wrong, in one line.
        allowed: What would have been right, in one line.
        fix: What to do about it, in one line.
        kind: See `Kind`.
    """

    exit_code = 1
    kind: Kind = ""

    def __init__(self, given: str, allowed: str = "", fix: str = "", *, kind: Kind = "") -> None:
        super().__init__("\n".join(line for line in (given, allowed, fix) if line))
        self.kind = kind or type(self).kind


class RequestError(LtReproError, ValueError):
    """A wrong request: it exits with 2, and nothing was changed."""

    exit_code = 2


class DamagedError(LtReproError):
    """A stored file cannot be trusted: it exits with 1, and the file is left as it is.

    Args:
        given: As every error has it, and so are `allowed` and `fix`.
        why: What is wrong without the file's name; by default `given`.
    """

    def __init__(self, given: str, allowed: str = "", fix: str = "", *, why: str = "") -> None:
        super().__init__(given, allowed, fix)
        self.why = why or given


class FailedError(LtReproError):
    """A job that had started failed: it exits with 1, and what was saved stays."""


def damaged(path: Path, why: str, fix: str = "") -> DamagedError:
    """Returns the error for a file whose content is not what was written."""
    return DamagedError(f"{path} is damaged: {why}", "", fix, why=why)


def unknown(what: str, given: str, allowed: Iterable[str], fix: str = "", kind: Kind = "") -> RequestError:
    """Returns the error for a name that is not one of `allowed`, with the nearest one suggested."""
    names = sorted(allowed)
    small = {name.lower(): name for name in names}
    near = difflib.get_close_matches(given.lower(), small, n=1)
    meant = f", did you mean {small[near[0]]!r}?" if near else ""
    return RequestError(f"unknown {what} {given!r}{meant}", f"allowed: {', '.join(names)}", fix, kind=kind)


def first_line(error: Exception) -> str:
    """Returns what went wrong in one line, without the path that an OSError repeats."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return reason.partition("\n")[0] or type(error).__name__
