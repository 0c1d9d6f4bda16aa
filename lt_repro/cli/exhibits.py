"""Short names for exhibits: `ablation-table`, `branch-table`, `crt`, `plot-classes`, `plot-hparams`; and `demo`."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from lt_repro.cli.app import DATASETS, DataRoot, Device, Json, Runs, app, put, put_json, say
from lt_repro.cli.output import classes_of, draw_classes, put_classes, put_exhibits, write
from lt_repro.cli.request import Bn, Ratios, Reading, Request, Seeds, carry_out, read_runs, train_requested
from lt_repro.errors import RequestError, unknown

Dataset = Annotated[str | None, typer.Option(help=DATASETS, show_default="the paper's")]
Epochs = Annotated[
    int | None, typer.Option(help="Training epochs (of the first stage if there are two).", show_default="usually 200")
]
Plan = Annotated[bool, typer.Option("--plan", help="Print the command that trains each missing run.")]
Fill = Annotated[bool, typer.Option("--run", help="Train the missing runs, then render.")]
Out = Annotated[Path | None, typer.Option("--out", help="Output folder.", show_default="tables, figures")]


def _show(
    what: str,
    dataset: str | None,
    ratio: list[str] | None,
    epochs: int | None,
    reading: str | None,
    bn: str | None,
    seeds: str | None,
    plan: bool,
    run: bool,
    runs: list[Path] | None,
    to: Path | None,
    data_root: Path | None,
    device: str,
    as_json: bool,
) -> None:
    """Does what `reproduce` does, but trains only with --run."""
    if plan and run:
        raise RequestError("--plan and --run together", "allowed: --plan to see what is missing, --run to train it")
    settings, exhibit = {"epochs": epochs}, f"dbn_mix/{what}"
    carry_out(
        Request(
            [exhibit],
            run,
            plan,
            dataset,
            ratio or [],
            seeds,
            runs,
            to,
            data_root,
            device,
            as_json,
            settings,
            reading,
            bn=bn,
            length="--epochs ",
            totals=say,
        )
    )


def _name(name: str, what: str, words: str) -> None:
    """Registers a command that shows one exhibit."""

    @app.command(name, help=words)
    def command(
        dataset: Dataset = None,
        ratio: Ratios = None,
        epochs: Epochs = None,
        reading: Reading = None,
        bn: Bn = None,
        seeds: Seeds = None,
        plan: Plan = False,
        run: Fill = False,
        runs: Runs = None,
        to: Out = None,
        data_root: DataRoot = None,
        device: Device = "auto",
        as_json: Json = False,
    ) -> None:
        _show(what, dataset, ratio, epochs, reading, bn, seeds, plan, run, runs, to, data_root, device, as_json)


_name(
    "ablation-table",
    "table4",
    """Show Table 4: the ablation of DBN-Mix.

    [bold]ltrepro ablation-table[/bold]

    [bold]ltrepro ablation-table --plan[/bold]

    [bold]ltrepro ablation-table --dataset digits --ratio 60 --run[/bold]

    Renders the stored runs, in ./runs and ./tables/runs, beside the published
    numbers. A cell without runs shows —. Runs with other numbers of epochs are
    skipped; --epochs N shows them. `reproduce table4` has more options.
    """,
)
_name(
    "branch-table",
    "table5",
    """Show Table 5: BBN and DBN-Mix by branch and class group.

    [bold]ltrepro branch-table[/bold]

    [bold]ltrepro branch-table --dataset digits --ratio 60 --run[/bold]

    Renders the stored runs beside the published numbers. Many: classes with
    more than 100 training images; few: fewer than 20; medium: those between.
    """,
)
_name(
    "crt",
    "table6",
    """Show Table 6: features and classifier on their own.

    [bold]ltrepro crt[/bold]

    [bold]ltrepro crt --plan[/bold]

    [bold]ltrepro crt --dataset digits --ratio 60 --run[/bold]

    (a) cRT on the frozen features of each dual-branch variant; (b) the heads of
    each variant on the frozen features of one branch trained with mixup. Stored
    first stages are used; --plan lists the others, --run trains them first.
    """,
)
_name(
    "plot-hparams",
    "fig3",
    """Plot Fig. 3: DBN-Mix against eta and eps, alpha, gamma.

    [bold]ltrepro plot-hparams[/bold]

    [bold]ltrepro plot-hparams --plan[/bold]

    Writes fig3a, fig3b and fig3c as .png and .svg, and their numbers as .csv.
    """,
)


@app.command()
def plot_classes(
    chosen: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN", help="Runs to plot instead of Fig. 1: paths, keys, or unique beginnings of keys."
        ),
    ] = None,
    dataset: Dataset = None,
    ratio: Ratios = None,
    epochs: Epochs = None,
    reading: Reading = None,
    bn: Bn = None,
    seeds: Seeds = None,
    plan: Plan = False,
    run: Fill = False,
    runs: Runs = None,
    to: Out = None,
    data_root: DataRoot = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Plot Fig. 1: images and accuracy by class; or any runs.

    [bold]ltrepro plot-classes[/bold]

    [bold]ltrepro plot-classes --dataset digits --ratio 60 --run[/bold]

    [bold]ltrepro plot-classes digits-r60-bbn-e60-s0 digits-r60-dbn_mix-e60-s0-a702[/bold]

    Without RUN: vanilla, BBN and DBN-Mix, written as fig1.png, .svg and .csv.
    With RUN...: these runs, which must share a split, as classes-<digest>. Runs
    that differ only in their seeds are drawn as one mean and its standard
    deviation.
    """
    if not chosen:
        return _show(
            "fig1", dataset, ratio, epochs, reading, bn, seeds, plan, run, runs, to, data_root, device, as_json
        )
    if [dataset, ratio or None, epochs, reading, seeds, plan, run] != [None, None, None, None, None, False, False]:
        raise RequestError(
            "RUN and what Fig. 1 is made of together", "allowed: RUN... with --runs, --out and --json", "choose one"
        )
    _put_chosen(chosen, bn or "running", runs, to or Path("figures"), as_json)


