"""Figures: accuracy by setting, by class, by group, by confidence and by the last lambdas; confusion.

They are drawn without pyplot, which has global state.

Every figure is drawn under `_SETTINGS`: the user's matplotlibrc, styles and environment change no byte of it.
"""

import contextlib
import importlib.util
import io
import math
import os
import textwrap
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from lt_repro.errors import FailedError, first_line
from lt_repro.papers.table import Table, Variant
from lt_repro.render.cells import Measured
from lt_repro.render.classes import Classes
from lt_repro.render.lambdas import Change, Fit
from lt_repro.render.percent import spread
from lt_repro.render.reliability import Panel
from lt_repro.store import files


@contextlib.contextmanager
def _defaults() -> Iterator[None]:
    """Hides the user's settings from the import of matplotlib: it reads ./matplotlibrc, and stops at a damaged one."""
    spec = importlib.util.find_spec("matplotlib")
    assert spec and spec.origin, "matplotlib is a dependency"
    with patch.dict(os.environ), contextlib.chdir(Path(spec.origin).parent / "mpl-data"):  # it has the defaults there
        for name in ("MPLBACKEND", "FREETYPE_PROPERTIES"):
            os.environ.pop(name, None)
        yield


with _defaults():
    import matplotlib
    from matplotlib import font_manager
    from matplotlib.axes import Axes
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

_NOTHING = "nothing measured yet"
_NOT_RUN = "_not run"  # matplotlib leaves out of the legend what begins with _
GREEK = {"alpha": "α", "gamma": "γ", "eta": "η", "eps": "ε", "tau": "τ"}
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")  # Okabe and Ito: colour-blind safe
_DASHES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (1, 3)))  # to tell lines apart in grey print
_MARKERS = "osD^vP"
_OTHER_SCRIPTS = ("Noto Sans CJK JP", "Noto Sans CJK SC", "WenQuanYi Zen Hei", "Hiragino Sans", "Arial Unicode MS")
_TITLE: dict[str, Any] = {"fontsize": "medium", "parse_math": False}
_HATCHES = ("", "///", "...", "xxx", "\\\\\\", "ooo")
_INSTALLED = {font.name for font in font_manager.fontManager.ttflist}
_SETTINGS: dict[Any, Any] = {name: value for name, value in matplotlib.rcParamsDefault.items() if name != "backend"}
_SETTINGS |= {
    "svg.hashsalt": "lt_repro",  # unsalted ids are random
    "font.family": ["DejaVu Sans", *(name for name in _OTHER_SCRIPTS if name in _INSTALLED)],
}


