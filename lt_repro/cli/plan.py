"""Printing a plan: what is missing, the command that trains each run, and what it costs."""

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lt_repro import fields
from lt_repro.cli.options import FLAGS
from lt_repro.errors import RequestError

if TYPE_CHECKING:
    from lt_repro.papers.settings import Settings
    from lt_repro.recipe import Recipe
    from lt_repro.store.runs import Run


def plan_json(
    requested: "Sequence[Recipe]", commands: Mapping[str, str], runs: "Sequence[Run]"
) -> tuple[list[dict[str, Any]], dict[str, float | None]]:
    """Returns a plan as JSON values, an entry for each recipe, and its totals; what has no measured speed is null."""
    from lt_repro.sweep.cost import cost, measured_speeds, speeds_on

    sums: dict[str, float | None] = {"runs": len(requested), "epochs": sum(recipe.epochs for recipe in requested)}
    plan: list[dict[str, Any]] = [
        {"key": recipe.key(), "epochs": recipe.epochs, "command": commands[recipe.key()]} for recipe in requested
    ]
    for name in ("cpu", "gpu"):
        stored = measured_speeds(runs, gpu=name == "gpu")
        speeds = {**stored, **speeds_on(_DEVICES[name.upper()], requested, stored)}
        spent = cost(requested, speeds)
        hours = round(spent.seconds / 3600, 3) if spent.unknown < len(requested) or not requested else None
        sums |= {f"{name}_hours": hours, f"{name}_runs_without_a_speed": spent.unknown}
        for entry, recipe in zip(plan, requested, strict=True):
            recipe_cost = cost([recipe], speeds)
            entry[f"{name}_seconds"] = None if recipe_cost.unknown else round(recipe_cost.seconds, 1)
    return plan, sums


def totals(requested: "Sequence[Recipe]", runs: "Sequence[Run]", kinds: Sequence[str]) -> list[str]:
    """Returns what recipes come to: runs and epochs, and the hours on kinds of devices at measured speeds."""
    from lt_repro.sweep.cost import cost, measured_speeds, speeds_on

    epochs = sum(recipe.epochs for recipe in requested)
    lines = [f"{_runs(len(requested))} missing" + (f", {epochs:,} epochs" if requested else "")]
    for name in kinds:
        stored = measured_speeds(runs, gpu=name == "GPU")
        fresh = speeds_on(_DEVICES[name], requested, stored)
        by_source = {
            source: [recipe for recipe in requested if not cost([recipe], speeds).unknown]
            for source, speeds in (("stored", stored), ("fresh", fresh))
        }
        if recipes := by_source["stored"]:
            nets = {recipe.net for recipe in recipes}
            same = [run for run in runs if run.recipe.net in nets]
            devices = {run.device: None for run in same if run.device.startswith("cpu") == (name == "CPU")}
            speed = f"at the median speed of stored runs on {', '.join(devices)}"
            lines.append(
                f"{_hours(cost(recipes, stored).seconds, name)} for {_runs(len(recipes))}, one after the other, {speed}"
            )
        if recipes := by_source["fresh"]:
            speed = ", ".join(f"{net} {rate:,.0f} images/s" for net, rate in fresh.items())
            spent = _hours(cost(recipes, fresh).seconds, name)
            lines.append(f"{spent} for {_runs(len(recipes))}, one after the other, measured now: {speed}")
        unknown = cost(requested, {**stored, **fresh})
        if unknown.unknown:
            images = f": {unknown.images:.3g} images through the network" if unknown.images else ""
            lines.append(f"no measured speed on a {name} for {_runs(unknown.unknown)}{images}")
    return lines


_DEVICES = {"CPU": "cpu", "GPU": "cuda"}


def _runs(count: int) -> str:
    return f"{count} run{'' if count == 1 else 's'}"


def _hours(seconds: float, kind: str) -> str:
    if seconds < 60:
        return f"{seconds:.0f} {kind}-seconds"
    return f"{seconds / 3600:.1f} {kind}-hours" if seconds >= 3600 else f"{seconds / 60:.1f} {kind}-minutes"


def commands(
    requested: "Sequence[Recipe]", runs: "Sequence[Run]", first: Path, dataset: str | None, options: str
) -> dict[str, str]:
    """Returns the command that trains each recipe, by key; a parent that was trained elsewhere is named by its path.

    Args:
        requested: What is to be trained.
        runs: What there is.
        first: The folder that is trained into.
        dataset: As typed, in place of the recipes' name for it.
        options: What every command ends with.
    """
    paths = {run.recipe.key(): run.path for run in runs if run.path and run.weights_path}
    lines = {}
    for recipe in requested:
        path = next((paths[parent.key()] for parent in recipe.parents.values() if parent.key() in paths), None)
        named = str(path) if path and path.parent != first else None
        again = " --force" if (first / f"{recipe.key()}.json").exists() else ""
        lines[recipe.key()] = command(recipe, dataset or recipe.dataset, named) + options + again
    return lines


