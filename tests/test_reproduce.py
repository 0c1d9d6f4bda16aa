"""`reproduce` and `check` as a user types them: plan, order, budget, profiles, what is not here yet, a second paper."""

import itertools
import json
import re
import shlex
import textwrap
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import lt_repro.papers
from lt_repro.data.load import known_split, load_pool
from lt_repro.errors import RequestError
from lt_repro.papers.dbn_mix.questions import QUESTIONS
from lt_repro.papers.dbn_mix.rivals import TABLE2
from lt_repro.papers.dbn_mix.settings import recipe
from lt_repro.papers.dbn_mix.tables import TABLE4, TABLE5, TABLE6A, TABLE6B
from lt_repro.papers.table import PROFILES
from lt_repro.store.runs import Run
from lt_repro.sweep import cost
from lt_repro.sweep.cost import measure_speed  # the real one: conftest replaces it in its module
from lt_repro.sweep.plan import ordered
from lt_repro.sweep.runner import run_all

pytestmark = pytest.mark.usefixtures("elsewhere")
SMALL = ["--dataset", "digits", "--ratio", "60", "--epochs", "1", "--set", "epoch_steps=1"]
DIGITS = ["--dataset", "digits", "--ratio", "60", "--profile", "smoke", "--seeds", "0"]


KINDS = {"md", "csv", "json"}


def plan(run, *words):
    code, out, _ = run("reproduce", *words, "--dry-run", "--json")
    assert code == 0
    return json.loads(out)


def test_everything_is_planned_and_what_is_not_here_is_said(run):
    planned = plan(run, "all", "--seeds", "0")
    statuses = {}
    for cell in planned["cells"]:
        statuses.setdefault(cell["status"], []).append(cell)
    assert {cell["reason"] for cell in statuses["needs data"]} == {
        f"needs data {name}" for name in ("imagenet_lt", "inat2018")
    }
    assert "no method" not in statuses
    assert all(cell["recipe"] for cell in statuses["missing"])
    assert {cell["exhibit"] for cell in planned["cells"]} >= {f"table{i}" for i in (1, 2, 3, 4, 5)} | {"fig1", "fig3a"}
    assert planned["totals"]["runs"] == len(planned["plan"]) == len({line["key"] for line in planned["plan"]})
    assert planned["totals"]["epochs"] == sum(line["epochs"] for line in planned["plan"])
    assert planned["totals"]["gpu_runs_without_a_speed"] == planned["totals"]["runs"]
    assert planned["totals"]["gpu_hours"] is None
    assert planned["totals"]["cpu_hours"] == pytest.approx(
        sum(line["cpu_seconds"] for line in planned["plan"]) / 3600, rel=1e-3
    )
    assert not any("imagenet_lt" in line["command"] for line in planned["plan"])
    assert not Path("tables").exists()


def test_some_rows_and_columns_are_planned_with_their_parents(run):
    planned = plan(run, "table4", "--rows", "dbn,dbn+bm+ts", "--columns", "100", "--seeds", "0-1")
    assert sorted(line["command"] for line in planned["plan"]) == [
        "ltrepro train --arch dbn",
        "ltrepro train --arch dbn --mix bilateral --tscale",
        "ltrepro train --seed 1 --arch dbn",
        "ltrepro train --seed 1 --arch dbn --mix bilateral --tscale",
    ]
    planned = plan(run, "table6a", "--rows", "dbn+bm", "--seeds", "0")
    first, second = (line["command"] for line in planned["plan"])
    assert first == "ltrepro train --arch dbn --mix bilateral"
    assert second.startswith("ltrepro train --method crt --set parent=")


