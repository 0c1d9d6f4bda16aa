"""The two readings of DBN-Mix: what each sets, where, and that every command takes one."""

import dataclasses
import json
import re

import pytest
import torch
from test_render import fake
from torch.nn.functional import one_hot

from lt_repro.cli.plan import command
from lt_repro.errors import RequestError
from lt_repro.losses import complement_cross_entropy
from lt_repro.papers.dbn_mix import PAPER
from lt_repro.papers.dbn_mix.rivals import TABLE1
from lt_repro.papers.dbn_mix.settings import READINGS, SETTINGS, departures, recipe
from lt_repro.papers.dbn_mix.tables import READINGS_DBN, READINGS_SBN, TABLE4, TABLE5, TABLE6A, TABLE6B
from lt_repro.recipe import Recipe
from lt_repro.render.readings import SCREEN, page
from lt_repro.render.text import reading_line

DBN_MIX = {"branches": 2, "mix": "bilateral", "tscale": True}
RELEASED = {
    "temperature": "released",
    "branch_loss": "ce_complement",
    "branch_at": "layer3",
    "milestones": (0.8, 0.9),
    "nesterov": True,
    "crop_pad": "reflect",
    "normalise": "own",
}
NEITHER = {
    "released/ride": {"temperature": "ride"},
    "released/eps1": {"eps": 1.0},
    "released/bn_parts2": {"bn_parts": 2},
    "released/bn_parts4": {"bn_parts": 4},
}


def values_of(made, names=RELEASED):
    return {name: made.values[name] for name in names}


def test_the_released_reading_sets_what_the_code_has():
    made = recipe("cifar100", reading="released", **DBN_MIX)
    assert values_of(made) == RELEASED
    same = recipe("cifar100", **DBN_MIX)
    rest = ("lr", "lr_decay", "momentum", "weight_decay", "batch", "epochs", "warmup", "crop", "flip", "epoch_images")
    rest += ("head", "bn", "lam_per", "alpha", "gamma", "eta", "eps", "ratio", "split_seed")
    assert values_of(made, rest) == values_of(same, rest)
    assert (made.method.eta, recipe("cifar10", reading="released", **DBN_MIX).method.eta) == (7.0, 3.0)
    assert PAPER.settings.readings == READINGS


def test_every_point_says_whether_the_authors_code_was_run():
    points = READINGS["released"].points
    assert {name for point in points for name in point.sets} == RELEASED.keys()
    for point in points:
        assert point.checked.startswith(("run: ", "not run: ")), point.label
    not_run = [point.label for point in points if point.checked.startswith("not run: ")]
    assert not_run == ["best epoch", "subset", "clean batch"]
    assert "read, not run" not in READINGS["released"].source


def test_the_raw_log_is_infinite_where_the_page_says_and_ours_is_finite():
    (note,) = [note for note in READINGS["released"].notes if "log(1 - p)" in note]
    gap = float(re.search(r"gap of about ([0-9.]+) on", note)[1])
    for classes, rest in ((2, -60.0), (100, -60.0)):
        for distance, infinite in ((gap - 0.1, False), (gap + 0.1, True)):
            logits = torch.full((1, classes), rest)
            logits[0, 0], logits[0, 1] = 0.0, -distance
            raw = torch.log(1 - torch.softmax(logits, dim=1))[0, 0]
            assert raw.isinf() == infinite
            wrong = one_hot(torch.tensor([1]), classes).float()
            exact = complement_cross_entropy(logits.double(), wrong.double())
            assert complement_cross_entropy(logits, wrong).item() == pytest.approx(exact.item(), rel=1e-6)


def test_a_point_that_decides_nothing_is_left_out():
    """So a released run of one branch has the key of the same settings typed by hand."""
    sbn = recipe("cifar100", reading="released", mix="bilateral", tscale=True)
    assert values_of(sbn) == RELEASED | {"branch_at": "block"}
    bm = recipe("cifar100", reading="released", mix="bilateral")
    assert values_of(bm) == RELEASED | {"branch_at": "block", "temperature": "paper"}
    cosine = recipe("cifar100", reading="released", schedule="cosine", crop=0, **DBN_MIX)
    assert (cosine.milestones, cosine.crop_pad) == ((0.6, 0.8), "zero")
    for made in (sbn, bm, cosine):
        assert not made.inactive_fields() & {
            name for name in RELEASED if made.values[name] != recipe("cifar100", "dbn_mix").values[name]
        }


