"""The two readings of DBN-Mix: what each sets, where, and that every command takes one."""

import json
import re
from pathlib import Path

import pytest
import torch
from test_render import fake
from torch.nn.functional import one_hot

from lt_repro.cli.plan import command
from lt_repro.errors import RequestError
from lt_repro.losses import complement_cross_entropy
from lt_repro.paper.dbn_mix import PAPER
from lt_repro.paper.dbn_mix.rivals import TABLE1
from lt_repro.paper.dbn_mix.settings import READINGS, SETTINGS, departures, recipe
from lt_repro.paper.dbn_mix.tables import READINGS_DBN, READINGS_SBN, TABLE4, TABLE5, TABLE6A, TABLE6B
from lt_repro.recipe import Recipe
from lt_repro.render.readings import SCREEN, page
from lt_repro.render.text import reading_line
from lt_repro.store.runs import load_runs

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
    assert len(points) == 11
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
            name for name in RELEASED if made.values[name] != recipe("cifar100").values[name]
        }


def test_the_vanilla_row_alone_keeps_the_cross_entropy():
    rows = {cell.row.label: cell.recipe for cell in TABLE4.read_as("released").cells()}
    losses = {label: made.method.branch_loss for label, made in rows.items()}
    assert losses == dict.fromkeys(losses, "ce_complement") | {"sbn": "ce"}


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
    for paper_cell, cell in zip(table.cells(), other.cells(), strict=True):
        assert paper_cell.recipe.key() != cell.recipe.key()
        assert not departures(cell.recipe, "released")
        assert departures(cell.recipe)
        assert cell.reading == "released"
        for made in cell.recipe.lineage():
            assert (made.nesterov, made.crop_pad, made.normalise) == (True, "reflect", "own")


def test_other_methods_take_a_reading_too():
    cells = {(c.row.label, c.column.label): c for c in TABLE1.read_as("released").cells() if c.recipe}
    assert cells["bbn", "cifar10-50"].recipe.milestones == (0.8, 0.9)


@pytest.mark.parametrize(("table", "points"), [(READINGS_DBN, 7), (READINGS_SBN, 6)], ids=["dbn", "sbn"])
def test_the_readings_table_has_each_point_added_to_the_text_and_taken_from_the_code(table, points):
    made = {cell.row.label: cell.recipe for cell in table.cells()}
    assert len(made) == 2 + 2 * points
    assert len({variant.key() for variant in made.values()}) == len(made)
    assert not departures(made["paper"])
    assert not departures(made["released"], "released")
    for label, variant in made.items():
        reading, sign, point = label.partition("+" if "+" in label else "-")
        if sign:
            away = departures(variant, reading)
            assert set(away) == {point}
            other = {"paper": "released", "released": "paper"}[reading]
            assert away[point][0] == made[other].values[point]
    assert {cell.column.label for cell in table.cells()} >= {"all", "many", "medium", "few"}
    assert table.best


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
    found = json.loads(out)
    assert found["key"] == made.key()
    assert Recipe.from_json(found["recipe"]) == made


def test_explain_and_show_name_the_reading(run):
    words = ["--dataset", "digits", "--ratio", "60", "--epochs", "1", "--set", "epoch_steps=1", "--arch", "dbn"]
    code, out, err = run("train", *words, "--reading", "released", "--json")
    assert code == 0, err
    key = json.loads(out)["key"]
    for verb in ("show", "explain"):
        out = run(verb, key)[1]
        assert "between the readings" in out  # epochs and epoch_steps are of neither
    assert json.loads(run("explain", key, "--json")[1])["readings"] == []


def test_reproduce_trains_and_renders_another_reading(run, tmp_path):
    words = ["--dataset", "digits", "--ratio", "60", "--profile", "smoke", "--seeds", "0", "--rows", "dbn+bm+ts"]
    code, out, err = run("reproduce", "table4", *words, "--reading", "released")
    assert code == 0, err
    text = (tmp_path / "tables/table4@released-digits-r60-smoke.md").read_text()
    assert "Reading: the authors' released code." in text
    cells = json.loads((tmp_path / "tables/table4@released-digits-r60-smoke.json").read_text())["cells"]
    assert {cell["exhibit"] for cell in cells} == {"table4@released-digits-r60-smoke"}
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


def test_the_page_is_what_the_stored_runs_give():
    root = Path(__file__).parents[1]
    found, bad = load_runs([root / "tables/runs"])
    assert not bad
    assert (root / "docs/two-readings.md").read_text() == page(PAPER, found) + "\n"


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
