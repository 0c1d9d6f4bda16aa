"""Exhibits by branch, class group and class: what each cell shows, and that of which runs."""

import csv
import io
import json
import math
from dataclasses import replace

import pytest
from test_render import fake

from lt_repro.methods.cross_entropy import CrossEntropy
from lt_repro.papers.dbn_mix.settings import SETTINGS, recipe
from lt_repro.papers.dbn_mix.tables import FIG1, TABLE5, TABLE6, TABLE6A
from lt_repro.render import text
from lt_repro.render.cells import measure, short_runs, to_json
from lt_repro.render.classes import Classes, by_class, group_series

GROUPS = ("all", "many", "medium", "few")
SBN = recipe("digits", ratio=60.0)
DBN = recipe("digits", ratio=60.0, branches=2, mix="bilateral", tscale=True)


def run(made, per_class=(), branches=None, accuracy=0.5, **changes):
    result = {"accuracy": {"all": accuracy}, "per_class": list(per_class), "branches": branches or {}}
    return fake(made, accuracy, result=result, **changes)


def by_branch(first):
    """Accuracies that identify their cell: the combined ones, then each branch's, by group."""
    numbers = iter(range(first, first + 12))
    grouped = [{group: next(numbers) / 100 for group in GROUPS} for _ in range(3)]
    branches = {
        name: {"accuracy": accuracy}
        for name, accuracy in zip(("conventional", "rebalancing"), grouped[1:], strict=True)
    }
    return {"accuracy": grouped[0], "per_class": [], "branches": branches}


def test_table5_shows_each_branch_and_group_of_both_methods():
    bbn, dbn_mix = next(TABLE5.cells()).recipe, list(TABLE5.cells())[12].recipe
    assert (bbn.method.name(), dbn_mix.method.name()) == ("bbn", "dbn_mix")
    runs = [fake(bbn, 0.0, result=by_branch(10)), fake(dbn_mix, 0.0, result=by_branch(50))]
    shown = [round(100 * entry.mean) for entry in measure(TABLE5, runs)]
    final, conventional, rebalancing = ([10 + 4 * i + j for j in range(4)] for i in range(3))
    first = [*rebalancing, *conventional, *final]
    assert shown == first + [number + 40 for number in first]
    cells = to_json(TABLE5, measure(TABLE5, runs))["cells"]
    assert [(c["row"], c["metric"], c["branch"]) for c in cells[:2]] == [
        ("bbn/rebalancing", "all", "rebalancing"),
        ("bbn/rebalancing", "many", "rebalancing"),
    ]
    assert cells[-1]["branch"] is None
    assert cells[-1]["published"] == 0.2836
    lines = list(csv.DictReader(io.StringIO(text.csv(TABLE5, measure(TABLE5, runs)))))
    assert {line["branch"] for line in lines} == {"rebalancing", "conventional", ""}


def test_groups_without_classes_are_absent_and_rows_of_table5_have_no_gains():
    table = TABLE5.with_settings(dataset="digits", ratio=60.0)
    made = next(table.cells()).recipe
    result = {"accuracy": {"all": 0.5, "few": 0.5}, "per_class": [], "branches": {}}
    branches = {name: {"accuracy": result["accuracy"]} for name in ("conventional", "rebalancing")}
    measured = measure(table, [fake(made, 0.5, result=result | {"branches": branches})])
    header, rows, footer = text.rows(table, measured)
    assert header == ["top-1 accuracy, percent", "All", "Many", "Medium", "Few"]
    assert rows[0] == ["BBN, re-balancing branch", "50.00 (1)", "n/a", "n/a", "50.00 (1)"]
    assert "gain" not in " ".join(footer)


@pytest.mark.parametrize("table", TABLE6, ids=lambda table: table.id)
def test_table6_begins_every_run_with_a_parent_of_its_seed(table):
    for cell in table.cells():
        for made, seed in zip(cell.recipes, (0, 1, 2), strict=True):
            assert (made.seed, made.parents["features"].seed, made.epochs, made.parents["features"].epochs) == (
                seed,
                seed,
                10,
                200,
            )
    rows = {cell.row.label: cell.recipe for cell in table.cells()}
    if table.id == "table6a":
        assert {made.method.name() for made in rows.values()} == {"crt"}
        variants = [made.parents["features"].method for made in rows.values()]
        assert len({made.method for made in rows.values()}) == 1
    else:
        variants = [made.method for made in rows.values()]
        assert all(made.method.frozen for made in rows.values())
        assert {made.parents["features"].method for made in rows.values()} == {CrossEntropy("mixup")}
        assert len({made.parents["features"].key() for made in rows.values()}) == 1
    settings = [(m.branches, m.mix, m.tscale) for m in variants]
    assert settings == [(2, "none", False), (2, "none", True), (2, "bilateral", False), (2, "bilateral", True)]


def test_seeds_of_runs_with_parents_belong_together_and_short_parents_stay_out():
    first = next(TABLE6A.cells())
    runs = [run(made, accuracy=0.1 * (1 + made.seed)) for made in first.recipes]
    (cell, *_) = measure(TABLE6A, runs)
    assert (cell.n, cell.mean) == (3, pytest.approx(0.2))
    short = first.recipe.replace(parents={"features": first.recipe.parents["features"].replace(epochs=10)})
    unexpected = first.recipes[1].replace(
        parents={"features": first.recipe.parents["features"]}
    )  # a parent of another seed
    extra = [run(short), run(unexpected)]
    assert measure(TABLE6A, [*extra, *runs])[0] == cell
    assert measure(TABLE6A, extra)[0].n == 0
    assert short_runs(TABLE6A, [*runs, *extra]) == extra[:1]
    assert short_runs(TABLE6A, [run(first.recipe.replace(epochs=5)), run(short.replace(epochs=5))]) == []
    shown = text.markdown(TABLE6A, measure(TABLE6A, runs))
    assert "epochs 200 + 10" in shown
    table = TABLE6A.with_settings(epochs=10)
    assert measure(table, extra)[0].n == 1
    assert "parent epochs 10 (default: 200)" in text.markdown(table, measure(table, extra))


