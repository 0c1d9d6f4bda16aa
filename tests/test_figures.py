"""Figures: every measured cell is drawn once, nothing else is, and the same figure gives the same file."""

import csv as comma
import io
import json
import math
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from chaos import processes
from test_render import fake

from lt_repro.metrics import calibration_error, reliability
from lt_repro.papers.dbn_mix.tables import FIG3, FIG3A, FIG3C, GROUPS, LAMBDAS, RELIABILITY
from lt_repro.render import figures
from lt_repro.render.cells import measure
from lt_repro.render.classes import Classes
from lt_repro.render.figures import (
    class_figure,
    confusion_figure,
    group_figure,
    hparam_figure,
    lambda_figure,
    reliability_figure,
    save,
)
from lt_repro.render.lambdas import Fit, changes, fit
from lt_repro.render.reliability import csv, panels


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
    back = FIG3C.with_settings(columns=FIG3C.columns[::-1])
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


def test_group_figure_has_a_bar_for_each_measured_cell_and_a_star_for_each_printed_one():
    recipes = [next(cell.recipe for cell in GROUPS.cells() if cell.row == row) for row in GROUPS.rows[:2]]
    shares = {"all": 0.5, "many": 0.7, "medium": 0.4}  # no class is in the group of the few
    pairs = [(r.replace(seed=s), {k: v + s / 10 for k, v in shares.items()}) for r in recipes for s in (0, 1)]
    figure = group_figure(GROUPS, measure(GROUPS, [fake(*pair) for pair in pairs]))
    (axes,) = figure.axes
    heights = [bar.get_height() for bar in axes.patches]
    assert heights[:6] == pytest.approx([55, 75, 45] * 2)
    assert all(math.isnan(height) for height in heights[6:])
    assert [tick.get_text() for tick in axes.get_xticklabels()] == [
        "all classes",
        "many\n(> 100 images)",
        "medium\n(20 to 100)",
    ]
    assert axes.get_title().replace("\n", " ").endswith("No classes here: few")
    printed = sorted(y for line in stars(axes) for y in line.get_ydata())
    assert printed == pytest.approx(sorted([38.46, 45.07, 40.99, 42.95, 51.04, 65.86, 45.38, 66.03, 55.49]))
    assert legend(figure).count("published") == 1
    assert legend(figure)[-1] == "published"
    nothing = group_figure(GROUPS, measure(GROUPS, [])).axes[0]
    assert [note.get_text() for note in nothing.texts] == ["nothing measured yet"]
    assert len(nothing.get_xticks()) == 4


def with_bins(recipe, logits, labels):
    bins_of = reliability(logits, labels)
    bins = {
        name: [None if math.isnan(value) else value for value in values.tolist()]
        for name, values in bins_of._asdict().items()
    }
    run = fake(recipe, 0.5)
    return replace(run, result=run.result | {"ece": calibration_error(bins_of), "reliability": bins})


def test_reliability_pools_the_test_images_of_all_seeds():
    rng = np.random.default_rng(0)
    logits, labels = 2 * rng.normal(size=(2, 40, 5)), rng.integers(0, 5, (2, 40))
    first = next(RELIABILITY.cells()).recipe
    runs = [with_bins(first.replace(seed=seed), logits[seed], labels[seed]) for seed in (0, 1)]
    shown = panels(measure(RELIABILITY, runs))
    whole = reliability(np.concatenate(logits), np.concatenate(labels))
    assert shown[0].seeds == [0, 1]
    assert shown[0].bins.images.tolist() == whole.images.tolist()
    for name in ("confidence", "accuracy"):
        assert getattr(shown[0].bins, name) == pytest.approx(getattr(whole, name), nan_ok=True)
    errors = [calibration_error(reliability(*pair)) for pair in zip(logits, labels, strict=True)]
    assert shown[0].error == pytest.approx((np.mean(errors), np.std(errors, ddof=1)))
    assert [panel.bins for panel in shown[1:]] == [None] * 3

    lines = list(comma.DictReader(io.StringIO(csv(shown))))
    assert [line["images"] for line in lines] == [*map(str, whole.images), "", "", ""]
    assert float(lines[0]["ece_mean"]) == pytest.approx(100 * np.mean(errors))
    assert [float(line["accuracy"]) / 100 if line["accuracy"] else math.nan for line in lines[:15]] == pytest.approx(
        whole.accuracy, nan_ok=True
    )

    unexpected = reliability_figure("t", shown[:3])
    assert [axes.get_visible() for axes in unexpected.axes] == [True] * 3 + [False]

    figure = reliability_figure("t", shown)
    full = whole.images > 0
    heights = [bar.get_height() for bar in figure.axes[0].patches[: 2 * full.sum()]]
    gaps = whole.confidence - whole.accuracy
    assert heights == pytest.approx([*(100 * whole.accuracy[full]), *(100 * gaps[full])])
    assert f"ECE {100 * np.mean(errors):.2f}" in figure.axes[0].get_title()
    assert "(n = 2)" in figure.axes[0].get_title()
    assert [note.get_text() for axes in figure.axes[1:] for note in axes.texts] == ["not run"] * 3


