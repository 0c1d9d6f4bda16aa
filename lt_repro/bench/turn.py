"""A turn of a contender: what was timed, and the rate of a whole epoch that follows from it."""

from typing import NamedTuple, Protocol

import torch


class Turn(NamedTuple):
    """Seconds of one turn, and how many images they were for.

    Args:
        start: To begin an epoch: draws, or workers until the first batch is there.
        train: Of the training steps after that.
        images: Passed through the network in those steps; a dual-branch step passes two batches.
        test: Of testing.
        tested: Images tested.
    """

    start: float
    train: float
    images: int
    test: float
    tested: int

    def rate(self, epoch_images: int, test_images: int, eval_every: int | None) -> float:
        """Returns training images/s over whole epochs.

        Args:
            epoch_images: Images that an epoch passes through the network.
            test_images: Images of a whole test.
            eval_every: Epochs from one test to the next; None for no test.
        """
        seconds = self.start + self.train * epoch_images / self.images
        if eval_every:
            seconds += self.test * test_images / self.tested / eval_every
        return epoch_images / seconds


class Contender(Protocol):
    """One that trains in turns.

    Attributes:
        eval_every: Epochs from one test to the next, as it is used.
    """

    eval_every: int

    def turn(self, steps: int, tested: int) -> Turn:
        """Returns the times of one turn."""


def synchronise(device: torch.device) -> None:
    """Waits until the device has done what it was given; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
