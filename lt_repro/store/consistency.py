"""Whether the numbers of a run file agree with each other. Does not import torch, which is slow."""

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Groups = Mapping[str, NDArray[np.int64]]
_NEAR = 1e-6


def disagreement(content: Mapping[str, Any], class_groups: Callable[[Sequence[int]], Groups]) -> str:
    """Returns the first numbers of a run file that cannot all be right, in words; "" if there are none.

    With as many test images in every class, an accuracy is the mean of its classes'. Otherwise ("balanced" is stored)
    it lies between them, and the bins of `reliability` decide.

    Args:
        content: A run file's, of a run that may have diverged.
        class_groups: Gives the classes of each group from the training images of each class (`data.split`).
    """
    try:
        return next(_disagreements(content, class_groups(content["split"]["counts"])), "")
    except (KeyError, TypeError, IndexError, ValueError) as error:
        return f"it lacks numbers: {type(error).__name__}: {error}"


def _disagreements(content: Mapping[str, Any], groups: Groups) -> Iterator[str]:
    result, curve = content["result"], content["curve"]
    if result is None:
        return
    classes = len(content["split"]["counts"])
    if len(content["split"]["class_names"]) != classes:
        yield f"split has {classes} counts and {len(content['split']['class_names'])} class names"
    for name, outcome in {"result": result, **(content.get("result_bn") or {})}.items():
        yield from _of_outcome(name, outcome, groups, classes)
    best, points = result["best"], {point["epoch"]: point["all"] for point in curve}
    if not _same(points[best["epoch"]], best["all"]) or best["all"] < max(points.values()) - _NEAR:
        yield f"best is {best['all']:.4f} at epoch {best['epoch']}, the curve says otherwise"
    if not _same(curve[-1]["all"], result["accuracy"]["all"]):
        yield f"the curve ends with {curve[-1]['all']:.4f}, the result is {result['accuracy']['all']:.4f}"
    if "accuracy" in best:
        if not _same(best["accuracy"]["all"], best["all"]):
            yield f"best has all {best['all']:.4f} and {best['accuracy']['all']:.4f}"
        for name, part in {"combined": best, **best["branches"]}.items():
            yield from _of_groups(f"best, {name}", part["accuracy"], groups)


def _of_outcome(name: str, outcome: Mapping[str, Any], groups: Groups, classes: int) -> Iterator[str]:
    for output, part in {"combined": outcome, **outcome["branches"]}.items():
        where, accuracy = f"{name}, {output}", part["accuracy"]
        if len(part["per_class"]) != classes:
            yield f"{where}: {len(part['per_class'])} accuracies of {classes} classes"
            continue
        shares = {"all": np.arange(classes), **groups}
        if accuracy.keys() - {"balanced"} != shares.keys():
            yield f"{where}: accuracies of {', '.join(accuracy)}, classes of {', '.join(shares)}"
        if "balanced" in accuracy:
            yield from _mean(f"{where}, balanced", accuracy["balanced"], part["per_class"])
        for group in shares.keys() & accuracy.keys():
            values = [part["per_class"][i] for i in shares[group]]
            yield from _mean(f"{where}, {group}", accuracy[group], values, even="balanced" not in accuracy)
        yield from _of_groups(where, accuracy, groups)
    if bins := outcome.get("reliability"):
        images = sum(bins["images"])
        full = [bin for bin in zip(bins["images"], bins["accuracy"], bins["confidence"], strict=True) if bin[0]]
        if not _same(right := sum(n * share for n, share, _ in full) / images, outcome["accuracy"]["all"]):
            yield f"{name}: accuracy {outcome['accuracy']['all']:.4f}, by confidence {right:.4f}"
        if not _same(error := sum(n * abs(share - sure) for n, share, sure in full) / images, outcome["ece"]):
            yield f"{name}: ece {outcome['ece']:.4f}, by confidence {error:.4f}"


def _of_groups(where: str, accuracy: Mapping[str, float], groups: Groups) -> Iterator[str]:
    """Yields a line if the accuracies of the groups do not give that of all classes."""
    known = [name for name in groups if name in accuracy]
    values = [accuracy[name] for name in known for _ in groups[name]]
    yield from _mean(f"{where}, all of its groups", accuracy["all"], values, even="balanced" not in accuracy)


def _mean(where: str, share: float, values: Sequence[float | None], even: bool = True) -> Iterator[str]:
    """Yields a line if an accuracy is not the mean of its classes'; of uneven ones, if it is not between them."""
    known = [value for value in values if value is not None]
    if even and not _same(share, mean := statistics.fmean(known)):
        yield f"{where}: {share:.4f}, the mean of its classes is {mean:.4f}"
    elif not min(known) - _NEAR <= share <= max(known) + _NEAR:
        yield f"{where}: {share:.4f}, its classes have {min(known):.4f} to {max(known):.4f}"


def _same(first: float, second: float) -> bool:
    return math.isclose(first, second, rel_tol=0, abs_tol=_NEAR)