@app.command()
def demo(
    to: Annotated[Path, typer.Option("--out", help="Output folder for runs, table and figure.")] = Path("demo"),
    device: Device = "auto",
) -> None:
    """Run the ablation of DBN-Mix on handwritten digits.

    [bold]ltrepro demo[/bold]

    Nine rows, three seeds, no download: the digits are in the package. It takes
    about 2 minutes on 2 cores.
    """
    import torch

    from lt_repro.data.load import load_pool
    from lt_repro.papers.dbn_mix.tables import TABLE4
    from lt_repro.papers.table import ratios
    from lt_repro.render import text
    from lt_repro.sweep.plan import missing

    table, pool = TABLE4.with_settings(ratios(60), dataset="digits"), load_pool("digits", to)
    stored = read_runs([to / "runs"])
    jobs = min(4, os.cpu_count() or 1)
    torch.set_num_threads(jobs)  # one a run: these nets are too small for more
    requested = missing([table], stored.runs).recipes
    stored = train_requested(requested, [table], stored, {pool.name: pool}, device, jobs=jobs)
    for note in stored.notes:
        say(f"note: {note}")
    measured = stored.measure(table)
    paths = [
        write(to / "table4.json", json.dumps(text.document(table, measured, stored.notes), indent=1)),
        write(to / "table4.md", text.markdown(table, measured, stored.notes)),
    ]
    first, *_, last = measured
    classes = classes_of(table, {entry.cell.row.title: entry.runs for entry in (first, last)}, pool)
    try:
        paths += draw_classes(to / "classes", f"Handwritten digits, ratio 60, {first.n} seeds.", classes)
    finally:  # the table, even where the figure cannot be drawn
        put_exhibits([(table, measured)], paths)
        put(text.sentences(table, measured))
    raise typer.Exit(stored.code)


def _put_chosen(chosen: Sequence[str], bn: str, folders: list[Path] | None, to: Path, as_json: bool) -> None:
    from lt_repro.canonical import digest
    from lt_repro.papers import default_paper
    from lt_repro.papers.table import STATISTICS
    from lt_repro.render.classes import by_class, group_series
    from lt_repro.store.runs import find_run, run_folders

    stored = {run.recipe.key(): run for run in (find_run(text, run_folders(folders)) for text in chosen)}
    first, *others = stored.values()
    for run in others:
        if run.split["digest"] != first.split["digest"]:
            raise RequestError(
                f"{run.recipe.key()} and {first.recipe.key()} have different splits", "allowed: runs on one split"
            )
    if bn not in STATISTICS:
        raise unknown("statistics", bn, STATISTICS)
    if dead := [key for key, run in stored.items() if run.result is None]:
        raise RequestError(f"{dead[0]} diverged", "allowed: runs that ended with a result")
    if old := [key for key, run in stored.items() if not run.outcome(bn)]:
        raise RequestError(f"{old[0]} has no {bn} statistics", "allowed: runs that store them", "train it again")
    if len(series := group_series(list(stored.values()), default_paper().settings)) > 6:
        raise RequestError(f"{len(series)} series in one figure", "allowed: 6; runs that differ in seeds only are one")
    counts = first.split["counts"]
    classes = by_class(first.split["class_names"], counts, series, bn)
    title = f"Training images and accuracy by class: {first.recipe.dataset}, ratio {first.recipe.ratio:g}."
    other = "" if bn == "running" else f"-bn-{bn}"
    title += f" Tested with BatchNorm statistics: {STATISTICS[bn]}." if other else ""
    paths = draw_classes(to / f"classes-{digest(sorted(stored))[:8]}{other}", title, classes)
    if as_json:
        return put_json({"classes": classes.to_json()})
    put_classes(classes)
    for path in paths:
        put(str(path))
