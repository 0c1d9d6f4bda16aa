"""`compare`: every published number of one method and data set, a user's file, and ours."""

import csv
import json
from dataclasses import replace

import pytest
from test_render import fake

from lt_repro.errors import RequestError
from lt_repro.papers import papers
from lt_repro.papers.comparison import COLUMNS, beside, entries, read_file
from lt_repro.papers.dbn_mix.rivals import TABLE1_OWN
from lt_repro.papers.dbn_mix.tables import TABLE4
from lt_repro.papers.rows import plain
from lt_repro.render import compare

EVERY = entries(papers().values())
LDAM = [entry for entry in EVERY if (entry.method, entry.column) == ("ldam-drw", "cifar100:100")]
HEADER = ",".join(COLUMNS)


@pytest.fixture
def file(tmp_path):
    def write(*lines, header=HEADER, encoding="utf-8"):
        path = tmp_path / "mine.csv"
        path.write_text("\n".join([header, *lines]) + "\n", encoding=encoding)
        return path

    return write


def test_a_number_is_there_once_a_paper_and_from_every_paper():
    places = [(e.method, e.column, e.paper, e.published.value, e.published.tier) for e in EVERY]
    assert len(set(places)) == len(places)
    assert {entry.paper for entry in EVERY} == {paper.title for paper in papers().values()}
    assert {entry.paper for entry in LDAM} >= {"DBN-Mix", "MiSLAS", "LDAM", "imbalanced-DL", "DDC"}
    dbn = [e for e in EVERY if (e.method, e.column, e.paper) == ("dbn-mix", "cifar100:100", "DBN-Mix")]
    assert [round(entry.published.value, 4) for entry in dbn] == [0.5104]  # printed in Tables 1, 4 and 5
    assert {entry.column for entry in EVERY if entry.paper == "DDC"} > {"cifar100:10", "cifar100:10:step"}
    assert not [entry for entry in EVERY if entry.exhibit.endswith("ece")]


@pytest.mark.parametrize(
    ("typed", "name"),
    [("LDAM_DRW", "ldam-drw"), ("ERM", "ce"), ("Cross-Entropy", "ce"), ("sbn+mixup", "mixup"), ("VS", "vs")],
)
def test_a_name_is_typed_in_several_ways(typed, name):
    assert plain(typed) == name


def test_the_field_is_sorted_with_protocols_and_its_spread(run):
    code, out, _ = run("compare", "--row", "ldam_drw", "--column", "CIFAR100:100", "--json")
    document = json.loads(out)
    assert code == 0
    values = [entry["published"] for entry in document["published"]]
    assert values == sorted(values, reverse=True)
    assert document["spread"] == {"min": min(values), "max": max(values), "n": len(values)}
    assert all(entry["protocol"] and entry["source"] and entry["tier"] for entry in document["published"])
    assert (document["row"], document["column"], document["ours"]) == ("ldam-drw", "cifar100:100", [])
    code, out, _ = run("compare", "--row", "ldam-drw", "--column", "cifar100:100")
    for entry in LDAM:
        assert entry.published.protocol in out
        assert entry.published.source in out
    assert f"published: {100 * min(values):.2f} to {100 * max(values):.2f} % (n = {len(values)})" in out
    assert "ours: no stored run" in out
    code, out, _ = run("compare", "--row", "ldam-drw", "--column", "cifar100:100", "--markdown")
    assert len([line for line in out.splitlines() if line.startswith("|")]) == len(LDAM) + 2


def test_ours_are_shown_by_reading_preset_and_profile(run):
    read = {
        "paper": TABLE4.only(["dbn+bm+ts"], ["100"]),
        "released": TABLE4.read_as("released").only(["dbn+bm+ts"], ["100"]),
        "short": TABLE4.only(["dbn+bm+ts"], ["100"]).profiled("short"),
    }
    runs = [fake(recipe, 0.4 + 0.01 * recipe.seed) for table in read.values() for recipe in table.recipes()]
    result = list(compare.ours(papers().values(), "dbn-mix", "cifar100:100", runs))
    kinds = [(each.measured.cell.reading, each.profile, each.measured.n) for each in result]
    assert kinds == [("paper", "paper", 3), ("paper", "short", 3), ("released", "paper", 3)]
    assert result[0].recipe == "reading paper of DBN-Mix, profile paper, 200 epochs"
    lines = compare.rows([entry for entry in EVERY if entry.method == "dbn-mix"], result)
    assert lines[0][0] == "ours 41.00 ± 1.00 (3)"
    preset_runs = [fake(recipe, 0.42) for recipe in TABLE1_OWN.only(["ldam"], ["cifar100-100"]).recipes()]
    (only,) = compare.ours(papers().values(), "ldam-drw", "cifar100:100", preset_runs)
    assert only.recipe == "preset published of DBN-Mix, profile paper, 200 epochs"
    document = json.loads(json.dumps(compare.to_json("ldam-drw", "cifar100:100", LDAM, [only])))
    assert (document["ours"][0]["preset"], document["ours"][0]["n"]) == ("published", 3)
    assert list(compare.ours(papers().values(), "ldam-drw", "cifar100:50", preset_runs)) == []