def test_table_4_of_the_released_reading_is_as_its_flags_run_it():
    """eps is 0.05 where none is given; without mixing and temperatures the loss is the cross-entropy."""
    rows = {cell.row.label: cell.recipe.method for cell in TABLE4.read_as("released").only(None, ["100"]).cells()}
    assert {row.label for row in TABLE4.rows} <= rows.keys()
    assert rows.pop("sbn").name() == "cross_entropy"
    losses = {label: method.branch_loss for label, method in rows.items()}
    assert losses == dict.fromkeys(losses, "ce_complement") | {"dbn": "ce"}
    eps = {label: method.eps if method.tscale else 0.0 for label, method in rows.items()}
    by_default = ("sbn+mixup", "sbn+bm", "dbn+bm", "dbn/mixup-loss")
    given = ("sbn+ts", "sbn+bm+ts", "dbn+ts", "dbn+bm+ts")
    assert eps == dict.fromkeys(eps, 0.0) | dict.fromkeys(by_default, 0.05) | dict.fromkeys(given, 0.6)
    for label in ("sbn+mixup", "sbn+bm", "dbn+bm"):  # the other way in which the flags can be read
        same = dataclasses.replace(rows[label], tscale=False, eps=0.6, temperature="paper")
        assert rows[f"{label}/eps0"] == same
        assert TABLE4.published[f"{label}/eps0", "100"] == TABLE4.published[label, "100"]


def test_one_mixed_branch_is_tested_with_its_clean_pass_under_the_released_reading():
    tested = {cell.row.label: cell.code_bn for cell in TABLE4.read_as("released").cells()}
    mixed = {label for label in tested if label.startswith(("sbn+mixup", "sbn+bm"))}
    assert tested == dict.fromkeys(tested, "running") | dict.fromkeys(mixed, "blend")
    assert {cell.code_bn for cell in TABLE4.cells()} == {"running"}


def test_bbn_keeps_its_own_layout_under_the_released_schedule():
    made = recipe("cifar100", "bbn", "released")
    assert made.method == recipe("cifar100", "bbn").method
    shared = ("milestones", "nesterov", "crop_pad", "normalise")
    assert values_of(made, shared) == {name: RELEASED[name] for name in shared}


def test_what_is_given_wins_over_the_reading():
    made = recipe("cifar100", reading="released", nesterov=False, temperature="paper", **DBN_MIX)
    assert values_of(made) == RELEASED | {"nesterov": False, "temperature": "paper"}


@pytest.mark.parametrize("table", [TABLE4, TABLE5, TABLE6A, TABLE6B], ids=lambda table: table.id)
def test_an_exhibit_is_another_under_another_reading(table):
    other = table.read_as("released")
    assert (other.id, table.read_as("paper")) == (f"{table.id}@released", table)
    assert "Reading: the authors' released code." in other.caption
    assert other.published == table.published
    of_paper = {(cell.row.label, cell.column.label): cell.recipe for cell in table.cells()}
    for cell in other.cells():
        if paper := of_paper.get((cell.row.label, cell.column.label)):
            assert paper.key() != cell.recipe.key()
        assert departures(cell.recipe, "released").keys() <= cell.row.edits.keys()
        assert departures(cell.recipe)
        assert cell.reading == "released"
        for made in cell.recipe.lineage():
            assert (made.nesterov, made.crop_pad, made.normalise) == (True, "reflect", "own")


def test_other_methods_take_a_reading_too():
    cells = {(c.row.label, c.column.label): c for c in TABLE1.read_as("released").cells() if c.recipe}
    assert cells["bbn", "cifar10-50"].recipe.milestones == (0.8, 0.9)


