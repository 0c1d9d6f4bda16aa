"""What every command that trains or shows exhibits does: read the request, find the runs, plan, train, show."""

import dataclasses
import math
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lt_repro.cli.app import put, put_json, say
from lt_repro.cli.options import parse_settings
from lt_repro.cli.output import folder, put_all
from lt_repro.cli.plan import commands, plan_json, totals, where
from lt_repro.cli.progress import Board
from lt_repro.cli.skipped import skipped_line
from lt_repro.errors import RequestError, unknown

if TYPE_CHECKING:
    from lt_repro.cli.output import Exhibit
    from lt_repro.data.images import Pool
    from lt_repro.data.split import Split
    from lt_repro.papers.table import Table, Variant
    from lt_repro.recipe import Recipe
    from lt_repro.render.cells import Measured
    from lt_repro.store.runs import Run

Ratios = Annotated[
    list[str] | None,
    typer.Option(
        "--ratio",
        help="Imbalance ratio: images of the largest class / the smallest, from 1 up; as-is uses all images. "
        "Repeatable where the columns are ratios.",
        show_default="the exhibit's; as-is for images of your own",
    ),
]
Seeds = Annotated[
    str | None, typer.Option(help="Random seeds to use, such as 0-2 or 0,3.", show_default="the exhibit's")
]
Bn = Annotated[
    str | None,
    typer.Option(
        "--bn", help="BatchNorm statistics to test with: running, mixed, clean or blend.", show_default="the reading's"
    ),
]
EvalEvery = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="<int>",
        help="Epochs between two tests along the way, 1 or more; the last epoch is always tested.",
        show_default="10",
    ),
]
EvalBn = Annotated[
    bool,
    typer.Option(
        "--eval-bn", help="Test along the way with all four BatchNorm statistics too, as after the last epoch."
    ),
]
Published = Annotated[
    Path | None,
    typer.Option("--published", help="CSV of published numbers: method,dataset,ratio,value,source,protocol."),
]
EVAL_EVERY = 10
Reading = Annotated[
    str | None,
    typer.Option(
        help="How to read the paper: paper (its text) or released (its authors' code).",
        show_default="the paper's first, paper",
    ),
]
RESERVE = 15.0  # seconds of a budget kept for the last checkpoint and for rendering: a tenth, but 5 s where there are


@dataclass(frozen=True)
class Request:
    """What is asked of some exhibits, as it was typed.

    Args:
        what: Names of exhibits, or all.
        train: Whether to train what is missing.
        plan: Whether to print what is missing instead, a command for each run.
        settings: Fields of the recipe or the method for every run; None leaves one alone.
        latex: What stands beside a mean in tables as LaTeX, which are written too; None for no LaTeX.
        add: Further rows, as `added_row` reads them.
        claims: Whether to judge the paper's claims at other settings too.
        eval_every: Epochs between two tests; None for what the protocol has.
        published: A CSV of further published numbers.
        length: How another length of training is typed.
        totals: Where a plan's totals are printed.
    """

    what: Sequence[str]
    train: bool
    plan: bool
    dataset: str | None
    ratio: Sequence[str]
    seeds: str | None
    runs: list[Path] | None
    to: Path | None
    data_root: Path | None
    device: str
    as_json: bool
    settings: Mapping[str, Any] = field(default_factory=dict)
    reading: str | None = None
    profile: str = "paper"
    rows: str | None = None
    columns: str | None = None
    add: Sequence[str] = ()
    order: str = "seed"
    budget: str | None = None
    jobs: int | None = None
    best: bool = False
    claims: bool = False
    bn: str | None = None
    protocol: str = "last"
    eval_every: int | None = None
    eval_bn: bool = False
    published: Path | None = None
    latex: str | None = None
    length: str = "--set epochs="
    totals: Callable[[str], None] = lambda line: put(f"# {line}")


