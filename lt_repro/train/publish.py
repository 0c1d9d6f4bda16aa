"""Publishing: the final weights and the run file of a run that has ended."""

import time

from lt_repro.errors import DamagedError
from lt_repro.store import checkpoint, files, provenance
from lt_repro.store.runs import Run
from lt_repro.train import evaluate
from lt_repro.train.state import TrainState


def publish(state: TrainState) -> Run:
    """Writes the final weights and the run file, removes the checkpoint, and returns the run.

    A run that was published in the meantime is not changed and is returned; if it has no weights file and these weights
    match it, they are stored.
    """
    published = state.out / f"{state.recipe.key()}.json"
    if published.exists():
        return _completed(state, Run.read(published))
    last = state.attempts[-1]
    last["ended"] = "done" if state.diverged is None else "diverged"
    result = result_bn = stored = None
    if state.diverged is None:
        result = evaluate.outcome(state.logits, state.images, state.recipe.spec.branches) | {"best": state.best}
        result_bn = state.result_bn()
        content, stored = weights(state)
        files.write(state.out / stored["file"], content)
    split = state.images.split
    run = Run(
        recipe=state.recipe,
        status="done" if state.diverged is None else "diverged",
        result=result,
        result_bn=result_bn,
        test_precision=evaluate.PRECISION,
        diverged=state.diverged,
        curve=state.curve,
        history=state.history,
        split={
            "digest": split.digest,
            "counts": split.counts.tolist(),
            "class_names": list(state.images.class_names),
        },
        parents=state.parents,
        data_digest=state.images.digest,
        images=state.images.content,
        weights=stored,
        seconds=round(state.seconds + time.monotonic() - state.started, 3),
        images_per_second=round(state.images_passed / max(state.train_seconds, 1e-9), 1),
        device=last["device"],
        precision=state.precision,
        versions=last["versions"],
        commit=last["commit"],
        attempts=state.attempts,
        command=provenance.command(),
        threads=last["threads"],
        determinism="C" if provenance.changes(state.attempts) else last["determinism"],
    ).publish(state.out)
    checkpoint.remove(state.path)
    return run


def weights(state: TrainState) -> tuple[bytes, dict[str, str]]:
    """Returns the final weights as they are stored, and their file's name and the SHA-256 of the tensors."""
    tensors = dict(state.net.cpu().state_dict())  # a plain dict: torch's has the modules' names too
    digest = checkpoint.tensor_digest(tensors)
    return checkpoint.dump(tensors), {"file": f"{state.recipe.key()}.pt", "sha256": digest}


def _completed(state: TrainState, run: Run) -> Run:
    if run.weights and not run.weights_path:
        content, stored = weights(state)
        if stored != run.weights:
            raise DamagedError(
                f"{run.path} was trained again and gave other weights, so its own cannot be restored",
                "the same torch, device and threads give the same weights, others do not",
                "move it away, with the runs that started from it, and train it again",
            )
        files.write(state.out / stored["file"], content)
    checkpoint.remove(state.path)
    return run
