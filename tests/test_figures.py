"""Figures: every measured cell is drawn once, nothing else is, and the same figure gives the same file."""

import math
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from test_render import fake

from lt_repro.paper.dbn_mix import FIG3, FIG3A, FIG3C
from lt_repro.render.cells import measure
from lt_repro.render.classes import Classes
from lt_repro.render.figures import class_figure, hparam_figure, save


def half(table):
    """Made-up runs: every second cell, every fourth with two seeds."""
    cells = list(table.cells())[::2]
    pairs = [
        (cell.recipe.replace(seed=s), 0.4 + i / 100 + s / 50) for i, cell in enumerate(cells) for s in range(1 + i % 2)
    ]
    return measure(table, [fake(recipe, value) for recipe, value in pairs])


def points(axes):
    """The (x, y) of everything drawn as a line's marker, without stars and whiskers."""
    lines = [line for line in axes.lines if line.get_marker() in "osD^vP"]
    return [xy for line in lines for xy in line.get_xydata() if not np.isnan(xy[1])]


def stars(axes):
    return [line for line in axes.lines if line.get_marker() == "*"]


def legend(figure):
    return [entry.get_text() for entry in figure.legends[0].get_texts()]


@pytest.mark.parametrize("table", FIG3, ids=lambda table: table.id)
def test_points_are_the_measured_cells(table):
    cells = half(table)
    figure = hparam_figure(table, cells)
    drawn = sorted(y for _, y in points(figure.axes[0]))
    assert drawn == pytest.approx(sorted(100 * cell.mean for cell in cells if cell.mean is not None))
    assert [line.get_ydata()[0] for line in stars(figure.axes[0])] == [pytest.approx(51.04)]
    whiskers = [bar for box in figure.axes[0].containers for bar in box.lines[2][0].get_segments() if bar.size]
    assert len(whiskers) == sum(cell.sd is not None for cell in cells)
    assert "published (51.04)" in legend(figure)
    assert not figure.axes[0].texts


@pytest.mark.parametrize("table", FIG3, ids=lambda table: table.id)
def test_nothing_measured_is_said(table):
    figure = hparam_figure(table, measure(table, []))
    assert not points(figure.axes[0])
    assert [note.get_text() for note in figure.axes[0].texts] == [f"0 of {len(list(table.cells()))} settings measured"]
    low, high = figure.axes[0].get_ylim()
    assert low < 51.04 < high
    assert len(stars(figure.axes[0])) == 1


def test_infinite_gamma_is_last():
    back = FIG3C.within(columns=FIG3C.columns[::-1])
    assert math.isinf(back.columns[0].edits["gamma"])
    cells = measure(back, [fake(next(back.cells()).recipe, 0.5)])
    axes = hparam_figure(back, cells).axes[0]
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ["1", "2", "3", "5", "10", "∞"]
    assert np.diff(axes.get_xticks()) == pytest.approx(1.0)
    assert [tuple(xy) for xy in points(axes)] == [(5.0, 50.0)]
    assert stars(axes)[0].get_xdata()[0] == 5.0
    assert axes.get_xlabel() == "γ (gamma)"


def test_lines_are_told_apart_without_colour():
    figure = hparam_figure(FIG3A, half(FIG3A))
    lines = [line for line in figure.axes[0].lines if line.get_label().startswith("ε")]
    assert [line.get_label() for line in lines] == ["ε = 0.2", "ε = 0.4", "ε = 0.6", "ε = 0.8"]
    assert len({(line.get_marker(), line.get_linestyle()) for line in lines}) == 4
    assert len({line.get_marker() for line in lines}) == 4


def test_class_figure_has_bars_for_few_classes():
    rng = np.random.default_rng(0)
    values = rng.random((3, 10))
    figure = class_figure("t", Classes(list("abcdefghij"), range(100, 0, -10), {"a": values, "b": values[:1]}))
    above, below = figure.axes
    assert [bar.get_height() for bar in above.patches] == list(range(100, 0, -10))
    assert above.get_yscale() == "linear"
    heights = [bar.get_height() for bar in below.patches]
    assert heights == pytest.approx([*(100 * values.mean(axis=0)), *(100 * values[0])])
    (whiskers,) = [box for box in below.containers if hasattr(box, "has_yerr") and box.has_yerr]
    lengths = [np.ptp(bar[:, 1]) / 2 for bar in whiskers.lines[2][0].get_segments()]
    assert lengths == pytest.approx(100 * values.std(axis=0, ddof=1))
    assert legend(figure) == ["a", "b"]


def test_class_figure_has_lines_and_thinned_names_for_many():
    values = np.linspace(1, 0, 100)[None]
    figure = class_figure("t", Classes([f"name {i}" for i in range(100)], range(500, 0, -5), {"a": values}))
    above, below = figure.axes
    assert above.get_yscale() == "log"
    assert not below.patches
    assert [y for _, y in points(below)] == pytest.approx(100 * values[0])
    labels = [label.get_text() for label in below.get_xticklabels()]
    assert labels == [f"name {i}" for i in range(0, 100, 5)]
    assert above.get_xlim() == below.get_xlim()


def test_a_series_without_a_run_is_left_out():
    classes = Classes(["a", "b"], [9, 3], {"run": [[0.5, 0.25]], "not run": []})
    figure = class_figure("t", classes)
    assert legend(figure) == ["run"]
    assert [bar.get_height() for bar in figure.axes[1].patches] == [50.0, 25.0]
    empty = class_figure("t", Classes(["a", "b"], [9, 3], {"not run": []}))
    assert not empty.legends
    assert [bar.get_height() for bar in empty.axes[0].patches] == [9, 3]


def test_names_are_never_mathematics_and_long_or_foreign_ones_do_no_harm(tmp_path):
    names = ["$x_1^2$", r"$\bad$", "$", "猫", "n" * 128]
    figure = class_figure("costs $5 or $6", Classes(names, [9, 7, 5, 3, 1], {"a series": [[0.5] * 5]}))
    labels = [label.get_text() for label in figure.axes[1].get_xticklabels()]
    assert labels == [*names[:4], "n" * 19 + "…"]
    assert [path.stat().st_size > 1000 for path in save(figure, tmp_path / "names")] == [True, True]
    assert "$x_1^2$" in (tmp_path / "names.svg").read_text()


def test_saved_files_are_whole_and_the_same_every_time(tmp_path):
    before = dict(matplotlib.rcParams)
    figure = hparam_figure(FIG3A, half(FIG3A))
    paths = save(figure, tmp_path / "r0.5")
    assert [path.name for path in paths] == ["r0.5.png", "r0.5.svg"]
    first = [path.read_bytes() for path in paths]
    assert first[0].startswith(b"\x89PNG")
    assert ElementTree.fromstring(first[1]).tag.endswith("svg")
    assert [path.read_bytes() for path in save(figure, tmp_path / "r0.5")] == first
    again = save(hparam_figure(FIG3A, half(FIG3A)), tmp_path / "again")
    assert [path.read_bytes() for path in again] == first
    assert dict(matplotlib.rcParams) == before