def carry_out(request: Request) -> None:
    """Trains what is missing and shows the exhibits, or prints the plan, and exits with the right code."""
    from lt_repro.data import load
    from lt_repro.store import files
    from lt_repro.sweep.plan import missing, ordered
    from lt_repro.train.signals import Interrupted

    until = time.monotonic() + _seconds(request.budget)
    pool = None
    if request.dataset is not None and (load.is_own(request.dataset) or "as-is" in request.ratio):
        pool = load.load_pool(request.dataset, load.data_root(request.data_root))
    tables, inactive = requested_tables(request, pool)
    stored = stored_in(request.runs, may_be_new=request.train or request.plan)
    added = [added_row(text) for text in request.add]
    if added and (others := [table.id for table in tables if not any("method" in row.edits for row in table.rows)]):
        allowed = "allowed: exhibits whose rows are methods, such as rivals"
        raise RequestError(f"a row added to {', '.join(others)}", allowed, "name another exhibit")
    chosen = [table.only(_labels(request.rows), _labels(request.columns)).adding(added) for table in tables]
    _check_latex(request.latex, chosen)
    absent = missing(chosen, stored.runs)
    requested = ordered(absent.recipes, request.order)
    kinds, images = ["CPU", "GPU"], {}
    if request.train and requested:
        from lt_repro.train.device import pick_device

        kinds = ["CPU" if pick_device(request.device).type == "cpu" else "GPU"]
        images = _images(request, requested, pool)
    for_runs = request.plan or request.train
    pools = {pool.name: pool} | images if pool else images
    counts = _splits(requested, pools) if for_runs else []
    if request.train and requested:
        for place in {folder(table, request.to) for table in chosen}:
            files.ensure_writable(place)  # before hours of training, not after
    lines = totals(requested, stored.runs, kinds) if for_runs else []
    read = [note for each in pools.values() for note in each.notes]
    notes = [*read, *counts, *inactive, *stored.notes, *(absent.notes if for_runs else [])]
    for note in notes:  # after all that can be refused
        say(f"note: {note}")
    if request.plan:
        _put_plan(request, _measured(tables, chosen, stored, request), requested, stored, lines)
        raise typer.Exit(stored.code)
    code = stored.code
    if request.train and requested:
        for line in lines:
            say(line)
        try:
            tests = {"eval_every": request.eval_every or (1 if request.protocol == "released" else EVAL_EVERY)}
            tests["eval_bn"] = request.eval_bn
            stored = train_requested(requested, chosen, stored, images, request.device, until, request.jobs, **tests)
            code = stored.code
        except Interrupted as stopped:
            if stopped.exit_code != 5:
                raise
            say(str(stopped))
            stored, code = read_runs(stored.folders), 5
        for note in [note for note in stored.notes if note not in notes]:
            say(f"note: {note}")
    shown = _measured(tables, chosen, stored, request)
    put_all(shown, stored.notes, pool, request.to, request.as_json, request.best, request.claims, request.latex)
    raise typer.Exit(code)


def _measured(
    whole: "Sequence[Table]", chosen: "Sequence[Table]", stored: "StoredRuns", request: Request
) -> "list[Exhibit]":
    """Returns what is chosen of each exhibit with its cells; runs of rows that are left out match the whole exhibit."""
    from lt_repro.render.cells import measure

    for table in whole:
        stored.note_unmatched(table, request.length)
    return [(table, measure(table, stored.runs)) for table in chosen]


def _check_latex(pm: str | None, tables: "Sequence[Table]") -> None:
    """Refuses what no LaTeX can show beside a mean, before anything trains."""
    from lt_repro.render.latex import PLUS_MINUS

    if pm and pm not in PLUS_MINUS:
        raise unknown("--pm", pm, PLUS_MINUS)
    others = [table.id for table in tables if table.form == "table" and not table.ablation]
    if pm == "gain" and others:
        raise RequestError(
            f"--pm gain for {', '.join(others)}", "allowed: ablations with their first row", "type --pm sd or interval"
        )


