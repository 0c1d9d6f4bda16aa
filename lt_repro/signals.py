"""Stopping well: Ctrl-C, SIGTERM or SIGUSR1 asks the loop to save and leave; a second Ctrl-C stops at once."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(Exception):
    """A signal stopped the work after it was saved.

    Args:
        signum: The signal's number.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}, everything is saved; the same command goes on")
        self.exit_code = 128 + signum


class Stop:
    """Whether a signal has asked the work to stop; `signum` is the signal's number, or None."""

    signum: int | None = None

    def check(self) -> None:
        """Raises `Interrupted` when a signal has come."""
        if self.signum is not None:
            raise Interrupted(self.signum)


@contextmanager
def caught() -> Iterator[Stop]:
    """Yields a `Stop` that the signals set while the block runs."""
    stop = Stop()

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