@pytest.mark.parametrize("table", [READINGS_DBN, READINGS_SBN], ids=["dbn", "sbn"])
def test_the_readings_table_has_each_point_added_to_the_text_and_taken_from_the_code(table):
    made = {cell.row.label: cell.recipe for cell in table.cells()}
    points = RELEASED.keys() - made["paper"].inactive_fields()  # one branch parts nowhere
    assert len(made) == 2 + 2 * len(points) + len(NEITHER)
    assert len({variant.key() for variant in made.values()}) == len(made)
    assert not departures(made["paper"])
    assert not departures(made["released"], "released")
    for label, variant in made.items():
        reading, sign, point = label.partition("+" if "+" in label else "-")
        if "/" in label:
            assert NEITHER[label] == {name: pair[0] for name, pair in departures(variant, "released").items()}
        elif sign:
            away = departures(variant, reading)
            assert set(away) == {point}
            other = {"paper": "released", "released": "paper"}[reading]
            assert away[point][0] == made[other].values[point]
    assert {cell.column.label for cell in table.cells()} >= {"all", "many", "medium", "few"}
    assert made["released-milestones"].milestones == (0.6, 0.8)  # epochs 120 and 160 of 200
    assert made["released/bn_parts4"] == made["released"].replace(bn_parts=4)
    assert {row for row, _ in table.published} == {"paper", "released"}
    assert table.best


def test_a_plan_of_the_readings_lists_settings_of_neither(run):
    code, out, err = run("reproduce", "readings", "--seeds", "0", "--dry-run")
    assert code == 0, err
    released = [line for line in out.splitlines() if line.startswith("ltrepro train --reading released")]
    for words in ("--set temperature=ride", "--eps 1", "--set bn_parts=2", "--set bn_parts=4"):
        assert ["--arch dbn" in line for line in released if f" {words}" in line] == [True, False]


def test_a_run_says_which_reading_it_follows():
    text, code = (recipe("cifar100", reading=name, **DBN_MIX) for name in READINGS)
    assert reading_line(text, SETTINGS) == "reading: the paper's text"
    assert reading_line(code, SETTINGS) == "reading: the authors' released code"
    between = reading_line(code.replace(temperature="paper", nesterov=False), SETTINGS)
    assert between.startswith("between the readings: the paper's text has ")
    assert between.endswith("the authors' released code has nesterov true, temperature released")
    assert "branch_at block" in between
    both = recipe("cifar100", "crt", parents={"features": recipe("cifar100")})
    assert reading_line(both, SETTINGS) == "reading: the paper's text"


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("extra", [{}, {"nesterov": True}, {"schedule": "cosine"}, {"crop": 0}, {"eps": 0.2}], ids=str)
def test_a_planned_command_makes_the_recipe_again(reading, extra, run):
    made = recipe("digits", reading=reading, epochs=1, epoch_steps=1, **DBN_MIX | extra)
    line = command(made, "digits")
    assert ("--reading released" in line) == (reading == "released")
    code, out, err = run(*line.split()[1:], "--json")
    assert code == 0, err
    result = json.loads(out)
    assert result["key"] == made.key()
    assert Recipe.from_json(result["recipe"]) == made


def test_explain_and_show_name_the_reading(run):
    words = ["--dataset", "digits", "--ratio", "60", "--epochs", "1", "--set", "epoch_steps=1", "--arch", "dbn"]
    code, out, err = run("train", *words, "--reading", "released", "--json")
    assert code == 0, err
    key = json.loads(out)["key"]
    for verb in ("show", "explain"):
        out = run(verb, key)[1]
        assert "reading: none; DBN-Mix has no numbers on digits" in out
    assert json.loads(run("explain", key, "--json")[1])["readings"] == []