def added_row(text: str) -> "Variant":
    """Returns the row that `--add METHOD[:field=value,...]` names.

    Raises:
        RequestError: There is no such method, or a setting is not one of its or the recipe's.
    """
    from lt_repro import fields
    from lt_repro.methods import ALIASES
    from lt_repro.papers.table import Variant
    from lt_repro.recipe import find

    name, _, rest = text.partition(":")
    method = find(name)
    assigned = re.split(r",(?=\w+=)", rest) if rest else []  # a value may have commas
    edits = dict(ALIASES.get(name, (name, {}))[1]) | parse_settings(assigned, [method.name()], ("ratio", "seed"))
    words = ", ".join(f"{field} {fields.text(value)}" for field, value in edits.items())
    return Variant(text, method.title + (f" ({words})" if words else ""), {"method": method.name()} | edits)


def _put_plan(
    request: Request,
    shown: "Sequence[Exhibit]",
    requested: "Sequence[Recipe]",
    stored: "StoredRuns",
    lines: Sequence[str],
) -> None:
    """Prints the command of each run, then `lines`; or one JSON document with cells, commands and totals."""
    from lt_repro.render.cells import to_json

    options = where(request.runs, request.data_root)
    typed = commands(requested, stored.runs, stored.folders[0], request.dataset, options)
    cells = [cell for table, measured in shown for cell in to_json(table, measured)["cells"]]
    if request.as_json:
        plan, sums = plan_json(requested, typed, stored.runs)
        return put_json({"cells": cells, "plan": plan, "totals": sums})
    for line in typed.values():
        put(line)
    barred = [(c["exhibit"], c["row"], c["reason"]) for c in cells if c["status"] in ("no method", "needs data")]
    for exhibit, row, reason in dict.fromkeys(barred):
        request.totals(f"{exhibit}, {row}: {reason}")
    for line in lines:
        request.totals(line)


def requested_tables(request: Request, pool: "Pool | None" = None) -> "tuple[list[Table], list[str]]":
    """Returns the exhibits as asked for, and a line for each setting that changes nothing in one of them."""
    from lt_repro import fields
    from lt_repro.papers.comparison import beside, read_file
    from lt_repro.papers.table import PROFILES

    given = {name: value for name, value in request.settings.items() if value is not None}
    if twice := sorted(given.keys() & PROFILES.get(request.profile, {}).keys()):
        raise RequestError(f"--profile {request.profile} and {', '.join(twice)} together", "allowed: one of them")
    ratios = [ratio_settings(text, pool) for text in request.ratio]
    if pool and not ratios:
        ratios = [default_ratio(pool, given.get("imb_type"))]
    across = list({column.label: column for column in map(_ratio_column, filter(None, ratios))}.values())
    others = read_file(request.published) if request.published else []
    read, inactive = read_as(exhibits(request.what), request.reading, request.what)
    if request.bn and len(read) > 1 and (own := [table for table in read if table.compared_bn]):
        inactive.append(f"skipped, they compare statistics themselves: {', '.join(table.id for table in own)}")
        read = [table for table in read if not table.compared_bn]
    tables = []
    for exhibit in read:
        table = exhibit.on_images(pool.name if pool else request.dataset, across, **given)
        unused = [name for name, value in given.items() if table.base.get(name) != value]
        inactive += [f"{name} = {fields.text(given[name])} changes nothing in {table.id}" for name in unused]
        table = table.profiled(request.profile).protocol(request.protocol).tested_with(request.bn)
        tables.append(beside(seeded(table, request.seeds), others))
    return tables, inactive


def _images(request: Request, requested: "Sequence[Recipe]", pool: "Pool | None") -> "dict[str, Pool]":
    """Returns the images of all recipes by name."""
    from lt_repro.data import load

    root = load.data_root(request.data_root)
    images = {} if pool is None else {pool.name: pool}
    needed = {recipe.dataset for recipe in requested} - images.keys()
    return images | {name: load.load_pool(name, root) for name in sorted(needed)}


