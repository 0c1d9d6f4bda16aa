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
from lt_repro.data.images import Images, Pool
from lt_repro.recipe import Recipe, find
from lt_repro.store import provenance
from lt_repro.sweep.runner import images_of
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
    images = images_of(recipe(), pool)
    single, dual = recipe(precision=precision), recipe(2, precision=precision)
    contenders: dict[str, Contender] = {
        "ours single": ours.Ours(single, images, place),
        "textbook single": textbook.Textbook(images, 1, place, single.batch),
        "raw step single": textbook.Textbook(images, 1, place, single.batch, loader=False),
        "ours dual": ours.Ours(dual, images, place),
        "textbook dual": textbook.Textbook(images, 2, place, dual.batch),
        "raw step dual": textbook.Textbook(images, 2, place, dual.batch, loader=False),
    }
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
    net = contenders["ours single"].state.net  # type: ignore[attr-defined]
    flops = floor.training_flops(net, as_input(torch.from_numpy(images.train_images[:64])).to(place))
    kinds = {"fp32", resolved, pick_precision("auto", place)}  # bf16 without instructions for it takes minutes
    matrix = {name: floor.matrix_rate(place, _DTYPES[name]) for name in sorted(kinds)}
    reached = rates["ours single"]["train"].high * flops / 1e12
    report = {
        "device": provenance.device_words(place),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "precision": resolved,
        "rounds": rounds,
        "steps": steps,
        "contenders": {name: _contender(kinds) for name, kinds in rates.items()}
        | {f"augmentation {name}": _pinned(spread(values)) for name, values in augment.items()},
        "ratios": {
            **{kind: _ratio(rates, kind, "train") for kind in ("single", "dual")},
            **{f"{kind} with evaluation": _ratio(rates, kind, "whole") for kind in ("single", "dual")},
            "augment": statistics.median(augment["ours"]) / statistics.median(augment["textbook"]),
        },
        "loader_cost": {
            kind: 1 - rates[f"textbook {kind}"]["train"].median / rates[f"raw step {kind}"]["train"].median
            for kind in ("single", "dual")
        },
        "step_seconds": {kind: contenders[f"ours {kind}"].parts(steps) for kind in ("single", "dual")},  # type: ignore[attr-defined]
        "floor": {
            "copy_gb_s": floor.copy_rate(place),
            "matrix_tflop_s": matrix[resolved],
            "share": reached / matrix[resolved],
            "gflop_per_image": flops / 1e9,
            "matrix_tflop_s_by_precision": matrix,
        },
    }
    if place.type == "cuda":
        report["launches"] = {kind: contenders[f"ours {kind}"].launches(steps) for kind in ("single", "dual")}  # type: ignore[attr-defined]
    return report


_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def _rates(name: str, turns: list[Turn], images: Images, eval_every: int) -> dict[str, Spread]:
    """Returns images/s over whole epochs: of training alone, with the contender's own evaluation, and of tests."""
    size = len(images.train_images) * (2 if name.endswith("dual") else 1), len(images.test_images)
    rates = {"train": spread([turn.rate(*size, None) for turn in turns])}
    if turns[0].tested:
        rates["whole"] = spread([turn.rate(*size, eval_every) for turn in turns])
        rates["test"] = spread([turn.tested / turn.test for turn in turns])
    return rates | {"eval_every": Spread(*[float(eval_every)] * 3)}


def _contender(kinds: Mapping[str, Spread]) -> dict[str, Any]:
    main = kinds.get("whole", kinds["train"])
    more = {f"{kind}_images_per_s": kinds[kind].median for kind in ("train", "test") if kind in kinds}
    return _pinned(main) | more | ({"eval_every": int(kinds["eval_every"].median)} if "whole" in kinds else {})


def _pinned(found: Spread) -> dict[str, float]:
    return {"images_per_s": found.median, "min": found.low, "max": found.high}


def _ratio(rates: Mapping[str, Mapping[str, Spread]], kind: str, rate: str) -> float:
    return rates[f"ours {kind}"][rate].median / rates[f"textbook {kind}"][rate].median


def _augmentation(images: Images, rounds: int) -> dict[str, list[float]]:
    """Returns the images/s of the augmentation alone, on one core, of ours and of the PIL chain."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        timed = {"ours": ours.images_per_second, "textbook": textbook.images_per_second}
        found: dict[str, list[float]] = {name: [] for name in timed}
        for _ in range(rounds):
            for name, images_per_second in timed.items():
                found[name].append(images_per_second(images, AUGMENTED[name]))
        return found
    finally:
        torch.set_num_threads(threads)
