"""Clean stops: on a signal or a spent budget the loop saves and exits; a second Ctrl-C stops at once."""

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(Exception):
    """A signal or a spent budget stopped the work; everything was saved first.

    Args:
        signum: The signal's number; None if the budget is spent.
    """

    def __init__(self, signum: int | None) -> None:
        why = "the budget is spent" if signum is None else signal.Signals(signum).name
        super().__init__(f"stopped: {why}; everything is saved, rerun to resume")
        self.exit_code = 5 if signum is None else 128 + signum


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

    def check(self) -> None:
        """Raises `Interrupted` if it is time to stop."""
        if self.requested:
            raise Interrupted(self.signum)


@contextmanager
def caught(until: float = math.inf) -> Iterator[Stop]:
    """Yields a `Stop` that is set by signals during the block, and by the clock after `until`."""
    stop = Stop(until)

    def note(signum: int, frame: FrameType | None) -> None:
        stop.signum = signum
        signal.signal(signal.SIGINT, signal.default_int_handler)

    requested = [signal.SIGINT, signal.SIGTERM, *([signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else [])]
    before = {signum: signal.signal(signum, note) for signum in requested}
    try:
        yield stop
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
