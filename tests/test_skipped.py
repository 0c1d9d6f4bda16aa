"""Stored runs that match no cell of a table: they are counted, what sets them apart is named, and what shows them."""

import shlex
from dataclasses import fields, replace
from pathlib import Path

import pytest
from test_render import fake

from lt_repro.cli.skipped import skipped_line
from lt_repro.papers.dbn_mix.settings import SETTINGS, recipe
from lt_repro.papers.dbn_mix.tables import FIG3A, TABLE4, TABLE5, TABLE6A
from lt_repro.papers.settings import Settings
from lt_repro.papers.table import ratios
from lt_repro.render.cells import differences

DIGITS = TABLE4.with_settings(ratios(60), dataset="digits")
HINT = "; `ltrepro reproduce` shows them with the options in brackets"


def line(*changes, table=DIGITS, first=None):
    base = first or table.recipes()[0]
    return skipped_line(table, [fake(base.replace(**change), 0.4) for change in changes])


def test_runs_with_another_setting_are_counted_by_setting():
    few = {"epoch_steps": 2}
    assert line(few, few | {"seed": 7}, {"lr": 0.2}) == (
        "table4-digits-r60 skips 3 stored runs that match no cell: "
        "2 with epoch_steps 2 instead of 0 (--set epoch_steps=2), 1 with lr 0.2 instead of 0.1 (--set lr=0.2)" + HINT
    )
    assert line(few | {"epochs": 2}) == (
        "table4-digits-r60 skips 1 stored run that matches no cell: "
        "1 with epochs 2 instead of 60 and epoch_steps 2 instead of 0 (--set epochs=2 --set epoch_steps=2)" + HINT
    )
    many = line(*({"lr": lr} for lr in (0.2, 0.3, 0.4, 0.5, 0.6)), {"lr": 0.6})
    assert "skips 6 stored runs" in many
    assert "cell: 2 with lr 0.6" in many  # the largest group first
    assert many.endswith(", 2 with other settings" + HINT)


@pytest.mark.parametrize("change", [{"epochs": 90}, {"nesterov": True}, {"milestones": (0.5, 0.9)}, {"gamma": 2.0}])
def test_any_setting_may_differ(change):
    ((name, _),) = change.items()
    assert f"1 with {name} " in line(change, first=DIGITS.recipes()[3])


def test_a_run_at_another_ratio_or_as_it_is():
    table = TABLE4.with_settings(dataset="digits")
    assert "1 with ratio 60 instead of 100 (--ratio 60)" in line({"ratio": 60.0}, table=table)
    assert "ratio 60 instead of 100 (--ratio 60)" in line({"ratio": 60.0}, table=TABLE5.with_settings(dataset="digits"))
    assert "(--ratio as-is)" in line({"ratio": 3.5, "imb_type": "as_is"}, table=table)
    assert "(--ratio as-is)" in line({"imb_type": "as_is"}, table=table)
    assert "imb_type step instead of exp (--set imb_type=step)" in line({"imb_type": "step"})


def test_runs_of_another_reading_are_one_group():
    released = TABLE4.read_as("released")
    runs = [fake(made, 0.4) for made in released.only(None, ["100"]).recipes()]
    assert skipped_line(released, runs) is None
    result = skipped_line(TABLE4, runs)
    # rows on which the readings agree match in both
    assert f"{len(runs)} with the reading released (--reading released){HINT}" in result
    assert "with the reading paper (--reading paper)" in skipped_line(
        released, [fake(made, 0.4) for made in TABLE4.only(None, ["100"]).recipes()]
    )


def test_parents_are_compared_too():
    table = TABLE6A.with_settings(dataset="digits", ratio=60.0)
    made = table.recipes()[0]
    (parent,) = made.parents.values()
    child = made.replace(parents={"features": parent.replace(lr=0.2)})
    assert differences(child, made) == {"parent lr": (0.2, 0.1)}
    assert "1 with parent lr 0.2 instead of 0.1" in skipped_line(table, [fake(child, 0.4)])
    moved = made.replace(ratio=30.0, parents={"features": parent.replace(ratio=30.0)})
    assert differences(moved, made) == {"ratio": (30.0, 60.0)}
    assert "(--ratio 30)" in skipped_line(table, [fake(moved, 0.4)])
    assert differences(parent, made) is None


def test_no_word_where_nothing_is_missing():
    runs = [fake(made.replace(seed=seed), 0.4) for made in DIGITS.recipes() for seed in (0, 9)]  # seeds are chosen
    assert skipped_line(DIGITS, runs) is None
    assert skipped_line(DIGITS, []) is None
    shorter = DIGITS.recipes()[0].replace(epochs=2)  # has a line already
    other_data = recipe("cifar100", lr=0.3)
    other_method = recipe("digits", "bbn", ratio=60.0)
    other_row = recipe("digits", ratio=60.0, mix="mixup", tscale=True)
    assert skipped_line(DIGITS, [fake(made, 0.4) for made in (shorter, other_data, other_method, other_row)]) is None
    single = [fake(made, 0.4) for made in TABLE4.recipes()[:1]]
    assert skipped_line(FIG3A, single) is None  # a figure on the dual branch


class Stubborn(Settings):
    def recipe(self, *names, **given):
        return super().recipe(*names, **given | {"weight_decay": 0.0})  # whatever is typed


def test_without_options_that_show_a_run_it_is_pointed_at():
    rows = [row._replace(edits=dict(row.edits) | {"lr": 0.3}) for row in DIGITS.rows[:1]]
    table = replace(DIGITS, rows=rows)
    result = line({"weight_decay": 0.01}, table=table)
    assert "(--set weight_decay=0.01)" in result
    chosen = {field.name: getattr(SETTINGS, field.name) for field in fields(SETTINGS) if field.init}
    fixed = replace(table, settings=Stubborn(**chosen))
    assert line({"weight_decay": 0.01}, table=fixed).endswith("; `ltrepro show RUN` shows one")


def test_what_the_line_says_to_type_shows_the_run(run):
    train = ["train", "--dataset", "digits", "--ratio", "60", "--set", "epochs=1", "--set", "epoch_steps=1"]
    run(*train)
    code, out, err = run("ablation-table", "--dataset", "digits", "--ratio", "60")
    (note,) = [text for text in err.splitlines() if "match" in text]
    assert (code, "0 of 9 cells measured" in out) == (0, True)
    options = note.partition("(")[2].partition(")")[0]
    words = ["reproduce", "table4", "--dataset", "digits", "--ratio", "60", *shlex.split(options)]
    _, out, err = run(*words, "--render-only")
    assert "1 of 9 cells measured" in out
    assert "match" not in err
    assert Path("tables/table4-digits-r60.md").read_text().count("match no cell") == 0  # a file has no such notes