@contextlib.contextmanager
def _drawing() -> Iterator[None]:
    """Draws under our settings; an error of matplotlib's is a failed job, which stops no other."""
    with matplotlib.rc_context(_SETTINGS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a missing glyph is drawn as a box; the .csv has the name
        try:
            yield
        except Exception as error:
            raise FailedError(f"the figure cannot be drawn: {type(error).__name__}: {first_line(error)}") from error


@_drawing()
def hparam_figure(table: Table, measured: Sequence[Measured]) -> Figure:
    """Returns the accuracy in percent against the table's axis, one line per row; a cell without runs is a gap.

    Whiskers are standard deviations over the seeds; a hollow star is a number printed in the paper. If a value on the
    axis is infinite, the values are evenly spaced, infinity last.

    Args:
        table: The table; its `axis` names the setting that varies over the columns.
        measured: The table's cells, from `measure`.
    """
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    values = [float(column.edits[table.axis or ""]) for column in table.columns]
    ticks = sorted(values)
    place = {value: float(i) if math.isinf(ticks[-1]) else value for i, value in enumerate(ticks)}
    span = place[ticks[-1]] - place[ticks[0]] or 1.0
    printed: list[float] = []
    for i, row in enumerate(table.rows):
        cells = dict(zip(values, measured[i * len(values) : (i + 1) * len(values)], strict=True))
        aside = 0.012 * span * (i - (len(table.rows) - 1) / 2)  # so that equal points do not overlap
        places = [place[value] + aside for value in ticks]
        means, spreads = _percent((cells[value].mean, cells[value].sd) for value in ticks)
        label = _NOT_RUN if np.isnan(means).all() else _line_label(table, row)
        _series(axes, places, means, spreads, i, label)
        paper = {value: 100 * entry.cell.published.value for value, entry in cells.items() if entry.cell.published}
        for value, height in paper.items():
            star: dict[str, Any] = {"color": _COLOURS[i % 6], "mfc": "none", "ms": 14, "mew": 1.5, "zorder": 3}
            axes.plot([place[value] + aside], [height], "*", label=f"published ({height:.2f})", **star)
        printed += paper.values()
    count = sum(entry.mean is not None for entry in measured)
    if not count:
        axes.set_ylim(*((0, 100) if not printed else (min(printed) - 5, max(printed) + 5)))
        axes.text(0.5, 0.25, f"0 of {len(measured)} settings measured", transform=axes.transAxes, ha="center")
    axes.set_xlim(place[ticks[0]] - 0.06 * span, place[ticks[-1]] + 0.06 * span)
    axes.set_xticks(list(place.values()), ["∞" if math.isinf(value) else f"{value:g}" for value in ticks])
    axes.set(xlabel=_symbol(table.axis or "", name=True), ylabel="top-1 accuracy (%)")
    axes.grid(alpha=0.3)
    axes.set_title(_folded(table.caption.rstrip("."), 60), **_TITLE)
    return _with_legend(figure)


@_drawing()
def class_figure(title: str, classes: Classes) -> Figure:
    """Returns a figure of the training images of each class above its accuracy: bars up to 20 classes, else lines.

    Args:
        title: The title.
        classes: The data. Each series is drawn as its mean, with the standard deviation (ddof 1) as whiskers if there
            are several seeds; a series without runs is skipped.
    """
    class_names, counts, k = classes.names, classes.counts, len(classes.counts)
    shown = [name for name, seeds in classes.series.items() if len(seeds)]
    figure = Figure(figsize=(9.0, 5.0), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1, 2))
    bars = above.bar(range(k), counts, width=0.8, color="0.6")
    above.set_ylabel("training images")
    steep = max(counts) > 20 * min(counts)
    if steep:
        above.set_yscale("log")
        above.yaxis.set_major_formatter("{x:,.10g}")
    if k <= 20:
        above.bar_label(bars, fmt="{:,.0f}", fontsize="small")
    above.set_ylim(min(counts) / 2 if steep else 0, max(counts) * (2.5 if steep else 1.2))
    for i, name in enumerate(shown):
        means, spreads = _percent(classes.moments[name])
        if k > 20:
            _series(below, range(k), means, spreads, i, name, markersize=2.5, linewidth=1.0)
            continue
        width = 0.8 / len(shown)
        places = np.arange(k) + (i - (len(shown) - 1) / 2) * width
        below.bar(places, means, width, label=name, **_bar(i))
        _whiskers(below, places, means, spreads, "black")
    below.set(ylim=(0, 105), ylabel="top-1 accuracy (%)", xlabel="class", axisbelow=True)
    below.grid(axis="y", alpha=0.3)
    if not shown:
        below.text(0.5, 0.5, _NOTHING, transform=below.transAxes, ha="center")
    ticks = range(0, k, math.ceil(k / 20) if k > 30 else 1)
    names = [_short(class_names[i], 20) for i in ticks]
    long = max(map(len, names)) * len(names) > 80
    turned: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if long else {}
    below.set_xticks(list(ticks), names, parse_math=False, **turned)
    below.set_xlim(-0.8, k - 0.2)
    return _with_legend(figure, title)


