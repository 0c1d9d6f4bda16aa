"""What is committed under tables/ and figures/: every run file is whole, and every table is what its runs render."""

import json
import re
from pathlib import Path

import pytest

from lt_repro.data.load import known_split
from lt_repro.paper.dbn_mix import PAPER
from lt_repro.paper.dbn_mix.rivals import PARTS, RIVALS
from lt_repro.paper.dbn_mix.tables import (
    FIG3,
    GROUPS,
    LAMBDAS,
    READINGS_DBN,
    READINGS_SBN,
    RELIABILITY,
    TABLE4,
    TABLE5,
    TABLE6,
)
from lt_repro.paper.table import ratios
from lt_repro.render import lambdas, reliability, text
from lt_repro.render.cells import conflicts, measure, spread
from lt_repro.render.intervals import holm, p_value
from lt_repro.render.latex import latex
from lt_repro.render.verdicts import check
from lt_repro.store.runs import Run, load_runs

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "tables/runs").glob("*.json"))
DIGITS = TABLE4.with_settings(ratios(60), dataset="digits")
TABLES = [table for tables in PAPER.exhibits.values() for table in tables if table.form == "table"]
TABLES += [DIGITS, TABLE4.read_as("released")]
TABLES += [table.with_settings(dataset="digits", ratio=60.0) for table in (TABLE5, *TABLE6, RIVALS, PARTS)]
FIGURES = [
    figure for base in (GROUPS, RELIABILITY) for figure in (base, base.with_settings(dataset="digits", ratio=60.0))
]
FIGURES += [*FIG3, LAMBDAS, LAMBDAS.read_as("released")]


@pytest.fixture(scope="module")
def runs():
    found, bad = load_runs([ROOT / "tables/runs"])
    kept, lines = conflicts(found, known_split)
    assert (bad, lines) == ([], [])
    assert len(kept) == len(FILES)
    return kept


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_run_file_rehashes_to_its_name(path):
    run = Run.read(path)
    assert path.stem == run.recipe.key() == json.loads(path.read_text())["key"]
    assert run.commit is not None
    assert not run.commit.endswith("+"), "a published number comes from a commit"
    assert not re.search(r"(^|[\s=:])/", run.command), "a folder of one machine tells others nothing"


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.id)
def test_every_table_is_what_its_runs_render(table, runs):
    measured = measure(table, runs)
    stem = ROOT / "tables" / table.id
    assert stem.with_suffix(".md").read_text() == text.markdown(table, measured, best=table.best)
    assert stem.with_suffix(".csv").read_text() == text.csv(table, measured)
    assert stem.with_suffix(".tex").read_text() == latex(table, measured, best=table.best)
    assert json.loads(stem.with_suffix(".json").read_text()) == text.document(table, measured, best=table.best)


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.id)
def test_every_figure_has_the_numbers_that_its_runs_give(figure, runs):
    measured = measure(figure, runs)
    expected = {
        "reliability": lambda: reliability.csv(reliability.panels(measured)),
        "lambdas": lambda: lambdas.csv(lambdas.changes(measured)),
    }.get(figure.form, lambda: text.csv(figure, measured))()
    assert (ROOT / "figures" / f"{figure.id}.csv").read_text() == expected
    assert (ROOT / "figures" / f"{figure.id}.png").read_bytes().startswith(b"\x89PNG")


def test_the_readme_shows_what_each_reading_gave(runs):
    readme = (ROOT / "README.md").read_text()
    for table, name in ((READINGS_DBN, "DBN-Mix"), (READINGS_SBN, "SBN-Mix")):
        first = {entry.cell.row.label: entry for entry in measure(table, runs) if entry.cell.column.label == "all"}
        text_of, code = first["paper"], first["released"]
        printed = f"{100 * code.cell.published.value:.2f}"
        assert f"| {name}, 200 epochs | {printed} | {text_of.text()} | {code.text()} |" in readme


def test_the_readme_judges_by_the_one_criterion(runs):
    words = " ".join((ROOT / "README.md").read_text().split())
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
    words = " ".join((ROOT / "README.md").read_text().split())
    gains = [measure(half.with_settings(dataset="digits", ratio=60.0), runs) for half in TABLE6]
    adjusted = [holm([p_value(entry.differences(first)) for entry in others]) for first, *others in gains]
    assert min(p for each in adjusted for p in each) > 0.05
    gain, half = gains[0][3].gain(gains[0][0])
    assert f"over 3 rows (both together: {spread(gain, half, sign=True)}, p = {adjusted[0][2]:.3g});" in words


def test_the_readme_shows_the_measured_digits(runs):
    table = DIGITS
    measured = measure(table, runs)
    readme = (ROOT / "README.md").read_text()
    for entry in measured:
        assert f"| {entry.cell.row.title} | {entry.text()} |" in readme
    words = " ".join(readme.replace("\n> ", " ").split())
    assert text.sentences(table, measured) in words
    branches = measure(TABLE5.with_settings(dataset="digits", ratio=60.0), runs)
    ours = {entry.cell.row.label: entry for entry in (*measured, *branches) if entry.cell.metric == "all"}
    three = [f"{100 * ours[row].mean:.2f} ± {100 * ours[row].sd:.2f} %" for row in ("bbn/final", "sbn", "dbn+bm+ts")]
    assert f"On the digits BBN reaches {three[0]}, vanilla {three[1]}, DBN-Mix {three[2]} (n = 3)." in words
