"""Evaluating stored weights: the logits and accuracies of a run that was trained before, and whether they agree."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lt_repro.data.images import Images
from lt_repro.errors import RequestError, unknown
from lt_repro.store import provenance
from lt_repro.store.runs import Run
from lt_repro.train import evaluate, network
from lt_repro.train.batches import make_sources
from lt_repro.train.bn_statistics import GATHERED, RUNNING, regathered


class Evaluation(NamedTuple):
    """What stored weights give on this machine.

    Args:
        logits: Of the test images.
        scores: accuracy, per_class and branches, as in a run's result.
        precision: Of the test.
        origin: Versions, device and threads, as in a run's attempts.
    """

    logits: evaluate.Logits
    scores: dict[str, Any]
    precision: str
    origin: dict[str, Any]


class Difference(NamedTuple):
    """An accuracy, a fraction, that is not the stored one: of an output ("combined" or a branch), of a group or class.

    A number that one side lacks is None.
    """

    output: str
    part: str
    stored: float | None
    computed: float | None


def evaluate_run(
    run: Run,
    weights: Mapping[str, Tensor],
    images: Images,
    device: torch.device,
    bn: str = RUNNING,
    parents: Sequence[Path] = (),
) -> Evaluation:
    """Returns what a run's final weights give, tested in fp32.

    On a CPU it computes with as many threads as the run did, since their number decides how sums are rounded.

    Args:
        run: A finished run.
        weights: Its weights.
        images: The images that it was trained and tested on.
        device: Where to compute.
        bn: BatchNorm's statistics: "running", as stored, or one of `bn_statistics.GATHERED`.
        parents: Folders in which its teacher is looked for, where statistics are gathered with one.

    Raises:
        RequestError: The images are not those of the run, `bn` is unknown, or a teacher is missing.
        DamagedError: The weights are of another network.
    """
    check_images(run, images)
    recipe = run.recipe
    if device.type == "cpu" and run.threads:
        torch.set_num_threads(run.threads)
    net = network.trained(recipe, weights, images, device)
    if bn != RUNNING:
        if bn not in GATHERED:
            raise unknown("statistics", bn, [RUNNING, *GATHERED])
        teachers = {
            role: network.teacher(parent, network.parent_weights(parent, images, parents)[1], images, device)
            for role, parent in recipe.parents.items()
            if role == "teacher"
        }
        counts = torch.from_numpy(images.split.counts).float().to(device)
        sources = make_sources(images, recipe, device)
        net = regathered(bn, recipe, net, sources, counts, teachers, recipe.epochs - 1)
    logits = evaluate.predict(recipe.method, net, images.test_images, device)
    scores = evaluate.scores(logits, images, recipe.spec.branches)
    return Evaluation(logits, scores, evaluate.PRECISION, provenance.origin(device))


def check_images(run: Run, images: Images) -> None:
    """Checks that images are those that a run was trained and tested on.

    Raises:
        RequestError: They are of another split, or have other pixels.
    """
    for kind, stored, result in (
        ("split", run.split["digest"], images.split.digest),
        ("pixels", run.data_digest, images.digest),
    ):
        if stored != result:
            raise RequestError(
                f"the images of {images.split.name} have {kind} {result[:8]}, {run.recipe.key()} has {stored[:8]}",
                "allowed: the images that the run was trained and tested on",
                "use the source of the images that the run had",
            )


def differences(run: Run, scores: Mapping[str, Any], bn: str = RUNNING) -> list[Difference]:
    """Returns every stored accuracy that the scores do not have exactly: of all images, each class group, each class.

    Args:
        run: A finished run that stores accuracies with these statistics.
        scores: As `evaluate.scores` returns them.
        bn: As in `evaluate_run`.
    """
    stored = run.outcome(bn)
    assert stored is not None
    names = run.split.get("class_names") or [str(k) for k in range(len(run.split["counts"]))]

    def flat(output: Mapping[str, Any]) -> dict[str, float | None]:
        groups = {name: output["accuracy"].get(name) for name in ("all", "many", "medium", "few")}
        return groups | {f"class {name}": value for name, value in zip(names, output["per_class"], strict=True)}

    outputs = {"combined": (stored, scores)}
    outputs |= {name: (stored["branches"][name], scores["branches"][name]) for name in scores["branches"]}
    return [
        Difference(output, part, before, result)
        for output, pair in outputs.items()
        for (part, before), result in zip(flat(pair[0]).items(), flat(pair[1]).values(), strict=True)
        if before != result
    ]
