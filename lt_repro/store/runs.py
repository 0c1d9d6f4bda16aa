"""The Run: the result of a recipe, stored as one strict JSON file that is written only when the run ends."""

import dataclasses
import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from torch import Tensor

from lt_repro.errors import DamagedError, Kind, RequestError
from lt_repro.metrics import balanced_accuracy
from lt_repro.recipe import Recipe
from lt_repro.store import checkpoint, files, run_file


@dataclass(frozen=True)
class Run:
    """A finished or diverged run. Accuracies are fractions; the last epoch is the headline.

    Args:
        recipe: What was trained.
        status: "diverged" if a loss was not finite; then `result` is None and `diverged` says where.
        result: accuracy {all, many, medium, few, balanced}, per_class (K), branches {name: {accuracy, per_class}},
            best {epoch, all, accuracy, branches} of the curve's points (picked on test, so never the headline; older
            files have no accuracy and branches in it), ece, and reliability {images, confidence, accuracy}, its 15
            bins; the means of an empty bin are null. A group without classes is absent; so is balanced, the mean over
            the classes, where all classes have as many test images: there it is `all`.
        diverged: The epoch (0-based) and step of the first loss that was not finite, or None.
        curve: [{epoch, all}], test accuracy after that many epochs; with `eval_bn` also bn {mixed, clean, blend}.
        history: {"loss": [mean training loss of each epoch], NAME: [mean of what the method logged, or None]}.
        split: {digest, counts (K), class_names (K)}.
        data_digest: SHA-256 of the selected training images and the test images.
        weights: {file, sha256} of the final weights. The file is beside the run file where it was trained; the digest
            is over the tensors (`checkpoint.tensor_digest`). None if diverged.
        seconds: Training and evaluation time, over all attempts.
        images_per_second: Images trained on per second (a dual-branch step passes two batches); images of cached
            features count too.
        device: The device, in words.
        precision: The precision used, after "auto" is resolved.
        versions: Versions of Python and the packages that compute.
        commit: The commit of this code, with "+" if it had changes; None outside a checkout.
        attempts: [{epoch, step, ended, versions, commit, device, threads, determinism}], where in training each process
            started, how it ended, and its origin, which older files lack; `damaged` lists the damaged checkpoints that
            it skipped. The run's own origin is that of the last.
        parents: {role: {key, weights}}, the parent runs and the SHA-256 of their weights.
        command: The command line.
        threads: Number of CPU threads of torch; None on other devices.
        determinism: How far a rerun is promised to be equal. "A": the same bits on one kind of CPU with the same build
            of torch and number of threads. "B": the same bits on the same model of GPU (deterministic algorithms on).
            "C": the same within the spread of the seeds; also where the attempts' origins differ.
        result_bn: {mixed, clean, blend}: accuracy, per_class, branches, ece and reliability of the same weights with
            BatchNorm's statistics gathered otherwise (`train.bn_statistics`). None if diverged; older files lack it.
        test_precision: The precision of every test; None in older files, which tested in `precision`.
        rekeyed: {key, schema} that the file had before it was re-keyed (`store.migrate`), or None.
        images: Of a known data set: "published", or how the images differ from the published ones, in words. None for
            a user's images, where the published ones are not known, and in older files.
        path: The file it was read from.
    """

    recipe: Recipe
    status: Literal["done", "diverged"]
    result: dict[str, Any] | None
    diverged: dict[str, int] | None
    curve: list[dict[str, Any]]
    history: dict[str, list[float | None]]
    split: dict[str, Any]
    data_digest: str
    weights: dict[str, str] | None
    seconds: float
    images_per_second: float
    device: str
    precision: str
    versions: dict[str, str]
    commit: str | None
    attempts: list[dict[str, Any]]
    parents: dict[str, dict[str, str]]
    command: str
    threads: int | None
    determinism: Literal["A", "B", "C"]
    result_bn: dict[str, dict[str, Any]] | None = None
    test_precision: str | None = None
    rekeyed: dict[str, Any] | None = None
    images: str | None = None
    path: Path | None = dataclasses.field(default=None, compare=False)

    def outcome(self, bn: str = "running") -> dict[str, Any] | None:
        """Returns the result under BatchNorm's running statistics, or others by name; None if it is not stored.

        Where running statistics are not of mixed images, the others give the same.
        """
        if bn == "running" or self.result is None:
            return self.result
        if self.result_bn is None:
            return None if self.recipe.method.gathers_mixed else self.result
        return self.result_bn.get(bn)

    def accuracy(self, metric: str = "all", branch: str | None = None, bn: str = "running") -> float | None:
        """Returns an accuracy of the last epoch, of the combined output or one branch; None if there is none.

        "balanced" is the mean over the classes, and None where the test set is balanced: there it is "all".

        Args:
            metric: "all", "many", "medium", "few" or "balanced"; or "ece", the calibration error (no accuracy).
            branch: A branch's name, or None for the combined output.
            bn: As in `outcome`.
        """
        outcome = self.outcome(bn)
        if outcome is None:
            return None
        part = outcome if branch is None else outcome["branches"].get(branch, {})
        if metric == "ece":
            error: float | None = part.get("ece")
            return error
        value: float | None = part.get("accuracy", {}).get(metric)
        if metric == "balanced" and value is None and part.get("per_class"):  # older files lack it
            mean = balanced_accuracy(part["per_class"])
            return mean if abs(mean - part["accuracy"]["all"]) > 1e-9 else None
        return value

    @property
    def weights_path(self) -> Path | None:
        """Returns the path of the final weights, beside the run file; None if there is no such file."""
        path = self.path.with_suffix(".pt") if self.path and self.weights else None
        return path if path and path.is_file() else None

    def to_json(self) -> dict[str, Any]:
        """Returns the run file's content, without its path."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "path"}
        values |= {"schema": run_file.SCHEMA, "key": self.recipe.key(), "recipe": self.recipe.to_json()}
        return run_file.sealed(values)

    def publish(self, folder: Path) -> Self:
        """Writes the run file `<key>.json` and returns the stored run; an existing file is never overwritten.

        Raises:
            RequestError: The folder cannot be written.
        """
        path = folder / f"{self.recipe.key()}.json"
        text = json.dumps(self.to_json(), indent=1, allow_nan=False) + "\n"
        try:
            files.write(path, text.encode(), replace=False)
        except FileExistsError:
            return type(self).read(path)
        return dataclasses.replace(self, path=path)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Returns the run stored in a file after checking its digest, key and name.

        Raises:
            DamagedError: It is not a whole, unchanged run file of the schema this version reads.
        """
        values = run_file.read(path)
        try:
            recipe = Recipe.from_json(values.pop("recipe"))
            if values.pop("key") != recipe.key():
                raise ValueError("its name, its key and its recipe do not match")
            del values["schema"]
            return cls(recipe=recipe, path=path, **values)
        except (ValueError, TypeError, KeyError) as error:
            raise run_file.damaged(path, error) from error


