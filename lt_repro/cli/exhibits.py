"""The paper's exhibits: `ablation-table`, `branch-table`, `crt`, `plot-classes`, `plot-hparams`; and `demo`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lt_repro.cli.app import DataRoot, Dataset, Device, Json, Runs, app, put, put_json
from lt_repro.cli.asked import (
    Asked,
    Epochs,
    Fill,
    Found,
    Plan,
    Seeds,
    put_exhibits,
    put_grid,
    ratio_column,
    ratio_settings,
    run_missing,
    write,
    written,
)
from lt_repro.errors import RequestError

if TYPE_CHECKING:
    from lt_repro.data.pools import Pool
    from lt_repro.paper.table import Table
    from lt_repro.render.classes import Classes
    from lt_repro.runs import Run

Ratio = Annotated[str | None, typer.Option(help="Imbalance ratio, or as-is.", show_default="paper's, 100")]
Tables = Annotated[Path, typer.Option("--out", help="Folder of the rendered files.")]
Figures = Annotated[Path, typer.Option("--out", help="Folder of the figures.")]


@app.command()
def ablation_table(
    dataset: Dataset = "cifar100",
    ratio: Annotated[list[str] | None, typer.Option(help="Ratio of a column, or as-is; repeatable.")] = None,
    epochs: Epochs = None,
    seeds: Seeds = None,
    plan: Plan = False,
    run: Fill = False,
    runs: Runs = None,
    to: Tables = Path("tables"),
    data_root: DataRoot = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Render the ablation of DBN-Mix (Table 4) from the runs found, beside the published numbers.

    [bold]ltrepro ablation-table[/bold]

    [bold]ltrepro ablation-table --plan[/bold]

    [bold]ltrepro ablation-table --dataset digits --ratio 60 --run[/bold]

    Writes table4.md, .csv and .tex. Missing cells show —. Runs of another length stay out; --epochs shows them.
    """
    from lt_repro.paper.dbn_mix import TABLE4

    asked = Asked(dataset, seeds, plan, run, runs, to, data_root, device, as_json)
    pool = asked.pool(*(ratio or []))
    columns = [ratio_column(text, pool) for text in dict.fromkeys(ratio)] if ratio else None
    _tables(asked, pool, [TABLE4.within(columns, dataset=_name(asked, pool), epochs=epochs)])


