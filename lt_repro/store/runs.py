"""The Run: what came out of a recipe, stored as one strict JSON file that exists only when the run has ended."""

import dataclasses
import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from torch import Tensor

from lt_repro.errors import DamagedError, RequestError
from lt_repro.recipe import Recipe
from lt_repro.store import checkpoint, files, run_file


@dataclass(frozen=True)
class Run:
    """A finished or diverged run. Accuracies are fractions; the last epoch is the headline.

    Args:
        recipe: What was trained.
        status: "diverged" when a loss was not finite; then `result` is None and `diverged` says where.
        result: accuracy {all, many, medium, few; a group without classes is absent}, per_class (K), branches {name:
            {accuracy, per_class}}, best {epoch, all} along the curve, on test and so never the headline, ece, and
            reliability {images, confidence, accuracy}, the 15 bins it is made of; means are null where a bin is empty.
        diverged: The epoch (0-based) and step of the first loss that was not finite, or None.
        curve: [{epoch, all}], test accuracy after that many epochs.
        history: {"loss": [mean training loss of each epoch], NAME: [the same of what the method logged, or None]}.
        split: {digest, counts (K), class_names (K)}.
        data_digest: SHA-256 of the selected training images and the test images.
        weights: {file, sha256} of the final weights, which lie beside the working run, the digest that of the tensors
            (`checkpoint.tensor_digest`); None when diverged.
        seconds: Of training and evaluation, over all attempts.
        images_per_second: Images per second of training (a dual-branch step passes two batches), from cached features
            where they were.
        device: What it ran on, in words.
        precision: What "auto" became.
        versions: Of Python and the packages that compute.
        commit: Of this code, with "+" when it was changed; None outside a checkout.
        attempts: [{epoch, step, ended}], where each process began and how it ended; with `damaged`, the checkpoints
            that it found damaged and passed over.
        parents: {role: {key, weights}}, the runs it was given and the SHA-256 of their weights.
        command: What was typed.
        threads: That torch computed with on the CPU; None elsewhere.
        determinism: What is promised to come out again: "A" the same bits on one kind of CPU with the same build of
            torch and as many threads, "B" the same bits on the same model of GPU (--deterministic), "C" the same
            within the seeds.
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
    path: Path | None = dataclasses.field(default=None, compare=False)

    def accuracy(self, metric: str = "all", branch: str | None = None) -> float | None:
        """Returns an accuracy of the last epoch, of the combined output or of one branch; None where there is none."""
        if self.result is None:
            return None
        part = self.result if branch is None else self.result["branches"].get(branch, {})
        value: float | None = part.get("accuracy", {}).get(metric)
        return value

    @property
    def weights_path(self) -> Path | None:
        """Returns where the final weights lie, beside the run file; None where they are gone or never were."""
        path = self.path.with_suffix(".pt") if self.path and self.weights else None
        return path if path and path.is_file() else None

    def to_json(self) -> dict[str, Any]:
        """Returns the run file's content, without its path."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "path"}
        values |= {"schema": run_file.SCHEMA, "key": self.recipe.key(), "recipe": self.recipe.to_json()}
        return run_file.sealed(values)

    def publish(self, folder: Path) -> Self:
        """Writes the run file `<key>.json` and returns the run as it stands there; an earlier one is never overwritten.

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
        """Returns the run stored in a file, checked from its digest to its name.

        Raises:
            DamagedError: It is not a whole, unchanged run file of a schema this version knows.
        """
        values = run_file.read(path)
        try:
            recipe = Recipe.from_json(values.pop("recipe"))
            if values.pop("key") != recipe.key():
                raise ValueError("its name, its key and its recipe do not belong together")
            del values["schema"]
            return cls(recipe=recipe, path=path, **values)
        except (ValueError, TypeError, KeyError) as error:
            raise run_file.damaged(path, error) from error


def run_folders(given: Sequence[Path] | None) -> list[Path]:
    """Returns where runs are looked for: the given folders or `./runs`, then `./tables/runs`."""
    return [*(given or [Path("runs")]), Path("tables/runs")]


def load_runs(folders: Iterable[Path]) -> tuple[list[Run], list[DamagedError]]:
    """Returns every run stored in the folders, each once, and what is wrong with the files that are not runs.

    Of several copies the first counts that has its weights beside it, else the first.
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
    """Returns where a run file, with the weights beside it, was moved to make room; None where there was none."""
    if not path.exists():
        return None
    places = (path.parent / "superseded" / f"{path.stem}-{i}.json" for i in itertools.count(1))
    aside = next(place for place in places if not place.exists())
    aside.parent.mkdir(exist_ok=True)
    if path.with_suffix(".pt").exists():
        path.with_suffix(".pt").replace(aside.with_suffix(".pt"))
    return path.replace(aside)


def weights(recipe: Recipe, folders: Iterable[Path]) -> tuple[Run, dict[str, Tensor]]:
    """Returns the run of a recipe and its final weights, which lie beside it, from the first folder with both.

    Raises:
        RequestError: There is no such run, it diverged, or its weights are gone.
        DamagedError: The run file or the weights are damaged.
    """
    key = recipe.key()
    paths = [path for folder in folders if (path := folder / f"{key}.json").is_file()]
    found = [Run.read(path) for path in paths]
    for run in found:
        if run.weights and run.weights_path:
            return run, checkpoint.load_weights(run.weights_path, run.weights["sha256"])
    if any(run.status == "diverged" for run in found):
        raise RequestError(f"the parent {key} diverged", "allowed: a parent that was trained to its end")
    if found:
        raise RequestError(
            f"the weights of the parent {key} are gone: no {key}.pt beside {paths[0]}",
            "allowed: a parent whose weights lie beside its run file",
            "train it again with --force, or with --out into another folder",
        )
    raise RequestError(f"the parent {key} has not run", "allowed: a run that has ended", "train it first")


def find_run(text: str, folders: Sequence[Path]) -> Run:
    """Returns the run that a path, a key or the beginning of a key names.

    Raises:
        RequestError: There is none, or more than one.
        DamagedError: Its file is damaged.
    """
    if len(text) < 256 and Path(text).is_file():
        path = Path(text)
        return Run.read(path if path.suffix not in (".pt", ".ckpt") else path.with_suffix(".json"))
    if not text:
        raise RequestError("no run is named", "allowed: a path, a key, or a unique beginning of a key")
    paths: dict[str, Path] = {}
    for path in (path for folder in folders for path in sorted(folder.glob(f"{_plain(text)}*.json"))):
        if path.name.endswith(run_file.FAILED):
            continue
        paths.setdefault(path.stem, path)
    if text in paths:
        return Run.read(paths[text])
    if len(paths) != 1:
        places = ", ".join(map(str, folders))
        found = (
            f"{len(paths)} runs begin so: {', '.join(sorted(paths)[:4])} ..."
            if paths
            else f"places looked in: {places}"
        )
        raise RequestError(
            f"no single run is called {text!r}", found, "give a path, a key, or a unique beginning of a key"
        )
    return Run.read(next(iter(paths.values())))


def _plain(text: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "?" for letter in text)