def moved(table, seeds=(0, 1)):
    """Made-up runs of every row but the last, whose accuracy differs at the last two points of the curve."""
    cells = list(table.cells())[:-1]
    recipes = [(i, cell.recipe.replace(seed=seed)) for i, cell in enumerate(cells) for seed in seeds]
    curves = [
        [{"epoch": 190, "all": 0.4}, {"epoch": 200, "all": 0.4 + i / 1000 + (i + 3) * r.seed / 3700}]
        for i, r in recipes
    ]
    return measure(table, [fake(r, 0.4, curve=curve) for (_, r), curve in zip(recipes, curves, strict=True)])


def test_lambda_figure_has_a_point_for_each_run_and_a_line_through_the_mixed_ones():
    result = changes(moved(LAMBDAS))
    line = fit(result)
    figure = lambda_figure(LAMBDAS, result, line)
    left, right = figure.axes
    mixed = [change for change in result if change.moved is not None]
    assert (len(mixed), len(result)) == (10, 16)
    assert sorted(y for _, y in points(left)) == pytest.approx(sorted(change.points for change in mixed))
    step = abs(mixed[1].moved - mixed[0].moved)
    for change in mixed:
        near = [x for x, y in points(left) if y == pytest.approx(change.points)]
        assert near == [pytest.approx(change.moved, abs=0.05 * step)]
    controls = sorted(change.points for change in result if change.moved is None)
    assert sorted(y for _, y in points(right)) == pytest.approx(controls)
    (drawn,) = [artist for artist in left.lines if artist.get_label() == "least-squares line"]
    assert drawn.get_ydata() == pytest.approx(line.intercept + line.slope * np.asarray(drawn.get_xdata()))
    texts = [note.get_text() for note in left.texts]
    assert texts == ["seed 0", "seed 1", "\n".join(line.words())]
    titles = [row.title for row in LAMBDAS.rows]
    assert legend(figure) == [
        *map(folded, [*titles[:5], *(f"{t} (not mixed)" for t in titles[5:8])]),
        "least-squares line",
    ]
    assert figure.get_suptitle().replace("\n", " ").endswith("Not run: Dual branch + temperature")
    series = [artist for artist in left.lines if folded(artist.get_label()) in legend(figure)[:5]]
    assert len({(artist.get_color(), artist.get_marker()) for artist in series}) == 5


def folded(text):
    return textwrap.fill(text, 24, break_on_hyphens=False)


def test_a_series_of_the_lambda_figure_looks_the_same_whatever_else_has_run():
    every, some = moved(LAMBDAS), moved(LAMBDAS)
    some[0] = replace(some[0], runs=())
    looks = []
    for cells in (every, some):
        left = lambda_figure(LAMBDAS, changes(cells), None).axes[0]
        (artist,) = [artist for artist in left.lines if artist.get_label().endswith("(DBN-Mix)")]
        looks.append((artist.get_color(), artist.get_marker()))
    assert looks[0] == looks[1]


def test_a_lambda_figure_of_nothing_says_so():
    left = lambda_figure(LAMBDAS, [], None).axes[0]
    assert [note.get_text() for note in left.texts] == ["nothing measured yet"]
    assert not points(left)
    result = changes(moved(LAMBDAS, seeds=(0,)))
    left = lambda_figure(LAMBDAS, result, fit(result)).axes[0]
    assert [note.get_text() for note in left.texts] == ["seed 0"]  # only one change of x, so no line
    assert not [artist for artist in left.lines if artist.get_label() == "least-squares line"]


