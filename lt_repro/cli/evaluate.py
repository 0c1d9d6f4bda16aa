"""`evaluate`: what the stored weights of a run give, its predictions, and its confusion matrix."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lt_repro.cli.app import DATASETS, DataRoot, Device, Json, Runs, app, put, put_json
from lt_repro.cli.output import put_grid, write
from lt_repro.cli.request import dataset_of
from lt_repro.cli.show import accuracy_names, percent, put_balance
from lt_repro.errors import FailedError, RequestError

if TYPE_CHECKING:
    from lt_repro.data.images import Images
    from lt_repro.store.runs import Run
    from lt_repro.train.stored import Difference, Evaluation


@app.command()
def evaluate(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Run: a path, a key, or a unique beginning of a key.")],
    dataset: Annotated[str | None, typer.Option(help=DATASETS, show_default="the run's")] = None,
    runs: Runs = None,
    data_root: DataRoot = None,
    device: Device = "auto",
    bn: Annotated[
        str, typer.Option(help="BatchNorm statistics to test with: running (as stored), mixed, clean or blend.")
    ] = "running",
    logits: Annotated[
        Path | None, typer.Option("--save-logits", help="Write logits, labels and class names to this .npz file.")
    ] = None,
    confusion: Annotated[
        Path | None, typer.Option(help="Write the confusion matrix to this folder, as .csv, .png and .svg.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Test the stored weights of a run; save its predictions.

    [bold]ltrepro evaluate digits-r60-dbn_mix-e60-s0-a702[/bold]

    [bold]ltrepro evaluate digits-r60-dbn_mix-e60-s0-a702 --save-logits logits.npz --confusion figures[/bold]

    [bold]ltrepro evaluate digits-r60-dbn_mix-e60-s0-a702 --bn clean[/bold]

    Needs the weights file beside the run file; those of the digits' Table 4, seed
    0, are in tables/runs. A run on images of your own needs --dataset too. Exits
    with 1 if an accuracy is not the stored one; that can happen on another device
    or with another torch, which round differently. Tests compute in fp32.

    --save-logits has the logits of the last epoch, combined and by branch, one
    row for each test image, sorted by class.

    --bn gathers BatchNorm's statistics again from an epoch of training batches:
    as in training (mixed), without mixing (clean), or as the released code of
    DBN-Mix does with one branch (blend).
    """
    from lt_repro.data import load
    from lt_repro.data.images import images_of
    from lt_repro.store import runs as stored
    from lt_repro.train.device import pick_device
    from lt_repro.train.stored import differences, evaluate_run

    _check_names(logits, confusion)
    folders = stored.run_folders(runs)
    result = stored.find_run(run, folders)
    beside = [result.path.parent] if result.path else []
    parents = [*beside, *folders]
    result, weights = stored.weights(result.recipe, parents)
    pool = load.load_pool(dataset or dataset_of(result), load.data_root(data_root))
    if pool.name != result.recipe.dataset:
        raise RequestError(
            f"{result.recipe.key()} was trained on {result.recipe.dataset}, not on {pool.name}",
            "allowed: the images it was trained on",
        )
    images = images_of(result.recipe.subset, pool)
    evaluation = evaluate_run(result, weights, images, pick_device(device), bn, parents)
    paths = _save_logits(logits, result, images, evaluation) if logits else []
    paths += _draw_confusion(confusion, result, images, evaluation) if confusion else []
    before = result.outcome(bn)
    differing = differences(result, evaluation.scores, bn) if before else []
    if as_json:
        origin = {name: evaluation.origin[name] for name in ("device", "threads", "versions")}
        put_json(
            {"key": result.recipe.key(), "path": str(result.path), "bn": bn, "result": evaluation.scores}
            | {"agrees": not differing if before else None}
            | {"stored": {name: before[name] for name in evaluation.scores} if before else None}
            | {"precision": evaluation.precision, **origin, "files": list(map(str, paths))}
        )
    else:
        _put(result, evaluation, bn)
        if before is None:
            put(f"{result.path} has no accuracies with {bn} statistics to compare with: an older version trained it")
        elif not differing:
            put(f"agrees with {result.path}: every output, overall and in each class")
        for path in paths:
            put(str(path))
    if differing:
        raise _disagreement(result, evaluation, differing)


