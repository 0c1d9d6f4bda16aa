"""Accuracy by class, as numbers: the runs of each series, and rows, CSV and JSON of them."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lt_repro import fields
from lt_repro.papers.settings import Settings
from lt_repro.recipe import Recipe, role_fields
from lt_repro.render import comma
from lt_repro.render.cells import MISSING, series_key
from lt_repro.render.intervals import mean_sd
from lt_repro.render.percent import spread
from lt_repro.store.runs import Run


class Classes(NamedTuple):
    """K classes, largest first: names, number of training images, and accuracies by series.

    `names` (K,), `counts` (K,), `series` {label: one (K,) of fractions per seed}.
    """

    names: list[str]
    counts: list[int]
    series: dict[str, list[list[float]]]

    @property
    def moments(self) -> dict[str, list[tuple[float | None, float | None]]]:
        """Returns the mean and the standard deviation over the seeds of each series: {label: K pairs of fractions}."""
        classes = range(len(self.names))
        return {label: [mean_sd([seed[k] for seed in seeds]) for k in classes] for label, seeds in self.series.items()}

    def rows(self) -> tuple[list[str], list[list[str]]]:
        """Returns the header and a row per class: name, training images, "mean ± sd" in percent of each series."""
        columns = [
            [MISSING if mean is None else spread(mean, sd) for mean, sd in pairs] for pairs in self.moments.values()
        ]
        names = [name if len(name) < 32 else f"{name[:30]}…" for name in self.names]
        rows = zip(names, map(str, self.counts), *columns, strict=True)
        return ["class", "images", *self.series], [list(row) for row in rows]

    def csv(self) -> str:
        """Returns one line per class and series, in percent."""
        moments = self.moments
        rows = (
            [name, count, label, "percent", len(seeds), *map(comma.percent, moments[label][k])]
            for k, (name, count) in enumerate(zip(self.names, self.counts, strict=True))
            for label, seeds in self.series.items()
        )
        return comma.lines(["class", "images", "series", "unit", "n", "mean", "sd"], rows)

    def to_json(self) -> list[dict[str, Any]]:
        """Returns one object per class: class, images, series {label: {n, mean, sd}}, fractions or null."""
        moments, listed = self.moments, []
        for k, (name, count) in enumerate(zip(self.names, self.counts, strict=True)):
            series = {
                label: {"n": len(seeds)} | dict(zip(("mean", "sd"), moments[label][k], strict=True))
                for label, seeds in self.series.items()
            }
            listed.append({"class": name, "images": count, "series": series})
        return listed


def by_class(
    names: Sequence[str], counts: Sequence[int], series: Mapping[str, Sequence[Run]], bn: str = "running"
) -> Classes:
    """Returns the accuracies of the finished runs of each series; classes with most images first.

    Args:
        names: (K,) in the order of the labels.
        counts: (K,) training images of each class.
        series: Runs by label, all of one split; runs of a label differ only in their seeds.
        bn: As in `Run.outcome`; a run without it is left out.
    """
    order = np.argsort(-np.asarray(counts), kind="stable")
    values = {
        label: [[outcome["per_class"][k] for k in order] for run in runs if (outcome := run.outcome(bn))]
        for label, runs in series.items()
    }
    return Classes([names[k] for k in order], [counts[k] for k in order], values)


def group_series(runs: Sequence[Run], settings: Settings) -> dict[str, list[Run]]:
    """Returns runs by label: one label for runs that differ only in seed, which says how they differ from others."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(series_key(run.recipe), []).append(run)
    flat = {label: _flat(members[0].recipe, settings) for label, members in groups.items()}
    named = {}
    for label, members in groups.items():
        method = members[0].recipe.method
        rivals = [flat[other] for other, runs in groups.items() if runs[0].recipe.method.name() == method.name()]
        whole = {field.name: fields.text(field.default) for field in dataclasses.fields(method)}
        whole = {name: value for name, value in whole.items() if name not in role_fields(method)}
        varied = [
            name
            for name, value in flat[label].items()
            if len({rival.get(name) for rival in rivals}) > 1 or value != whole.get(name, value)
        ]
        words = ", ".join(f"{name} {flat[label][name]}" for name in varied)
        name = f"{method.title} ({words})" if words else method.title
        named[name if name not in named else f"{name} {members[0].recipe.key()[-8:]}"] = members
    return named


def _flat(recipe: Recipe, settings: Settings) -> dict[str, str]:
    """Returns the settings that identify a recipe: chosen, departing, and the same of a parent as "on NAME"."""
    chosen = {name: getattr(recipe.method, name) for name in settings.chosen if hasattr(recipe.method, name)}
    away = {name: actual for name, (actual, _) in settings.departures(recipe).items() if not name.startswith("parent ")}
    parent = next(iter(recipe.parents.values()), None)
    inherited = {"method": parent.method.name()} | _flat(parent, settings) if parent else {}
    flat = {name: fields.text(value) for name, value in (chosen | away).items()}
    return flat | {f"on {name}": value for name, value in inherited.items()}
