"""Clean stops: on a signal or a spent budget the loop saves and exits; a later signal stops at once.

Ctrl-C, SIGTERM, SIGUSR1 and SIGHUP (the terminal is gone) ask the same. A wrapper may pass on a Ctrl-C that the process
has already had, and people press it twice: what arrives within `SAME` seconds of the first is the same request.
"""

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")
SAME = 2.0


class Interrupted(Exception):
    """A signal or a spent budget stopped the work; everything was saved first.

    Args:
        signum: The signal's number; None if the budget is spent.
        lost: Workers that ended without saving.
    """

    def __init__(self, signum: int | None, lost: int = 0) -> None:
        why = "the budget is spent" if signum is None else signal.Signals(signum).name
        saved = f"{lost} of the workers ended without saving" if lost else "everything is saved"
        super().__init__(f"stopped: {why}; {saved}, rerun to resume")
        self.exit_code = 5 if signum is None else 128 + signum


class StoppedAtOnce(KeyboardInterrupt):
    """A second request stopped the work before it had saved.

    Args:
        signum: The signal's number.
    """

    def __init__(self, signum: int) -> None:
        super().__init__("stopped at once: what was trained since the last checkpoint is not saved; rerun to resume")
        self.exit_code = 128 + signum


class Stop:
    """Whether to stop: a signal arrived (`signum` is its number), or it is later than `until`.

    Args:
        until: A time on the clock `time.monotonic`.
    """

    def __init__(self, until: float = math.inf) -> None:
        self.signum: int | None = None
        self.until = until

    @property
    def requested(self) -> bool:
        """Returns whether to stop."""
        return self.signum is not None or time.monotonic() >= self.until

    def check(self, lost: int = 0) -> None:
        """Raises `Interrupted` if it is time to stop; `lost` workers have not saved."""
        if self.requested:
            raise Interrupted(self.signum, lost)


@contextmanager
def caught(until: float = math.inf) -> Iterator[Stop]:
    """Yields a `Stop` that is set by signals during the block, and by the clock after `until`.

    Raises:
        StoppedAtOnce: A further signal arrived, `SAME` seconds or more after the first.
    """
    stop, first = Stop(until), 0.0

    def note(signum: int, frame: FrameType | None) -> None:
        nonlocal first
        if stop.signum is None:
            stop.signum, first = signum, time.monotonic()
        elif time.monotonic() - first >= SAME:
            raise StoppedAtOnce(signum)

    known = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
    hangup = getattr(signal, "SIGHUP", None)  # which nohup ignores
    requested = [each for each in known if each != hangup or signal.getsignal(each) != signal.SIG_IGN]
    before = {signum: signal.signal(signum, note) for signum in requested}
    try:
        yield stop
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