def _splits(requested: "Sequence[Recipe]", pools: "Mapping[str, Pool]") -> list[str]:
    """Returns `dropped` for each split of a user's images, after every recipe has been checked against its images.

    Raises:
        RequestError: A split cannot be made, or images are too small: a plan refuses what training would refuse.
    """
    from lt_repro.data.images import split_of
    from lt_repro.data.load import is_own, known_split
    from lt_repro.train.state import check_size

    for recipe in requested:
        if recipe.dataset in pools:
            check_size(recipe, pools[recipe.dataset])
    lines = []
    for subset, recipe in {recipe.subset: recipe for recipe in requested}.items():
        pool = pools.get(recipe.dataset)
        split = split_of(subset, pool) if pool else known_split(*subset)
        if pool and split and is_own(pool.name):
            lines += dropped(pool, split)
    return lines


def dropped(pool: "Pool", split: "Split") -> list[str]:
    """Returns a line with the counts that are trained on, where the split drops images of the pool."""
    from lt_repro.data.load import is_own

    counts = [f"{name}: {count}" for name, count in zip(pool.class_names, split.counts, strict=True)]
    total, used = len(pool.train_labels) - len(counts) * pool.hold_out, split.counts.sum()
    if used == total:
        return []
    listed = ", ".join(counts) if len(counts) <= 10 else f"{counts[0]} to {counts[-1]}"
    hint = "; --ratio as-is takes all" if is_own(pool.name) else ""
    return [f"ratio {split.ratio:g} takes {used:,} of {total:,} training images, {listed}{hint}"]


def exhibits(what: Sequence[str]) -> "list[Table]":
    """Returns the tables that names ask for, each once.

    A name is a group ("table6"), one table ("table6a"), either of another paper ("mislas/table1", "mislas/all"), or
    "all". It needs no paper where the default paper has it, or only one paper does.

    Raises:
        RequestError: There is no such exhibit, or several papers have it and the default paper does not.
    """
    from lt_repro.papers import papers
    from lt_repro.papers.table import DEFAULT

    groups: dict[str, list[Table]] = {}  # by "paper/name"
    owners: dict[str, list[str]] = {}
    for paper in papers().values():
        groups[f"{paper.name}/all"] = paper.tables()
        for name, tables in paper.exhibits.items():
            for known in dict.fromkeys([name, *(table.exhibit for table in tables)]):
                groups[f"{paper.name}/{known}"] = [table for table in tables if known in (name, table.exhibit)]
                owners.setdefault(known, []).append(paper.name)
    chosen: dict[str, Table] = {}
    for name in map(str.lower, what):  # as a paper writes it: Table4
        having = owners.get(name, [])
        owner = DEFAULT if DEFAULT in having else having[0] if len(having) == 1 else ""
        full = name if not owner else f"{owner}/{name}"
        if len(having) > 1 and not owner:
            others = ", ".join(f"{other}/{name}" for other in having)
            raise RequestError(f"{name} is in {', '.join(having)}", f"allowed: {others}", f"type {having[0]}/{name}")
        if name != "all" and full not in groups:
            short = {known.removeprefix(f"{DEFAULT}/") for known in groups}
            raise unknown("exhibit", name, short | {"all"})
        for table in [t for group in groups.values() for t in group] if name == "all" else groups[full]:
            chosen.setdefault(table.id, table)
    return list(chosen.values())


def read_as(tables: "Sequence[Table]", reading: str | None, what: Sequence[str]) -> "tuple[list[Table], list[str]]":
    """Returns the exhibits under a reading, and a line on those of "all" that are skipped as they have none of it.

    Args:
        tables: The exhibits.
        reading: Its name; None for each paper's first.
        what: As typed: an exhibit that was named itself is never skipped.

    Raises:
        RequestError: There is no such reading of an exhibit that was named, or of any.
    """
    several = any(name.lower().rpartition("/")[2] == "all" for name in what)
    read, refused = [], {}
    for table in tables:
        try:
            read.append(table.read_as(reading))
        except RequestError as error:
            refused[table.id] = error
    if refused and (not several or not read):
        raise next(iter(refused.values()))
    return read, [f"skipped, reading {reading} is not theirs: {', '.join(refused)}"] if refused else []


