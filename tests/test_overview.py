"""The overview of exhibits, and what docs/status.md says of the digits."""

import pytest
from test_tables import ROOT

from lt_repro.papers.dbn_mix.tables import TABLE4, TABLE5, TABLE6
from lt_repro.papers.table import ratios
from lt_repro.render.cells import measure
from lt_repro.render.intervals import holm, p_value
from lt_repro.render.overview import overview
from lt_repro.render.percent import spread
from lt_repro.store.runs import load_runs

PAGE = (ROOT / "docs/status.md").read_text()
WORDS = " ".join(PAGE.split())


@pytest.fixture(scope="module")
def runs():
    result, bad = load_runs([ROOT / "tables/runs"])
    assert not bad
    return result


def test_an_exhibit_without_runs_has_no_link():
    (*_, line) = overview([(TABLE4, measure(TABLE4, []))])
    assert line == f"| table4 | {TABLE4.caption.rstrip('.')} | not yet |  |  |"


def test_the_page_has_what_the_digits_give(runs):
    table4 = measure(TABLE4.with_settings(ratios(60), dataset="digits"), runs)
    branches = measure(TABLE5.with_settings(dataset="digits", ratio=60.0), runs)
    ours = {entry.cell.row.label: entry for entry in (*table4, *branches) if entry.cell.metric == "all"}
    three = [f"{100 * ours[row].mean:.2f} ± {100 * ours[row].sd:.2f} %" for row in ("bbn/final", "sbn", "dbn+bm+ts")]
    assert f"BBN reaches {three[0]}, vanilla {three[1]}, DBN-Mix {three[2]} (n = 3)." in WORDS


def test_the_page_corrects_the_gains_of_table_6(runs):
    gains = [measure(half.with_settings(dataset="digits", ratio=60.0), runs) for half in TABLE6]
    adjusted = [holm([p_value(entry.differences(first)) for entry in others]) for first, *others in gains]
    assert min(p for each in adjusted for p in each) > 0.05
    gain, half = gains[0][3].gain(gains[0][0])
    assert f"over 3 rows (both together: {spread(gain, half, sign=True)}, p = {adjusted[0][2]:.3g})." in WORDS
