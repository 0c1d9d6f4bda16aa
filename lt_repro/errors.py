"""What a user is told when something is wrong: given, allowed, how to mend it."""

import difflib
from collections.abc import Iterable


class RequestError(ValueError):
    """A wrong request: it exits with 2 and nothing was changed.

    Args:
        given: What was asked for, in one line.
        allowed: What would have been right, in one line.
        mend: What to type instead, in one line.
    """

    exit_code = 2

    def __init__(self, given: str, allowed: str = "", mend: str = "") -> None:
        super().__init__("\n".join(line for line in (given, allowed, mend) if line))


class DamagedError(RequestError):
    """A stored file cannot be trusted: it exits with 1 and the file is left as it is."""

    exit_code = 1


class FailedError(RequestError):
    """Work that had begun could not go on: it exits with 1 and what was saved stays."""

    exit_code = 1


def unknown(kind: str, given: str, allowed: Iterable[str], mend: str = "") -> RequestError:
    """Returns the error for a name that is not one of `allowed`, with the nearest one suggested."""
    names = sorted(allowed)
    near = difflib.get_close_matches(given, names, n=1)
    meant = f", did you mean {near[0]!r}?" if near else ""
    return RequestError(f"unknown {kind} {given!r}{meant}", f"allowed: {', '.join(names)}", mend)


def first_line(error: Exception) -> str:
    """Returns what went wrong in one line, without the path that an OSError repeats."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return reason.partition("\n")[0] or type(error).__name__