def test_unknown_names_are_refused_with_the_nearest(refused):
    assert "did you mean 'ldam-drw'?" in refused("compare", "--row", "ldm-drw", "--column", "cifar100:100")
    message = refused("compare", "--row", "ldam-drw", "--column", "cifar100:101")
    assert "unknown column of ldam-drw 'cifar100:101', did you mean 'cifar100:10" in message
    words = ["compare", "--row", "ce", "--column", "cifar100:100"]
    assert "allowed: one of them" in refused(*words, "--json", "--markdown")
    assert "no folder" in refused(*words, "--runs", "nowhere")


def test_a_users_file_joins_the_field(run, file):
    lines = ['LDAM_DRW,cifar100,100,43.3,"Mine, Table 2",last epoch', "ce,CIFAR100,100,0.391,Mine,"]
    path = file(*lines, "new,svhn,10:step,50,Mine,none", encoding="utf-8-sig")
    ldam, ce, new = read_file(path)
    assert (ldam.method, ldam.column, ldam.published.value, ldam.published.source) == (
        *("ldam-drw", "cifar100:100", 0.433, "Mine, Table 2"),
    )
    assert (ce.published.value, ce.published.protocol, ce.published.tier) == (0.391, "not said", "secondary")
    assert (new.method, new.column) == ("new", "svhn:10:step")
    code, out, _ = run("compare", "--row", "ldam-drw", "--column", "cifar100:100", "--published", path, "--json")
    result = json.loads(out)["published"]
    assert (code, len(result)) == (0, len(LDAM) + 1)
    assert [entry["paper"] for entry in result if entry["published"] == 0.433] == ["mine.csv"]
    assert run("compare", "--row", "new", "--column", "svhn:10:step", "--published", path)[0] == 0


@pytest.mark.parametrize(
    ("header", "value", "expected"),
    [
        (f"{HEADER},unit", "0.5,S,P,percent", 0.005),
        (f"{HEADER},unit", "0.5,S,P,fraction", 0.5),
        (f"{HEADER},unit", "0.5,S,P,", 0.5),
        (HEADER, "50,S,P", 0.5),
        (HEADER, "0.5%,S,P", 0.005),
    ],
)
def test_percent_or_fraction_is_by_the_unit_or_the_size(file, header, value, expected):
    assert read_file(file(f"ce,cifar10,10,{value}", header=header))[0].published.value == expected


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ce,cifar10,10,oops,S,P", "line 3: value oops"),
        ("ce,cifar10,10,nan,S,P", "line 3: value nan"),
        ("ce,cifar10,10,0,S,P", "line 3: value 0"),
        ("ce,cifar10,10,100,S,P", "line 3: value 100"),
        ("ce,cifar10,ten,50,S,P", "line 3: ratio ten"),
        ("ce,cifar10,0.01,50,S,P", "line 3: ratio 0.01"),
        ("ce,cifar10,10,50,,P", "line 3: no source"),
        (",cifar10,10,50,S,P", "line 3: no method"),
        ("ce,cifar10,10,50,S", "line 3: not as many values"),
        ("ce,cifar10,10,50,S,P,more", "line 3: not as many values"),
        ('ce,cifar10,10,50,"S,P', "no CSV file"),
    ],
)
def test_a_wrong_line_is_named_by_its_number(file, refused, line, message):
    path = file("ce,cifar10,10,50,S,P", line)
    assert message in refused("compare", "--row", "ce", "--column", "cifar10:10", "--published", path)


def test_a_wrong_file_is_refused(file, refused, tmp_path):
    words = ["compare", "--row", "ce", "--column", "cifar10:10", "--published"]
    assert "line 1: no column protocol" in refused(*words, file("a", header="method,dataset,ratio,value,source"))
    assert "line 1: no column method" in refused(*words, file(header=""))
    assert "cannot read" in refused(*words, tmp_path / "nothing.csv")
    (tmp_path / "latin.csv").write_bytes(b"method,\xff\n")
    assert "no CSV file" in refused(*words, tmp_path / "latin.csv")
    with pytest.raises(RequestError, match="line 2: unit per mille"):
        read_file(file("ce,cifar10,10,50,S,P,per mille", header=f"{HEADER},unit"))


def test_a_users_numbers_are_notes_of_the_rows_of_an_exhibit(run, file):
    path = file("ce,cifar100,100,0.391,Mine,best epoch", "ce,cifar100,33,0.4,Mine,best epoch")
    shown = beside(TABLE4, read_file(path))
    assert shown.notes == ["also published: 39.10 on ratio 100 (Mine, as mine.csv has it; protocol: best epoch)"]
    assert shown.titles()[0] == "Single branch, vanilla [1]"
    assert replace(shown, rows=TABLE4.rows) == TABLE4
    assert beside(TABLE4, []) is TABLE4
    code, out, _ = run("reproduce", "table4", "--render-only", "--published", path)
    assert (code, "[1] also published: 39.10" in out) == (0, True)
    with path.open() as stream:
        assert len(list(csv.DictReader(stream))) == 2
