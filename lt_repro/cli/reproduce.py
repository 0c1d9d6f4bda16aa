"""`reproduce`: any table or figure of a paper, planned, trained, resumed, collected and shown."""

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lt_repro.cli.app import DATASETS, DataRoot, Device, Json, Runs, app, put, put_json, say
from lt_repro.cli.asked import (
    Exhibit,
    Found,
    Seeds,
    found_in,
    planned,
    put_exhibits,
    ratio_column,
    run_wanted,
    seeded,
    write,
    written,
)
from lt_repro.cli.exhibits import classes_of, draw_classes
from lt_repro.errors import RequestError, unknown

if TYPE_CHECKING:
    from lt_repro.data.pools import Pool
    from lt_repro.paper.table import Table
    from lt_repro.recipe import Recipe
    from lt_repro.render.verdicts import Judged

LENGTH = "--set epochs="
RESERVE = 15.0  # seconds of a budget that are kept for the last checkpoint and for rendering, at most a tenth of it


@app.command()
def reproduce(
    what: Annotated[list[str], typer.Argument(help="table1 to table6, fig1, fig3, or all.")],
    rows: Annotated[str | None, typer.Option(help="Train only these, as dbn,dbn+bm+ts.")] = None,
    columns: Annotated[str | None, typer.Option(help="Train only these, as 100,50.")] = None,
    seeds: Seeds = None,
    dataset: Annotated[str | None, typer.Option(help=DATASETS, show_default="the exhibit's")] = None,
    ratio: Annotated[
        list[str] | None, typer.Option(help="Ratio or as-is; repeatable where columns are ratios.")
    ] = None,
    profile: Annotated[str, typer.Option(help="paper, short (20 epochs) or smoke (10 epochs of 3 steps).")] = "paper",
    assign: Annotated[list[str] | None, typer.Option("--set", help="field=value for every run; repeatable.")] = None,
    order: Annotated[str, typer.Option(help="seed, row, column or cheapest first.")] = "seed",
    budget: Annotated[str | None, typer.Option(help="Stop in time, as 9m or 1h30m; exits with 5.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan, a command for each run.")] = False,
    render_only: Annotated[bool, typer.Option("--render-only", help="Train nothing.")] = False,
    runs: Runs = None,
    to: Annotated[Path | None, typer.Option("--out", help="Of rendered files.", show_default="tables, figures")] = None,
    data_root: DataRoot = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Reproduce tables and figures: train what is missing, then show ours beside the published numbers.

    [bold]ltrepro reproduce table4 --dataset digits --ratio 60[/bold]

    [bold]ltrepro reproduce table4 --rows dbn+bm+ts --columns 100 --seeds 0-2[/bold]

    [bold]ltrepro reproduce all --dry-run[/bold]

    Stopped and called again, it goes on. Rows whose method is not here yet and images that nothing reads yet are shown
    as — and never trained. Another profile, data set or setting is another table, with its own file name and caption.
    """
    from lt_repro import files
    from lt_repro.data import pools
    from lt_repro.signals import Interrupted
    from lt_repro.sweep.plan import missing, ordered

    until = time.monotonic() + _seconds(budget)
    chosen = _exhibits(what)
    pool = None
    if dataset and (dataset not in pools.NAMES or "as-is" in (ratio or [])):
        pool = pools.load_pool(dataset, pools.data_root(data_root))
    across = [ratio_column(text, pool) for text in dict.fromkeys(ratio or [])]
    name = pool.name if pool else dataset
    tables = [seeded(table.of(name, across, **_settings(assign)).profiled(profile), seeds) for table in chosen]
    found = found_in(runs, may_be_new=dry_run or not render_only)
    picked = [table.only(_labels(rows), _labels(columns)) for table in tables]
    lacking = missing(picked, found.runs)
    wanted = ordered(lacking.recipes, picked, order)
    if dry_run:
        _put_plan(tables, wanted, found, lacking.notes, dataset, runs, data_root, as_json)
        raise typer.Exit(found.code)
    code = found.code
    if not render_only and wanted:
        for folder in {_folder(table, to) for table in tables}:
            files.ensure_writable(folder)
        for note in lacking.notes:
            say(f"note: {note}")
        needed = {recipe.dataset for recipe in wanted}
        images = {} if pool is None else {pool.name: pool}
        images |= {n: pools.load_pool(n, pools.data_root(data_root)) for n in sorted(needed - images.keys())}
        try:
            found = run_wanted(wanted, found, images, device, until)
            code = found.code
        except Interrupted as stopped:
            if stopped.exit_code != 5:
                raise
            say(str(stopped))
            found, code = Found(found.folders), 5
    _put(tables, found, pool, to, as_json)
    raise typer.Exit(code)


@app.command()
def check(
    what: Annotated[list[str], typer.Argument(help="table1 to table6, fig1, fig3, or all.")],
    strict: Annotated[bool, typer.Option("--strict", help="Cells that cannot be judged yet do not pass.")] = False,
    seeds: Seeds = None,
    runs: Runs = None,
    as_json: Json = False,
) -> None:
    """Compare measured cells with the published numbers, and the paper's claims with the cells; 4 when one is outside.

    [bold]ltrepro check table4[/bold]

    With three seeds or more a cell is outside when the published number lies outside the 95 % prediction interval
    of one more run: |mean - published| > t sd sqrt(1 + 1/n). Claims are reported and change no exit code.
    """
    from lt_repro.paper import papers
    from lt_repro.render import verdicts

    tables = [seeded(table, seeds) for table in _exhibits(what)]
    found = found_in(runs, may_be_new=False)
    shown = [(table, found.measure(table, LENGTH)) for table in tables]
    checked = [one for _, measured in shown for one in verdicts.check(measured)]
    cells = verdicts.places(shown)
    claims = [claim for paper in papers().values() for claim in paper.claims]
    asked = [c for c in claims if all(place in cells for pair in c.comparisons for side in pair for place in side)]
    judged = [verdicts.judge(claim, cells) for claim in asked]
    counts = {status: sum(one.status == status for one in checked) for status in verdicts.STATUSES}
    if as_json:
        put_json({"cells": counts, "claims": _said(judged)})
    else:
        for one in checked:
            if one.status != "not run":
                put(verdicts.checked_line(one))
        put(", ".join(f"{count} cells {status}" for status, count in counts.items()))
        for line in verdicts.claim_lines(judged):
            put(line)
    failed = counts["outside"] or (strict and counts["inside"] < len(checked))
    raise typer.Exit(4 if failed else found.code)


@app.command()
def explain(
    name: Annotated[str, typer.Argument(metavar="RUN", help="A path, a key, or a unique beginning of a key.")],
    runs: Runs = None,
    as_json: Json = False,
) -> None:
    """Say which cells a run belongs to, where it departs from the paper, and what the paper leaves open for it.

    [bold]ltrepro explain cifar100-r100-dbn_mix-e200-s0-ffed[/bold]
    """
    from lt_repro import fields
    from lt_repro import runs as store
    from lt_repro.paper import papers
    from lt_repro.paper.settings import departures
    from lt_repro.render.cells import alike

    recipe = store.find(name, store.folders(runs)).recipe
    away = departures(recipe)
    series, cells, questions = alike(recipe), [], []
    for paper in papers().values():
        every = [(table, cell) for tables in paper.exhibits.values() for table in tables for cell in table.cells()]
        cells += [(table, cell) for table, cell in every if cell.recipe and alike(cell.recipe) == series]
        for question in paper.questions:
            owner = recipe if hasattr(recipe, question.setting) else recipe.method
            if hasattr(owner, question.setting) and question.setting not in recipe.unused():
                questions.append((question, fields.text(getattr(owner, question.setting))))
    if as_json:
        return put_json(
            {
                "key": recipe.key(),
                "cells": [[table.id, cell.row.label, cell.column.label] for table, cell in cells],
                "departures": {n: [fields.text(ours), fields.text(theirs)] for n, (ours, theirs) in away.items()},
                "open": {question.setting: value for question, value in questions},
            }
        )
    put(recipe.key())
    for table, cell in cells:
        printed = f", published {100 * cell.published.value:.2f} %" if cell.published else ""
        put(f"cell: {table.id}, {cell.row.title}, {cell.column.title}{printed}")
    if not cells:
        put("it belongs to no cell of a paper: another length, data set or setting")
    for setting, (ours, theirs) in away.items():
        put(f"departs: {setting} {fields.text(ours)} (the paper's, as read here: {fields.text(theirs)})")
    if not away:
        put("it departs in no setting from the paper, as read here")
    for question, value in questions:
        put(f"open in the paper: {question.setting} = {value}: {question.asked} ({question.why})")


def _judged(shown: Sequence[Exhibit]) -> "list[Judged]":
    """Returns every claim of a paper that can be asked on one of the exhibits alone, and what came of it there."""
    from lt_repro.paper import papers
    from lt_repro.render.verdicts import judge, on, places

    claims = [claim for paper in papers().values() for claim in paper.claims]
    pairs = [(on(claim, table), places([(table, measured)])) for table, measured in shown for claim in claims]
    return [judge(claim, cells) for claim, cells in pairs if claim]


def _said(judged: "Sequence[Judged]") -> list[dict[str, Any]]:
    return [{"id": one.claim.id, "verdict": one.verdict, "measured": one.measured} for one in judged]


def _exhibits(what: Sequence[str]) -> "list[Table]":
    """Returns the tables that names ask for: of a group ("table6"), of one table ("table6a"), or all, each once."""
    from lt_repro.paper import papers

    groups: dict[str, list[Table]] = {}
    for paper in papers().values():
        for name, tables in paper.exhibits.items():
            for known in dict.fromkeys([name, *(table.id for table in tables)]):
                own = [table for table in tables if known in (name, table.id)]
                groups.setdefault(known, own)
                groups[f"{paper.name}:{known}"] = own
    plain = [name for name in groups if ":" not in name]
    chosen: dict[int, Table] = {}
    for name in what:
        if name != "all" and name not in groups:
            raise unknown("exhibit", name, ["all", *plain], f"allowed: all, {', '.join(sorted(plain))}")
        for table in [t for own in groups.values() for t in own] if name == "all" else groups[name]:
            chosen.setdefault(id(table), table)
    return list(chosen.values())


def _settings(assign: list[str] | None) -> dict[str, Any]:
    from lt_repro import fields
    from lt_repro.methods import METHODS
    from lt_repro.recipe import Recipe

    kinds: dict[str, type] = dict.fromkeys(fields.types(Recipe), Recipe)
    kinds |= {name: cls for cls in METHODS.values() for name in fields.types(cls)}
    given = {}
    for text in assign or []:
        name, equals, value = text.partition("=")
        if name not in kinds or name in ("dataset", "ratio", "method", "parent", "seed"):
            hidden = {"dataset", "ratio", "method", "parent", "seed"}
            raise unknown("setting", name, kinds.keys() - hidden, "type --set field=value")
        if not equals:
            raise RequestError(f"--set {text}", "allowed: --set field=value")
        given[name] = fields.parse(kinds[name], name, value)
    return given


def _seconds(text: str | None) -> float:
    """Returns how long to train within a budget, a reserve taken off; infinity without one."""
    if text is None:
        return float("inf")
    parts = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?", text)
    if not parts or not any(parts.groups()):
        raise RequestError(f"--budget {text}", "allowed: hours, minutes and seconds, such as 9m, 90s or 1h30m")
    hours, minutes, seconds = (int(part or 0) for part in parts.groups())
    whole = 3600 * hours + 60 * minutes + seconds
    return whole - min(RESERVE, whole / 10)


def _labels(text: str | None) -> list[str] | None:
    return None if text is None else [part for part in text.split(",") if part]


def _folder(table: "Table", to: Path | None) -> Path:
    return to or Path("tables" if table.form == "table" else "figures")


def _put_plan(
    tables: "Sequence[Table]",
    wanted: "Sequence[Recipe]",
    found: Found,
    notes: Sequence[str],
    dataset: str | None,
    runs: list[Path] | None,
    data_root: Path | None,
    as_json: bool,
) -> None:
    from lt_repro.render.cells import to_json
    from lt_repro.sweep.cost import cost

    for note in (*found.notes, *notes):
        say(f"note: {note}")
    lines = planned(wanted, found, dataset, runs, data_root)
    epochs = sum(recipe.epochs for recipe in wanted)
    cpu, gpu = (cost(wanted, found.runs, gpu=device) for device in (False, True))
    totals: dict[str, float] = {"runs": len(wanted), "epochs": epochs}
    for name, spent in (("cpu", cpu), ("gpu", gpu)):
        totals |= {f"{name}_hours": round(spent.seconds / 3600, 3), f"{name}_runs_without_a_speed": spent.unknown}
    cells = [cell for table in tables for cell in to_json(table, found.measure(table, LENGTH))["cells"]]
    if as_json:
        plan = [
            {"key": recipe.key(), "epochs": recipe.epochs, "command": lines[recipe.key()]}
            | {f"{name}_seconds": _or_none(cost([recipe], found.runs, gpu=name == "gpu")) for name in ("cpu", "gpu")}
            for recipe in wanted
        ]
        return put_json({"cells": cells, "plan": plan, "totals": totals})
    for line in lines.values():
        put(line)
    for status in ("no method", "needs data"):
        reasons = [cell["reason"] for cell in cells if cell["status"] == status]
        for reason in dict.fromkeys(reasons):
            put(f"# {reasons.count(reason)} cells: {reason}")
    put(f"# {len(wanted)} runs, {epochs} epochs")
    for name, spent in (("CPU", cpu), ("GPU", gpu)):
        known = len(wanted) - spent.unknown
        hours = f"{spent.seconds / 3600:.1f} {name}-hours for {known} runs, at the median speed of stored runs"
        without = f"{spent.unknown} runs have no measured speed on a {name}" if spent.unknown else ""
        put(f"# {'; '.join(part for part in (hours if known else '', without) if part)}")


def _or_none(spent: Any) -> float | None:
    return None if spent.unknown else round(spent.seconds, 1)


def _put(tables: "Sequence[Table]", found: Found, pool: "Pool | None", to: Path | None, as_json: bool) -> None:
    """Renders every exhibit in its own form and prints all of them."""
    from lt_repro.render import figures, text
    from lt_repro.render.verdicts import claim_lines

    shown: list[Exhibit] = []
    paths: list[Path] = []
    for table in tables:
        measured = found.measure(table, LENGTH)
        shown.append((table, measured))
        folder = _folder(table, to)
        if table.form == "classes":
            classes = classes_of(table, {one.cell.row.title: one.runs for one in measured}, pool)
            paths += draw_classes(folder / table.id, table.caption, classes)
        elif table.form == "lines":
            paths += figures.save(figures.hparam_figure(table, measured), folder / table.id)
            paths.append(write(folder / f"{table.id}.csv", text.csv(table, measured)))
        else:
            paths += written([(table, measured)], folder, found.notes)
    judged = _judged(shown)
    put_exhibits(shown, paths, as_json, claims=_said(judged))
    if not as_json:
        for line in claim_lines([one for one in judged if one.measured]):
            put(line)
