"""`methods`, `readings` and `show`: what can be trained, how the paper can be read, and what came out."""

import dataclasses
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lt_repro.cli.app import Json, Runs, app, out, put, put_json, put_prose
from lt_repro.cli.options import CHOSEN_ELSEWHERE
from lt_repro.cli.output import put_grid, text_grid
from lt_repro.cli.progress import clock
from lt_repro.errors import RequestError, unknown

if TYPE_CHECKING:
    from lt_repro.cards import Card, Setting
    from lt_repro.methods.base import Method
    from lt_repro.papers.claim import Paper
    from lt_repro.papers.table import Cell, Table
    from lt_repro.recipe import Recipe
    from lt_repro.store.runs import Run


@app.command()
def methods(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Method to explain.", show_default="list all")
    ] = None,
    markdown: Annotated[
        bool,
        typer.Option("--markdown", help="Print all methods' departures from their papers, as in docs/departures.md."),
    ] = False,
    as_json: Json = False,
) -> None:
    """List the methods, or explain one and its settings.

    [bold]ltrepro methods[/bold]

    [bold]ltrepro methods dbn_mix[/bold]

    Without NAME: every method, its settings, and what it costs beside plain
    cross-entropy. With NAME: its source and equation, what each setting means,
    and where it departs from its paper.
    """
    from lt_repro import cards, fields
    from lt_repro.methods import METHODS
    from lt_repro.recipe import find
    from lt_repro.render import costs
    from lt_repro.render.departures import page
    from lt_repro.sweep.cost import COSTS

    if markdown:
        if name or as_json:
            raise RequestError("--markdown with a method or --json", "allowed: --markdown alone")
        for line in page(map(cards.card, METHODS.values())).splitlines():
            put(line)
        return
    if name:
        return _put_card(cards.card(find(name)), _recipe_settings(find(name)), as_json)
    measured = json.loads(COSTS.read_text(encoding="utf-8"))
    listed: list[dict[str, Any]] = []
    for method, cls in METHODS.items():
        allowed = {field: fields.describe(kind) for field, kind in fields.types(cls).items()}
        settings = [
            {"name": field.name, "default": str(field.default), "allowed": allowed[field.name]}
            for field in dataclasses.fields(cls)
        ]
        about = (cls.__doc__ or "").partition("\n")[0]
        result = [entry for entry in measured["costs"] if entry["method"] == method]
        listed.append({"name": method, "title": cls.title, "about": about, "settings": settings, "costs": result})
    if as_json:
        where = {name: value for name, value in measured.items() if name != "costs"}
        return put_json({"methods": listed, "costs_measured": where})
    for entry in listed:
        put_prose(f"{entry['name']}: {entry['title']}. {entry['about']}")
        out.print(
            text_grid(("setting", "default", "allowed"), [list(setting.values()) for setting in entry["settings"]])
        )
    put_prose("what each costs, 1 for plain cross-entropy; of a method with a parent, its own stage:")
    header, *rows = [[" ".join(row[:2]), *row[2:]] for row in costs.rows(measured["costs"], METHODS)]
    put_grid(header, rows, fixed=1)
    put_prose(f"{costs.conditions(measured)}; `ltrepro bench --methods` measures again")


def _recipe_settings(method: "type[Method]") -> "list[Setting]":
    """Returns the settings that every method has, with the defaults of this one."""
    from lt_repro import cards, fields
    from lt_repro.recipe import Recipe

    return [
        dataclasses.replace(setting, default=fields.text(method().defaults[setting.name]))
        if setting.name in method().defaults
        else setting
        for setting in cards.settings(Recipe)
        if setting.name not in CHOSEN_ELSEWHERE
    ]