class MissingWeights(RequestError):
    """A finished run has no weights file beside it."""

    kind: Kind = "no weights"


def run_folders(given: Sequence[Path] | None) -> list[Path]:
    """Returns the folders to search for runs, each once: the given ones or `./runs`, then `./tables/runs`."""
    return list(dict.fromkeys([*(given or [Path("runs")]), Path("tables/runs")]))


def load_runs(folders: Iterable[Path]) -> tuple[list[Run], list[DamagedError]]:
    """Returns every run stored in the folders, each once, and an error for each file that cannot be read as a run.

    If a run is stored several times, the first copy with weights beside it is used, else the first copy.
    """
    runs: dict[str, Run] = {}
    bad = []
    for path in (path for folder in folders for path in sorted(folder.glob("*.json"))):
        if path.name.endswith(run_file.FAILED):
            continue
        try:
            run = Run.read(path)
        except DamagedError as error:
            bad.append(error)
            continue
        if path.stem not in runs or (run.weights_path and not runs[path.stem].weights_path):
            runs[path.stem] = run
    return list(runs.values()), bad


def set_aside(path: Path) -> Path | None:
    """Returns the new path of a run file that was moved into `superseded/` with its weights; None if there is none."""
    if not path.exists():
        return None
    places = (path.parent / "superseded" / f"{path.stem}-{i}.json" for i in itertools.count(1))
    aside = next(place for place in places if not place.exists())
    aside.parent.mkdir(exist_ok=True)
    if path.with_suffix(".pt").exists():
        path.with_suffix(".pt").replace(aside.with_suffix(".pt"))
    return path.replace(aside)


def weights(recipe: Recipe, folders: Iterable[Path]) -> tuple[Run, dict[str, Tensor]]:
    """Returns the run of a recipe and its final weights, from the first folder that has both.

    Raises:
        RequestError: There is no such run, or it diverged.
        MissingWeights: The run is there, its weights file is not.
        DamagedError: The run file or the weights are damaged.
    """
    key = recipe.key()
    paths = [path for folder in folders if (path := folder / f"{key}.json").is_file()]
    stored = [Run.read(path) for path in paths]
    for run in stored:
        if run.weights and run.weights_path:
            return run, checkpoint.load_weights(run.weights_path, run.weights["sha256"])
    if any(run.status == "diverged" for run in stored):
        raise RequestError(f"the run {key} diverged", "allowed: a run that finished training")
    if stored:
        raise MissingWeights(
            f"the weights file of {key} is missing: no {key}.pt beside {paths[0]}",
            "allowed: a run with its weights file beside its run file",
            "train that run again, here or into another folder",
        )
    raise RequestError(f"{key} has not run", "allowed: a run that finished training", "train it first")


_NAMES = "allowed: a path, a key, or a unique beginning of a key"


def find_run(text: str, folders: Sequence[Path]) -> Run:
    """Returns the run with this path, key, or unique prefix of a key.

    Raises:
        RequestError: No run matches, or more than one.
        DamagedError: Its file is damaged.
    """
    if len(text) < 256 and Path(text).is_file():
        path = Path(text)
        return Run.read(path if path.suffix not in (".pt", ".ckpt") else path.with_suffix(".json"))
    if not text:
        raise RequestError("the name of the run is empty", _NAMES)
    paths: dict[str, Path] = {}
    for path in (path for folder in folders for path in sorted(folder.glob(f"{_plain(text)}*.json"))):
        if path.name.endswith(run_file.FAILED):
            continue
        paths.setdefault(path.stem, path)
    if text in paths:
        return Run.read(paths[text])
    if len(paths) != 1:
        few = ", ".join(sorted(paths)[:4]) + (", ..." if len(paths) > 4 else "")
        none = f"no run matches {text!r} in {', '.join(map(str, folders))}"
        raise RequestError(f"{text!r} matches {len(paths)} runs: {few}" if paths else none, _NAMES)
    return Run.read(next(iter(paths.values())))


def _plain(text: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "?" for letter in text)
