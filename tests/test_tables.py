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
from lt_repro.render.cells import conflicts, measure
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


def test_the_readme_shows_and_judges_what_each_reading_gave(runs):
    readme = (ROOT / "README.md").read_text()
    words = " ".join(readme.split())
    statuses, away = {}, {}
    for table, name in ((READINGS_DBN, "DBN-Mix"), (READINGS_SBN, "SBN-Mix")):
        measured = measure(table, runs)
        ours = {(entry.cell.row.label, entry.cell.column.label): entry for entry in measured}
        for found in check(measured):
            cell = found.measured.cell
            if cell.branch or found.status == "not run":
                continue
            place = name, cell.row.label, cell.column.title
            statuses[place], away[place] = found.status, 100 * (cell.published.value - found.measured.mean)
            if cell.row.label == "released":
                numbers = f"{100 * cell.published.value:.2f} | {ours['paper', cell.column.label].text()}"
                line = f"{name}, {cell.column.title} | {numbers} | {found.measured.text()} | {found.status}"
                assert f"| {line} |\n" in readme
    text_of = {place[::2]: status for place, status in statuses.items() if place[1] == "paper"}
    assert text_of.pop(("DBN-Mix", "Many")) == "reproduced"
    assert set(text_of.values()) == {"outside"}
    assert len(text_of) == 4
    used = [run for entry in measure(READINGS_DBN, runs) for run in entry.runs]
    (origin,) = {(run.device, run.precision, run.commit[:8]) for run in used}
    assert origin[:2] == ("cuda (NVIDIA H100 80GB HBM3)", "bf16")
    assert f"on an H100 in bf16, commit {origin[2]} " in words
    above = [away["DBN-Mix", "released", group] for group in ("All", "Few", "Medium")]
    assert "paper is {:.2f} points above our mean, and {:.2f} points above it for Few".format(*above) in words
    assert f"Medium counts as reproduced although it is {above[2]:.2f} points below" in words


def test_the_readme_shows_the_measured_digits(runs):
    table = DIGITS
    measured = measure(table, runs)
    readme = (ROOT / "README.md").read_text()
    for entry in measured:
        assert f"| {entry.cell.row.title} | {entry.text()} |" in readme
    words = " ".join(readme.replace("\n> ", " ").split())
    assert text.sentences(table, measured) in words
    (commit,) = {run.commit[:8] for entry in measured for run in entry.runs}
    assert f"commit {commit}" in words
