"""`status`, `verify`, `collect`, `diff`: commands on stored runs, which train nothing."""

import functools
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group
from rich.live import Live

from lt_repro.cli.app import Json, Runs, app, out, printable, put, put_json
from lt_repro.cli.output import put_grid, put_texts, text_grid
from lt_repro.errors import DamagedError, RequestError

if TYPE_CHECKING:
    from lt_repro.store.runs import Run
    from lt_repro.store.status import RunStatus

COLLECTED = Path("tables/runs")
"""Where run files are collected, without their weights."""


@app.command()
def status(
    runs: Annotated[
        list[Path] | None,
        typer.Option("--runs", help="Folder of runs; repeatable.", envvar="LTREPRO_RUNS", show_default="./runs"),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh every two seconds until Ctrl-C.")] = False,
    as_json: Json = False,
) -> None:
    """List runs: done, running, interrupted, failed, diverged.

    [bold]ltrepro status[/bold]

    [bold]ltrepro status --watch[/bold]

    Looks in ./runs, or in the given folders. To resume an interrupted or failed
    run, type its command again.
    """
    folders = _folders(runs)
    if as_json:
        listed = _statuses(folders)
        totals = Counter(run.state for run in listed)
        return put_json({"runs": [run.to_json() for run in listed], "totals": dict(totals)})
    if not watch:
        return out.print(_shown(folders))
    with Live(_shown(folders), console=out, auto_refresh=False) as live:
        while True:
            time.sleep(2)
            live.update(_shown(folders), refresh=True)


@app.command()
def verify(
    folder: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FOLDER", help="Folders of runs to check.", show_default="runs, tables/runs"),
    ] = None,
    clean: Annotated[
        bool, typer.Option("--clean", help="Remove what killed processes left behind, and damaged checkpoints.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check every stored file, and that its numbers add up.

    [bold]ltrepro verify[/bold]

    [bold]ltrepro verify runs --clean[/bold]

    Names the damaged files and exits with 1 if there are any. Accuracies must be
    the means of their classes', and agree with the curve and the calibration.
    Missing weights are not an error; each line says which runs need them, stored
    or still to be trained.

    --clean removes temporary files, free locks, damaged checkpoints, and
    checkpoints of finished runs. It never removes run files, weights, or files of
    a run that is training now.
    """
    from lt_repro.data.split import class_groups
    from lt_repro.store import status

    default = [place for place in (Path("runs"), COLLECTED) if place.is_dir()]
    folders = _folders(folder) if folder else default
    checks = [check for place in folders for check in status.check_files(place, class_groups)]
    bad = [check for check in checks if check.wrong]
    left = [path for place in folders for path in status.strays(place)]
    gone = [path for path in left if status.clean(path)] if clean else []
    kept = [place for place in folders if folder or place != COLLECTED]  # run files are collected without weights
    missing = [(run, _needs(run, children)) for run, children in status.without_weights(kept)]
    if as_json:
        wrong = [{"path": str(check.path), "wrong": check.wrong} for check in bad]
        without = [{"key": run.key, "folder": str(run.folder), "needed_for": needs} for run, needs in missing]
        document = {"files": len(checks), "bad": wrong, "strays": list(map(str, left)), "removed": list(map(str, gone))}
        put_json(document | {"without_weights": without})
    else:
        for check in bad:
            put(f"{check.path}: {check.wrong}")
        for path in left:
            put(f"{path}: left by a killed process{', removed' if path in gone else ''}")
        for run, needs in missing:
            more = f" and {len(needs) - 3} more" if len(needs) > 3 else ""
            words = f"needed for {', '.join(needs[:3])}{more}" if needs else "no run needs it"
            put(f"{run.folder / run.key}.pt is gone; {words}")
        end = f"; {len(missing)} without weights" if missing else ""
        put(f"{len(checks)} files, {len(bad)} bad; {len(left)} left behind, {len(gone)} removed{end}")
    raise typer.Exit(1 if bad else 0)


@app.command()
def migrate(
    source: Annotated[list[Path], typer.Argument(metavar="FOLDER", help="Folders of run files.")],
    as_json: Json = False,
) -> None:
    """Re-key run files that an older version wrote.

    [bold]ltrepro migrate runs[/bold]

    Results stay, keys and file names change; each file notes its old key. A key
    no longer depends on settings without effect, and the baseline is called
    cross_entropy. Weights are renamed with their run. A checkpoint cannot be
    re-keyed: finish that run with the version that started it. Safe to rerun.
    """
    from lt_repro.store import migrate as rekey
    from lt_repro.store import run_file
    from lt_repro.store.checkpoint import SUFFIX

    renamed: dict[str, str] = {}
    refused: list[str] = []
    for place in source:
        if not place.is_dir():
            raise RequestError(f"{place} is not a folder", "allowed: folders of run files")
        for path in sorted(place.glob("*.json")):
            if path.name.endswith(run_file.FAILED):
                continue
            try:
                if new := rekey.migrate(path):
                    renamed[str(path)] = str(new)
            except DamagedError as error:
                refused.append(str(error).splitlines()[0])
    unfinished = [str(path) for place in source for path in sorted(place.glob(f"*{SUFFIX}"))]
    if as_json:
        put_json({"renamed": renamed, "refused": refused, "unfinished": unfinished})
    else:
        for line in refused:
            put(f"refused: {line}")
        for name in unfinished:
            put(f"left as it is: {name}")
        put(f"{len(renamed)} re-keyed, {len(refused)} refused, {len(unfinished)} checkpoints left")
    raise typer.Exit(1 if refused else 0)


@app.command()
def collect(
    source: Annotated[list[Path], typer.Argument(metavar="SOURCE", help="Run files, or folders of run files.")],
    to: Annotated[Path, typer.Option("--out", help="Folder to copy them to.")] = COLLECTED,
    as_json: Json = False,
) -> None:
    """Copy run files into tables/runs after checking them.

    [bold]ltrepro collect /media/usb/runs[/bold]

    Files that exist there are not overwritten. Weights are not copied.
    """
    from lt_repro.data.load import known_split
    from lt_repro.store import files
    from lt_repro.store.runs import Run
    from lt_repro.store.status import FAILED

    paths: list[Path] = []
    for place in source:
        if not place.exists():
            raise RequestError(f"{place} does not exist", "allowed: folders of run files, or run files")
        result = sorted(place.glob("*.json")) if place.is_dir() else [place]
        paths += [path for path in result if not path.name.endswith(FAILED)]
    brought: list[str] = []
    existing: list[str] = []
    refused: list[str] = []
    for path in paths:
        try:
            run = Run.read(path)
        except DamagedError as error:
            refused.append(str(error).splitlines()[0])
            continue
        recipe = run.recipe
        split = known_split(*recipe.subset)
        if split and split.digest != run.split["digest"]:
            refused.append(f"{path}: different split {run.split['digest'][:8]}, expected {split.digest[:8]}")
            continue
        target = to / path.name
        try:
            files.write(target, path.read_bytes(), replace=False)
            brought.append(str(target))
        except FileExistsError:
            same = target.read_bytes() == path.read_bytes()
            (existing if same else refused).append(str(target) if same else f"{target} exists with different content")
    if as_json:
        put_json({"brought": brought, "there": existing, "refused": refused})
    else:
        for line in refused:
            put(f"refused: {line}")
        put(f"{len(brought)} copied to {to}, {len(existing)} already there, {len(refused)} refused")
    raise typer.Exit(1 if refused else 0)


@app.command()
def diff(
    first: Annotated[
        str, typer.Argument(metavar="FIRST", help="First run: a path, a key, or a unique beginning of a key.")
    ],
    second: Annotated[str, typer.Argument(metavar="SECOND", help="Second run, given the same way.")],
    runs: Runs = None,
    as_json: Json = False,
) -> None:
    """Show what differs between two runs, down to the classes.

    [bold]ltrepro diff digits-r60-cross_entropy-e60-s0-25ea digits-r60-cross_entropy-e60-s1-24ee[/bold]
    """
    from lt_repro.store.runs import find_run, run_folders

    pair = [find_run(text, run_folders(runs)) for text in (first, second)]
    sides = [_flat(run.to_json()) for run in pair]
    names = [name for name in dict.fromkeys([*sides[0], *sides[1]]) if sides[0].get(name) != sides[1].get(name)]
    fields = [(name, *(side.get(name) for side in sides)) for name in names]
    moved = _moved(*pair)
    if as_json:
        differences = [{"field": name, "first": left, "second": right} for name, left, right in fields]
        classes = [{"class": name, "first": left, "second": right} for name, left, right in moved]
        return put_json(
            {"first": str(pair[0].path), "second": str(pair[1].path), "fields": differences, "classes": classes}
        )
    put_texts(("field", "first", "second"), [list(map(str, field)) for field in fields])
    put(f"{len(fields)} fields differ, {len(moved)} classes differ" + (", largest difference first:" if moved else ""))
    rows = [[name, f"{100 * a:.2f}", f"{100 * b:.2f}", f"{100 * (b - a):+.2f}"] for name, a, b in moved[:20]]
    if moved:
        put_grid(["class", "first %", "second %", "points"], rows, fixed=1)


@functools.cache
def _planned(dataset: str, ratio: float, epochs: int | None) -> "dict[str, dict[str, str]]":
    """Returns what exhibits start from, on a data set, ratio and epochs: parent's key -> child's key -> its cell.

    Without epochs, as of a run that trains nothing, those of the exhibits.
    """
    from lt_repro.papers import papers

    result: dict[str, dict[str, str]] = {}
    for table in (table for paper in papers().values() for table in paper.tables()):
        try:
            moved = table.with_settings(dataset=dataset, ratio=ratio, epochs=epochs)
        except RequestError:  # its rows or columns decide one of these
            continue
        for cell in moved.cells():
            for child in cell.recipes:
                for parent in child.parents.values():
                    result.setdefault(parent.key(), {})[child.key()] = f"{moved.id} ({cell.row.title})"
    return result


def _needs(run: "RunStatus", children: Sequence[str]) -> list[str]:
    """Returns the stored runs that started from a run's weights, then the cells that would, of runs not stored."""
    recipe = (run.content or {})["recipe"]
    planned = _planned(recipe["dataset"], recipe["ratio"], recipe.get("epochs")).get(run.key, {})
    return list(dict.fromkeys([*children, *(words for key, words in planned.items() if key not in children)]))


def _folders(runs: list[Path] | None) -> list[Path]:
    for folder in runs or []:
        if not folder.is_dir():
            raise RequestError(f"{folder} is not a folder", "allowed: folders of run files")
    return runs or [Path("runs")]


def _statuses(folders: list[Path]) -> list[Any]:
    from lt_repro.store.status import run_statuses

    return list(run_statuses(folders))


def _shown(folders: list[Path]) -> Group:
    """Returns unfinished runs one by one, finished ones by experiment, and the totals."""
    listed = _statuses(folders)
    unfinished = [(run.key, run.state, run.note) for run in listed if run.state != "done"]
    done = Counter(run.key.rpartition("-s")[0] for run in listed if run.state == "done")
    ended = [(name, str(count)) for name, count in sorted(done.items())]
    totals = Counter(run.state for run in listed)
    line = ", ".join(f"{count} {state}" for state, count in totals.items()) or "no runs"
    grids = [text_grid(("run", "state", ""), unfinished), text_grid(("experiment", "runs done"), ended)]
    return Group(*(grid for grid in grids if grid.row_count), printable(f"{line} in {', '.join(map(str, folders))}"))


_ASIDE = ("payload_sha256", "result.per_class", "curve", "history")  # shown by class, or one value per epoch


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Returns nested values by dotted name."""
    if name in _ASIDE or name.endswith(".per_class"):
        return {}
    if not isinstance(value, dict):
        return {name: value}
    inner = (_flat(item, f"{name}.{key}" if name else key) for key, item in value.items())
    return {key: item for part in inner for key, item in part.items()}


def _moved(first: "Run", second: "Run") -> list[tuple[str, float, float]]:
    """Returns the classes whose accuracy differs, (name, first, second) in fractions, largest difference first."""
    if not (first.result and second.result) or len(first.split["counts"]) != len(second.split["counts"]):
        return []
    pairs = zip(first.split["class_names"], first.result["per_class"], second.result["per_class"], strict=True)
    return sorted((trio for trio in pairs if trio[1] != trio[2]), key=lambda trio: -abs(trio[1] - trio[2]))