def _put_card(card: "Card", recipe: "Sequence[Setting]", as_json: bool) -> None:
    """Prints a method's card, then the settings that every method has."""
    from lt_repro.render.departures import NOT_MEASURED

    if as_json:
        return put_json(dataclasses.asdict(card) | {"recipe": [dataclasses.asdict(setting) for setting in recipe]})
    put(f"{card.name}: {card.title}. {card.about}")
    put(f"source: {card.source}")
    put("equation:")
    out.print(text_grid(("", ""), [("", line) for line in card.equation]))
    _put_settings(f"settings of {card.name}", card.settings)
    put("departures:" if card.departures else "departures: none known")
    parts = [
        row
        for number, point in enumerate(card.departures, 1)
        for row in (
            (f"{number}.", "", point.topic),
            ("", "paper", point.paper),
            ("", "code", point.code),
            ("", "ours", point.ours),
            ("", "effect", point.effect or NOT_MEASURED),
        )
    ]
    if parts:
        out.print(text_grid(("", "", ""), parts))
    put("reduces to:")
    out.print(text_grid(("", ""), [("-", reduction) for reduction in card.reductions]))
    _put_settings("settings of every method", recipe)


def _put_settings(title: str, settings: "Sequence[Setting]") -> None:
    if settings:
        put(f"{title}, each --set name=value; a data set may have another default:")
        rows = [(s.name, s.default or "by data set", s.allowed, s.meaning) for s in settings]
        out.print(text_grid(("setting", "default", "allowed", "meaning"), rows))


@app.command()
def readings(
    paper: Annotated[str, typer.Argument(metavar="PAPER", help="The paper's name.")] = "dbn_mix",
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the readings and their results, as in docs/two-readings.md.")
    ] = False,
    runs: Runs = None,
    as_json: Json = False,
) -> None:
    """List where a paper's text and its released code differ.

    [bold]ltrepro readings[/bold]

    [bold]ltrepro train --arch dbn --mix bilateral --tscale --reading released[/bold]

    For each point: what the paper says, what the code does, how that was
    checked, and the --set that switches it.
    """
    from lt_repro.cli.request import stored_in
    from lt_repro.papers import papers
    from lt_repro.render import readings as pages

    by_name = papers()
    if paper not in by_name:
        raise unknown("paper", paper, by_name)
    if markdown:
        for line in pages.page(by_name[paper], stored_in(runs, may_be_new=False).runs).splitlines():
            put(line)
        return
    listed = [pages.to_json(reading) for reading in by_name[paper].settings.readings.values()]
    if as_json:
        return put_json({"readings": listed})
    for reading in listed:
        put(f"{reading['name']}: {reading['title']}. {reading['source']}.")
        for point in reading["points"]:
            sets = " ".join(f"--set {name}={value}" for name, value in point["sets"].items())
            put(f"  {point['title']}{f' ({sets})' if sets else ''}")
            put(f"    text: {point['text']}")
            put(f"    {reading['name']}: {point['code']}")
            put(f"    checked: {point['checked']}")
        for note in reading["notes"]:
            put(note)


@app.command()
def show(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Run: a path, a key, or a unique beginning of a key.")],
    runs: Runs = None,
    as_json: Json = False,
) -> None:
    """Show a run: settings, result, origin, and its tables.

    [bold]ltrepro show cifar100-r100-dbn_mix-e200-s0-7e1d[/bold]

    Looks in ./runs and ./tables/runs. Also says which reading of the paper the
    run follows, which settings differ from the defaults, and which settings the
    paper leaves open.
    """
    from lt_repro.store.provenance import changes_words
    from lt_repro.store.runs import find_run, run_folders

    result = find_run(run, run_folders(runs))
    content = result.to_json()
    cells = _cells_of(result.recipe)
    placed = _placed(result.recipe, cells)
    if as_json:
        return put_json(content | {"path": str(result.path)} | placed)
    recipe = content["recipe"] | {f"method.{name}": value for name, value in content["recipe"]["method"].items()}
    recipe["parents"] = {role: parent.key() for role, parent in result.recipe.parents.items()}
    del recipe["method"]
    named = ("device", "precision", "images_per_second", "seconds", "commit", "versions", "data_digest")
    provenance = {name: content[name] for name in named} | {
        "split": content["split"]["digest"],
        "weights": (content["weights"] or {}).get("sha256"),
        **{f"{role} from": parent["weights"] for role, parent in content["parents"].items()},
        "attempts": "; ".join(f"from epoch {a['epoch']}, step {a['step']}: {a['ended']}" for a in content["attempts"]),
        "determinism": content["determinism"],
    }
    if words := changes_words(result.attempts):
        provenance["continued elsewhere"] = words
    for title, part in {"recipe": recipe, "provenance": provenance}.items():
        put(f"{title}:")
        out.print(text_grid(("", "", ""), [("", name, _joined(value)) for name, value in part.items()]))
    put_result(result)
    for _, table, cell in cells:
        printed = f", published {100 * cell.published.value:.2f} %" if cell.published else ""
        put(f"cell: {table.id}, {cell.row.title}, {cell.column.title}{printed}")
    if not cells:
        put("no cell of a paper has this recipe: the length, the data set or a setting differs")
    put(placed["reading"])
    for name, (actual, default) in placed["departures"].items():
        put(f"departs: {name} {actual} (default: {default})")
    for name, text in placed["open"].items():
        put(f"open in the paper: {name} = {text}")
    put(str(result.path))


