"""`train`: from options to a recipe, from a recipe to a run."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lt_repro.cli.app import DATASETS, DataRoot, Device, Json, app, put, put_json, say
from lt_repro.cli.options import (
    BatchSize,
    Epochs,
    ImbFactor,
    LearningRate,
    Precision,
    Ratio,
    WeightDecay,
    parse_settings,
    typed_ratio,
)
from lt_repro.cli.progress import Watch
from lt_repro.cli.request import (
    EVAL_EVERY,
    EvalBn,
    EvalEvery,
    Reading,
    dataset_of,
    default_ratio,
    dropped,
    ratio_settings,
)
from lt_repro.cli.show import put_result
from lt_repro.errors import FailedError, RequestError, unknown

if TYPE_CHECKING:
    from lt_repro.methods.base import Method
    from lt_repro.recipe import Recipe
    from lt_repro.store.runs import Run


@app.command()
def train(
    dataset: Annotated[str | None, typer.Option(help=DATASETS, show_default="cifar100")] = None,
    ratio: Ratio = None,
    imb_factor: ImbFactor = None,
    arch: Annotated[
        str | None, typer.Option(help="Network: sbn (one branch) or dbn (two branches).", show_default="sbn")
    ] = None,
    mix: Annotated[
        str | None, typer.Option(help="Mixing: none, mixup (one branch only) or bilateral.", show_default="none")
    ] = None,
    tscale: Annotated[bool, typer.Option("--tscale", help="Train with class-conditional temperatures.")] = False,
    alpha: Annotated[
        float | None,
        typer.Option(
            help="Parameter of the Beta distribution that mixup draws lambda from, above 0.", show_default="usually 1"
        ),
    ] = None,
    gamma: Annotated[
        float | None,
        typer.Option(
            help="Parameter of DBN-Mix's reverse sampler, above 0; inf draws all classes equally often.",
            show_default="inf",
        ),
    ] = None,
    eta: Annotated[
        float | None,
        typer.Option(
            help="Parameter that damps DBN-Mix's temperatures, above 0; inf turns them off.",
            show_default="7 on cifar100, else 3",
        ),
    ] = None,
    eps: Annotated[
        float | None,
        typer.Option(
            help="How far DBN-Mix's temperatures follow the class sizes, from 0 (not at all) to 1.", show_default="0.6"
        ),
    ] = None,
    epochs: Epochs = None,
    lr: LearningRate = None,
    batch: BatchSize = None,
    weight_decay: WeightDecay = None,
    seed: Annotated[
        int | None, typer.Option(help="Random seed of the initial weights and of every draw.", show_default="0")
    ] = None,
    split_seed: Annotated[
        str | None,
        typer.Option(
            help="Random seed of the split: 0 is the one that the field uses, run takes the run's own seed.",
            show_default="0",
        ),
    ] = None,
    reading: Reading = None,
    preset: Annotated[
        str, typer.Option(help="A recipe of the method's own instead of the shared one, such as published.")
    ] = "",
    method: Annotated[str | None, typer.Option(help="Method to train with; `ltrepro methods` lists them.")] = None,
    assign: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any other setting, as field=value; repeatable. `ltrepro methods NAME` lists them."),
    ] = None,
    device: Device = "auto",
    precision: Precision = None,
    eval_every: EvalEvery = None,
    eval_bn: EvalBn = False,
    folder: Annotated[
        Path, typer.Option("--out", envvar="LTREPRO_RUNS", help="Folder that the run is written to.")
    ] = Path("runs"),
    data_root: DataRoot = None,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="On a GPU, use algorithms that give the same bits every time.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Train even if the run is stored; the old one moves to superseded/.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train one run; the same command resumes it.

    [bold]ltrepro train --arch dbn --mix bilateral --tscale[/bold]

    [bold]ltrepro train --arch dbn --mix bilateral --tscale --reading released[/bold]

    [bold]ltrepro train --dataset digits --ratio 60 --mix mixup --seed 1[/bold]

    [bold]ltrepro train --arch dbn --mix bilateral --set branch_at=layer3[/bold]

    [bold]ltrepro train --method crt --set parent=digits-r60-dbn_mix-e60-s0-a702[/bold]

    Without --method, --arch, --mix and --tscale it is plain cross-entropy.
    Defaults depend on the data set and the method: `ltrepro methods NAME` lists
    them. --alpha, --gamma, --eta and --eps set the method's field of that name.

    The last epoch's accuracy is the result. The last line printed is the path
    of the run file. `ltrepro evaluate RUN` gives the logits and the confusion
    matrix.

    --set parent=RUN starts from another run: images, network and seed are
    RUN's, its features are frozen, and new heads are trained.
    """
    from lt_repro import fields
    from lt_repro.data import load
    from lt_repro.data.images import split_of
    from lt_repro.papers import default_paper
    from lt_repro.recipe import Recipe, field_types, find
    from lt_repro.store.locks import lock
    from lt_repro.store.runs import set_aside
    from lt_repro.sweep.runner import Failed, run_all
    from lt_repro.train.device import make_deterministic

    short: dict[str, Any] = {"branches": _branches(arch), "mix": mix, "tscale": tscale or None}
    flags: dict[str, Any] = {"alpha": alpha, "gamma": gamma, "eta": eta, "eps": eps, "epochs": epochs}
    flags |= {"lr": lr, "batch": batch, "weight_decay": weight_decay}
    flags |= {"seed": seed, "precision": precision}
    if split_seed is not None:
        flags["split_seed"] = fields.parse(Recipe, "split_seed", split_seed)
    if method is not None and any(value is not None for value in short.values()):
        raise RequestError(
            "--method and --arch, --mix or --tscale together",
            "allowed: either form; the latter are short for fields of method dbn_mix",
            f"type --method {method} --set field=value, or leave --method out",
        )
    if str(folder) == os.environ.get("LTREPRO_RUNS"):
        folder = Path(str(folder).split(os.pathsep)[0])
    parent, assign = _parent(assign or [], folder)
    settings = default_paper().settings
    cls = find(method or settings.ablation[0])
    given = {name: value for name, value in (short | flags).items() if value is not None}
    for name, value in parse_settings(assign, [cls.name()]).items():
        if (plain := name.rpartition(".")[2]) in given:
            raise RequestError(f"{plain} is given twice", "allowed: an option or --set, and each setting once")
        given[plain] = value
    for name in given:
        if name not in field_types(cls):
            raise RequestError(f"--{name} with method {cls.name()}", f"allowed: {', '.join(field_types(cls))}")
    pool = load.load_pool(dataset or (dataset_of(parent) if parent else "cifar100"), load.data_root(data_root))
    given |= ratio_settings(typed_ratio(ratio, imb_factor), pool)
    if parent:
        given["parent"] = parent.recipe
    elif "ratio" not in given:
        given |= default_ratio(pool, given.get("imb_type"))
    recipe = settings.recipe(pool.name, method, reading, preset, **given)
    if recipe.parents and not parent:
        role = next(iter(recipe.parents))
        name = recipe.method.name()
        raise RequestError(
            f"method {name} without a parent", f"allowed: a run in the role {role!r}", "add --set parent=RUN"
        )
    _refuse_inactive(recipe, settings.method_of(method, given)[1], cls, given)
    split = split_of(recipe.subset, pool)
    counts = [] if as_json else dropped(pool, split)  # the JSON document has them
    beside = [parent.path.parent] if parent and parent.path else []
    if deterministic:
        make_deterministic()
    if force:
        with lock(folder, recipe.key()) as mine:
            if not mine:
                raise RequestError(
                    f"{recipe.key()} is being trained by another process",
                    "allowed: --force on a run that no process is training",
                    "wait until it has ended, or stop it",
                )
            if aside := set_aside(folder / f"{recipe.key()}.json"):
                say(f"the old run is {aside}")
    with Watch([*pool.notes, *counts], quiet=as_json) as watch:
        kwargs: dict[str, Any] = {"device": device, "watch": watch, "note": say}
        kwargs |= {"eval_every": eval_every or EVAL_EVERY, "eval_bn": eval_bn}
        (run,) = run_all([recipe], pool, folder, parents=beside, **kwargs)
    if isinstance(run, Failed):
        raise FailedError(*run.error.splitlines())
    origins = [start["weights"] for start in run.parents.values()]
    if parent and origins and (parent.weights or {}).get("sha256") not in origins:
        raise RequestError(
            f"{run.path} started from other weights than those of {parent.path}",
            "allowed: one run of a recipe in a folder",
            "train with --force to replace it, or with --out into another folder",
        )
    if run.diverged:
        where = f"epoch {run.diverged['epoch'] + 1}, step {run.diverged['step'] + 1}"
        say(f"diverged: the loss was not finite at {where}; the run file says so")
    if as_json:
        put_json(run.to_json() | {"path": str(run.path)})
    else:
        put_result(run)
        put(str(run.path))
    raise typer.Exit(1 if run.diverged else 0)