def test_confusion_figure_has_shares_of_the_true_class_in_colour_and_numbers_where_there_is_room():
    few = confusion_figure("t", np.array([[3, 1, 0], [0, 5, 0], [1, 0, 999]]), ["a", "$b$", "c" * 30]).axes[0]
    (image,) = few.images
    assert np.asarray(image.get_array()) == pytest.approx(np.array([[75, 25, 0], [0, 100, 0], [0.1, 0, 99.9]]))
    assert (image.norm.vmin, image.norm.vmax) == (0, 100)
    drawn = {note.get_position()[::-1]: note.get_text() for note in few.texts}
    assert drawn == {(0, 0): "75", (0, 1): "25", (1, 1): "100", (2, 0): "<1", (2, 2): "100"}
    assert [label.get_text() for label in few.get_yticklabels()] == ["a", "$b$", "c" * 15 + "…"]
    many = confusion_figure("t", 7 * np.eye(100, dtype=int), [f"name {i}" for i in range(100)]).axes[0]
    assert not many.texts
    assert [label.get_text() for label in many.get_xticklabels()] == [f"name {i}" for i in range(0, 100, 4)]
    assert many.images[0].norm(5) > 0.2  # 5 % can be seen
    none = confusion_figure("t", np.array([[0, 0], [1, 1]]), ["a", "b"]).axes[0].images[0]
    assert np.asarray(none.get_array()) == pytest.approx(np.array([[0, 0], [50, 50]]))


def test_the_foot_of_a_figure_is_below_it_and_never_mathematics(tmp_path):
    paths = save(group_figure(GROUPS, measure(GROUPS, [])), tmp_path / "groups", ["costs $5 or $6", "word " * 60])
    drawn = ElementTree.fromstring(paths[1].read_text())
    comments = paths[1].read_text()
    assert drawn.tag.endswith("svg")
    assert "costs $5 or $6" in comments
    assert comments.count("word word") >= 2  # folded


HOSTILE = {
    **{"text.usetex": True, "font.family": "serif", "font.size": 30, "text.color": "red", "path.sketch": (9, 9, 9)},
    **{"axes.facecolor": "red", "axes.prop_cycle": matplotlib.cycler(color="r"), "axes.formatter.use_locale": True},
    **{"figure.dpi": 30, "figure.facecolor": "red", "savefig.dpi": 30, "savefig.transparent": True, "hatch.color": "r"},
    **{"savefig.facecolor": "red", "svg.fonttype": "none", "svg.hashsalt": "mine", "legend.shadow": True},
}
DRAWN = {
    "hparam": lambda: hparam_figure(FIG3A, half(FIG3A)),
    "group": lambda: group_figure(GROUPS, half(GROUPS)),
    "class": lambda: class_figure("t", Classes(["a", "b"], [9, 3], {"run": [[0.5, 0.25], [0.4, 0.3]]})),
    "reliability": lambda: reliability_figure("t", panels(measure(RELIABILITY, []))),
    "lambdas": lambda: lambda_figure(LAMBDAS, changes(moved(LAMBDAS)), Fit(10, 2, 0.5, 3.0, 0.1, 0.25)),
    "confusion": lambda: confusion_figure("t", np.array([[3, 1], [0, 5]]), ["a", "b"]),
}


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_settings_of_the_process_change_no_byte(draw, tmp_path):
    default = [path.read_bytes() for path in save(draw(), tmp_path / "usual", ["foot"])]
    with matplotlib.rc_context(HOSTILE):
        hostile = [path.read_bytes() for path in save(draw(), tmp_path / "hostile", ["foot"])]
    assert hostile == default
    assert figures._SETTINGS.keys() | {"backend"} == set(matplotlib.rcParams)  # a key left out is the user's


RC = b"text.usetex: True\nfont.size: 30\nno such key\nfont.size: big\nsavefig.facecolor: red\n"


