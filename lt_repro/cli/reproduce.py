"""`reproduce`: any table or figure of a paper, planned, trained, resumed and rendered. `check`: ours against theirs."""

from pathlib import Path
from typing import Annotated, Any

import typer

from lt_repro.cli.app import DATASETS, DataRoot, Device, Json, Runs, app, put_json, put_prose, say
from lt_repro.cli.options import BatchSize, Epochs, LearningRate, Precision, WeightDecay, parse_settings
from lt_repro.cli.output import claims_json
from lt_repro.cli.request import (
    Bn,
    EvalBn,
    EvalEvery,
    Published,
    Ratios,
    Reading,
    Request,
    Seeds,
    carry_out,
    exhibits,
    read_as,
    seeded,
    stored_in,
)
from lt_repro.errors import RequestError

Jobs = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="<int>",
        help="Runs to train at once, 1 or more; they share the cores.",
        show_default="one a core, at most 4; 1 on a GPU",
    ),
]
WHAT = (
    "Exhibits: table1 to table6, fig1, fig3, rivals, parts, groups, reliability, lambdas, statistics, readings; of "
    "another paper mislas/table1 or mislas/all; or all."
)


@app.command()
def reproduce(
    what: Annotated[
        list[str],
        typer.Argument(metavar="EXHIBIT", help=WHAT),
    ],
    rows: Annotated[
        str | None,
        typer.Option(help="Train and show only these rows, such as dbn,dbn+bm+ts.", show_default="all"),
    ] = None,
    columns: Annotated[
        str | None, typer.Option(help="Train and show only these columns, such as 100,50.", show_default="all")
    ] = None,
    add: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METHOD[:field=value,...]",
            help="Add a row to an exhibit of methods, such as ldam:scale=20,margin=0.3; repeatable.",
        ),
    ] = None,
    seeds: Seeds = None,
    dataset: Annotated[str | None, typer.Option(help=DATASETS, show_default="the exhibit's")] = None,
    ratio: Ratios = None,
    reading: Reading = None,
    profile: Annotated[
        str,
        typer.Option(
            help="Length of training: paper (the paper's), short (20 epochs) or smoke (10 epochs of 3 steps)."
        ),
    ] = "paper",
    epochs: Epochs = None,
    lr: LearningRate = None,
    batch: BatchSize = None,
    weight_decay: WeightDecay = None,
    precision: Precision = None,
    assign: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting of every run, as field=value or method.field=value; repeatable."),
    ] = None,
    bn: Bn = None,
    protocol: Annotated[
        str,
        typer.Option(
            help="How results are read: last (the last epoch, one split) or released (a test after every epoch, the "
            "best beside the last, a split for each seed)."
        ),
    ] = "last",
    eval_every: EvalEvery = None,
    eval_bn: EvalBn = False,
    published: Published = None,
    order: Annotated[
        str, typer.Option(help="Order of training: seed (one seed after the other) or cheapest (cheapest run first).")
    ] = "seed",
    budget: Annotated[
        str | None,
        typer.Option(
            help="Time to stop within, such as 90s, 9m or 1h30m; then the exit code is 5, and a rerun resumes.",
            show_default="no limit",
        ),
    ] = None,
    jobs: Jobs = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print a command for each missing run and the total cost; train nothing.")
    ] = False,
    render_only: Annotated[bool, typer.Option("--render-only", help="Render the stored runs; train nothing.")] = False,
    best: Annotated[
        bool, typer.Option("--best", help="Show the best epoch on test beside the last epoch, labelled.")
    ] = False,
    latex: Annotated[bool, typer.Option("--latex", help="Write tables as LaTeX too, one bare tabular each.")] = False,
    pm: Annotated[
        str,
        typer.Option(
            help="What stands beside a mean in LaTeX: sd, interval (95 % confidence) or gain (over the first row)."
        ),
    ] = "sd",
    claims: Annotated[
        bool, typer.Option("--claims", help="Judge the paper's claims even at settings that are not the paper's.")
    ] = False,
    runs: Runs = None,
    to: Annotated[Path | None, typer.Option("--out", help="Output folder.", show_default="tables, figures")] = None,
    data_root: DataRoot = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Reproduce any table or figure: train, resume, render.

    [bold]ltrepro reproduce table4 --dataset digits --ratio 60[/bold]

    [bold]ltrepro reproduce table4 --rows dbn+bm+ts --columns 100 --seeds 0-2[/bold]

    [bold]ltrepro reproduce table4 --columns 100 --reading released[/bold]

    [bold]ltrepro reproduce all --dry-run[/bold]

    Trains the missing runs, then shows our numbers beside the published ones.
    The same command resumes what was stopped. Rows whose method or data set is
    not supported yet are shown as — and never trained.

    Another reading, profile, data set or setting makes another table, with its
    own file name and caption. The paper's claims are judged at the paper's
    settings, in either reading; elsewhere only with --claims.

    Every run is tested with four BatchNorm statistics; --bn chooses which are
    shown: running (as training left them), mixed (the plain mean over an epoch
    of training batches), clean (the same without mixing) or blend (running, with
    a clean batch after each training batch). The last two matter where training
    mixes images, because test images are not mixed.
    """
    from lt_repro.methods import METHODS

    settings: dict[str, Any] = {"epochs": epochs, "lr": lr, "batch": batch, "weight_decay": weight_decay}
    settings = {name: value for name, value in (settings | {"precision": precision}).items() if value is not None}
    given = parse_settings(assign or [], METHODS, ("ratio", "seed"))
    if twice := sorted(settings.keys() & given.keys()):
        raise RequestError(f"{twice[0]} is given twice", "allowed: an option or --set, and each setting once")
    carry_out(
        Request(
            what,
            train=not (render_only or dry_run),
            plan=dry_run,
            dataset=dataset,
            ratio=ratio or [],
            seeds=seeds,
            runs=runs,
            to=to,
            data_root=data_root,
            device=device,
            as_json=as_json,
            settings=settings | given,
            reading=reading,
            profile=profile,
            rows=rows,
            columns=columns,
            add=add or [],
            order=order,
            budget=budget,
            jobs=jobs,
            best=best,
            claims=claims,
            latex=pm if latex else None,
            bn=bn,
            protocol=protocol,
            eval_every=eval_every,
            eval_bn=eval_bn,
            published=published,
        )
    )


@app.command()
def check(
    what: Annotated[list[str], typer.Argument(metavar="EXHIBIT", help=WHAT)],
    reading: Reading = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 4 unless every published number is reproduced.")
    ] = False,
    seeds: Seeds = None,
    runs: Runs = None,
    as_json: Json = False,
) -> None:
    """Say which published numbers and claims our runs reproduce.

    [bold]ltrepro check table4[/bold]

    [bold]ltrepro check table4 --reading released[/bold]

    [bold]reproduced[/bold]: the published number lies in the 95 % confidence interval of
    our mean, ± t sd / sqrt(n).

    [bold]within one more run[/bold]: outside that, but in the 95 % prediction interval
    of one more run of ours, ± t sd sqrt(1 + 1/n).

    [bold]outside[/bold]: in neither; then the exit code is 4. Chance alone puts about one
    number in twenty outside.

    [bold]too few seeds[/bold]: fewer than three, so it is not judged.

    A claim of the paper holds if the whole 95 % interval agrees with it, and does
    not hold if none of it does; else it is inconclusive. Claims do not change the
    exit code.
    """
    from lt_repro.papers import papers
    from lt_repro.render import verdicts

    tables, skipped = read_as(exhibits(what), reading, what)
    tables = [seeded(table, seeds) for table in tables]
    stored = stored_in(runs, may_be_new=False)
    for note in (*skipped, *stored.notes):
        say(f"note: {note}")
    shown = [(table, stored.measure(table, epochs="")) for table in tables]
    checked = verdicts.check_once(shown)
    judged = []
    for paper in papers().values():
        cells = verdicts.places(pair for pair in shown if pair[0].paper == paper.name)
        judged += [verdicts.judge(claim, cells) for claim in paper.claims if claim.places() <= cells.keys()]
    counts = {status: sum(result.status == status for result, _ in checked) for status in verdicts.STATUSES}
    if as_json:
        put_json({"cells": counts, "claims": claims_json(judged)})
    else:
        for result, exhibits_of in checked:
            if result.status != "not run":
                put_prose(verdicts.checked_line(result, exhibits_of))
        put_prose(
            f"{len(checked)} published numbers: {', '.join(f'{count} {status}' for status, count in counts.items())}"
        )
        for line in verdicts.claim_lines(judged):
            put_prose(line)
    failed = counts["outside"] or (strict and counts["reproduced"] < len(checked))
    raise typer.Exit(4 if failed else stored.code)
