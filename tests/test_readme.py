"""The README: its commands run as typed, on made-up images, and its numbers are those of the stored runs."""

import itertools
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

from lt_repro import cli
from lt_repro.data import load
from lt_repro.data.images import Pool
from lt_repro.paper.dbn_mix import PAPER
from lt_repro.paper.dbn_mix.settings import SETTINGS, recipe
from lt_repro.paper.dbn_mix.tables import READINGS_DBN, READINGS_SBN, TABLE4, TABLE5, TABLE6
from lt_repro.paper.table import ratios
from lt_repro.render import text
from lt_repro.render.cells import measure, spread
from lt_repro.render.intervals import holm, p_value
from lt_repro.render.verdicts import check
from lt_repro.store.runs import load_runs

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if line.startswith("ltrepro ")]
KEY = "cifar100-r100-dbn_mix-e200-s0-8d7a"
MAIN = (
    "ltrepro make-dataset cifar100 --ratio 100",
    "ltrepro train --arch dbn --mix bilateral --tscale",
    "ltrepro ablation-table",
    "ltrepro plot-hparams",
)


def made_up_cifar(name, root):
    """100 classes of 100 training images and one test image, 8x8 pixels in colour."""
    train, test = np.repeat(np.arange(100), 100), np.arange(100)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (len(labels), 8, 8, 3), dtype=np.uint8) for labels in (train, test)]
    return Pool(name, images[0], train, images[1], test, tuple(map(str, test)), 0, root)


def test_the_readme_has_the_four_main_commands():
    assert [shlex.split(line, comments=True) for line in COMMANDS[:4]] == [shlex.split(line) for line in MAIN]
    assert len(COMMANDS) == README.count("\nltrepro ")


def test_the_run_that_the_readme_names_is_stored_and_is_that_of_its_second_command():
    assert recipe("cifar100", branches=2, mix="bilateral", tscale=True).key().startswith(KEY)
    assert len(list((ROOT / "tables/runs").glob(f"{KEY}*.json"))) == 1


@pytest.fixture
def short(monkeypatch):
    """Every data set with a small network and one epoch; the paper's tables keep no cells from before or after."""

    def forget():
        for table in itertools.chain(*PAPER.exhibits.values()):
            vars(table).pop("_cells", None)

    forget()
    for name, row in SETTINGS.datasets.items():
        monkeypatch.setitem(SETTINGS.datasets, name, row | {"net": "resnet8", "epochs": 1})
    yield
    forget()


def test_its_commands_run(short, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LTREPRO_DATA", str(tmp_path))
    real = load.load_pool
    monkeypatch.setattr(
        load, "load_pool", lambda name, root: made_up_cifar(name, root) if name == "cifar100" else real(name, root)
    )
    for line in COMMANDS:
        if KEY in line:
            (trained,) = Path("runs").glob("cifar100-r100-dbn_mix-e1-s0-*.json")
            line = line.replace(KEY, trained.stem)
        monkeypatch.setattr(sys, "argv", shlex.split(line, comments=True))
        with pytest.raises(SystemExit) as left:
            cli.main()
        assert left.value.code in (0, None), (line, capsys.readouterr().err)
    assert {"table4.md", "table4-digits-r60.md"} <= {path.name for path in Path("tables").iterdir()}
    assert {"fig3a.png", "fig3b.png", "fig3c.png"} <= {path.name for path in Path("figures").iterdir()}


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda page: page.name
)
def test_every_link_is_there(page):
    links = re.findall(r"\]\(<?([^)>#\s]+)", page.read_text())
    assert links or page.name != "README.md"
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


@pytest.fixture(scope="module")
def runs():
    return load_runs([ROOT / "tables/runs"])[0]


def test_the_readme_shows_what_each_reading_gave(runs):
    for table, name in ((READINGS_DBN, "DBN-Mix"), (READINGS_SBN, "SBN-Mix")):
        first = {entry.cell.row.label: entry for entry in measure(table, runs) if entry.cell.column.label == "all"}
        text_of, code = first["paper"], first["released"]
        printed = f"{100 * code.cell.published.value:.2f}"
        assert f"| {name}, 200 epochs | {printed} | {text_of.text()} | {code.text()} |" in README


def test_the_readme_judges_by_the_one_criterion(runs):
    words = " ".join(README.split())
    statuses, outside = {}, []
    for table, name in ((READINGS_DBN, "DBN-Mix"), (READINGS_SBN, "SBN-Mix")):
        for found in check(measure(table, runs)):
            cell, measured = found.measured.cell, found.measured
            if cell.branch or found.status == "not run":
                continue
            statuses[name, cell.row.label, cell.column.title] = found.status
            printed, half, run_half = (
                f"{100 * value:.2f}" for value in (cell.published.value, found.mean_half, found.run_half)
            )
            if cell.row.label == "released":
                line = f"{name}, {cell.column.title} | {printed} | {measured.text()} | ± {half} | ± {run_half}"
                assert f"| {line} | {found.status} |" in words
            elif cell.column.title == "All":
                outside.append(f"{printed} against {100 * measured.mean:.2f} ± {half}, or ± {run_half}")
    assert f"({outside[0]} for one more run; {outside[1]}; n = 3)" in words
    text_of = {place[::2]: status for place, status in statuses.items() if place[1] == "paper"}
    assert text_of.pop(("DBN-Mix", "Many")) == "reproduced"
    assert set(text_of.values()) == {"outside"}
    assert len(text_of) == 4
    assert statuses["SBN-Mix", "released", "All"] == "reproduced"
    assert [statuses["DBN-Mix", "released", group] for group in ("All", "Few")] == ["within one more run", "outside"]


def test_the_readme_corrects_the_gains_of_table_6(runs):
    words = " ".join(README.split())
    gains = [measure(half.with_settings(dataset="digits", ratio=60.0), runs) for half in TABLE6]
    adjusted = [holm([p_value(entry.differences(first)) for entry in others]) for first, *others in gains]
    assert min(p for each in adjusted for p in each) > 0.05
    gain, half = gains[0][3].gain(gains[0][0])
    assert f"over 3 rows (both together: {spread(gain, half, sign=True)}, p = {adjusted[0][2]:.3g});" in words


def test_the_readme_shows_the_measured_digits(runs):
    table = TABLE4.with_settings(ratios(60), dataset="digits")
    measured = measure(table, runs)
    for entry in measured:
        assert f"| {entry.cell.row.title} | {entry.text()} |" in README
    words = " ".join(README.replace("\n> ", " ").split())
    assert text.sentences(table, measured) in words
    branches = measure(TABLE5.with_settings(dataset="digits", ratio=60.0), runs)
    ours = {entry.cell.row.label: entry for entry in (*measured, *branches) if entry.cell.metric == "all"}
    three = [f"{100 * ours[row].mean:.2f} ± {100 * ours[row].sd:.2f} %" for row in ("bbn/final", "sbn", "dbn+bm+ts")]
    assert f"On the digits BBN reaches {three[0]}, vanilla {three[1]}, DBN-Mix {three[2]} (n = 3)." in words
