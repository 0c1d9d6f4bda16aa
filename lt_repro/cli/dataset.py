"""`make-dataset`: makes the long-tailed split and downloads the images."""

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table as Grid

from lt_repro.cli.app import DATASETS, DataRoot, Json, app, err, out, printable, put, put_json, say
from lt_repro.cli.options import ImbFactor, Ratio, typed_ratio
from lt_repro.cli.request import default_ratio, ratio_settings
from lt_repro.errors import RequestError

if TYPE_CHECKING:
    from lt_repro.data.images import Pool
    from lt_repro.data.split import Split

NAME = 16
"""Columns of a terminal that the name of a class may take."""


@app.command()
def make_dataset(
    name: Annotated[str, typer.Argument(metavar="DATASET", help=DATASETS)],
    ratio: Ratio = None,
    imb_factor: ImbFactor = None,
    imb_type: Annotated[
        str | None,
        typer.Option(
            help="How class sizes fall: exp (exponentially) or step (half large, half small).", show_default="exp"
        ),
    ] = None,
    split_seed: Annotated[int, typer.Option(help="Random seed of the split; 0 is the one that the field uses.")] = 0,
    data_root: DataRoot = None,
    no_download: Annotated[bool, typer.Option("--no-download", help="Never download anything.")] = False,
    to: Annotated[
        Path | None, typer.Option("--out", help="Split file to write, JSON.", show_default="./splits/...")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a long-tailed split; downloads the images if missing.

    [bold]ltrepro make-dataset cifar100 --ratio 100[/bold]

    [bold]ltrepro make-dataset npz:bloodmnist.npz --imb-factor 0.02 --imb-type step[/bold]

    [bold]ltrepro make-dataset folder:birds[/bold]

    Writes which training images are used, for you and for other programs;
    `ltrepro train` makes the same split by itself.
    """
    from lt_repro.data import images, load
    from lt_repro.data.dataset import NotThere
    from lt_repro.data.split import make_split
    from lt_repro.store import files

    root = load.data_root(data_root)
    try:
        pool = load.load_pool(name, root)
    except NotThere:
        if no_download:
            raise
        _download(name, root)
        pool = load.load_pool(name, root)
    split = make_split(
        pool.train_labels,
        **_shape(typed_ratio(ratio, imb_factor), imb_type, pool),
        seed=split_seed,
        hold_out=pool.hold_out,
        name=pool.name,
    )
    n_test = len(images.select(pool, split).test_labels)
    content = split.to_json() | {"n_test": n_test}
    path = to or Path("splits") / f"{pool.name}-{split.imb_type}-r{split.ratio:g}-s{split_seed}.json"
    text = json.dumps(content, indent=1)
    if path.exists() and not path.is_file():
        raise files.cannot_write(path, "it is not a file")
    if path.exists() and path.read_text(errors="replace") != text:
        raise RequestError(
            f"{path} exists with different content", "nothing was changed", "move it away, or use another --out"
        )
    files.write(path, text.encode())
    for note in pool.notes:
        say(f"note: {note}")
    if as_json:
        return put_json(content | {"path": str(path)})
    _histogram(split, pool.class_names)
    groups = ", ".join(f"{number} {group}" for group, number in content["groups"].items())
    put(f"{content['n_train']:,} training and {n_test:,} test images, {len(split.counts)} classes: {groups}")
    put(f"digest {split.digest}")
    put(str(path))


def _shape(ratio: str | None, imb_type: str | None, pool: "Pool") -> dict[str, Any]:
    """Returns the ratio and the imb_type of the split."""
    if ratio == "as-is" and imb_type is not None:
        raise RequestError(f"--ratio as-is together with --imb-type {imb_type}", "allowed: one of them")
    default = {"ratio": 100.0, "imb_type": imb_type or "exp"}
    return default | (default_ratio(pool, imb_type) if ratio is None else ratio_settings(ratio, pool))


def _download(name: str, root: Path) -> None:
    from lt_repro.data import sets

    download = sets.find(name).download
    if not err.is_terminal:
        say(f"downloading {name} to {root}")
        download(root, lambda done, total: None)
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err) as bar:
        task = bar.add_task(f"downloading {name}", total=None)
        download(root, lambda done, total: bar.update(task, completed=done, total=total or None))


def _histogram(split: "Split", class_names: Sequence[str]) -> None:
    counts = split.counts.tolist()
    bars = min(len(counts), 20)
    bounds = [round(i * len(counts) / bars) for i in range(bars + 1)]
    rows = []
    for low, high in pairwise(bounds):
        part = counts[low:high]
        label = class_names[low] if high - low == 1 else f"classes {low}-{high - 1}"
        size = f"{part[0]}" if part[0] == part[-1] else f"{part[0]} to {part[-1]}"
        rows.append((printable(label), size, sum(part) / len(part) / max(counts)))
    longest = max(len(size) for _, size, _ in rows)
    room = min(40, out.width - NAME - longest - 6)
    grid = Grid.grid(padding=(0, 2, 0, 0))
    grid.add_column(justify="right", no_wrap=True, overflow="ellipsis", max_width=NAME if out.is_terminal else None)
    grid.add_column(justify="right", no_wrap=True)
    for label, size, share in rows:
        grid.add_row(label, size, "█" * max(1, round(room * share)))
    out.print(grid)