@pytest.mark.parametrize("table", [TABLE5, *TABLE6, FIG1], ids=lambda table: table.id)
def test_every_recipe_builds_and_published_values_are_fractions(table):
    cells = list(table.cells())
    assert len({made.key() for made in table.recipes()}) == len(table.recipes())
    printed = [cell.published for cell in cells if cell.published]
    assert len(printed) == len(table.published) > 0
    assert all(0.08 < number.value < 0.8 for number in printed)
    assert {cell.recipe.ratio for cell in cells} == {200.0 if table is FIG1 else 100.0}


def test_a_cell_whose_parent_diverged_says_so():
    first = next(TABLE6A.cells())
    (cell, other, *_) = measure(TABLE6A, [fake(first.recipe.parents["features"], None)])
    assert cell.reason == f"its parent {first.recipe.parents['features'].key()} diverged"
    assert (cell.status, other.reason) == ("missing", None)
    assert to_json(TABLE6A, [cell])["cells"][0]["reason"] == cell.reason
    assert cell.reason in text.markdown(TABLE6A, [cell, other, other, other])


def test_only_an_ablation_has_gains_in_its_csv():
    bbn = next(TABLE5.cells()).recipe
    lines = csv.DictReader(io.StringIO(text.csv(TABLE5, measure(TABLE5, [fake(bbn, 0.0, result=by_branch(10))]))))
    assert {line["gain"] for line in lines} == {""}


# classes


def test_classes_are_sorted_by_falling_size_and_stable():
    runs = [run(SBN.replace(seed=s), [0.1 + s / 10, 0.5, 0.9, 0.7]) for s in (0, 1)]
    classes = by_class(["a", "b", "c", "d"], [5, 40, 9, 9], {"one": runs, "none": []})
    assert classes == Classes(
        ["b", "c", "d", "a"], [40, 9, 9, 5], {"one": [[0.5, 0.9, 0.7, 0.1], [0.5, 0.9, 0.7, 0.2]], "none": []}
    )
    header, rows = classes.rows()
    assert header == ["class", "images", "one", "none"]
    assert rows[-1] == ["a", "5", f"15.00 ± {100 * math.sqrt(0.005):.2f}", "—"]
    lines = list(csv.DictReader(io.StringIO(classes.csv())))
    assert len(lines) == 8
    assert lines[-2] == {
        "class": "a",
        "images": "5",
        "series": "one",
        "unit": "percent",
        "n": "2",
        "mean": "15.0",
        "sd": "7.071068",
    }
    assert (lines[-1]["n"], lines[-1]["mean"], lines[-1]["sd"]) == ("0", "", "")
    document = json.loads(json.dumps(classes.to_json(), allow_nan=False))
    assert document[0] == {
        "class": "b",
        "images": 40,
        "series": {"one": {"n": 2, "mean": 0.5, "sd": 0.0}, "none": {"n": 0, "mean": None, "sd": None}},
    }


def test_a_diverged_run_is_in_no_series():
    dead = fake(SBN, None)
    assert by_class(["a"], [3], {"x": [dead, run(SBN, [0.5])]}).series == {"x": [[0.5]]}


def test_chosen_runs_are_one_series_a_setting_and_labels_say_what_differs():
    bbn = recipe("digits", "bbn", ratio=60.0)
    crt = recipe("digits", "crt", parents={"features": DBN})
    groups = group_series(
        [
            run(made)
            for made in (
                SBN,
                SBN.replace(seed=1),
                DBN,
                bbn,
                crt,
                crt.replace(seed=2, parents={"features": DBN.replace(seed=2)}),
            )
        ],
        SETTINGS,
    )
    assert {label: len(runs) for label, runs in groups.items()} == {
        "Cross-entropy": 2,
        "DBN-Mix": 1,
        "BBN": 1,
        "cRT": 2,
    }
    both = group_series([run(crt), run(crt.replace(parents={"features": SBN}))], SETTINGS)
    assert [label[:24] for label in both] == ["cRT (on method dbn_mix, ", "cRT (on method cross_ent"]


def test_no_run_is_lost_where_two_labels_would_be_the_same():
    pair = group_series([run(DBN), run(DBN.replace(branch_at="layer3"))], SETTINGS)
    assert sum(map(len, pair.values())) == 2
    assert len(pair) == 2


def test_a_part_of_dbn_mix_alone_is_not_called_dbn_mix():
    made = recipe("digits", ratio=60.0, tscale=True)
    assert list(group_series([run(made)], SETTINGS)) == ["DBN-Mix (branches 1, mix none)"]


def test_labels_name_what_was_chosen_and_what_departs():
    assert list(group_series([run(DBN), run(DBN.replace(seed=1))], SETTINGS)) == ["DBN-Mix"]
    pair = group_series([run(DBN), run(DBN.replace(eps=0.2))], SETTINGS)
    assert list(pair) == ["DBN-Mix", "DBN-Mix (eps 0.2)"]
    short = replace(run(DBN), recipe=DBN.replace(epochs=10))
    assert list(group_series([run(DBN), short], SETTINGS)) == ["DBN-Mix", "DBN-Mix (epochs 10)"]
