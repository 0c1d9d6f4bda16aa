"""Where in training a run is, small enough to be sent from one process to another."""

import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from lt_repro.train.state import TrainState


class RunProgress(NamedTuple):
    """Where in training a run is: `step` of `steps` over all its epochs, of which this process started at `start`.

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


def progress_of(state: "TrainState") -> RunProgress:
    """Returns where in training a run is."""
    seconds = state.train_seconds + (time.monotonic() - state.epoch_started if state.step else 0.0)
    return RunProgress(
        key=state.recipe.key(),
        epoch=state.epoch,
        epochs=state.recipe.epochs,
        start=state.attempts[-1]["epoch"] * state.steps + state.attempts[-1]["step"],
        step=state.epoch * state.steps + state.step,
        steps=state.recipe.epochs * state.steps,
        loss=state.history["loss"][-1] if state.history["loss"] else None,
        accuracy=state.curve[-1]["all"] if state.curve else None,
        points=len(state.curve),
        speed=state.images_passed / max(1e-9, seconds),
    )