OF_THE_USER = {  # files in the folder and variables, under which a figure is drawn
    "folder": ({"matplotlibrc": RC}, {"MPLBACKEND": "nonsense", "SOURCE_DATE_EPOCH": "1", "LC_ALL": "de_DE.UTF-8"}),
    "damaged": ({"matplotlibrc": b"font.size: \xff"}, {"FREETYPE_PROPERTIES": "truetype:interpreter-version=35"}),
    "variable": ({"mine": RC}, {"MATPLOTLIBRC": "mine", "MPLSTYLE": "ggplot"}),
    "home": ({"mpl/matplotlibrc": RC, "mpl/stylelib/default.mplstyle": RC}, {"MPLCONFIGDIR": "mpl"}),
}
DRAW = """
import json, os, sys
from pathlib import Path
import lt_repro.papers.table  # and with it torch, which takes seconds

assert "matplotlib" not in sys.modules
for folder, variables in json.loads(sys.argv[1]).items():
    if not os.fork():
        os.chdir(folder)
        os.environ.update(variables)
        from lt_repro.render.classes import Classes
        from lt_repro.render.figures import class_figure, save

        save(class_figure("hamburg", Classes(["a", "b"], [9, 3], {"run": [[0.5, 0.25]]})), Path("x"))
        os._exit(0)  # at once
    assert os.wait()[1] == 0
"""


def test_files_and_variables_of_the_user_change_no_byte(tmp_path):
    folders = {}
    for case, (files, variables) in OF_THE_USER.items():
        for name, content in files.items():
            (tmp_path / case / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / case / name).write_bytes(content)
        paths = {name: str(path) for name, value in variables.items() if (path := tmp_path / case / value).exists()}
        folders[str(tmp_path / case)] = variables | paths
    done = subprocess.run(
        [sys.executable, "-c", DRAW, json.dumps(folders)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=processes.environment(),  # of one thread: forking is safe
    )
    assert (done.returncode, done.stderr) == (0, "")
    default = save(class_figure("hamburg", Classes(["a", "b"], [9, 3], {"run": [[0.5, 0.25]]})), tmp_path / "usual")
    for folder in map(Path, folders):
        assert [(folder / f"x{path.suffix}").read_bytes() for path in default] == [
            path.read_bytes() for path in default
        ]


@pytest.mark.parametrize("place", ["lt_repro.render.figures._with_legend", "matplotlib.figure.Figure.savefig"])
def test_a_figure_that_fails_stops_nothing_else(place, run, monkeypatch):
    def fail(*args, **kwargs):
        raise ZeroDivisionError("by the test\nand more")

    words = ["reproduce", "fig1", "groups", "table5", "reliability", "--render-only", "--out", "x"]
    assert run(*words)[0] == 0
    whole = {path.name for path in Path("x").iterdir()}
    for path in Path("x").iterdir():
        path.unlink()
    monkeypatch.setattr(place, fail)
    code, out, err = run(*words)
    assert code == 1
    why = "the figure cannot be drawn: ZeroDivisionError: by the test"
    assert err.splitlines()[-1] == f"error: fig1: {why}; groups: {why}; reliability: {why}"
    left = {path.name for path in Path("x").iterdir()}
    assert left == {name for name in whole if not name.endswith((".png", ".svg"))}
    assert {str(Path("x") / name) for name in left} <= set(out.splitlines())


def test_a_demo_whose_figure_fails_still_has_its_table(run, monkeypatch):
    monkeypatch.setattr("lt_repro.render.figures._with_legend", lambda *_: 1 / 0)
    Path("demo/runs").mkdir(parents=True)
    for stored in (Path(__file__).parents[1] / "tables/runs").glob("digits-r60-*-e60-*.json"):
        (Path("demo/runs") / stored.name).write_bytes(stored.read_bytes())
    code, out, err = run("demo")
    assert (code, err) == (1, "error: the figure cannot be drawn: ZeroDivisionError: division by zero\n")
    assert "demo/table4.md" in out
    assert sorted(path.name for path in Path("demo").glob("*.*")) == ["classes.csv", "table4.json", "table4.md"]


@pytest.mark.parametrize(("table", "draw"), [(FIG3A, hparam_figure), (GROUPS, group_figure)], ids=["lines", "bars"])
def test_the_legend_has_the_series_that_are_drawn_and_no_other(table, draw):
    drawn = table.rows[1].label
    runs = [fake(cell.recipe, 0.4) for cell in table.cells() if cell.row.label == drawn]
    titles = [text for text in legend(draw(table, measure(table, runs))) if not text.startswith("published")]
    assert len(titles) == 1