@_drawing()
def group_figure(table: Table, measured: Sequence[Measured]) -> Figure:
    """Returns bars of the accuracy in percent for each column, one bar per row; a cell without runs is a gap.

    Whiskers are standard deviations over the seeds, hollow stars the numbers printed in the paper. A class group that
    has no classes here is not drawn; the title names it.

    Args:
        table: The table; its rows are the series, its columns the groups.
        measured: The table's cells, from `measure`.
    """
    figure = Figure(figsize=(9.0, 4.2), layout="constrained")
    axes = figure.add_subplot()
    wide = len(table.columns)
    absent = {i for i in range(wide) if any(entry.runs and not entry.values for entry in measured[i::wide])}
    columns = [(i, column) for i, column in enumerate(table.columns) if i not in absent]
    width = 0.8 / len(table.rows)
    for i, row in enumerate(table.rows):
        cells = [measured[i * wide + j] for j, _ in columns]
        places = np.arange(len(columns)) + (i - (len(table.rows) - 1) / 2) * width
        means, spreads = _percent((cell.mean, cell.sd) for cell in cells)
        axes.bar(places, means, width, label=_NOT_RUN if np.isnan(means).all() else row.title, **_bar(i))
        _whiskers(axes, places, means, spreads, "black")
        printed = [(x, 100 * c.cell.published.value) for x, c in zip(places, cells, strict=True) if c.cell.published]
        if printed:
            star: dict[str, Any] = {"color": "black", "mfc": "white", "ms": 9, "mew": 0.8, "linestyle": "none"}
            label = "published" if "published" not in axes.get_legend_handles_labels()[1] else None
            axes.plot(*zip(*printed, strict=True), "*", label=label, zorder=4, **star)
    axes.set_xticks(range(len(columns)), [column.title.replace(" (", "\n(") for _, column in columns])
    axes.set(xlim=(-0.6, len(columns) - 0.4), ylim=(0, 105), ylabel="top-1 accuracy (%)", axisbelow=True)
    axes.grid(axis="y", alpha=0.3)
    none = ", ".join(table.columns[i].label for i in sorted(absent))
    note = f". No classes here: {none}" if none else ""
    axes.set_title(_folded(table.caption.rstrip(".") + note, 90), **_TITLE)
    if not any(entry.values for entry in measured):
        axes.text(0.5, 0.9, _NOTHING, transform=axes.transAxes, ha="center")
    return _with_legend(figure)


