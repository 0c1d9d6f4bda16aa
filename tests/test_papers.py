"""Every paper found by being there: its numbers have a source and a protocol, its names resolve, its commands work."""

import dataclasses
import json
import re
import shlex
import sys
from pathlib import Path

import pytest
from test_render import fake

import lt_repro.papers
from lt_repro.errors import RequestError
from lt_repro.methods import METHODS
from lt_repro.papers import papers
from lt_repro.papers.columns import images
from lt_repro.papers.comparison import read_file
from lt_repro.papers.quoted import AS_QUOTED, as_printed, published, under_own_recipes
from lt_repro.papers.rows import KNOWN, names, row
from lt_repro.papers.table import DEFAULT, Missing, Published
from lt_repro.recipe import field_types
from lt_repro.render import text
from lt_repro.render.cells import measure, published_text

PAPERS = papers()
TABLES = [table for paper in PAPERS.values() for table in paper.tables()]
OTHERS = [table for table in TABLES if table.paper != DEFAULT]
EACH = pytest.mark.parametrize("table", TABLES, ids=lambda table: table.id)
EACH_OTHER = pytest.mark.parametrize("table", OTHERS, ids=lambda table: table.id)
PAGE = (Path(__file__).parents[1] / "docs/papers.md").read_text(encoding="utf-8")
(EXAMPLE,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def added(tmp_path, monkeypatch):
    """Adds throw-away papers, each a file."""
    (tmp_path / "papers").mkdir()
    monkeypatch.setattr(lt_repro.papers, "__path__", [*lt_repro.papers.__path__, str(tmp_path / "papers")])

    def add(*files):
        for name in files:
            (tmp_path / "papers" / f"{name}.py").write_text(EXAMPLE.replace("my_paper", name))

    yield add
    for module in [name for name in sys.modules if name.startswith("lt_repro.papers.zz_")]:
        del sys.modules[module]


def test_the_papers_are_there_and_the_default_one_is_the_first():
    expected = {"mislas", "ddc", "meta_weight_net", "logit_adjustment", "imbalanced_dl", "ldam", "bbn"}
    assert expected < set(PAPERS)
    assert next(iter(PAPERS)) == DEFAULT
    ids = [table.id for table in TABLES]
    assert len(set(ids)) == len(ids) == len({table.file_name for table in TABLES})
    assert all((table.id == table.exhibit) == (table.paper == DEFAULT) for table in TABLES)


@EACH
def test_every_number_is_a_fraction_with_a_source_and_a_protocol(table):
    places = {(row.label, column.label) for row in table.rows for column in table.columns}
    by_reading = {
        (row.label, c.label) for rows in table.rows_by_reading.values() for row in rows for c in table.columns
    }
    for place, number in table.published.items():
        assert place in places | by_reading
        assert 0 < number.value < 1
        assert len(number.source) > 5
        assert len(number.protocol) > 5
        assert "\n" not in number.source + number.protocol
        assert number.sd is None or 0 <= number.sd < 0.05
        assert number.measured == (number.tier in ("measured", "authors_code"))


@EACH
def test_every_row_is_trained_by_a_method_or_published_only(table):
    for cell in table.cells():
        method = cell.row.edits.get("method", cell.column.edits.get("method", DEFAULT))
        assert (cell.missing == Missing("published only")) == (not cell.recipes)
        assert method is None or method in METHODS
    assert set(table.recipes()) == {r for cell in table.cells() if cell.missing is None for r in cell.recipes}


@EACH_OTHER
def test_rows_of_one_method_are_the_same(table):
    shared = PAPERS[DEFAULT].settings
    for cell in table.cells():
        if cell.recipe and not cell.preset and not cell.recipe.parents:
            edits = {name.rpartition(".")[2]: value for name, value in cell.row.edits.items()} | dict(cell.column.edits)
            assert cell.recipe.key() == shared.recipe(**edits, seed=0).key()


@EACH_OTHER
def test_the_footer_always_has_the_protocols_and_explains_the_marks(table):
    foot = "\n".join(text.rows(table, measure(table, []))[2])
    for number in table.published.values():
        assert number.protocol in foot
        assert number.source in foot
        for mark in published_text(number).strip("0123456789. ±()"):
            assert f"\n{mark} " in foot
    assert "not read in it" in foot or table.paper not in ("ldam", "bbn")


def test_secondary_quoted_and_pictured_numbers_are_marked():
    assert {p.tier for name in ("ldam", "bbn") for t in PAPERS[name].tables() for p in t.published.values()} == {
        "secondary"
    }
    (table, *_) = PAPERS["mislas"].exhibits["table1"]
    assert published_text(table.published["ce", "cifar100-100"]) == "38.40†§"
    assert published_text(table.published["mislas", "cifar100-100"]) == "47.00§"
    assert published_text(PAPERS["ldam"].tables()[0].published["ldam-drw", "cifar100-100"]) == "42.04‡"
    number = PAPERS["ddc"].tables()[0].published["ldam-drw", "cifar100-100"]
    assert published_text(number) == "42.73 ± 0.28"
    assert published_text(number._replace(n=5)) == "42.73 ± 0.28 (5)"


def test_calibration_is_shown_beside_the_published_error():
    (table,) = PAPERS["mislas"].exhibits["ece"]
    table = table.only(["mislas"], ["cifar100-100/ece"])
    run = fake(table.recipes()[0], 0.5)
    run = dataclasses.replace(run, result=run.result | {"ece": 0.05})
    (cell,) = measure(table, [run])
    assert (cell.mean, cell.cell.metric, cell.best) == (0.05, "ece", (None, None))
    header, lines, _ = text.rows(table, [cell])
    assert header[:2] == ["percent", "CIFAR-LT-100 (100), ECE"]
    assert lines[0][1:] == ["5.00 (1)", "4.83§ (+0.17)"]


def test_a_table_of_printed_numbers_becomes_fractions():
    assert as_printed("a 42.73±0.28 -\n\n  b 1 2.5") == {"a": [(42.73, 0.28), None], "b": [1.0, 2.5]}
    columns = images("cifar10", 100, 10)
    result = published(
        columns, as_printed("a 42.73±0.28 -\nb 30 20"), "S", "P", "secondary", {"b": "of C"}, errors=True
    )
    assert result == {
        ("a", "cifar10-100"): Published(0.5727, "S", "P", "secondary", 0.0028),
        ("b", "cifar10-100"): Published(0.7, "S, of C", AS_QUOTED, "quoted"),
        ("b", "cifar10-10"): Published(0.8, "S, of C", AS_QUOTED, "quoted"),
    }
    assert (
        published(columns, {"a": (1, 2)}, "S", "P", quoted={"a/cifar10-10": ""})["a", "cifar10-100"].tier == "measured"
    )


def test_columns_say_which_images_they_are():
    (step,) = images("cifar100", 10, imb_type="step")
    assert (step.label, step.title) == ("cifar100-step10", "CIFAR-LT-100 (step 10)")
    assert step.edits == {"dataset": "cifar100", "ratio": 10.0, "imb_type": "step"}


def test_own_recipes_are_those_of_presets_that_say_how_every_stage_is_trained():
    labels = [each.label for each in under_own_recipes([row(name) for name in KNOWN] + [row("nobody's")])]
    assert {"ldam-drw", "bbn", "mislas", "logit-adjustment"} <= set(labels)
    assert {"ce", "mixup", "logit-adjustment-post-hoc", "nobody's"}.isdisjoint(labels)


@EACH
def test_known_methods_have_their_shared_name_in_every_table(table):
    for cell, name in names(table):
        if table.paper != DEFAULT:
            assert name == cell.row.label
        elif cell.row.label in ("ldam", "remix"):
            assert name == f"{cell.row.label}-drw"


def test_known_rows_have_methods_and_their_settings():
    for known in KNOWN.values():
        method = known.edits.get("method", DEFAULT)
        assert {name.rpartition(".")[2] for name in known.edits} - {"method", "mix"} <= set(
            field_types(METHODS[method])
        )


def test_names_of_exhibits_resolve(run, refused, added):
    def cells(*what):
        code, out, err = run("reproduce", *what, "--dry-run", "--json", "--seeds", "0")
        assert code == 0, err
        return list(dict.fromkeys(cell["exhibit"] for cell in json.loads(out)["cells"]))

    assert cells("table1") == cells("dbn_mix/table1") == ["table1", "table1_own"]
    assert cells("mislas/table1") == cells("MiSLAS/Table1") == ["mislas/table1", "mislas/table1_own"]
    assert cells("ece") == ["mislas/ece"]  # in one paper alone
    assert cells("mislas/all")[0] == "mislas/table1"
    added("zz_one", "zz_two")
    assert cells("table1") == ["table1", "table1_own"]
    message = refused("reproduce", "extra", "--dry-run")
    assert "extra is in zz_one, zz_two" in message
    assert "type zz_one/extra" in message
    assert "unknown exhibit 'mislas/tabel1', did you mean 'mislas/table1'?" in refused("check", "mislas/tabel1")


def test_another_paper_is_a_file_that_every_command_shows(run, added):
    added("zz_one")
    code, out, err = run("reproduce", "zz_one/table1", "--render-only", "--json")
    document = json.loads(out)
    assert code == 0, err
    statuses = {(cell["exhibit"], cell["row"]): cell["status"] for cell in document["cells"]}
    assert statuses == {
        ("zz_one/table1", "ldam-drw"): "missing",
        ("zz_one/table1", "new"): "published only",
        ("zz_one/table1_own", "ldam-drw"): "missing",
    }
    assert (document["cells"][0]["published_sd"], document["claims"]) == (0.005, [])
    code, out, _ = run("reproduce", "zz_one/table1", "--render-only", "--out", "shown")
    assert "shown/zz_one-table1.md" in out
    assert "published only" in out
    code, out, _ = run("reproduce", "zz_one/all", "--dry-run", "--seeds", "0")
    planned = [line for line in out.splitlines() if line.startswith("ltrepro train")]
    assert len(planned) == 3  # LDAM under two recipes, cross-entropy
    assert all(shlex.split(line) for line in planned)
    code, out, _ = run("check", "zz_one/table1")
    assert (code, "3 published numbers" in out) == (0, True)
    code, out, _ = run("compare", "--row", "new", "--column", "cifar100:100")
    assert (code, "My paper, table1" in out) == (0, True)
    assert "shared: one recipe" in run("readings", "zz_one")[1]


def test_a_paper_without_other_readings_is_left_out_of_all_and_refused_by_name(run, refused):
    code, out, err = run("reproduce", "all", "--reading", "released", "--dry-run", "--seeds", "0", "--json")
    assert code == 0, err
    assert {cell["exhibit"].partition("@")[2].partition("-")[0] for cell in json.loads(out)["cells"]} == {"released"}
    (note,) = [line for line in err.splitlines() if line.startswith("note: skipped, reading released")]
    assert "readings_dbn, readings_sbn, bbn/table1" in note
    assert run("check", "mislas/table1", "table4", "--reading", "released")[0] == 2
    assert "unknown reading 'released'" in refused("reproduce", "mislas/all", "--reading", "released")
    assert "unknown paper 'mislass', did you mean 'mislas'" in refused("readings", "mislass")
    assert run("readings", "mislas", "--markdown")[1].startswith("# Readings of MiSLAS\n")


def test_a_paper_says_which_exhibits_are_its_own():
    paper = PAPERS["bbn"]
    (table, *_) = paper.tables()
    with pytest.raises(ValueError, match="table1 is of paper 'ldam', not 'bbn'"):
        dataclasses.replace(paper, exhibits={"table1": [dataclasses.replace(table, paper="ldam")]})
    with pytest.raises(ValueError, match="same name"):
        dataclasses.replace(paper, exhibits={"table1": [table], "table2": [table]})


def test_a_setting_for_an_exhibit_of_another_paper_leaves_its_own_file_alone():
    (table, *_) = PAPERS["ddc"].tables()
    short = table.profiled("short").tested_with("clean")
    assert (short.id, short.file_name) == ("ddc/table1-short-bn-clean", "ddc-table1-short-bn-clean")
    assert (short.paper, short.exhibit, short.marks) == ("ddc", "table1", ("-short", "-bn-clean"))
    with pytest.raises(RequestError, match="data set or ratio for ddc/table1"):
        table.on_images("digits", ())


def test_what_a_paper_quotes_is_marked():
    mislas = PAPERS["mislas"].tables()[0].published
    quoted = {place[0] for place, number in mislas.items() if number.tier == "quoted"}
    assert quoted == {"ce", "mixup", "ldam-drw", "bbn", "remix-drw"}
    assert mislas["ce", "cifar100-100"].protocol == AS_QUOTED


def test_the_pages_file_passes_the_tests_of_every_paper(added):
    added("zz_one")
    for table in papers()["zz_one"].tables():
        for test in (
            test_every_number_is_a_fraction_with_a_source_and_a_protocol,
            test_rows_of_one_method_are_the_same,
        ):
            test(table)


def test_the_page_counts_the_numbers_and_names_the_papers():
    counts = {
        name: sum(len(t.published) for t in paper.tables() if not t.exhibit.endswith("_own"))
        for name, paper in PAPERS.items()
    }
    listed = {"mislas": 60 + 18 + 12 + 12, "ddc": 96, "meta_weight_net": 72, "logit_adjustment": 6}
    listed |= {"imbalanced_dl": 38, "ldam": 4, "bbn": 6}
    assert {name: counts[name] for name in listed} == listed
    assert all(f"`{name}`" in PAGE for name in PAPERS)


def test_the_pages_commands_and_file_of_numbers_work(run, tmp_path):
    (text_of_file,) = re.findall(r"```csv\n(.*?)```", PAGE, re.DOTALL)
    Path("mine.csv").write_text(text_of_file)
    assert [entry.column for entry in read_file(Path("mine.csv"))] == ["cifar100:100", "cifar100:100:step"]
    commands = re.findall(r"^ltrepro (.*)$", PAGE, re.MULTILINE)
    assert len(commands) == 4
    for line in commands:
        assert run(*shlex.split(line, comments=True))[0] == 0
