"""The one training loop: `fit` trains a recipe and returns its run. Nothing in it names a method."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from lt_repro.data.images import Images
from lt_repro.errors import FailedError
from lt_repro.recipe import Recipe
from lt_repro.store import checkpoint, files
from lt_repro.store.runs import Run
from lt_repro.train.device import pick_device
from lt_repro.train.publish import publish
from lt_repro.train.signals import Stop
from lt_repro.train.state import TrainState


def fit(
    recipe: Recipe,
    images: Images,
    *,
    out: Path,
    parents: Sequence[Path] = (),
    device: str = "auto",
    eval_every: int = 10,
    eval_bn: bool = False,
    save_every: float = 10.0,
    save_within: float = 120.0,
    watch: Callable[[TrainState], None] = lambda state: None,
    stop: Stop | None = None,
) -> Run:
    """Trains a recipe and returns its run, published in `out`.

    A run that started in `out` continues from its checkpoint, bit for bit as if it had never stopped (on one kind of
    CPU with the same torch and threads). Nothing is read back from the device inside an epoch.

    Args:
        recipe: What to train.
        images: The selected training images and the test images.
        out: Folder for checkpoints, weights and run files.
        parents: Folders in which parents are looked for, with their weights, before `out`.
        device: "auto", "cpu", "cuda" or "mps".
        eval_every: Epochs between points of the test-accuracy curve; the last epoch is always one.
        eval_bn: Whether each point of the curve has the accuracy under BatchNorm's other statistics too
            (`train.bn_statistics`), as the result always has.
        save_every: Seconds that must have passed since the last checkpoint for an epoch's end to write one.
        save_within: Seconds after which one is written inside an epoch too.
        watch: Called after every step and at every epoch's end.
        stop: Asked after every step; when it says so everything is saved and `Interrupted` raised.

    Raises:
        RequestError: The device is not there, a parent or its weights are missing, or `out` cannot be written.
        DamagedError: A parent's weights are damaged, or a checkpoint is of another version.
        FailedError: A checkpoint, the weights or the run file could not be written.
        Interrupted: `stop` said so.
    """
    state, stop = TrainState(recipe, images, out, pick_device(device), parents), stop or Stop()
    files.ensure_writable(out, recipe.key())
    try:
        while not state.done:
            state.start_epoch()
            while state.step < state.steps:
                train_step(state)
                watch(state)
                if time.monotonic() - state.saved_at >= save_within:
                    state.save()
                if stop.requested:
                    state.save("stopped")
                    stop.check()
            state.finish_epoch(eval_every, eval_bn)
            watch(state)
            if not state.done and time.monotonic() - state.saved_at >= save_every:
                state.save()
        return publish(state)
    except files.CannotWrite as error:
        fix = "make room" if error.kind == "no room" else "make its folder writable"
        kept = "the last checkpoint was kept" if checkpoint.exists(state.path) else "nothing was saved yet"
        raise FailedError(str(error).splitlines()[0], f"training stopped; {kept}", f"{fix} and rerun") from error


def train_step(state: TrainState) -> None:
    """Takes one batch per sampler, one loss, one step of the optimiser."""
    batches, ctx = state.load_batches()
    method, net = state.recipe.method, state.net
    with state.autocast():
        if state.meta_optimizer:
            for name, gradient in method.meta_grads(net, batches, ctx).items():
                net.get_parameter(name).grad = gradient
            state.meta_optimizer.step()
        loss = method.loss(net, batches, ctx)
    assert state.optimizer is not None
    state.optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    state.optimizer.step()
    state.record(loss.detach())