def test_chosen_and_added_rows_are_an_exhibit_of_their_own(run):
    code, out, _ = run("reproduce", "rivals", "--dataset", "digits", "--rows", "ldam,sbn", "--render-only", "--json")
    assert code == 0
    assert list(dict.fromkeys(cell["row"] for cell in json.loads(out)["cells"])) == ["sbn", "ldam"]
    assert {path.stem for path in Path("tables").iterdir()} == {"rivals-digits-row-sbn-ldam"}
    words = ("rivals", "--dataset", "digits", "--rows", "sbn", "--add", "ldam:scale=20,milestones=0.5,0.75")
    planned = plan(run, *words, "--seeds", "0")
    assert [line["command"] for line in planned["plan"]] == [
        "ltrepro train --dataset digits",
        "ltrepro train --dataset digits --method ldam --set milestones=0.5,0.75 --set scale=20",
    ]
    assert {cell["exhibit"] for cell in planned["cells"]} == {
        "rivals-digits-row-sbn-add-ldam-scale-20-milestones-0.5-0.75"
    }
    code, _, err = run("reproduce", "table4", "--add", "ldam", "--dry-run")
    assert code == 2
    assert "allowed: exhibits whose rows are methods" in err
    code, _, err = run("reproduce", "rivals", "--add", "ldam", "--add", "ldam", "--dry-run")
    assert code == 2
    assert "allowed: each row once" in err
    code, _, err = run("reproduce", "rivals", "--latex", "--pm", "gain", "--dry-run")
    assert code == 2
    assert "type --pm sd or interval" in err


@pytest.mark.parametrize("order", ["seed", "cheapest"])
def test_an_order_moves_runs_and_loses_none(order):
    recipes = TABLE4.recipes()
    result = ordered(recipes, order)
    assert sorted(item.key() for item in result) == sorted(item.key() for item in recipes)
    first = {
        "seed": [item.seed for item in result] == sorted(item.seed for item in result),
        "cheapest": [cost.work(item) for item in result] == sorted(cost.work(item) for item in result),
    }
    assert first[order]
    with pytest.raises(RequestError, match="order"):
        ordered(recipes, "random")


def test_work_counts_what_passes_through_the_network():
    made = recipe("cifar100", branches=2, mix="bilateral", tscale=True)
    assert cost.work(made) == 200 * 10847 * 2
    assert cost.work(made.replace(epochs=10, epoch_steps=3)) == 10 * 3 * 128 * 2
    counts = known_split("cifar100", 100.0, "exp", 0).counts
    assert cost.work(made.replace(epoch_images="balanced")) == 200 * int(counts.max()) * 100 * 2
    assert cost.work(made.replace(bn_parts=2)) == 200 * 84 * 128 * 2  # 95 images less
    assert cost.work(recipe("unheard-of")) is None


def test_work_follows_the_experts_of_ride_whenever_their_weights_begin():
    plain = cost.work(recipe("cifar100"))
    for experts, operations in ((2, 1.09), (3, 1.46), (4, 1.83)):  # of a plain network's, counted by hand
        for switch in (0.5, 0.8):
            made = recipe("cifar100", "ride", experts=experts, switch=switch)
            assert cost.work(made) / plain == pytest.approx(operations, abs=0.005)