def _joined(value: Any) -> str:
    return ", ".join(f"{name} {text}" for name, text in value.items()) if isinstance(value, dict) else str(value)


app.command("explain", hidden=True)(show)


def _cells_of(recipe: "Recipe") -> "list[tuple[Paper, Table, Cell]]":
    """Returns the cells that a recipe belongs to, whatever its seed."""
    from lt_repro.papers import papers
    from lt_repro.render.cells import series_key

    series = series_key(recipe)
    every = [(paper, table) for paper in papers().values() for table in paper.tables()]
    pairs = [(paper, table, cell) for paper, table in every for cell in table.cells()]
    return [(paper, table, cell) for paper, table, cell in pairs if cell.recipe and series_key(cell.recipe) == series]


def _placed(recipe: "Recipe", cells: "list[tuple[Paper, Table, Cell]]") -> dict[str, Any]:
    """Returns where a recipe belongs: its cells, the readings it follows, its departures, what is open for it."""
    from lt_repro import fields
    from lt_repro.papers import papers
    from lt_repro.papers.table import DEFAULT
    from lt_repro.render.text import reading_line

    paper = cells[0][0] if cells else papers()[DEFAULT]
    asked = {
        question.setting: f"{fields.text(recipe.values[question.setting])}: {question.asked} ({question.why})"
        for question in paper.questions
        if _has(recipe, question.setting) and question.setting not in recipe.inactive_fields() and question.when(recipe)
    }
    away = paper.settings.departures(recipe).items()
    return {
        "cells": [[table.id, cell.row.label, cell.column.label] for _, table, cell in cells],
        "reading": reading_line(recipe, paper.settings),
        "readings": [name for name in paper.settings.readings if not paper.settings.departures(recipe, name)],
        "departures": {name: [fields.text(ours), fields.text(default)] for name, (ours, default) in away},
        "open": asked,
    }


def _has(recipe: "Recipe", name: str) -> bool:
    return hasattr(recipe, name) or hasattr(recipe.method, name)


def accuracy_names(run: "Run") -> list[str]:
    """Returns the accuracies to show: over all images and by class group; balanced where the test set is not."""
    balanced = ["balanced"] if run.accuracy("balanced") is not None else []
    return ["all", *balanced, "many", "medium", "few"]


def percent(fraction: float | None) -> str:
    """Returns an accuracy in percent; "n/a" where there is none, as of a group without classes."""
    return "n/a" if fraction is None else f"{100 * fraction:.2f}"


def put_balance(run: "Run") -> None:
    """Prints a note where the test set is not balanced."""
    if run.accuracy("balanced") is not None:
        put("the test set is not balanced: all is top-1 over its images, balanced the mean over its classes")


def put_result(run: "Run") -> None:
    """Prints a run's accuracies, combined and by branch, or where it diverged."""
    if run.result is None:
        return put(f"diverged: {run.diverged}")
    outputs = ([None] if len(run.result["branches"]) > 1 else []) + list(run.result["branches"])
    names = accuracy_names(run)
    rows = [[branch or "combined", *map(percent, (run.accuracy(name, branch) for name in names))] for branch in outputs]
    put_grid(["top-1 %, last epoch", *names], rows, fixed=1)
    put_balance(run)
    best = run.result["best"]
    beside = f"best on test {100 * best['all']:.2f} % at epoch {best['epoch']} (not the result)"
    cost = f"{run.images_per_second:,.0f} images/s, {clock(run.seconds)} on {run.device}, {run.precision}"
    put(f"ECE {100 * run.result['ece']:.2f} %, {beside}, {cost}")