@dataclass(frozen=True)
class StoredRuns:
    """The runs stored in some folders that may be shown, and what is wrong with the others.

    Args:
        folders: Where they were read; training writes into the first.
        runs: In the order of the folders.
        notes: A line for each file, or kind of files, that is not shown.
        code: What a command that shows them exits with.
    """

    folders: Sequence[Path]
    runs: "list[Run]"
    notes: list[str]
    code: int

    def measure(self, table: "Table", epochs: str = "--set epochs=") -> "list[Measured]":
        """Returns the table's cells; see `note_unmatched`."""
        from lt_repro.render.cells import measure

        self.note_unmatched(table, epochs)
        return measure(table, self.runs)

    def note_unmatched(self, table: "Table", epochs: str) -> None:
        """Notes on stderr which runs are shorter than the table's, and which match none of its cells.

        Args:
            table: What is shown.
            epochs: How another length is typed; "" where it cannot be.
        """
        from lt_repro.render.cells import length, short_runs

        lengths = [length(run.recipe) for run in short_runs(table, self.runs)]
        if lengths:
            words = ", ".join(f"{lengths.count(epochs)} of {epochs} epochs" for epochs in sorted(set(lengths)))
            hint = f"; {epochs}{max(lengths)} shows them" if epochs else ""
            say(f"note: {table.id} skips shorter runs ({words}){hint}")
        if line := skipped_line(table, self.runs):
            say(f"note: {line}")


def read_runs(folders: Sequence[Path]) -> StoredRuns:
    """Returns what is stored in some folders."""
    from lt_repro.data.load import known_split
    from lt_repro.render.cells import conflicts
    from lt_repro.store.run_file import OlderSchema
    from lt_repro.store.runs import load_runs

    runs, damaged = load_runs(folders)
    runs, others = conflicts(runs, known_split)
    older = Counter(error.folder for error in damaged if isinstance(error, OlderSchema))
    notes = [
        f"{count} run files of an older version in {place} are not shown: `ltrepro migrate {place}` re-keys them"
        for place, count in older.items()
    ]
    notes += [str(error).splitlines()[0] for error in damaged if not isinstance(error, OlderSchema)]
    return StoredRuns(folders, runs, notes + others, 1 if damaged else 0)


def train_requested(
    requested: "Sequence[Recipe]",
    tables: "Sequence[Table]",
    stored: StoredRuns,
    pools: "Mapping[str, Pool]",
    device: str,
    until: float = math.inf,
    jobs: int | None = None,
    **tests: Any,
) -> StoredRuns:
    """Returns what is found after recipes have been trained into the first folder, data set by data set.

    Args:
        requested: What to train.
        tables: What it is for.
        stored: The runs there were.
        pools: The images, by the recipes' name for them.
        device: See `train.fit`.
        until: See `run_all`.
        jobs: See `run_jobs`; None for what suits the device.
        tests: `eval_every` and `eval_bn` of `train.fit`.
    """
    from lt_repro.sweep.runner import Failed
    from lt_repro.sweep.workers import default_jobs, run_jobs
    from lt_repro.train.device import pick_device

    diverged = broken = 0
    jobs = jobs or default_jobs(pick_device(device))
    kwargs: dict[str, Any] = {
        "parents": stored.folders,
        "device": device,
        "note": say,
        "until": until,
        "jobs": jobs,
    } | tests
    with Board(requested, tables, stored.runs) as board:
        for name, pool in pools.items():
            recipes = [recipe for recipe in requested if recipe.dataset == name]
            for ended in run_jobs(recipes, pool, stored.folders[0], watch=board.at, **kwargs):
                board.ended(ended)
                if isinstance(ended, Failed):
                    broken += 1
                else:
                    diverged += ended.status == "diverged"
    filled = read_runs(stored.folders)
    return dataclasses.replace(filled, code=3 if broken else max(filled.code, 1 if diverged else 0))


def dataset_of(run: "Run") -> str:
    """Returns the name by which the images of a stored run are found.

    Raises:
        RequestError: They are a user's, which are known by their content, not by where they are.
    """
    from lt_repro.data.load import is_own

    if is_own(run.recipe.dataset):
        raise RequestError(
            f"{run.recipe.key()} was trained on {run.recipe.dataset}, which is not a known data set",
            "allowed: the images it was trained on",
            "add --dataset npz:FILE or --dataset folder:DIR",
        )
    return run.recipe.dataset


