"""Stopping well: a signal or a spent budget asks the loop to save and leave; a second Ctrl-C stops at once."""

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(Exception):
    """A signal or a spent budget stopped the work after it was saved.

    Args:
        signum: The signal's number; None for a spent budget.
    """

    def __init__(self, signum: int | None) -> None:
        why = "as the budget is spent" if signum is None else f"by {signal.Signals(signum).name}"
        super().__init__(f"stopped {why}, everything is saved; the same command goes on")
        self.exit_code = 5 if signum is None else 128 + signum


class Stop:
    """Whether the work is to stop: a signal has come (`signum` is its number), or it is later than `until`.

    Args:
        until: A time of `time.monotonic`.
    """

    def __init__(self, until: float = math.inf) -> None:
        self.signum: int | None = None
        self.until = until

    @property
    def requested(self) -> bool:
        """Returns whether the work is to stop."""
        return self.signum is not None or time.monotonic() >= self.until

    def check(self) -> None:
        """Raises `Interrupted` when the work is to stop."""
        if self.requested:
            raise Interrupted(self.signum)


@contextmanager
def caught(until: float = math.inf) -> Iterator[Stop]:
    """Yields a `Stop` that the signals set while the block runs, and that asks by itself after `until`."""
    stop = Stop(until)

    def note(signum: int, frame: FrameType | None) -> None:
        stop.signum = signum
        signal.signal(signal.SIGINT, signal.default_int_handler)

    wanted = [signal.SIGINT, signal.SIGTERM, *([signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else [])]
    before = {signum: signal.signal(signum, note) for signum in wanted}
    try:
        yield stop
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