def _parent(assign: list[str], folder: Path) -> "tuple[Run | None, list[str]]":
    """Returns the run that `--set parent=RUN` names, and the other settings."""
    from lt_repro.store.runs import find_run, run_folders

    if "parent" in assign:
        raise RequestError("--set parent", "allowed: --set parent=RUN, a path, a key or a unique beginning of a key")
    named = [text.partition("=")[2] for text in assign if text.startswith("parent=")]
    if len(named) > 1:
        raise RequestError("parent is given twice", "allowed: one parent")
    others = [text for text in assign if not text.startswith("parent=")]
    return (find_run(named[0], run_folders([folder])) if named else None), others


def _branches(arch: str | None) -> int | None:
    choices = {None: None, "sbn": 1, "dbn": 2}
    if arch not in choices:
        raise unknown(
            "--arch", str(arch), ["sbn", "dbn"], "sbn is one branch, dbn a conventional and a re-balancing one"
        )
    return choices[arch]


def _refuse_inactive(recipe: "Recipe", base: Mapping[str, Any], cls: "type[Method]", given: Mapping[str, Any]) -> None:
    """Refuses settings that were typed and have no effect on a recipe, of which it keeps only the defaults."""
    from lt_repro import fields

    of_method = dict(base) | (dict(cls.with_parent(given["parent"].spec)) if "parent" in given else {}) | dict(given)
    method = cls(**{name: value for name, value in of_method.items() if name in fields.types(cls)})
    inactive = method.inactive_fields() | (recipe.inactive_fields() & fields.types(type(recipe)).keys())
    if without_effect := sorted(given.keys() & inactive):
        raise RequestError(
            f"{', '.join(without_effect)} has no effect with the other settings",
            "allowed: settings that have an effect here",
            "remove it, or add the setting that it belongs to",
        )