def ratio_settings(text: str | None, pool: "Pool | None") -> dict[str, Any]:
    """Returns the settings that `--ratio` gives: a number's, those of the images as they are ("as-is"), or none.

    Raises:
        RequestError: It is neither, or "as-is" without a pool.
    """
    if text is None:
        return {}
    if text == "as-is":
        from lt_repro.data.split import natural_ratio

        if pool is None:
            allowed = "allowed: as-is with a data set, or a number from 1 up"
            raise RequestError("--ratio as-is without --dataset", allowed, "add --dataset NAME")
        return {"ratio": natural_ratio(pool.train_labels, pool.hold_out), "imb_type": "as_is"}
    try:
        ratio = float(text)
    except ValueError:
        raise RequestError(f"--ratio {text}", "allowed: a number from 1 up, or as-is") from None
    if 0 < ratio < 1:
        allowed = "allowed: n_max / n_min, a number from 1 up, or as-is"
        raise RequestError(f"--ratio {text}", allowed, f"type --ratio {1 / ratio:g}")
    return {"ratio": ratio}


def default_ratio(pool: "Pool", imb_type: str | None = None) -> dict[str, Any]:
    """Returns the settings where no ratio is typed: a user's images as they are; none for a known data set.

    Raises:
        RequestError: A user's images with an `imb_type` that needs a ratio.
    """
    from lt_repro.data.load import is_own

    if not is_own(pool.name):
        return {}
    if imb_type not in (None, "as_is"):
        raise RequestError(
            f"imb_type {imb_type} for {pool.source} without a ratio",
            "allowed: a number as the ratio, or no imb_type: images of your own are used as they are",
            "add --ratio N, for example --ratio 10",
        )
    return ratio_settings("as-is", pool)


def _ratio_column(settings: dict[str, Any]) -> "Variant":
    """Returns the column of a ratio's settings."""
    from lt_repro.papers.table import Variant, ratios

    return Variant("as-is", "as is", settings) if "imb_type" in settings else ratios(settings["ratio"])[0]


def stored_in(runs: list[Path] | None, *, may_be_new: bool) -> StoredRuns:
    """Returns what is found in the folders of `--runs`.

    Raises:
        RequestError: A folder is missing and nothing will be trained into it.
    """
    from lt_repro.store.runs import run_folders

    for place in runs or []:
        if not place.is_dir() and not may_be_new:
            raise RequestError(f"no folder {place}", "allowed: folders of run files", "`ltrepro train --out` makes one")
    return read_runs(run_folders(runs))


def seeded(table: "Table", seeds: str | None) -> "Table":
    """Returns the table with the seeds that `--seeds` names.

    Raises:
        RequestError: They are no seeds.
    """
    if seeds is None:
        return table
    parts = [re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", part) for part in seeds.split(",")]
    ends = [(int(part[1]), int(part[2] or part[1])) for part in parts if part]
    if len(ends) < len(parts) or not all(low <= high < low + 1000 for low, high in ends):
        raise RequestError(f"--seeds {seeds}", "allowed: whole numbers, such as 0-2 or 0,3")
    chosen = dict.fromkeys(seed for low, high in ends for seed in range(low, high + 1))
    return dataclasses.replace(table, seeds=tuple(chosen))


def _seconds(text: str | None) -> float:
    """Returns how long to train within a budget, a reserve taken off; infinity without one."""
    if text is None:
        return float("inf")
    parts = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text)
    if not parts or not any(parts.groups()):
        raise RequestError(f"--budget {text}", "allowed: hours, minutes and seconds, such as 9m, 90s or 1h30m")
    hours, minutes, seconds = (int(part or 0) for part in parts.groups())
    whole = 3600 * hours + 60 * minutes + seconds
    return whole - min(RESERVE, max(whole / 10, min(5.0, whole / 4)))


def _labels(text: str | None) -> list[str] | None:
    return None if text is None else text.split(",")