def _check_names(logits: Path | None, confusion: Path | None) -> None:
    """Refuses names that would give another file than one expects, or replace a run's."""
    if logits and logits.suffix != ".npz":
        raise RequestError(f"--save-logits {logits}", "allowed: the name of a file that ends in .npz")
    if confusion and confusion.suffix in (".csv", ".png", ".svg", ".pdf"):
        raise RequestError(
            f"--confusion {confusion}", "allowed: a folder, for confusion-KEY.csv, confusion-KEY.png and .svg"
        )


def _save_logits(path: Path, run: "Run", images: "Images", evaluation: "Evaluation") -> list[Path]:
    from lt_repro.store import files
    from lt_repro.store.predictions import predictions

    branches = dict(zip(run.recipe.spec.branches, evaluation.logits.branches, strict=True))
    content = predictions(
        run.recipe.key(), evaluation.logits.combined, branches, images.test_labels, images.class_names
    )
    if path.exists() and not (path.is_file() and path.read_bytes() == content):
        raise RequestError(
            f"{path} exists with different content", "nothing was changed", "move it away, or use another name"
        )
    files.write(path, content)
    return [path]


def _draw_confusion(folder: Path, run: "Run", images: "Images", evaluation: "Evaluation") -> list[Path]:
    from lt_repro.metrics import confusion
    from lt_repro.render import confusion as numbers
    from lt_repro.render import figures

    key, names = run.recipe.key(), images.class_names
    counts = confusion(evaluation.logits.combined.argmax(axis=1), images.test_labels, len(names))
    stem = folder / f"confusion-{key}"
    path = write(stem.with_name(f"{stem.name}.csv"), numbers.csv(counts, names))
    figure = figures.confusion_figure(f"Confusion matrix, last epoch: {key}", counts, names)
    return [path, *figures.save(figure, stem)]


def _put(run: "Run", evaluation: "Evaluation", bn: str) -> None:
    """Prints the accuracies beside the stored ones."""
    names = accuracy_names(run)
    outputs: list[tuple[str, str | None, dict[str, Any]]] = [
        (branch, branch, scores) for branch, scores in evaluation.scores["branches"].items()
    ]
    if len(outputs) > 1:
        outputs.insert(0, ("combined", None, evaluation.scores))
    rows = []
    for title, branch, scores in outputs:
        rows.append([title, *(percent(scores["accuracy"].get(name)) for name in names)])
        rows.append([f"{title}, stored", *(percent(run.accuracy(name, branch, bn)) for name in names)])
    put_grid([f"top-1 %, last epoch{'' if bn == 'running' else f', {bn} statistics'}", *names], rows, fixed=1)
    put_balance(run)
    put(
        f"tested in {evaluation.precision} on {evaluation.origin['device']}; trained in {run.precision} on {run.device}"
    )


def _disagreement(run: "Run", evaluation: "Evaluation", differing: "list[Difference]") -> FailedError:
    """Returns the error of weights that do not give the stored accuracies."""
    first, more = differing[0], f" and {len(differing) - 1} more differ" if differing[1:] else ""
    numbers = f"{first.output}, {first.part}: {percent(first.stored)} % stored, {percent(first.computed)} % now"
    origin, torch = evaluation.origin, run.versions.get("torch")
    pairs = {
        "device": (run.device, origin["device"]),
        "precision": (run.test_precision or run.precision, evaluation.precision),
        "torch": (torch, origin["versions"]["torch"]),
    }
    changed = [f"{name} {before} then, {now} now" for name, (before, now) in pairs.items() if before != now]
    return FailedError(
        f"{run.recipe.key()} does not give its stored accuracy: {numbers}{more}",
        f"what differs: {'; '.join(changed)}" if changed else "device, precision and torch are those of the run",
        "a few images can change where sums are rounded differently; evaluate where it was trained"
        if changed
        else "the code that predicts, or the run file, has changed since it was trained",
    )