def where(runs: list[Path] | None, data_root: Path | None) -> str:
    """Returns the options that make a planned command read and write where this command does."""
    typed = {"--out": (runs[0] if runs else None, "LTREPRO_RUNS"), "--data-root": (data_root, "LTREPRO_DATA")}
    words = []
    for name, (path, variable) in typed.items():
        if path and str(path) != os.environ.get(variable, "").split(os.pathsep)[0]:  # which `train` reads by itself
            words += [name, str(path)]
    return f" {shlex.join(words)}" if words else ""


def command(recipe: "Recipe", dataset: str, parent: str | None = None) -> str:
    """Returns the shortest `ltrepro train` command that trains a recipe, under whichever reading or preset that is.

    Args:
        recipe: What is to be trained.
        dataset: As typed on the command line; for images of one's own that is `npz:FILE`, not the recipe's name for it.
        parent: How its parent is named; by default by its key.
    """
    from lt_repro.papers import default_paper

    paper = default_paper().settings
    first = shlex.join(_train_arguments(paper, recipe, dataset, parent))
    if "--set" not in first:  # no other way can say less
        return first
    ways = [*({"reading": name} for name in paper.readings), *({"preset": name} for name in recipe.method.presets)]
    return min((shlex.join(_train_arguments(paper, recipe, dataset, parent, **way)) for way in ways), key=len)


def _train_arguments(
    paper: "Settings", recipe: "Recipe", dataset: str, parent: str | None, reading: str = "", preset: str = ""
) -> list[str]:
    from lt_repro.data.load import is_own
    from lt_repro.methods.base import Method

    name = recipe.method.name()
    short = name in (paper.ablation[0], Method.first_stage)  # as `train` has it without --method
    own, natural = is_own(recipe.dataset) and not recipe.parents, recipe.imb_type == "as_is"
    fixed: dict[str, Any] = dict(zip(("parent",), recipe.parents.values(), strict=False))
    if own or natural:
        fixed |= {"ratio": recipe.ratio, "imb_type": recipe.imb_type}
    words = ["ltrepro", "train"] + (["--dataset", dataset] if dataset != "cifar100" else [])
    words += [] if short else ["--method", name]
    words += [word for each in recipe.parents.values() for word in ("--set", f"parent={parent or each.key()}")]
    words += ["--reading", reading] if reading not in ("", paper.default) else []
    words += ["--preset", preset] if preset else []
    words += ["--ratio", "as-is" if natural else fields.text(recipe.ratio)] if own or natural else []
    how = None if short else name, reading or None, preset
    for field, value in _least(paper, recipe, fixed, how).items():
        if short and field in ("branches", "mix"):
            words += {"branches": ["--arch", "sbn" if value == 1 else "dbn"], "mix": ["--mix", value]}[field]
        elif short and field == "tscale" and value:
            words += ["--tscale"]
        elif field in FLAGS:
            words += [FLAGS[field], fields.text(value)]
        else:
            words += ["--set", f"{field}={fields.text(value)}"]
    return words


def _least(
    paper: "Settings", recipe: "Recipe", fixed: Mapping[str, Any], how: tuple[str | None, str | None, str]
) -> dict[str, Any]:
    """Returns the fewest fields that make a recipe, beside what is fixed, by method, reading and preset."""
    from lt_repro.recipe import role_fields

    values = {n: v for n, v in recipe.values.items() if n not in ("dataset", "parents", *recipe.inactive_fields())}

    def made(given: Mapping[str, Any]) -> "Recipe | None":
        try:
            return paper.recipe(recipe.dataset, *how, **{**given, **fixed})
        except RequestError:  # some fields do not go without others
            return None

    if (plain := made({})) == recipe:
        return {}
    first = {*paper.chosen, *role_fields(recipe.method), "ratio"}  # what decides others
    given = {n: values[n] for n in values if n in first and not (plain and plain.values.get(n) == values[n])}
    before = result.values if (result := made(given)) else {}
    given |= {n: value for n, value in values.items() if before.get(n) != value}
    for field in first & given.keys():
        rest = {name: value for name, value in given.items() if name != field}
        if made(rest) == recipe:
            given = rest
    return {name: given[name] for name in values if name in given}
