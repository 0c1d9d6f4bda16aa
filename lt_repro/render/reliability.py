"""Reliability by confidence, as numbers: the bins of each series, pooled over seeds, and its calibration error."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lt_repro.metrics import Reliability
from lt_repro.render import comma
from lt_repro.render.cells import Measured
from lt_repro.render.intervals import mean_sd


class Panel(NamedTuple):
    """One series: title, seeds, bins (None if there are no runs), and calibration errors, one per seed."""

    title: str
    seeds: list[int]
    bins: Reliability | None
    errors: list[float]

    @property
    def error(self) -> tuple[float | None, float | None]:
        """Returns mean and standard deviation (ddof 1) of the expected calibration error over seeds, as fractions."""
        return mean_sd(self.errors)


def panels(measured: Sequence[Measured]) -> list[Panel]:
    """Returns one panel per cell."""
    result = []
    for entry in measured:
        outcomes = [outcome for run in entry.runs if (outcome := run.outcome(entry.bn))]
        errors = [outcome["ece"] for outcome in outcomes]
        result.append(Panel(entry.cell.row.title, entry.seeds, pooled(outcomes), errors))
    return result


def pooled(outcomes: Sequence[Mapping[str, Any]]) -> Reliability | None:
    """Returns the bins over the test images of all runs together; None if there are none.

    Args:
        outcomes: One a run, as `Run.outcome` returns them.
    """
    bin_sets = [outcome["reliability"] for outcome in outcomes]
    if not bin_sets:
        return None
    images = np.array([bins["images"] for bins in bin_sets])
    means = [np.array([bins[name] for bins in bin_sets], dtype=float) for name in ("confidence", "accuracy")]
    whole = images.sum(axis=0)
    with np.errstate(invalid="ignore"):
        return Reliability(whole, *(np.nansum(images * values, axis=0) / whole for values in means))


def csv(shown: Sequence[Panel]) -> str:
    """Returns one line per series and bin, in percent; an empty bin has no means."""
    rows: list[list[object]] = []
    for panel in shown:
        head = [panel.title, "percent", len(panel.seeds), *map(comma.percent, panel.error)]
        if panel.bins is None:
            rows.append([*head, "", "", "", "", ""])
            continue
        width = 1 / len(panel.bins.images)
        for b, (images, *means) in enumerate(zip(*panel.bins, strict=True)):
            parts = (b * width, (b + 1) * width, *(None if np.isnan(mean) else mean for mean in means))
            above, up_to, *shares = map(comma.percent, parts)
            rows.append([*head, above, up_to, int(images), *shares])
    header = ["series", "unit", "n", "ece_mean", "ece_sd", "above", "up_to", "images", "confidence", "accuracy"]
    return comma.lines(header, rows)