def test_reproduce_trains_and_renders_another_reading(run, tmp_path):
    words = ["--dataset", "digits", "--ratio", "60", "--profile", "smoke", "--seeds", "0", "--rows", "dbn+bm+ts"]
    code, out, err = run("reproduce", "table4", *words, "--reading", "released")
    assert code == 0, err
    text = (tmp_path / "tables/table4@released-digits-r60-smoke-row-dbn+bm+ts.md").read_text()
    assert "Reading: the authors' released code." in text
    cells = json.loads((tmp_path / "tables/table4@released-digits-r60-smoke-row-dbn+bm+ts.json").read_text())["cells"]
    assert {cell["exhibit"] for cell in cells} == {"table4@released-digits-r60-smoke-row-dbn+bm+ts"}
    assert sum(cell["n"] for cell in cells) == 1
    code, out, err = run("ablation-table", "--dataset", "digits", "--ratio", "60", "--reading", "released", "--plan")
    assert code == 0, err
    assert "ltrepro train --dataset digits --reading released" in out


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--dataset", "digits", "--reading", "code"],
        ["reproduce", "table4", "--reading", "relased", "--dry-run"],
        ["reproduce", "readings", "--reading", "released", "--dry-run"],
        ["ablation-table", "--reading", ""],
    ],
    ids=" ".join,
)
def test_a_wrong_reading_is_refused(words, refused):
    message = refused(*words)
    assert "reading" in message
    assert "allowed:" in message


def test_nesterov_wants_a_momentum():
    with pytest.raises(RequestError, match="nesterov"):
        recipe("cifar100", nesterov=True, momentum=0.0)


def test_a_screen_is_shown_apart_and_labelled():
    screen = READINGS_SBN.with_settings(epochs=SCREEN)
    cell = next(screen.cells())
    without, shown = page(PAPER, []), page(PAPER, [fake(cell.recipe, {"all": 0.3, "many": 0.6})])
    assert "A screen of 40 epochs, evidence of direction:" in shown
    assert "30.00 (1)" in shown.partition("A screen")[2]
    assert "A screen" not in without
    assert without.count("the paper's text | —") == 2
    for label in RELEASED:
        assert f"{label}=" in without


def test_the_page_says_which_numbers_each_row_reproduces():
    cells = {(cell.row.label, cell.column.label): cell for cell in READINGS_DBN.cells()}
    made = cells["released", "all"].recipe
    offsets = {"all": 0.018, "many": 0.0, "medium": -0.005, "few": -0.03}  # of our mean from what is published
    at = {group: cells["released", group].published.value + offset for group, offset in offsets.items()}
    runs = [
        fake(made.replace(seed=seed), {group: value + 0.005 * step for group, value in at.items()})
        for seed, step in enumerate((-1, 0, 1))  # an interval of ± 1.24 points of the mean, ± 2.48 of one more run
    ]
    once = fake(cells["paper", "all"].recipe, {"all": 0.5})
    assert "is the published number reproduced?" not in page(PAPER, [])
    lines = page(PAPER, [*runs, once]).splitlines()
    (at,) = [i for i, line in enumerate(lines) if line.startswith("| is the published number reproduced? |")]
    assert [line.split(" | ")[:2] for line in lines[at + 2 : at + 4]] == [
        ["| the paper's text", "too few seeds: −1.04, n = 1"],
        ["| the released code", "within one more run: +1.80 (± 1.24, ± 2.48), n = 3"],
    ]
    groups = lines[at + 3].split(" | ")[2:5]
    assert groups == [
        "reproduced: 0.00 (± 1.24, ± 2.48), n = 3",
        "reproduced: −0.50 (± 1.24, ± 2.48), n = 3",
        "outside: −3.00 (± 1.24, ± 2.48), n = 3",
    ]
    assert lines[at + 4] == ""


def test_readings_lists_the_points_and_their_settings(run):
    code, out, _ = run("readings")
    assert code == 0
    for label in RELEASED:
        assert f"--set {label}=" in out
    listed = json.loads(run("readings", "--json")[1])["readings"]
    assert [reading["name"] for reading in listed] == ["paper", "released"]
    sets = {name: value for point in listed[1]["points"] for name, value in point["sets"].items()}
    assert sets["milestones"] == "0.8,0.9"
    assert sets.keys() == RELEASED.keys()
    assert out.count("    checked: ") == len(listed[1]["points"])
    assert all(note in out.replace("\n", " ") for note in listed[1]["notes"])
    assert run("readings", "--markdown")[1].startswith("# Two readings of DBN-Mix\n")
