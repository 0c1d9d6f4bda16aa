"""Columns that papers share: class groups, and long-tailed sets of images."""

from typing import Any

from lt_repro.data.sets import find
from lt_repro.papers.table import Variant

CLASS_GROUPS = tuple(Variant(metric, metric.capitalize(), metric=metric) for metric in ("all", "many", "medium", "few"))


def images(dataset: str, *ratios: float, metric: str | None = None, **edits: Any) -> tuple[Variant, ...]:
    """Returns a column for each ratio of a known data set: "cifar100-100", titled "CIFAR-LT-100 (100)".

    Args:
        dataset: Its name.
        ratios: n_max / n_min.
        metric: As in `Variant`; "ece" is in label and title.
        edits: Further edits. `imb_type="step"` is in label and title; `method=None` is published only.
    """
    kind, shown = edits.get("imb_type", ""), metric or ""
    return tuple(
        Variant(
            f"{dataset}-{kind}{ratio:g}{shown and '/' + shown}",
            f"{find(dataset).long_tailed} ({kind and kind + ' '}{ratio:g}){shown and ', ' + shown.upper()}",
            {"dataset": dataset, "ratio": float(ratio)} | edits,
            metric=metric,
        )
        for ratio in ratios
    )
