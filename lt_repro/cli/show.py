"""`methods`, `readings` and `show`: what can be trained, how the paper can be read, and what came out."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lt_repro.cli.app import Json, Runs, app, out, put, put_json, put_prose, say
from lt_repro.cli.options import CHOSEN_ELSEWHERE
from lt_repro.cli.output import put_grid, text_grid
from lt_repro.cli.progress import clock
from lt_repro.errors import RequestError, unknown

if TYPE_CHECKING:
    from lt_repro.cards import Card, Setting
    from lt_repro.methods.base import Method
    from lt_repro.papers.claim import Paper
    from lt_repro.papers.table import Table
    from lt_repro.recipe import Recipe
    from lt_repro.render.cells import Measured
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
        allowed = {field: fields.describe(kind, cls.bounds.get(field)) for field, kind in fields.types(cls).items()}
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
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN|EXHIBIT", help="Run: a path, a key, or a unique beginning of a key; or an exhibit's full name."
        ),
    ],
    row: Annotated[str | None, typer.Option(help="Of an exhibit, this row only.", show_default="all")] = None,
    column: Annotated[str | None, typer.Option(help="Of an exhibit, this column only.", show_default="all")] = None,
    runs: Runs = None,
    as_json: Json = False,
) -> None:
    """Show a run with its tables, or a table with its runs.

    [bold]ltrepro show cifar100-r100-dbn_mix-e200-s0-7e1d[/bold]

    [bold]ltrepro show table4 --row dbn+bm+ts --column 100[/bold]

    [bold]ltrepro show table4-digits-r60[/bold]

    Looks in ./runs and ./tables/runs. Of a run: settings, result, origin, every
    cell of an exhibit that shows it, which reading of the paper it follows, which
    settings differ from the defaults, and which settings the paper leaves open.
    Of an exhibit, named as `show RUN` prints it: the runs behind each cell.
    """
    from lt_repro.papers import papers
    from lt_repro.render.placed import cells_of
    from lt_repro.store.provenance import changes_words
    from lt_repro.store.runs import find_run, run_folders

    names = [table.id for paper in papers().values() for table in paper.tables()]
    if row or column or run in names or run.startswith(tuple(f"{name}{mark}" for name in names for mark in "@-")):
        return _put_exhibit(run, row, column, runs, as_json)
    result = find_run(run, run_folders(runs))
    content = result.to_json()
    cells = cells_of(result)
    placed = _placed(result.recipe, cells)
    if as_json:
        return put_json(content | {"path": str(result.path)} | placed)
    recipe = content["recipe"] | {f"method.{name}": value for name, value in content["recipe"]["method"].items()}
    recipe["parents"] = {role: parent.key() for role, parent in result.recipe.parents.items()}
    del recipe["method"]
    named = ("device", "precision", "images_per_second", "seconds", "commit", "versions", "data_digest", "images")
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
    for (table, entry), (name, row_label, column_label) in zip(cells, placed["cells"], strict=True):
        seeds = "" if result.recipe.seed in table.seeds else f", with --seeds {result.recipe.seed}"
        published = entry.cell.published
        printed = f", published {100 * published.value:.2f} %" if published else ""
        titles = f"{entry.cell.row.title}, {entry.cell.column.title}"
        put(f"cell: {name} --row {row_label} --column {column_label}: {titles}{printed}{seeds}")
    if not cells:
        put(f"cell: none{_nearest(result)}")
    put(placed["reading"])
    for name, (actual, default) in placed["departures"].items():
        put(f"departs: {name} {actual} (default: {default})")
    for name, text in placed["open"].items():
        put(f"open in the paper: {name} = {text}")
    put(str(result.path))


def _joined(value: Any) -> str:
    return ", ".join(f"{name} {text}" for name, text in value.items()) if isinstance(value, dict) else str(value)


app.command("explain", hidden=True)(show)


def _nearest(run: "Run") -> str:
    """Returns which exhibit would show a run but for the fewest settings, and these settings; "" where none would."""
    from lt_repro import fields
    from lt_repro.render.cells import unmatched
    from lt_repro.render.placed import exhibits_of

    near = [(table.id, apart) for table in exhibits_of([run.recipe]) for _, apart in unmatched(table, [run])]
    if not near:
        return ""
    exhibit, apart = min(near, key=lambda pair: len(pair[1]))
    words = [f"{name} {fields.text(ours)} instead of {fields.text(other)}" for name, (ours, other) in apart.items()]
    return f"; nearest is {exhibit}, but for {' and '.join(words)}"


def _put_exhibit(name: str, row: str | None, column: str | None, runs: list[Path] | None, as_json: bool) -> None:
    """Prints the runs behind each cell of an exhibit, or of its one row and column; those without any by name only."""
    from lt_repro.cli.request import stored_in
    from lt_repro.papers import papers
    from lt_repro.render.cells import measure, to_json
    from lt_repro.render.placed import exhibits_of

    stored = stored_in(runs, may_be_new=False)
    for note in stored.notes:
        say(f"note: {note}")
    tables = {table.id: table for paper in papers().values() for table in paper.tables()}
    tables |= {table.id: table for table in exhibits_of(run.recipe for run in stored.runs)}
    if name not in tables:
        plain = max((each for each in tables if name.startswith(each)), key=len, default="")
        raise unknown("exhibit", name, [each for each in tables if each.startswith(plain)])
    table = tables[name]
    part = table.only(row and [row], column and [column])
    places = {(cell.row.label, cell.column.label) for cell in part.cells()}
    measured = measure(table, stored.runs)
    if as_json:
        cells = to_json(table, measured)["cells"]
        return put_json({"cells": [cell for cell in cells if (cell["row"], cell["column"]) in places]})
    for entry in measured:
        if (place := (entry.cell.row.label, entry.cell.column.label)) in places:
            put(f"{' '.join(place)}: {entry.cell.row.title}, {entry.cell.column.title}: {entry.text()}")
            for run in (*entry.runs, *entry.diverged):
                put(f"  {run.recipe.key()}{'' if run.result else ', diverged'}")


def _placed(recipe: "Recipe", cells: "Sequence[tuple[Table, Measured]]") -> dict[str, Any]:
    """Returns where a recipe belongs: its cells, the readings it follows, its departures, what is open for it."""
    from lt_repro import fields
    from lt_repro.papers import papers
    from lt_repro.papers.table import DEFAULT

    paper = papers()[cells[0][0].paper if cells else DEFAULT]
    away = {name: paper.settings.departures(recipe, name) for name in paper.settings.readings}
    return {
        "cells": [[table.id, entry.cell.row.label, entry.cell.column.label] for table, entry in cells],
        "reading": _reading(recipe, paper),
        "readings": [name for name, pairs in away.items() if not pairs],
        "departures": {
            name: [fields.text(ours), fields.text(default)]
            for name, (ours, default) in away[paper.settings.default].items()
        },
        "open": {
            question.setting: f"{_answer(recipe, question.setting)}: {question.asked} ({question.why})"
            for question in paper.questions
            if question.concerns(recipe)
        },
    }


def _reading(recipe: "Recipe", paper: "Paper") -> str:
    """Returns which readings of the paper a run follows; on images that the paper does not have, that it has none."""
    from lt_repro.render.text import reading_line

    if recipe.dataset in paper.datasets():
        return reading_line(recipe, paper.settings)
    return f"reading: none; {paper.title} has no numbers on {recipe.dataset}, and its settings there are chosen here"


def _answer(recipe: "Recipe", setting: str) -> str:
    from lt_repro import fields

    if setting == "parents":
        return ", ".join(parent.key() for parent in recipe.parents.values())
    return fields.text(recipe.values[setting])


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
