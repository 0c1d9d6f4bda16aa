"""`show`: the cells of a run and the runs of a cell agree both ways, and it says nothing that the paper does not."""

import dataclasses
import json
import time
from pathlib import Path

import pytest

from lt_repro.cli.tables import listed
from lt_repro.methods import METHODS
from lt_repro.papers import default_paper
from lt_repro.papers.dbn_mix.questions import QUESTIONS
from lt_repro.recipe import field_types
from lt_repro.render.placed import cells_of
from lt_repro.store.runs import load_runs

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def stored():
    return load_runs([ROOT / "tables/runs"])[0]


@pytest.fixture
def here(run, monkeypatch):
    monkeypatch.chdir(ROOT)
    return run


def rendered():
    """The runs of each cell of the committed tables: exhibit, row, column -> keys."""
    documents = [json.loads(path.read_text()) for path in ROOT.glob("tables/*.json") if path.name != "rendered.json"]
    cells = [cell for document in documents for cell in document["cells"]]
    return {(cell["exhibit"], cell["row"], cell["column"]): set(cell["keys"]) for cell in cells if cell["keys"]}


def test_the_cells_of_every_stored_run_are_those_that_list_it(stored):
    claimed = {}
    for run in stored:
        for table, entry in cells_of(run):
            if run.recipe.seed in table.seeds:
                place = table.id, entry.cell.row.label, entry.cell.column.label
                claimed.setdefault(place, set()).add(run.recipe.key())
    by_cell = rendered()
    assert len(by_cell) > 300
    exhibits = {exhibit for exhibit, *_ in by_cell}
    assert {place: keys for place, keys in claimed.items() if place[0] in exhibits} == by_cell


def test_a_committed_figure_names_its_runs_too(here, monkeypatch, stored):
    figures = [table for table in map(dataclasses.replace, listed()) if table.id.startswith("groups-digits")]
    for table in figures:
        cells = json.loads(here("show", table.id, "--json")[1])["cells"]
        assert all(len(cell["keys"]) == len(table.seeds) for cell in cells)
        key = cells[0]["keys"][0]
        assert [table.id, cells[0]["row"], cells[0]["column"]] in json.loads(here("show", key, "--json")[1])["cells"]
    assert figures


def test_a_cell_shows_its_runs_and_each_of_them_the_cell(here):
    code, out, _ = here("show", "table4", "--row", "dbn+bm+ts", "--column", "100")
    first, *keys = out.splitlines()
    assert (code, len(keys)) == (0, 3)
    assert first.startswith("dbn+bm+ts 100: Dual branch + both (DBN-Mix), ratio 100: 41.91")
    for key in map(str.strip, keys):
        assert "cell: table4 --row dbn+bm+ts --column 100: " in here("show", key)[1]


def test_a_row_or_an_exhibit_that_is_not_there_is_refused(refused, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert "unknown row of table4 'x'" in refused("show", "table4", "--row", "x")
    assert "did you mean 'table4-digits-r60'" in refused("show", "table4-digits-r6")
    assert "unknown exhibit" in refused("show", "no-table", "--column", "100")


def test_a_run_of_another_seed_says_which_seeds_show_it(here, stored):
    (run,) = [run for run in stored if run.recipe.key().startswith("cifar100-r100-dbn_mix-e200-s1-13ec")]
    out = here("show", run.recipe.key())[1]
    assert "cell: fig3b --row dbn+bm+ts --column 1: DBN-Mix, alpha = 1, published 51.04 %, with --seeds 1" in out
    assert (
        "cell: table4 --row dbn+bm+ts --column 100: Dual branch + both (DBN-Mix), ratio 100, published 51.04 %\n" in out
    )


def test_a_run_in_no_exhibit_names_the_nearest(here):
    out = here("show", "digits-r60-drw-e60-s0-1316")[1]
    assert "cell: none; nearest is rivals-digits-r60, but for switch 0.6 instead of 0.8" in out


def test_questions_are_of_the_method_and_the_data_set_of_a_run(stored):
    concerned = {}
    for run in stored:
        kind = run.recipe.method.name(), run.recipe.dataset
        concerned.setdefault(kind, set()).update(each.setting for each in QUESTIONS if each.concerns(run.recipe))
    assert {method for (method, _), asked in concerned.items() if asked} == {"cross_entropy", "dbn_mix", "crt"}
    assert concerned["dbn_mix", "cifar100"] > {"gamma", "branch_at", "normalise"} > concerned["cross_entropy", "digits"]
    assert not concerned["dbn_mix", "digits"] & {"normalise", "split_seed", "warmup", "weight_decay"}
    for question in QUESTIONS:
        for name in question.methods:
            assert question.setting in field_types(METHODS[name]), question


def test_the_papers_text_is_named_only_where_the_paper_has_the_data_set(here, stored):
    assert default_paper().datasets() == {"cifar10", "cifar100", "imagenet_lt", "inat2018"}
    for name in ("digits-r60-dbn_mix-e60-s0-a702", "digits-r60-m2m-e60-s0-7c41"):
        _, out, _ = here("show", name)
        assert "reading: none; DBN-Mix has no numbers on digits, and its settings there are chosen here" in out
        assert "Recipe(" not in out
    assert "reading: the paper's text\n" in here("show", "cifar100-r100-dbn_mix-e200-s0-7e1d")[1]


def test_the_cells_of_a_run_take_less_than_two_seconds(stored):
    start = time.process_time()
    cells_of(stored[-1])
    assert time.process_time() - start < 2
