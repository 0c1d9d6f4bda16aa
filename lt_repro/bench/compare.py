"""Contenders side by side in one process, turn by turn (A B A B ...): a busy machine slows all of them alike."""

import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from lt_repro.bench import floor, ours, textbook
from lt_repro.bench.turn import Contender, Turn
from lt_repro.data.augment import as_input
from lt_repro.data.images import Images, Pool, images_of
from lt_repro.recipe import Recipe, find
from lt_repro.store import provenance
from lt_repro.train.device import pick_device, pick_precision

TESTED = 2000  # images tested in a turn; a whole test is charged at this rate
AUGMENTED = {"ours": 12_800, "textbook": 2_560}  # images augmented in a turn


class Spread(NamedTuple):
    """Rates over the rounds."""

    median: float
    low: float
    high: float


def spread(values: list[float]) -> Spread:
    """Returns the median, the lowest and the highest of several rates."""
    return Spread(statistics.median(values), min(values), max(values))


def recipe(branches: int = 1, **changes: Any) -> Recipe:
    """Returns what is timed: ResNet-32 on CIFAR-100-LT (100), plain cross-entropy or, with two branches, DBN-Mix."""
    values: dict[str, Any] = {"dataset": "cifar100", "ratio": 100.0, "net": "resnet32", "epochs": 200, "batch": 128}
    values |= {"lr": 0.1, "weight_decay": 2e-4}
    return Recipe.create(find("dbn_mix" if branches == 2 else "cross_entropy"), **values | changes)


def random_pool(classes: int = 100, each: int = 500, tested: int = 10_000) -> Pool:
    """Returns random images in the shapes of CIFAR-100: no download, and no pixel value is faster than another."""
    rng = np.random.default_rng(0)
    train, test = (rng.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8) for n in (classes * each, tested))
    labels = np.repeat(np.arange(classes), each), np.arange(tested) % classes
    return Pool("random", train, labels[0], test, labels[1], tuple(map(str, range(classes))), 0, Path("random"))


def compare(
    device: str, precision: str, rounds: int, steps: int, watch: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Returns the benchmark as JSON values: who was how fast, ours against the textbook loop, and the device's floor.

    Args:
        device: Where to train.
        precision: Of our loop: "auto", "bf16" or "fp32"; the textbook loop always computes in fp32.
        rounds: Turns of each contender.
        steps: Training steps of a turn.
        watch: Called with a line after each turn.

    Raises:
        RequestError: There is no such device, or torchvision is missing.
    """
    place, pool = pick_device(device), random_pool()
    images = images_of(recipe().subset, pool)
    contenders: dict[str, Contender] = {}
    timed: dict[str, ours.Ours] = {}
    for branches, kind in enumerate(_KINDS, 1):
        requested = recipe(branches, precision=precision)
        contenders[f"ours {kind}"] = timed[kind] = ours.Ours(requested, images, place)
        contenders[f"textbook {kind}"] = textbook.Textbook(images, branches, place, requested.batch)
        contenders[f"raw step {kind}"] = textbook.Textbook(images, branches, place, requested.batch, loader=False)
    for contender in contenders.values():
        contender.turn(2, 0)  # the first steps choose kernels and ask for memory
    turns: dict[str, list[Turn]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name, contender in contenders.items():
            turn = contender.turn(steps, 0 if name.startswith("raw") else TESTED)
            turns[name].append(turn)
            watch(f"round {number + 1} of {rounds}: {name} {turn.images / turn.train:,.0f} images/s")
    rates = {name: _rates(name, turns[name], images, contenders[name].eval_every) for name in contenders}
    augment = _augmentation(images, rounds)
    resolved = pick_precision(precision, place)
    flops = floor.training_flops(
        timed["single"].state.net, as_input(torch.from_numpy(images.train_images[:64])).to(place)
    )
    precisions = {"fp32", resolved, pick_precision("auto", place)}  # bf16 without instructions for it takes minutes
    matrix = {name: floor.matrix_rate(place, _DTYPES[name]) for name in sorted(precisions)}
    reached = rates["ours single"]["train"].high * flops / 1e12
    report = {
        "device": provenance.device_words(place),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "precision": resolved,
        "rounds": rounds,
        "steps": steps,
        "contenders": {name: _contender(result, contenders[name].eval_every) for name, result in rates.items()}
        | {f"augmentation {name}": _pinned(result) for name, result in augment.items()},
        "ratios": {kind: _ratio(rates, "train", f"ours {kind}", f"textbook {kind}") for kind in _KINDS}
        | {f"{kind} with evaluation": _ratio(rates, "whole", f"ours {kind}", f"textbook {kind}") for kind in _KINDS}
        | {"augment": augment["ours"].median / augment["textbook"].median},
        "loader_cost": {kind: 1 - _ratio(rates, "train", f"textbook {kind}", f"raw step {kind}") for kind in _KINDS},
        "step_seconds": {kind: mine.parts(steps) for kind, mine in timed.items()},
        "floor": {
            "copy_gb_s": floor.copy_rate(place),
            "matrix_tflop_s": matrix[resolved],
            "share": reached / matrix[resolved],
            "gflop_per_image": flops / 1e9,
            "matrix_tflop_s_by_precision": matrix,
        },
    }
    if place.type == "cuda":
        report["launches"] = {kind: mine.launches(steps) for kind, mine in timed.items()}
    return report


_KINDS = ("single", "dual")
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def _rates(name: str, turns: list[Turn], images: Images, eval_every: int) -> dict[str, Spread]:
    """Returns images/s over whole epochs: of training alone, with the contender's own evaluation, and of tests."""
    size = len(images.train_images) * (2 if name.endswith("dual") else 1), len(images.test_images)
    rates = {"train": spread([turn.rate(*size, None) for turn in turns])}
    if turns[0].tested:
        rates["whole"] = spread([turn.rate(*size, eval_every) for turn in turns])
        rates["test"] = spread([turn.tested / turn.test for turn in turns])
    return rates


def _contender(rates: Mapping[str, Spread], eval_every: int) -> dict[str, Any]:
    more = {f"{kind}_images_per_s": rates[kind].median for kind in ("train", "test") if kind in rates}
    return _pinned(rates.get("whole", rates["train"])) | more | ({"eval_every": eval_every} if "whole" in rates else {})


def _pinned(result: Spread) -> dict[str, float]:
    return {"images_per_s": result.median, "min": result.low, "max": result.high}


def _ratio(rates: Mapping[str, Mapping[str, Spread]], rate: str, first: str, second: str) -> float:
    return rates[first][rate].median / rates[second][rate].median


def _augmentation(images: Images, rounds: int) -> dict[str, Spread]:
    """Returns the images/s of the augmentation alone, on one core, of ours and of the PIL chain."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        timed = {"ours": ours.images_per_second, "textbook": textbook.images_per_second}
        result: dict[str, list[float]] = {name: [] for name in timed}
        for _ in range(rounds):
            for name, images_per_second in timed.items():
                result[name].append(images_per_second(images, AUGMENTED[name]))
        return {name: spread(values) for name, values in result.items()}
    finally:
        torch.set_num_threads(threads)