@app.command()
def branch_table(
    dataset: Dataset = "cifar100",
    ratio: Ratio = None,
    epochs: Epochs = None,
    seeds: Seeds = None,
    plan: Plan = False,
    run: Fill = False,
    runs: Runs = None,
    to: Tables = Path("tables"),
    data_root: DataRoot = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Render BBN and DBN-Mix by branch and class group (Table 5), beside the published numbers.

    [bold]ltrepro branch-table[/bold]

    [bold]ltrepro branch-table --dataset digits --ratio 60 --run[/bold]

    Many are classes of more than 100 training images, few of fewer than 20. Writes table5.md, .csv and .tex.
    """
    from lt_repro.paper.dbn_mix import TABLE5

    asked = Asked(dataset, seeds, plan, run, runs, to, data_root, device, as_json)
    pool = asked.pool(ratio)
    _tables(asked, pool, [TABLE5.within(dataset=_name(asked, pool), **ratio_settings(ratio, pool), epochs=epochs)])


@app.command()
def crt(
    dataset: Dataset = "cifar100",
    ratio: Ratio = None,
    epochs: Annotated[int | None, typer.Option(help="Of the parents.", show_default="paper's, 200")] = None,
    seeds: Seeds = None,
    plan: Plan = False,
    run: Fill = False,
    runs: Runs = None,
    to: Tables = Path("tables"),
    data_root: DataRoot = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Render what each variant's features and its classifier are worth on their own (Table 6, both halves).

    [bold]ltrepro crt[/bold]

    [bold]ltrepro crt --plan[/bold]

    [bold]ltrepro crt --dataset digits --ratio 60 --run[/bold]

    (a) cRT on the frozen features of each dual-branch run; (b) each variant's heads on the frozen features of one
    branch trained with mixup. Parents that have run are used, others planned or trained first. Writes table6a, table6b.
    """
    from lt_repro.paper.dbn_mix import TABLE6

    asked = Asked(dataset, seeds, plan, run, runs, to, data_root, device, as_json)
    pool = asked.pool(ratio)
    settings = {"dataset": _name(asked, pool), "epochs": epochs} | ratio_settings(ratio, pool)
    _tables(asked, pool, [table.within(**settings) for table in TABLE6])


@app.command()
def plot_hparams(
    dataset: Dataset = "cifar100",
    ratio: Ratio = None,
    epochs: Epochs = None,
    seeds: Seeds = None,
    plan: Plan = False,
    run: Fill = False,
    runs: Runs = None,
    to: Figures = Path("figures"),
    data_root: DataRoot = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Plot DBN-Mix against its hyper-parameters (Fig. 3): eta and eps, alpha, gamma.

    [bold]ltrepro plot-hparams[/bold]

    [bold]ltrepro plot-hparams --plan[/bold]

    Writes fig3a, fig3b and fig3c as .png and .svg, with the numbers as .csv.
    """
    from lt_repro.paper.dbn_mix import FIG3
    from lt_repro.render import figures, text

    asked = Asked(dataset, seeds, plan, run, runs, to, data_root, device, as_json)
    pool = asked.pool(ratio)
    settings = {"dataset": _name(asked, pool), "epochs": epochs} | ratio_settings(ratio, pool)
    found, shown = asked.shown([figure.within(**settings) for figure in FIG3], pool)
    paths = []
    for table, measured in shown:
        paths += figures.save(figures.hparam_figure(table, measured), to / table.id)
        paths.append(write(to / f"{table.id}.csv", text.csv(table, measured)))
    put_exhibits(shown, paths, as_json)
    raise typer.Exit(found.code)


@app.command()
def plot_classes(
    chosen: Annotated[list[str] | None, typer.Argument(help="Runs to plot instead: paths, keys or beginnings.")] = None,
    dataset: Dataset = "cifar10",
    ratio: Annotated[str | None, typer.Option(help="Imbalance ratio, or as-is.", show_default="paper's, 200")] = None,
    epochs: Epochs = None,
    seeds: Seeds = None,
    plan: Plan = False,
    run: Fill = False,
    runs: Runs = None,
    to: Figures = Path("figures"),
    data_root: DataRoot = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Plot training images and accuracy by class (Fig. 1): vanilla, BBN and DBN-Mix, or any runs of one split.

    [bold]ltrepro plot-classes[/bold]

    [bold]ltrepro plot-classes --dataset digits --ratio 60 --run[/bold]

    [bold]ltrepro plot-classes cifar100-r100-bbn-e200-s0 cifar100-r100-dbn_mix-e200-s0-ffed[/bold]

    Writes fig1 as .png and .svg with its .csv; of chosen runs, classes-<digest>. Runs that differ in their seeds only
    are one series, drawn as mean and standard deviation.
    """
    from lt_repro.paper.dbn_mix import FIG1

    if chosen:
        if {dataset, ratio, epochs, seeds, plan, run} != {"cifar10", None, False}:
            raise RequestError(
                "RUN and what Fig. 1 is made of at once", "allowed: RUN... with --runs, --out and --json", "choose one"
            )
        return _put_chosen(chosen, runs, to, as_json)
    asked = Asked(dataset, seeds, plan, run, runs, to, data_root, device, as_json)
    pool = asked.pool(ratio)
    settings = {"dataset": _name(asked, pool), "epochs": epochs} | ratio_settings(ratio, pool)
    found, [(table, measured)] = asked.shown([FIG1.within(**settings)], pool)
    classes = classes_of(table, {one.cell.row.title: one.runs for one in measured}, pool)
    lacking = [label for label, values in classes.series.items() if not values]
    note = f" Not run: {', '.join(lacking)}." if lacking else ""
    paths = draw_classes(to / table.id, table.caption + note, classes)
    if not as_json:
        _put_classes(classes)
    put_exhibits([(table, measured)], paths, as_json, classes=classes.to_json())
    raise typer.Exit(found.code)


@app.command()
def demo(
    to: Annotated[Path, typer.Option("--out", help="Folder of everything the demo writes.")] = Path("demo"),
    device: Device = "auto",
) -> None:
    """Run the paper's ablation on the handwritten digits inside the package: nine rows, three seeds, no download.

    [bold]ltrepro demo[/bold]
    """
    from lt_repro.data.pools import load_pool
    from lt_repro.paper.dbn_mix import TABLE4, ratios
    from lt_repro.render import cells, text

    table, pool = TABLE4.within(ratios(60), dataset="digits"), load_pool("digits", to)
    found = run_missing([table], Found([to / "runs"]), pool, device)
    measured = found.measure(table)
    paths = [
        write(to / "table4.json", json.dumps(cells.to_json(table, measured), indent=1)),
        write(to / "table4.md", text.markdown(table, measured, found.notes)),
    ]
    first, *_, last = measured
    classes = classes_of(table, {one.cell.row.title: one.runs for one in (first, last)}, pool)
    paths += draw_classes(to / "classes", f"Handwritten digits, ratio 60, {first.n} seeds.", classes)
    put_exhibits([(table, measured)], paths, as_json=False)
    put(text.sentences(table, measured))
    raise typer.Exit(found.code)


def _name(asked: Asked, pool: "Pool | None") -> str:
    return asked.dataset if pool is None else pool.name


def _tables(asked: Asked, pool: "Pool | None", tables: "Sequence[Table]") -> None:
    found, shown = asked.shown(tables, pool)
    put_exhibits(shown, written(shown, asked.to, found.notes), asked.as_json)
    raise typer.Exit(found.code)


def classes_of(table: "Table", series: "dict[str, Sequence[Run]]", pool: "Pool | None") -> "Classes":
    """Returns the classes of a table's split, which is known before anything has run, and what its runs reach."""
    from lt_repro.data.pools import known_split
    from lt_repro.render.classes import by_class
    from lt_repro.sweep.local import split_of

    recipe = table.recipes()[0]
    split = known_split(recipe.dataset, recipe.ratio, recipe.profile, recipe.split_seed)
    if pool is not None:
        split = split_of(recipe, pool)
    assert split is not None, "the images are read whenever the data set is not a known one"
    told = [run.class_names for runs in series.values() for run in runs if "class_names" in run.split]
    names = pool.class_names if pool else told[0] if told else [str(k) for k in range(len(split.counts))]
    return by_class(names, split.counts.tolist(), series)


def _put_chosen(chosen: Sequence[str], folders: list[Path] | None, to: Path, as_json: bool) -> None:
    from lt_repro import runs as store
    from lt_repro.canonical import digest
    from lt_repro.render.classes import by_class, together

    found = {run.recipe.key(): run for run in (store.find(text, store.folders(folders)) for text in chosen)}
    first, *others = found.values()
    for run in others:
        if run.split["digest"] != first.split["digest"]:
            raise RequestError(
                f"{run.recipe.key()} is of another split than {first.recipe.key()}", "allowed: runs of one split"
            )
    if dead := [key for key, run in found.items() if run.result is None]:
        raise RequestError(f"{dead[0]} diverged", "allowed: runs that ended with a result")
    if len(series := together(list(found.values()))) > 6:
        raise RequestError(f"{len(series)} series in one figure", "allowed: 6; runs that differ in seeds only are one")
    counts = first.split["counts"]
    classes = by_class(first.class_names, counts, series)
    title = f"Training images and accuracy by class: {first.recipe.dataset}, ratio {first.recipe.ratio:g}."
    paths = draw_classes(to / f"classes-{digest(sorted(found))[:8]}", title, classes)
    if as_json:
        return put_json({"classes": classes.to_json()})
    _put_classes(classes)
    for path in paths:
        put(str(path))


def draw_classes(stem: Path, title: str, classes: "Classes") -> list[Path]:
    """Writes the figure of accuracies by class with its numbers and returns the paths."""
    from lt_repro.render import figures

    return [*figures.save(figures.class_figure(title, classes), stem), write(stem.with_suffix(".csv"), classes.csv())]


def _put_classes(classes: "Classes") -> None:
    if len(classes.names) > 20:
        return put(f"{len(classes.names)} classes: their numbers are in the .csv")
    header, rows = classes.rows()
    put("Top-1 accuracy by class, percent.")
    put_grid(header, rows, fixed=2)