def test_a_network_without_stored_runs_is_measured_where_the_device_is(run, monkeypatch):
    """At 1,000 images/s (conftest), and only on a CPU: no hours on a GPU follow from that."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    made = recipe("cifar100")
    assert cost.speeds_on("cpu", [made, recipe("unheard-of")], {}) == {"resnet32": 1000.0}
    assert cost.speeds_on("cpu", [made], {"resnet32": 5.0}) == cost.speeds_on("cuda", [made], {}) == {}
    assert cost.speeds_on("cpu", [recipe("imagenet_lt")], {}) == {}
    _, out, _ = run("reproduce", "table4", "--columns", "100", "--rows", "sbn", "--seeds", "0", "--dry-run")
    assert "36.2 CPU-minutes for 1 run, one after the other, measured now: resnet32 1,000 images/s" in out
    assert "no measured speed on a GPU for 1 run: 2.17e+06 images through the network\n" in out


@pytest.mark.parametrize(("tick", "steps"), [(0.5, 6), (0.01, 19)])
def test_a_speed_is_that_of_20_steps_without_the_first_or_of_3_seconds(monkeypatch, tick, steps):
    """By a clock that goes on by `tick` whenever it is read."""
    clock = itertools.count()
    monkeypatch.setattr(cost, "time", SimpleNamespace(perf_counter=lambda: tick * next(clock)))
    assert measure_speed.__wrapped__("resnet8", 8, "cpu") == pytest.approx(128 * steps / (tick * steps))
    assert next(clock) == 1 + steps


def test_a_cost_is_work_over_the_median_measured_speed(run):
    run("reproduce", "table4", *DIGITS, "--rows", "sbn,dbn")
    result = [Run.read(path) for path in sorted(Path("runs").glob("*.json"))]
    assert len(result) == 2
    requested = recipe("digits", ratio=60.0, mix="mixup")
    speeds = sorted(cost.work(stored.recipe) / stored.seconds for stored in result)
    cpu, gpu = (cost.measured_speeds(result, gpu=gpu) for gpu in (False, True))
    mean = sum(speeds) / 2
    assert cost.cost([requested], cpu).seconds == pytest.approx(cost.work(requested) / mean)
    assert cost.cost([requested], gpu) == (0.0, 1, cost.work(requested))
    assert cost.cost([requested.replace(net="resnet20")], cpu) == (0.0, 1, cost.work(requested))
    child = recipe("digits", "crt", parents={"features": requested})
    assert cost.cost([child], cpu).seconds == pytest.approx(cost.work(child) / mean)


def test_a_methods_cost_is_the_arithmetic_that_was_measured_along_training(monkeypatch, tmp_path):
    entries = [
        {"method": "drw", "settings": {}, "arithmetic": [1.0, 3.0]},
        {"method": "drw", "settings": {"rule": "resample"}, "arithmetic": [1.0, 2.0]},
        {"method": "tau_norm", "settings": {}, "arithmetic": []},
    ]
    (tmp_path / "costs.json").write_text(json.dumps({"costs": entries}))
    monkeypatch.setattr(cost, "COSTS", tmp_path / "costs.json")
    monkeypatch.setattr(cost, "_measured", cost._measured.__wrapped__)
    monkeypatch.setattr(cost, "_arithmetic", cost._arithmetic.__wrapped__)
    plain = recipe("digits", ratio=60.0)
    images = 60 * 332
    assert cost.work(plain) == images
    assert cost.work(recipe("digits", "drw", ratio=60.0)) == round(images * (0.8 * 1 + 0.2 * 3))
    assert cost.work(recipe("digits", "drw", ratio=60.0, rule="resample", switch=0.5)) == images * 1.5
    assert cost.work(recipe("digits", "bbn", ratio=60.0)) == 2 * images  # not measured: its two batches
    assert cost.work(recipe("digits", "tau_norm", parents={"weights": plain})) == 0
    assert cost.cost([recipe("digits", "tau_norm", parents={"weights": plain})], {"resnet8": 10.0}).seconds == 0


def test_a_table_is_trained_rendered_and_not_trained_again(run):
    code, out, err = run("reproduce", "table4", *DIGITS, "--rows", "sbn,dbn+bm+ts")
    assert code == 0
    assert "run 2/2" in err
    assert "Profile smoke" in out
    part = "table4-digits-r60-smoke-row-sbn-dbn+bm+ts"
    assert "| —" not in Path(f"tables/{part}.md").read_text()
    assert {path.name for path in Path("tables").iterdir()} == {f"{part}.{kind}" for kind in KINDS}
    trained = sorted(Path("runs").glob("*.json"))
    assert [Run.read(path).recipe.epoch_steps for path in trained] == [3, 3]
    code, again, err = run("reproduce", "table4", *DIGITS, "--rows", "sbn,dbn+bm+ts", "--render-only")
    assert (code, again, "run 1/" in err) == (0, out, False)
    assert run("reproduce", "table4", *DIGITS, "--render-only")[0] == 0
    assert Path("tables/table4-digits-r60-smoke.md").read_text().count("| —") == len(TABLE4.rows) - 2
    code, again, _ = run("reproduce", "table4", *DIGITS, "--render-only", "--latex")
    source = Path("tables/table4-digits-r60-smoke.tex").read_text()
    assert (code, "table4-digits-r60-smoke.tex" in again, "Profile smoke" in source) == (0, True, True)
    code, out, _ = run("reproduce", "table4", *DIGITS, "--rows", "sbn,dbn+bm+ts", "--dry-run")
    assert "# 0 runs missing\n" in out
    _, out, _ = run("reproduce", "table4", *DIGITS, "--dry-run")
    speed = f"for {len(TABLE4.rows) - 2} runs, one after the other, at the median speed of stored runs on cpu ("
    assert re.search(rf"\d CPU-(seconds|minutes) {re.escape(speed)}", out)
    images = 10 * 332 * (4 + 2 * 3)  # an epoch of 332 images is less than 3 x 128; four rows have one branch, three two
    assert f"no measured speed on a GPU for 7 runs: {images:.3g} images through the network\n" in out


def test_a_spent_budget_stops_in_time_and_the_same_command_resumes(run):
    words = ["reproduce", "table4", "--dataset", "digits", "--ratio", "60", "--set", "epochs=100", "--seeds", "0"]
    words += ["--rows", "sbn"]
    code, _, err = run(*words, "--budget", "1s")
    assert code == 5
    assert "the budget is spent" in err
    assert len(list(Path("runs").glob("*.ckpt"))) == 1
    assert Path("tables/table4-digits-e100-r60-row-sbn.md").exists()
    code, out, _ = run(*words, "--budget", "5m")
    assert (code, out.count("(1)") > 0) == (0, True)
    (path,) = Path("runs").glob("*.json")
    assert [attempt["ended"] for attempt in Run.read(path).attempts] == ["stopped", "done"]


def test_an_epoch_of_few_steps_takes_the_first_batches_of_the_whole_one():
    short = recipe("digits", ratio=60.0, epochs=1, batch=64, epoch_steps=2)
    assert short.key() != short.replace(epoch_steps=0).key()
    assert "epoch_steps" not in short.replace(epoch_steps=0).to_json()
    pool = load_pool("digits", Path())
    (run,) = run_all([short], pool, Path("runs"))
    assert run.images_per_second > 0
    (same,) = run_all([short.replace(epoch_steps=6)], pool, Path("runs"))  # 332 images are 6 batches
    (whole,) = run_all([short.replace(epoch_steps=0)], pool, Path("runs"))
    assert same.weights["sha256"] == whole.weights["sha256"] != run.weights["sha256"]


def test_profiles_never_share_a_run_or_a_name():
    tables = [TABLE5.profiled(name) for name in PROFILES]
    assert [table.id for table in tables] == ["table5", *(f"table5-{name}" for name in [*PROFILES][1:])]
    assert not set.intersection(*({made.key() for made in table.recipes()} for table in tables))
    assert [bool(table.published) for table in tables] == [name == "paper" for name in PROFILES]


@pytest.mark.parametrize(
    "words",
    [
        ["table9"],
        ["table4", "--rows", "dbn+ms"],
        ["table4", "--columns", "60"],
        ["table4", "--profile", "long"],
        ["table4", "--order", "random"],
        ["table4", "--budget", "soon"],
        ["table4", "--set", "prat=block"],
        ["table4", "--set", "branch_at"],
        ["table4", "--set", "seed=3"],
        ["table4", "--set", "tscale=true"],
        ["fig3a", "--set", "eta=3"],
        ["table6", "--set", "branches=1"],
        ["table4", "--profile", "short", "--set", "epochs=30"],
        ["table4", "--profile", "smoke", "--set", "epoch_steps=7"],
        ["table1", "--dataset", "digits"],
        ["table5", "--ratio", "10", "--ratio", "20"],
        ["fig3", "--ratio", "many"],
    ],
)
def test_a_wrong_request_changes_nothing(words, refused):
    refused("reproduce", *words)


def test_check_passes_what_has_not_run_unless_it_is_strict(run):
    code, out, _ = run("check", "table4")
    assert code == 0
    number = sum(cell.published is not None for cell in TABLE4.cells())
    assert (
        f"{number} published numbers: 0 reproduced, 0 within one more run, 0 outside, 0 too few seeds, {number} not run"
    ) in out
    assert "not yet measured" in out
    assert run("check", "table4", "--strict")[0] == 4


@pytest.mark.parametrize(
    "words",
    [["--dataset", "digits", "--ratio", "60"], ["--profile", "short"], ["--set", "epochs=20"], ["--ratio", "30"]],
)
def test_claims_are_judged_away_from_the_papers_settings_only_on_request(words, run, monkeypatch):
    monkeypatch.setattr("lt_repro.render.cells.Measured.values", {0: 0.30, 1: 0.31, 2: 0.32})
    arguments = ["reproduce", "table4", *words, "--render-only"]
    assert "claims" not in run(*arguments)[1]
    assert json.loads(run(*arguments, "--json")[1])["claims"] == []
    assert "does not hold: Bilateral mixup lifts a single branch" in run(*arguments, "--claims")[1]
    assert {claim["verdict"] for claim in json.loads(run(*arguments, "--claims", "--json")[1])["claims"]} == {
        "does not hold"
    }


@pytest.mark.parametrize("words", [[], ["--reading", "released"], ["--ratio", "100"], ["--seeds", "0-1"]])
def test_claims_are_judged_at_the_papers_settings(words, run, monkeypatch):
    monkeypatch.setattr("lt_repro.render.cells.Measured.values", {0: 0.30, 1: 0.31, 2: 0.32})
    lines = run("reproduce", "table4", *words, "--render-only")[1]
    assert "does not hold: Bilateral mixup lifts a single branch" in lines


def test_a_toy_run_has_no_verdict(run):
    arguments = ["reproduce", "table4", *DIGITS[:-1], "0-1", "--rows", "sbn,sbn+bm"]
    code, out, _ = run(*arguments)
    assert (code, "hold" in out, "inconclusive" in out) == (0, False, False)
    assert "Bilateral mixup lifts a single branch" in run(*arguments, "--render-only", "--claims")[1]


def test_check_names_a_cell_that_is_outside(run, monkeypatch):
    monkeypatch.setattr("lt_repro.render.cells.Measured.values", {0: 0.30, 1: 0.31, 2: 0.32})
    code, out, _ = run("check", "table4", "--json")
    assert (code, {*json.loads(out)["cells"].values()}) == (
        4,
        {0, sum(c.published is not None for c in TABLE4.cells())},
    )
    _, out, _ = run("check", "table4")
    assert "outside: Dual branch + both (DBN-Mix), ratio 100" in out
    assert "published 51.04; 95 % interval of our mean ± 2.48, of one more run ± 4.97, n = 3" in out


@pytest.mark.parametrize(
    ("values", "status", "codes"),
    [
        ((0.38, 0.39, 0.40), "reproduced", (0, 0)),  # 38.46 is printed; mean ± 2.48, one more run ± 4.97
        ((0.41, 0.42, 0.43), "within one more run", (0, 4)),
        ((0.44, 0.45, 0.46), "outside", (4, 4)),
        ((0.44, 0.45), "too few seeds", (0, 4)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_check_fails_only_outside_one_more_run_unless_it_is_strict(values, status, codes, run, monkeypatch):
    (vanilla,) = [cell for cell in TABLE4.cells() if (cell.row.label, cell.column.label) == ("sbn", "100")]
    alone = replace(TABLE4, rows=[vanilla.row], columns=[vanilla.column])
    monkeypatch.setattr("lt_repro.cli.reproduce.exhibits", lambda what: [alone])
    monkeypatch.setattr("lt_repro.render.cells.Measured.values", dict(enumerate(values)))
    for words, code in (([], codes[0]), (["--strict"], codes[1])):
        assert run("check", "table4", *words)[0] == code
        left, out, _ = run("check", "table4", "--json", *words)
        counts = json.loads(out)["cells"]
        assert (left, counts) == (code, dict.fromkeys(counts, 0) | {status: 1})


def test_explain_names_cells_departures_and_what_is_open(run, tmp_path):
    run("reproduce", "table4", *DIGITS, "--rows", "dbn+bm+ts")
    (path,) = Path("runs").glob("*.json")
    code, out, _ = run("explain", path)
    assert code == 0
    assert "departs: epoch_steps 3 (default: 0)" in out
    assert "-smoke --row dbn+bm+ts --column " in out
    assert "reading: none; DBN-Mix has no numbers on digits" in out
    assert "open in the paper: branch_at = block:" in out
    document = json.loads(run("explain", path, "--json")[1])
    assert document["departures"] == {"epochs": ["10", "60"], "epoch_steps": ["3", "0"]}
    whole = {"recipe": recipe("cifar100", branches=2, seed=4), "path": None}
    Path("runs/elsewhere").mkdir()
    result = replace(Run.read(path), **whole).publish(Path("runs/elsewhere"))
    document = json.loads(run("explain", result.path, "--json")[1])
    assert (document["departures"], ["table4", "dbn", "100"] in document["cells"]) == ({}, True)


def test_a_second_paper_is_a_second_file(run, tmp_path, monkeypatch):
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "made_up.py").write_text(
        textwrap.dedent("""
        from lt_repro.papers.claim import Claim, Comparison, Paper, Place
        from lt_repro.papers.settings import Settings
        from lt_repro.papers.table import Published, Table, Variant

        ROW = {"net": "resnet8", "batch": 64, "epochs": 1, "lr": 0.05, "weight_decay": 0.0}
        ROW |= {"crop": 1, "normalise": "own"}
        SETTINGS = Settings({"digits": ROW}, ROW, ratio=20.0)
        TABLE = Table(
            exhibit="table77", paper="made_up", heading="Two methods on digits.",
            settings=SETTINGS,
            base={"dataset": "digits", "ratio": 60.0, "epochs": 1},
            rows=(Variant("plain", "Plain"), Variant("bbn", "BBN", {"method": "bbn"}),
                  Variant("odd", "Odd", {"method": "odd"})),
            columns=(Variant("accuracy", "accuracy"),), seeds=(0, 1),
            published={("plain", "accuracy"): Published(0.5, "Made Up, Table 77", "one run")},
        )
        CLAIM = Claim("order", "BBN beats plain.", "Sec. 1",
                      (Comparison((Place("table77", "bbn", "accuracy"),), (Place("table77", "plain", "accuracy"),)),))
        PAPER = Paper("made_up", "Made Up", "Nobody", SETTINGS, {"table77": (TABLE,)}, (CLAIM,))
        """)
    )
    monkeypatch.setattr(lt_repro.papers, "__path__", [*lt_repro.papers.__path__, str(tmp_path / "papers")])
    code, out, _ = run("reproduce", "made_up/table77", "--json")
    document = json.loads(out)
    assert code == 0
    assert [cell["status"] for cell in document["cells"]] == ["done", "done", "no method"]
    assert [cell["reason"] for cell in document["cells"]][1:] == [None, "no method odd yet"]
    assert [(entry["id"], entry["measured"]) for entry in document["claims"]] == [("order", 1)]
    assert document["claims"][0]["verdict"] in ("holds", "does not hold", "inconclusive")
    assert shlex.split(run("check", "table77")[1])


def test_questions_are_asked_only_where_their_setting_decides_something():
    def asked(made):
        return {q.setting for q in QUESTIONS if q.concerns(made)}

    plain, single, twin = recipe("cifar100"), recipe("cifar100", mix="bilateral"), recipe("cifar100", branches=2)
    assert asked(recipe("cifar100", "crt", parents={"features": twin})) == {"parents", "schedule"}
    heads = recipe("cifar100", branches=2, parents={"features": recipe("cifar100", "cross_entropy", mix="mixup")})
    assert asked(heads) >= {"frozen", "schedule"}
    assert asked(twin) - asked(single) >= {"mix", "branch_at"}
    assert "tscale" in asked(recipe("cifar100", tscale=True)) - asked(plain)
    assert asked(recipe("inat2018")) - asked(plain) == {"epochs", "batch", "milestones"}
    assert asked(recipe("cifar100", "focal")) == asked(recipe("digits")) == set()


def test_a_setting_of_one_method_leaves_rows_of_others_as_they_are(run):
    planned = plan(run, "table5", "--set", "lam_per=sample", "--seeds", "0")
    assert {cell["exhibit"] for cell in planned["cells"]} == {"table5-lam_persample"}
    keys = {cell["row"].split("/")[0]: cell["recipe"] for cell in planned["cells"]}
    assert keys["bbn"] == recipe("cifar100", "bbn").key()
    assert keys["dbn+bm+ts"] == recipe("cifar100", **dict(TABLE4.rows[-1].edits), lam_per="sample").key()
    assert {cell["published"] for cell in planned["cells"]} == {None}


@pytest.mark.parametrize(("name", "value"), [("epochs", 200), ("net", "resnet32"), ("eta", 7.0), ("lr", 0.05)])
def test_a_setting_reaches_every_run_whatever_the_default_of_other_images_is(run, name, value):
    words = ["table4", "--dataset", "digits", "--ratio", "60", "--rows", "dbn+bm+ts", "--seeds", "0"]
    (planned,) = plan(run, *words, "--set", f"{name}={value}")["plan"]
    edits = dict(TABLE4.rows[-1].edits) | {name: value}
    assert planned["key"] == recipe("digits", ratio=60.0, **edits).key()


def test_a_setting_of_one_column_makes_another_table(run):
    planned = plan(run, "table1", "--set", "eta=3", "--seeds", "0")
    changed = [cell for cell in planned["cells"] if cell["exhibit"] != "table1_own"]  # which has no row with an eta
    assert {cell["exhibit"] for cell in changed} == {"table1-eta3"}  # on CIFAR-LT-10 it is 3, on the other 7
    assert {cell["published"] for cell in changed} == {None}
    for how in ("--dry-run", "--render-only"):
        _, _, err = run("reproduce", "fig1", "--set", "eta=3", how)
        assert err.count("note: eta = 3 changes nothing in fig1") == 1
    assert TABLE4.with_settings(dataset="cifar10", eta=3.0) == TABLE4.with_settings(dataset="cifar10")


def test_a_setting_leaves_alone_the_rows_that_make_no_use_of_it(run):
    result = {}
    for table in (TABLE4, TABLE4.with_settings(gamma=1.0)):
        cells = [cell for cell in table.cells() if cell.column.label == "100"]
        result[table.id] = {cell.row.label: cell.recipe.key() for cell in cells}
        gammas = [cell.recipe for cell in cells if cell.recipe.values.get("gamma") == 1.0]
        assert not any(made.inactive_fields() & {"gamma"} for made in gammas)
    same = {row for row, key in result["table4"].items() if key == result["table4-gamma1"][row]}
    assert same == {"sbn", "sbn+mixup", "sbn+ts"}


def test_a_setting_reaches_both_stages_where_it_decides_something():
    table = TABLE6B.with_settings(lr=0.05, epochs=30, **{"dbn_mix.eta": 9.0, "dbn_mix.head": "cosine"})
    cell = next(cell for cell in table.cells() if cell.row.label == "dbn+ts")
    child, parent = cell.recipe, cell.recipe.parents["features"]
    assert (child.method.eta, child.lr, child.epochs, child.method.head) == (9.0, 0.05, 10, "cosine")
    assert (parent.lr, parent.epochs, parent.method.head) == (0.05, 30, "cosine")
    child = next(TABLE6A.with_settings(lr=0.05, **{"dbn_mix.bn": "joint"}).cells()).recipe
    parent = child.parents["features"]
    assert (child.lr, parent.lr, parent.method.bn, child.method.bn) == (0.05, 0.05, "joint", "eval")
    short = recipe("digits", "crt", parents={"features": recipe("digits", epochs=4)})
    assert (short.epochs, recipe("digits", "crt", parents={"features": recipe("digits")}).epochs) == (4, 60)


def test_an_impossible_split_is_refused_before_anything_is_trained(run, tmp_path):
    labels = np.repeat([0, 1, 2], [60, 30, 20])
    images = np.zeros((110, 8, 8), np.uint8)
    np.savez("mine.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    words = ["reproduce", "table4", "--dataset", "npz:mine.npz", "--ratio", "2", "--ratio", "500", "--rows", "sbn"]
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert "ratio 500" in err
    assert not any(Path(name).exists() for name in ("runs", "tables"))
    code, out, _ = run(*words[:6], "--profile", "smoke", "--rows", "sbn", "--dry-run")
    assert code == 0
    assert "no measured speed on a CPU for 3 runs\n" in out  # and no guess of nothing


def test_the_same_ratio_twice_is_one_column(run):
    planned = plan(run, "table4", "--dataset", "digits", "--ratio", "60", "--ratio", "60.0", "--seeds", "0")
    assert len(planned["cells"]) == len(TABLE4.rows)
    planned = plan(run, "table4", "--ratio", "100.00001", "--seeds", "0")
    assert {cell["published"] for cell in planned["cells"]} == {None}


def test_a_longer_schedule_stays_longer_in_another_profile():
    rows = ["dbn+bm+ts", "dbn+bm+ts/extended"]
    lengths = {n: [cell.recipe.epochs for cell in TABLE2.profiled(n).only(rows, None).cells()] for n in PROFILES}
    assert lengths == {"paper": [100, 200], "short": [20, 40], "smoke": [10, 20]}
    assert all(cell.recipe.epoch_steps == 3 for cell in TABLE2.profiled("smoke").only(rows, None).cells())


def keys(table):
    return {cell.row.label: cell.recipe.key() for cell in table.cells()}


def test_a_setting_of_one_method_is_named_with_it_and_reaches_no_other(run, refused):
    for words in (["table6a", "--set", "bn=train"], ["table5", "--set", "gamma=2"]):
        assert "is a setting of several methods" in refused("reproduce", *words, "--dry-run")
    line = refused("reproduce", "table5", "--set", "gamma=2", "--dry-run").splitlines()[1]
    assert {"bbn.gamma", "dbn_mix.gamma"} <= set(line.removeprefix("  allowed: ").split(", "))
    whole, bbn = keys(TABLE5), keys(TABLE5.with_settings(**{"bbn.gamma": 2.0}))
    assert {row for row, key in bbn.items() if key != whole[row]} == {row for row in whole if row.startswith("bbn/")}
    child = next(TABLE6A.with_settings(**{"crt.bn": "train"}).cells()).recipe
    assert (child.method.bn, child.parents["features"].method.bn) == ("train", "per_branch")
    child = next(TABLE6A.with_settings(**{"dbn_mix.bn": "joint"}).cells()).recipe
    assert (child.method.bn, child.parents["features"].method.bn) == ("eval", "joint")
    code, out, err = run("reproduce", "table6a", "--set", "crt.bn=train", "--seeds", "0", "--dry-run")
    assert code == 0, err
    assert out.count("--method crt") == out.count("--set bn=train") == 4


def test_train_takes_a_setting_with_or_without_its_method(run):
    plain, named = (
        json.loads(run("train", *SMALL, "--arch", "dbn", "--set", text, "--json")[1])["key"]
        for text in ("branch_at=layer3", "dbn_mix.branch_at=layer3")
    )
    assert plain == named


def test_a_damaged_run_file_is_noted_once_for_all_exhibits(run):
    Path("runs").mkdir()
    Path("runs/broken.json").write_text("{")
    for words in (["reproduce", "table4", "table5", "--render-only"], ["check", "table4", "table5"]):
        code, _, err = run(*words)
        assert (code, err.count("runs/broken.json is damaged")) == (1, 1)
