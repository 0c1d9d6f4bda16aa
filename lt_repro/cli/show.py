"""`methods`, `readings` and `show`: what can be trained, how the paper can be read, and what came out."""

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table as Grid

from lt_repro.cli.app import Json, Runs, app, out, printable, put, put_json
from lt_repro.cli.progress import clock

if TYPE_CHECKING:
    from lt_repro.store.runs import Run


@app.command()
def methods(as_json: Json = False) -> None:
    """List the methods, with their settings and defaults.

    [bold]ltrepro methods[/bold]
    """
    from lt_repro import fields
    from lt_repro.methods import METHODS

    listed = []
    for name, cls in METHODS.items():
        allowed = {field: fields.describe(kind) for field, kind in fields.types(cls).items()}
        settings = [
            {"name": field.name, "default": str(field.default), "allowed": allowed[field.name]}
            for field in dataclasses.fields(cls)
        ]
        about = (cls.__doc__ or "").partition("\n")[0]
        listed.append({"name": name, "title": cls.title, "about": about, "settings": settings})
    if as_json:
        return put_json({"methods": listed})
    for entry in listed:
        put(f"{entry['name']}: {entry['title']}. {entry['about']}")
        grid = Grid("setting", "default", "allowed", box=None, padding=(0, 2))
        for setting in entry["settings"]:
            grid.add_row(*map(escape, setting.values()))  # type: ignore[attr-defined]
        out.print(grid)


@app.command()
def readings(
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the page docs/two-readings.md.")] = False,
    runs: Runs = None,
    as_json: Json = False,
) -> None:
    """List the readings of DBN-Mix: what its text says, what the authors' released code does, and the settings.

    [bold]ltrepro readings[/bold]

    [bold]ltrepro train --arch dbn --mix bilateral --tscale --reading released[/bold]
    """
    from lt_repro.cli.request import found_in
    from lt_repro.paper.dbn_mix import PAPER
    from lt_repro.render import readings as pages

    if markdown:
        for line in pages.page(PAPER, found_in(runs, may_be_new=False).runs).splitlines():
            put(line)
        return
    listed = [pages.to_json(reading) for reading in PAPER.settings.readings.values()]
    if as_json:
        return put_json({"readings": listed})
    for reading in listed:
        put(f"{reading['name']}: {reading['title']}. {reading['source']}.")
        for point in reading["points"]:
            sets = " ".join(f"--set {name}={value}" for name, value in point["sets"].items())
            put(f"  {point['title']}{f' ({sets})' if sets else ''}")
            put(f"    text: {point['text']}")
            put(f"    {reading['name']}: {point['code']}")


@app.command()
def show(
    run: Annotated[str, typer.Argument(help="A path, a key, or a unique beginning of a key.")],
    runs: Runs = None,
    as_json: Json = False,
) -> None:
    """Show a run: recipe, result, provenance, and where it departs from the paper.

    [bold]ltrepro show cifar100-r100[/bold]
    """
    from lt_repro.paper.dbn_mix.settings import SETTINGS
    from lt_repro.render.text import reading_line
    from lt_repro.store import runs as store

    found = store.find(run, store.folders(runs))
    content = found.to_json()
    if as_json:
        return put_json(content | {"path": str(found.path)})
    recipe = content["recipe"] | {f"method.{name}": value for name, value in content["recipe"]["method"].items()}
    recipe["parents"] = {role: parent.key() for role, parent in found.recipe.parents.items()}
    del recipe["method"]
    named = ("device", "precision", "images_per_second", "seconds", "commit", "versions", "data_digest")
    provenance = {name: content[name] for name in named} | {
        "split": content["split"]["digest"],
        "weights": (content["weights"] or {}).get("sha256"),
        **{f"{role} from": parent["weights"] for role, parent in content["parents"].items()},
        "attempts": "; ".join(f"from epoch {a['epoch']}, step {a['step']}: {a['ended']}" for a in content["attempts"]),
    }
    grid = Grid(box=None, show_header=False, padding=(0, 2))
    grid.add_column()
    grid.add_column(overflow="fold")
    for title, part in {"recipe": recipe, "provenance": provenance}.items():
        grid.add_row(f"[bold]{title}[/bold]", "")
        for name, value in part.items():
            text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
            grid.add_row(name, escape(printable(text)))
    out.print(grid)
    put_result(found)
    put(reading_line(found.recipe, SETTINGS))
    away = SETTINGS.departures(found.recipe)
    defaults = "the defaults (the paper's settings as read here; where the paper has no such data set, this project's)"
    put(f"departs from {defaults}:" if away else f"no departure from {defaults}")
    for name, (actual, usual) in away.items():
        put(f"  {name} {actual} (default: {usual})")
    put(str(found.path))


def put_result(run: "Run") -> None:
    """Prints a run's accuracies, combined and by branch, or where it diverged."""
    if run.result is None:
        return put(f"diverged: {run.diverged}")
    groups = ("all", "many", "medium", "few")
    grid = Grid("top-1 %, last epoch", *groups)
    parts = {"combined": run.result["accuracy"]} if len(run.result["branches"]) > 1 else {}
    parts |= {name: branch["accuracy"] for name, branch in run.result["branches"].items()}
    for name, accuracy in parts.items():
        grid.add_row(name, *(f"{100 * accuracy[group]:.2f}" if group in accuracy else "n/a" for group in groups))
    out.print(grid)
    best = run.result["best"]
    beside = f"best on test {100 * best['all']:.2f} % at epoch {best['epoch']} (not the result)"
    cost = f"{run.images_per_second:,.0f} images/s, {clock(run.seconds)} on {run.device}, {run.precision}"
    put(f"ECE {100 * run.result['ece']:.2f} %, {beside}, {cost}")