@_drawing()
def reliability_figure(title: str, shown: Sequence[Panel]) -> Figure:
    """Returns a panel for each series: accuracy in each bin of confidence, and its distance from the diagonal.

    A line shows the share of the test images in each bin, since an accuracy of few images is not reliable.

    Args:
        title: The title.
        shown: The series; one without bins is an empty panel marked "not run".
    """
    down = -(-len(shown) // 2)
    figure = Figure(figsize=(9.0, 0.9 + 3.1 * down), layout="compressed")
    every = list(figure.subplots(down, min(2, len(shown)), sharex=True, sharey=True, squeeze=False).flat)
    for axes, panel in zip(every, shown, strict=False):
        axes.plot([0, 100], [0, 100], color="black", linestyle="--", linewidth=0.8)
        axes.set(xlim=(0, 100), ylim=(0, 100), aspect="equal", xlabel="confidence (%)", ylabel="top-1 accuracy (%)")
        axes.set(xticks=range(0, 101, 20), yticks=range(0, 101, 20), axisbelow=True)
        axes.label_outer()
        axes.grid(alpha=0.3)
        mean, sd = panel.error
        known = "" if mean is None else f"\nECE {spread(mean, sd)} % (n = {len(panel.errors)})"
        axes.set_title(panel.title + known, **_TITLE)
        if panel.bins is None:
            axes.text(50, 60, "not run", ha="center", backgroundcolor="white")
            continue
        width = 100 / len(panel.bins.images)
        full = panel.bins.images > 0
        places = (np.arange(len(full))[full] + 0.5) * width
        sure, right = 100 * panel.bins.confidence[full], 100 * panel.bins.accuracy[full]
        axes.bar(places, right, width, color=_COLOURS[4], edgecolor="white", linewidth=0.5, label="accuracy")
        look: dict[str, Any] = {"color": "none", "edgecolor": _COLOURS[1], "hatch": "////", "linewidth": 0.8}
        axes.bar(places, sure - right, width, right, label="from accuracy to confidence", **look)
        share = 100 * panel.bins.images / panel.bins.images.sum()
        edges = np.linspace(0, 100, len(share) + 1)
        axes.stairs(share, edges, color="black", linewidth=1.5, label="share of the test images")
    for axes in every[len(shown) :]:
        axes.set_visible(False)
    return _with_legend(figure, title)


@_drawing()
def lambda_figure(table: Table, changes: Sequence[Change], line: Fit | None) -> Figure:
    """Returns the change of each run's accuracy against the change of x, with a line through them; controls aside.

    Runs of one seed share their lambdas, so they are above each other, drawn a little aside; the seed is at the top.

    Args:
        table: The table; its rows are the series. One without runs is named in the title.
        changes: One for each run, from `lambdas.changes`; those without x are drawn in a panel of their own.
        line: Through the mixed runs, from `lambdas.fit`.
    """
    figure = Figure(figsize=(9.0, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(5, 1))
    by_row = {row.title: [change for change in changes if change.series == row.title] for row in table.rows}
    controls = [title for title, result in by_row.items() if result and result[0].moved is None]
    mixed = [title for title, result in by_row.items() if result and title not in controls]
    for axes in (left, right):
        axes.axhline(0, color="0.7", linewidth=0.8, zorder=0)
        axes.grid(alpha=0.3)
        axes.set(axisbelow=True)
    moves = [change.moved for change in changes if change.moved is not None]
    span = max(moves) - min(moves) if moves else 0.0
    for i, title in enumerate(by_row):  # a series looks the same whether the others have run or not
        points = [change.points for change in by_row[title]]
        look: dict[str, Any] = {"marker": _MARKERS[i % 6], "linestyle": "none", "ms": 7}
        if title in controls:
            look |= {"color": "0.25", "mfc": "none"}
            left.plot([], [], label=f"{title} (not mixed)", **look)
            right.plot([controls.index(title)] * len(points), points, **look)
        elif title in mixed:
            aside = 0.018 * span * (mixed.index(title) - (len(mixed) - 1) / 2)
            places = [aside + (change.moved or 0.0) for change in by_row[title]]
            left.plot(places, points, label=title, color=_COLOURS[i % 6], mec="white", mew=0.6, zorder=3, **look)
    seeds: dict[float, set[int]] = {}
    for change in changes:
        if change.moved is not None:
            seeds.setdefault(round(change.moved, 6), set()).add(change.run.recipe.seed)
    if len(seeds) <= 6:
        for moved, which in seeds.items():
            text = f"seed {', '.join(map(str, sorted(which)))}"
            small: dict[str, Any] = {"fontsize": "small", "color": "0.35", "ha": "center", "va": "bottom"}
            left.text(moved, 1.01, text, transform=left.get_xaxis_transform(), **small)
            left.axvline(moved, color="0.85", linewidth=0.8, zorder=0)
    if line:
        ends = np.array([min(moves) - 0.1 * span, max(moves) + 0.1 * span])
        left.plot(ends, line.intercept + line.slope * ends, color="black", linewidth=1.2, label="least-squares line")
        words: dict[str, Any] = {"transform": left.transAxes, "ha": "right", "va": "bottom", "fontsize": "small"}
        left.text(0.98, 0.03, "\n".join(line.words()), **words)
    left.margins(x=0.08, y=0.15)
    remembered = "change of x, the mean of max(λ, 1 − λ) that BatchNorm remembers"
    left.set(xlabel=remembered, ylabel="change of top-1 accuracy (points)")
    right.set(xlim=(-0.8, max(len(controls), 1) - 0.2), xticks=[], xlabel="not mixed")
    if not changes:
        left.text(0.5, 0.5, _NOTHING, transform=left.transAxes, ha="center")
    missing = [title for title, result in by_row.items() if not result]
    note = f". Not run: {', '.join(missing)}" if missing and changes else ""
    return _with_legend(figure, table.caption.rstrip(".") + note)


@_drawing()
def confusion_figure(title: str, counts: NDArray[np.int64], class_names: Sequence[str]) -> Figure:
    """Returns a confusion matrix whose rows are shares of the true class, in percent; up to 20 classes with numbers.

    Args:
        title: The title.
        counts: (K, K), test images by true class (row) and predicted class (column).
        class_names: K names.
    """
    k = len(counts)
    images = counts.sum(axis=1, keepdims=True)
    shares = 100 * np.divide(counts, images, out=np.zeros(counts.shape), where=images > 0)
    side = 7.5 if k > 20 else max(4.5, 0.45 * k + 1.5)
    figure = Figure(figsize=(side + 1.0, side), layout="constrained")
    axes = figure.add_subplot()
    scale = PowerNorm(0.5 if k > 20 else 1.0, 0, 100)  # without numbers, small shares need a colour one can see
    shown = axes.imshow(shares, cmap="Blues", norm=scale, interpolation="nearest")
    figure.colorbar(shown, ax=axes, label="share of the true class (%)", shrink=0.8)
    if k <= 20:
        for row, column in np.argwhere(counts):
            share = shares[row, column]
            look: dict[str, Any] = {"color": "white" if share > 60 else "black", "fontsize": "small"}
            axes.text(column, row, f"{share:.0f}" if share >= 0.5 else "<1", ha="center", va="center", **look)
    ticks = range(0, k, math.ceil(k / 25) if k > 30 else 1)
    names = [_short(class_names[i], 16) for i in ticks]
    turned: dict[str, Any] = {"rotation": 90} if max(map(len, names)) * len(names) > 40 else {}
    small: dict[str, Any] = {"fontsize": "small", "parse_math": False}
    axes.set_xticks(ticks, names, **small, **turned)
    axes.set_yticks(ticks, names, **small)
    axes.set(xlabel="predicted class", ylabel="true class")
    figure.suptitle(_folded(title, int(10 * side)), **_TITLE)
    return figure


def save(figure: Figure, stem: Path, foot: Sequence[str] = ()) -> list[Path]:
    """Writes `<stem>.png` and `<stem>.svg` and returns their paths; the same figure gives the same bytes.

    Args:
        figure: The figure to write.
        stem: The path without its suffix.
        foot: Lines in small print below the figure.

    Raises:
        FailedError: It cannot be drawn.
        RequestError: The folder cannot be written.
    """
    paths = []
    for kind, content in _rendered(figure, foot).items():
        paths.append(stem.with_name(f"{stem.name}.{kind}"))
        files.write(paths[-1], content)
    return paths


@_drawing()
def _rendered(figure: Figure, foot: Sequence[str]) -> dict[str, bytes]:
    """Returns the content of the files by kind."""
    lines = [part for line in foot for part in textwrap.wrap(line, int(19 * figure.get_figwidth()))]
    small: dict[str, Any] = {"fontsize": 6, "color": "0.35", "va": "top", "parse_math": False, "linespacing": 1.3}
    figure.text(0.01, -0.01, "\n".join(lines), **small)
    contents = {}
    for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
        stream = io.BytesIO()
        figure.savefig(stream, format=kind, dpi=150, metadata=metadata, bbox_inches="tight")
        contents[kind] = stream.getvalue()
    return contents


def _with_legend(figure: Figure, title: str = "") -> Figure:
    """Returns the figure with a title, and the legend of the first axes that has one, published numbers last."""
    if title:
        figure.suptitle(_folded(title, 90), **_TITLE)
    drawn = next((pair for axes in figure.axes if (pair := axes.get_legend_handles_labels())[0]), None)
    if drawn:
        ordered = sorted(zip(*drawn, strict=True), key=lambda entry: entry[1].startswith("published"))
        handles, labels = zip(*ordered, strict=True)
        figure.legend(handles, [_folded(label, 24) for label in labels], loc="outside right center", frameon=False)
    return figure


def _folded(text: str, width: int) -> str:
    return textwrap.fill(text, width, break_on_hyphens=False)


def _bar(i: int) -> dict[str, Any]:
    return {"color": _COLOURS[i % 6], "hatch": _HATCHES[i % 6], "edgecolor": "white", "linewidth": 0.5}


def _series(axes: Axes, places: Sequence[float], means: Any, spreads: Any, i: int, label: str, **style: Any) -> None:
    look: dict[str, Any] = {"color": _COLOURS[i % 6], "linestyle": _DASHES[i % 6], "marker": _MARKERS[i % 6]}
    axes.plot(places, means, label=label, **look, **style)
    _whiskers(axes, places, means, spreads, _COLOURS[i % 6])


def _whiskers(axes: Axes, places: Any, means: Any, spreads: Any, colour: str) -> None:
    if not np.isnan(spreads).all():
        dense: dict[str, Any] = {"capsize": 0, "alpha": 0.5} if len(means) > 20 else {"capsize": 2}
        axes.errorbar(places, means, spreads, fmt="none", ecolor=colour, elinewidth=0.8, **dense)


def _short(name: str, most: int) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _percent(moments: Iterable[tuple[float | None, float | None]]) -> NDArray[np.float64]:
    """Returns means and standard deviations in percent, (2, N), NaN where there is none."""
    return 100 * np.array(list(moments), dtype=float).T


def _symbol(setting: str, name: bool = False) -> str:
    letter = GREEK.get(setting)
    return setting if letter is None else f"{letter} ({setting})" if name else letter


def _line_label(table: Table, row: Variant) -> str:
    return row.title if table.lines is None else f"{_symbol(table.lines)} = {row.edits[table.lines]:g}"
