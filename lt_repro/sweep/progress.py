"""Where a run under way stands, small enough to be sent from one process to another."""

import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from lt_repro.train.loop import Lane


class Standing(NamedTuple):
    """Where a run stands: `step` of `steps` over all its epochs, of which this process began at `start`.

    `loss` is the last epoch's mean, `accuracy` (fraction) the last point of the curve, which has `points`. `speed` is
    in images through the network per second of training.
    """

    key: str
    epoch: int
    epochs: int
    start: int
    step: int
    steps: int
    loss: float | None
    accuracy: float | None
    points: int
    speed: float

    @property
    def ended(self) -> bool:
        """Returns whether the last step is taken."""
        return self.step == self.steps

    def words(self) -> str:
        """Returns "loss 1.234, accuracy 38.20 %, 1,500 images/s", as far as it is known."""
        loss = f"loss {self.loss:.3f}, " if self.loss is not None else ""
        accuracy = f"accuracy {100 * self.accuracy:.2f} %, " if self.accuracy is not None else ""
        return f"{loss}{accuracy}{self.speed:,.0f} images/s"


def standing(lane: "Lane") -> Standing:
    """Returns where a lane stands."""
    seconds = lane.train_seconds + (time.monotonic() - lane.begun if lane.step else 0.0)
    return Standing(
        key=lane.recipe.key(),
        epoch=lane.epoch,
        epochs=lane.recipe.epochs,
        start=lane.attempts[-1]["epoch"] * lane.steps + lane.attempts[-1]["step"],
        step=lane.epoch * lane.steps + lane.step,
        steps=lane.recipe.epochs * lane.steps,
        loss=lane.history["loss"][-1] if lane.history["loss"] else None,
        accuracy=lane.curve[-1]["all"] if lane.curve else None,
        points=len(lane.curve),
        speed=lane.passes / max(1e-9, seconds),
    )
