"""The command line as a user types it: the four commands, their files and JSON, and every wrong request."""

import dataclasses
import inspect
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.main import get_command

from lt_repro.cli.app import PANELS, app
from lt_repro.cli.plan import command
from lt_repro.data import load, sets
from lt_repro.data.cifar import Cifar
from lt_repro.data.images import Pool
from lt_repro.methods import METHODS
from lt_repro.methods.cross_entropy import CrossEntropy
from lt_repro.methods.dbn_mix import DbnMix
from lt_repro.papers.dbn_mix.settings import SETTINGS
from lt_repro.papers.dbn_mix.tables import FIG3, TABLE4
from lt_repro.papers.table import ratios
from lt_repro.recipe import field_types, find
from lt_repro.store.runs import Run
from lt_repro.sweep.cost import COSTS
from lt_repro.train import signals

DIGITS = ["--dataset", "digits", "--ratio", "60", "--epochs", "2"]


pytestmark = pytest.mark.usefixtures("elsewhere")


# make-dataset


def test_make_dataset_writes_the_split_and_prints_its_histogram(run):
    code, out, _ = run("make-dataset", "digits", "--ratio", 60)
    assert code == 0
    assert "332 training and 500 test images, 10 classes: 1 many, 4 medium, 5 few" in out
    path = Path("splits/digits-exp-r60-s0.json")
    assert out.strip().splitlines()[-1] == str(path)
    content = json.loads(path.read_text())
    assert content["counts"] == [124, 78, 49, 31, 20, 12, 8, 5, 3, 2]
    code, out, err = run("make-dataset", "digits", "--imb-factor", repr(1 / 60), "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == content | {"path": str(path)}
    named = "name ratio imb_type split_seed n_train n_test counts groups positions digest path"
    assert set(named.split()) == set(json.loads(out))


def test_make_dataset_step_profile_second_draw_and_out(run):
    run("make-dataset", "digits", "--ratio", 10, "--imb-type", "step", "--split-seed", 3, "--out", "mine/a.json")
    content = json.loads(Path("mine/a.json").read_text())
    assert content["counts"] == [124] * 5 + [12] * 5
    assert content["split_seed"] == 3


def test_make_dataset_never_writes_over_another_file(run, refused):
    Path("kept.json").write_text("mine")
    assert "different content" in refused("make-dataset", "digits", "--out", "kept.json")
    assert Path("kept.json").read_text() == "mine"


def test_imb_factor_is_one_over_the_ratio(run):
    _, out, _ = run("make-dataset", "digits", "--imb-factor", "0.01", "--json")
    assert json.loads(out)["ratio"] == 100


def test_cifar_that_is_missing_is_downloaded_or_the_ways_on_are_named(run, refused, monkeypatch, tmp_path):
    err = refused("make-dataset", "cifar100", "--no-download")
    for word in (str(tmp_path / "data"), "cifar-100-python.tar.gz", "--data-root", "npz:FILE"):
        assert word in err
    assert "ltrepro make-dataset cifar100" in refused("train", "--arch", "dbn", "--mix", "bilateral", "--tscale")
    fetched = []
    monkeypatch.setattr(Cifar, "download", lambda self, root, report: (fetched.append(self.name), report(5, 10)))
    code, _, err = run("make-dataset", "cifar100", "--ratio", 100)
    assert (code, fetched) == (2, ["cifar100"])  # what was fetched here left nothing behind
    assert err.startswith("downloading cifar100")


# train, show


def test_train_writes_one_run_and_prints_its_path_last(run):
    code, out, err = run("train", *DIGITS, "--arch", "dbn", "--mix", "bilateral", "--tscale")
    assert code == 0
    path = Path(out.strip().splitlines()[-1])
    assert path.parent == Path("runs")
    result = Run.read(path)
    assert (result.recipe.method.branches, result.recipe.method.mix, result.recipe.method.tscale) == (
        2,
        "bilateral",
        True,
    )
    assert result.recipe.method.eta == 3.0
    assert "epoch 2/2" in err
    assert "images/s" in err
    assert "conventional" in out
    before = path.read_bytes()
    path.with_suffix(".ckpt").write_bytes(b"left by a process killed right after it published")
    again, out, _ = run("train", *DIGITS, "--arch", "dbn", "--mix", "bilateral", "--tscale")
    assert (again, Path(out.strip().splitlines()[-1]), path.read_bytes()) == (0, path, before)
    assert not path.with_suffix(".ckpt").exists()


def test_train_json_is_one_document_with_the_path(run):
    code, out, err = run("train", *DIGITS, "--json", "--out", "there")
    content = json.loads(out)
    assert (code, err) == (0, "")
    assert Path(content["path"]).parent == Path("there")
    assert content["recipe"]["method"] == {"name": "cross_entropy", "mix": "none"}


def test_options_reach_the_recipe(run):
    words = [
        "--mix",
        "bilateral",
        "--alpha",
        "0.5",
        "--gamma",
        "inf",
        "--seed",
        "4",
        "--split-seed",
        "2",
        "--precision",
        "bf16",
    ]
    words += [
        "--set",
        "milestones=0.5,0.75",
        "--set",
        "lam_per=sample",
        "--set",
        "flip=true",
        "--set",
        "lr=0.05",
        "--eval-every",
        "1",
    ]
    _, out, _ = run("train", *DIGITS, *words, "--json")
    result = json.loads(out)
    recipe, method = result["recipe"], result["recipe"]["method"]
    assert (recipe["seed"], recipe["split_seed"], recipe["precision"]) == (4, 2, "bf16")
    assert (recipe["flip"], recipe["lr"], recipe["milestones"]) == (True, 0.05, [0.5, 0.75])
    assert (method["alpha"], method["gamma"], method["lam_per"], method["mix"]) == (0.5, "inf", "sample", "bilateral")
    assert "eta" not in method  # without temperatures it decides nothing
    assert [point["epoch"] for point in result["curve"]] == [1, 2]


def test_method_and_set_say_the_same_as_the_short_options(run):
    _, short, _ = run("train", *DIGITS, "--arch", "dbn", "--mix", "bilateral", "--tscale", "--json")
    words = ["--method", "dbn_mix", "--set", "branches=2", "--set", "mix=bilateral", "--set", "tscale=true"]
    _, full, _ = run("train", *DIGITS, *words, "--json", "--out", "other")
    assert json.loads(short)["key"] == json.loads(full)["key"]


def test_show_says_where_a_run_departs_from_the_paper(run):
    _, out, _ = run("train", *DIGITS, "--arch", "dbn", "--set", "branch_at=layer2")
    key = Path(out.strip().splitlines()[-1]).stem
    code, out, _ = run("show", key[:12])
    assert code == 0
    assert "departs: branch_at layer2 (default: block)" in out
    assert "epochs 2 (default: 60)" in out
    _, out, _ = run("show", key, "--json")
    assert json.loads(out)["key"] == key


def test_a_run_that_diverges_exits_with_1_and_says_where(run):
    code, out, err = run("train", *DIGITS[:4], "--epochs", "20", "--set", "lr=1000", "--set", "weight_decay=1")
    result = Run.read(Path(out.strip().splitlines()[-1]))
    assert code == 1
    assert result.status == "diverged"
    assert "Traceback" not in err
    assert f"epoch {result.diverged['epoch'] + 1}, step {result.diverged['step'] + 1}" in err
    assert "diverged" in run("show", result.recipe.key())[1]


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 138), (signal.SIGHUP, 129)]
)
def test_a_signal_saves_and_leaves(signum, code, run, monkeypatch):
    def strike(self, lane):
        if (lane.epoch, lane.step) == (1, 1):
            os.kill(os.getpid(), signum)

    monkeypatch.setattr("lt_repro.cli.progress.Watch.__call__", strike)
    before = signal.getsignal(signum)
    result, out, err = run("train", *DIGITS)
    assert (result, out) == (code, "")
    assert "everything is saved" in err
    assert signal.getsignal(signum) == before
    assert len(list(Path("runs").glob("*.ckpt"))) == 1
    monkeypatch.undo()


@pytest.mark.parametrize("later", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_within_two_seconds_are_one_request_and_a_later_one_stops_at_once(monkeypatch, later):
    with pytest.raises(signals.StoppedAtOnce, match="is not saved") as stopped, signals.caught() as stop:
        for signum in (signal.SIGINT, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(os.getpid(), signum)
        assert stop.signum == signal.SIGINT
        monkeypatch.setattr(signals, "SAME", 0.0)
        os.kill(os.getpid(), getattr(signal, later))
    assert stopped.value.exit_code == 128 + getattr(signal, later)


def test_a_signal_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    try:
        with signals.caught() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
        assert stop.signum is None
    finally:
        signal.signal(signal.SIGHUP, before)


# tables and figures


def test_plan_commands_train_exactly_the_missing_cells(run, monkeypatch):
    _, out, _ = run("ablation-table", "--plan", "--seeds", "0")
    lines = out.strip().splitlines()
    assert len(lines) == len(replace(TABLE4, seeds=(0,)).recipes())
    assert "ltrepro train --arch dbn --mix bilateral --tscale" in lines
    labels = np.repeat(np.arange(100), 500)
    names = tuple(map(str, range(100)))
    monkeypatch.setattr(
        load, "load_pool", lambda name, root: Pool("cifar100", None, labels, None, None, names, 0, root)
    )
    asked = []

    def note(recipes, *args, **kwargs):
        asked.extend(recipes)
        raise find("nothing")

    monkeypatch.setattr("lt_repro.sweep.runner.run_all", note)
    for line in lines:
        run(*shlex.split(line)[1:])
    requested = [cell.recipe.key() for cell in TABLE4.cells()]
    assert sorted(recipe.key() for recipe in asked) == sorted(requested)


@pytest.mark.parametrize("table", [TABLE4, *FIG3], ids=lambda table: table.id)
def test_commands_say_every_recipe_apart(table):
    recipes = table.recipes()
    assert len({command(recipe, "cifar100") for recipe in recipes}) == len(recipes)


def test_ablation_table_on_digits_from_nothing(run):
    options = ["--dataset", "digits", "--ratio", "60", "--epochs", "1", "--seeds", "0-1"]
    code, out, err = run("ablation-table", *options, "--run")
    number = 2 * len(TABLE4.rows)
    assert code == 0
    assert f"run {number}/{number}" in err
    assert len(list(Path("runs").glob("*.json"))) == number
    for suffix in ("md", "csv", "json"):
        assert Path(f"tables/table4-digits-e1-r60.{suffix}").stat().st_size > 500
    _, out, _ = run("ablation-table", *options, "--json")
    cells = json.loads(out)["cells"]
    assert len(cells) == len(TABLE4.rows)
    assert all(cell["n"] == 2 and cell["published"] is None and cell["status"] == "done" for cell in cells)
    _, out, _ = run("ablation-table", *options, "--seeds", "1", "--json")
    assert {tuple(cell["seeds"]) for cell in json.loads(out)["cells"]} == {(1,)}
    _, out, err = run("ablation-table", *options, "--plan")
    assert (out, err.strip()) == ("", "0 runs missing")
    _, out, err = run("ablation-table", *options, "--seeds", "0", "--runs", "new folder", "--plan")
    assert out.splitlines()[0] == "ltrepro train --dataset digits --ratio 60 --epochs 1 --out 'new folder'"
    _, out, err = run("ablation-table", "--dataset", "digits", "--ratio", "60")
    assert f"skips shorter runs ({number} of 1 epochs); --epochs 1 shows them" in err
    assert out.count("—") >= 9


def test_runs_that_diverge_make_the_queue_exit_with_1(run, monkeypatch):
    wild = SETTINGS.datasets["digits"] | {"lr": 1000.0, "weight_decay": 1.0}
    monkeypatch.setitem(SETTINGS.datasets, "digits", wild)
    code, out, err = run(
        "ablation-table", "--dataset", "digits", "--ratio", "60", "--epochs", "9", "--seeds", "0", "--run"
    )
    assert code == 1
    assert "Diverged, in no mean" in out
    assert "Traceback" not in err


def test_ablation_table_of_the_paper_shows_published_beside_missing(run):
    code, out, _ = run("ablation-table")
    text = Path("tables/table4.md").read_text()
    assert code == 0
    assert "51.04" in text
    assert text.count("| —") == len(list(TABLE4.cells()))
    _, out, _ = run("ablation-table", "--json")
    cells = {(cell["row"], cell["column"]): cell for cell in json.loads(out)["cells"]}
    assert len(cells) == len(list(TABLE4.cells()))
    assert cells["dbn+bm+ts", "100"]["published"] == 0.5104
    assert cells["dbn+bm+ts", "100"]["mean"] is None
    assert cells["sbn", "100"]["measured_by_paper"] is False


def test_plot_hparams_writes_three_figures_with_their_numbers(run):
    code, out, _ = run("plot-hparams")
    assert code == 0
    for name in ("fig3a", "fig3b", "fig3c"):
        for suffix in ("png", "svg", "csv"):
            assert Path(f"figures/{name}.{suffix}").stat().st_size > 200
    _, out, _ = run("plot-hparams", "--plan", "--json")
    shared = 2  # the settings in the middle are one recipe in all three figures
    assert len(json.loads(out)["plan"]) == sum(len(table.recipes()) for table in FIG3) - shared


def test_a_damaged_run_file_is_named_and_changes_no_other_cell(run):
    run("train", *DIGITS)
    options = ["--dataset", "digits", "--ratio", "60", "--epochs", "2", "--seeds", "0"]
    _, before, _ = run("ablation-table", *options, "--json")
    Path("runs/broken.json").write_text('{"schema": 1')
    code, after, err = run("ablation-table", *options, "--json")
    assert (code, after) == (1, before)
    assert "broken.json" in err
    run("ablation-table", *options)
    assert "broken.json" in Path("tables/table4-digits-e2-r60.md").read_text()


def test_a_run_file_of_another_split_is_left_out_and_named(run):
    _, out, _ = run("train", *DIGITS)
    path = Path(out.strip().splitlines()[-1])
    result = Run.read(path)
    path.unlink()
    other = replace(result, split={"digest": "0" * 64, "counts": result.split["counts"]}).publish(path.parent)
    options = ["--dataset", "digits", "--ratio", "60", "--epochs", "2", "--seeds", "0"]
    assert "has split 00000000, not" in run("train", *DIGITS)[2]
    code, out, err = run("ablation-table", *options, "--json")
    assert code == 0
    assert {cell["n"] for cell in json.loads(out)["cells"]} == {0}
    assert f"skipped {other.path.name}: different split" in err


@pytest.fixture
def one_core(monkeypatch):
    """The demo trains in this process: workers, which test_workers has, take seconds to start."""
    monkeypatch.setattr(os, "cpu_count", lambda: 1)


def test_demo_writes_table_and_figure_and_says_what_one_sees(run, monkeypatch, one_core):
    monkeypatch.setitem(SETTINGS.datasets, "digits", SETTINGS.datasets["digits"] | {"epochs": 1, "epoch_steps": 1})
    code, out, _ = run("demo", "--out", "shown")
    assert code == 0
    assert {path.name for path in Path("shown").iterdir()} == {
        "runs",
        "table4.json",
        "table4.md",
        "classes.png",
        "classes.svg",
        "classes.csv",
    }
    cells = json.loads(Path("shown/table4.json").read_text())["cells"]
    assert [cell["n"] for cell in cells] == [3] * len(TABLE4.rows)
    sentences = out.strip().splitlines()[-1]
    assert sentences.count(". ") == 1
    assert sentences.endswith(".")


def test_the_nine_recipes_differ_only_in_branches_mixing_and_temperature():
    made = [cell.recipe for cell in TABLE4.with_settings(ratios(60), dataset="digits").cells()]
    assert len({recipe.key() for recipe in made}) == len(TABLE4.rows)
    plain, mixup, *rest = made
    assert (plain.method, mixup.method) == (CrossEntropy(), CrossEntropy("mixup"))
    assert len({recipe.replace(branches=2, mix="bilateral", tscale=True, eta=3.0).key() for recipe in rest}) == 1
    assert len({dataclasses.replace(recipe, method=plain.method).key() for recipe in made}) == 1


def test_methods_are_listed_with_their_settings(run):
    _, out, _ = run("methods")
    assert "dbn_mix: DBN-Mix." in out
    assert "per_branch, joint" in out
    _, out, _ = run("methods", "--json")
    listed = json.loads(out)["methods"]
    settings = {entry["name"]: entry["settings"] for entry in listed}
    assert {"name": "gamma", "default": "inf", "allowed": "a number above 0, or inf"} in settings["dbn_mix"]
    assert {"name": "gamma", "default": "1.0", "allowed": "a number above 0, or inf"} in settings["bbn"]


def test_methods_are_listed_with_what_they_cost(run, monkeypatch):
    """One that was not measured has a dash for every figure, and no entry in JSON."""
    stored = json.loads(COSTS.read_text())
    monkeypatch.setitem(METHODS, "unmeasured", DbnMix)
    printed = run("methods")[1].split("what each costs")[1]
    rows = [[part.strip() for part in line.split("│")[1:-1]] for line in printed.splitlines() if line.startswith("│")]
    assert ["unmeasured", *["—"] * 8] in rows
    for entry in stored["costs"]:
        settings = [f"{name}={value}" for name, value in entry["settings"].items()]
        (row,) = [row for row in rows if row[0] == " ".join([entry["method"], *settings])]
        assert row[4] == f"{entry['memory']:.2f}"
    assert stored["device"] in printed.splitlines()[-1]
    assert "`ltrepro bench --methods`" in printed.splitlines()[-1]
    document = json.loads(run("methods", "--json")[1])
    by_name = {entry["name"]: entry["costs"] for entry in document["methods"]}
    assert by_name["unmeasured"] == []
    assert [entry for result in by_name.values() for entry in result] == stored["costs"]
    assert document["costs_measured"]["date"] == stored["date"]


# help and wrong requests


def shown_commands():
    """Every command that the help lists, by name, in its order."""
    return {name: command for name, command in get_command(app).commands.items() if not command.hidden}


@pytest.mark.parametrize("name", shown_commands())
def test_help_begins_with_examples(name, run):
    code, out, _ = run(name, "--help")
    assert code == 0
    assert out.index(f"ltrepro {name}") < out.index("ltrepro " + name, out.index("Usage") + 20) < out.index("Options")


def test_the_help_lists_the_commands_in_groups_each_on_one_line_of_80_columns():
    placed = [name for names in PANELS.values() for name in names]
    assert list(shown_commands()) == placed
    room = 80 - 4 - max(map(len, placed)) - 2
    for name, shown in shown_commands().items():
        first = inspect.cleandoc(shown.help).partition("\n\n")[0]
        assert len(first) <= room, (name, first)
        lines = re.sub(r"\[/?bold\]", "", inspect.cleandoc(shown.help)).splitlines()
        assert [line for line in lines if len(line) > 78 and not line.startswith("ltrepro ")] == [], name


@pytest.mark.parametrize("name", shown_commands())
def test_every_option_is_explained_by_a_sentence(name):
    for option in shown_commands()[name].params:
        words = option.help or ""
        assert re.fullmatch(r"[A-Z1].{10,}[.]", words, re.DOTALL), (option.name, words)


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["ablation-table", "--help"]], ids=" ".join)
def test_help_imports_nothing_heavy_and_answers_at_once(words):
    script = "import sys; sys.argv[1:] = sys.argv[1:]\nfrom lt_repro.cli import main\ntry:\n main()\nfinally:\n"
    script += (
        " heavy = {'torch', 'numpy', 'matplotlib'} & set(sys.modules); sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *words], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


NPZ = {
    "train_images": np.zeros((6, 8, 8), np.uint8),
    "train_labels": np.array([0, 0, 0, 1, 1, 1]),
    "test_images": np.zeros((2, 8, 8), np.uint8),
    "test_labels": np.array([0, 1]),
}
WRONG = {
    "no such command": ["tarin"],
    "no such option": ["train", "--epoch", "3"],
    "no argument": ["make-dataset"],
    "no number": ["train", "--epochs", "many"],
    "unknown data set": ["make-dataset", "cifar1000"],
    "ratio below one": ["make-dataset", "digits", "--ratio", "0.5"],
    "ratio zero": ["make-dataset", "digits", "--ratio", "0"],
    "ratio nan": ["make-dataset", "digits", "--ratio", "nan"],
    "ratio inf": ["make-dataset", "digits", "--ratio", "inf"],
    "an empty class": ["make-dataset", "digits", "--ratio", "500"],
    "an empty class, train": ["train", "--dataset", "digits", "--ratio", "500"],
    "ratio and factor": ["make-dataset", "digits", "--ratio", "10", "--imb-factor", "0.1"],
    "factor of two": ["make-dataset", "digits", "--imb-factor", "2"],
    "factor zero": ["make-dataset", "digits", "--imb-factor", "0"],
    "unknown imb_type": ["make-dataset", "digits", "--imb-type", "linear"],
    "negative split seed": ["make-dataset", "digits", "--split-seed", "-1"],
    "npz that is not there": ["make-dataset", "npz:nothing.npz"],
    "npz that is a folder": ["make-dataset", "npz:."],
    "npz that is no npz": ["make-dataset", "npz:text.npz"],
    "npz cut short": ["make-dataset", "npz:cut.npz", "--ratio", "2"],
    "labels do not match": ["train", "--dataset", "npz:labels.npz", "--ratio", "2"],
    "npz of objects": ["make-dataset", "npz:objects.npz"],
    "out that is a folder": ["make-dataset", "digits", "--out", "."],
    "a name too long": ["show", "x" * 300],
    "crop larger than the image": ["train", "--dataset", "digits", "--set", "crop=1000000"],
    "unwritable out": ["make-dataset", "digits", "--out", "text.npz/a.json"],
    "unwritable runs": ["train", "--dataset", "digits", "--out", "text.npz"],
    "unwritable tables": ["ablation-table", "--out", "text.npz"],
    "unwritable figures": ["plot-hparams", "--out", "text.npz"],
    "unwritable demo": ["demo", "--out", "text.npz"],
    "arch": ["train", "--arch", "tbn"],
    "mix": ["train", "--dataset", "digits", "--mix", "cutmix"],
    "dbn with mixup": ["train", "--dataset", "digits", "--arch", "dbn", "--mix", "mixup"],
    "method and arch": ["train", "--method", "dbn_mix", "--arch", "dbn"],
    "method and mix": ["train", "--method", "dbn_mix", "--mix", "none"],
    "method and tscale": ["train", "--method", "dbn_mix", "--tscale"],
    "unknown method": ["train", "--dataset", "digits", "--method", "dbnmix"],
    "unknown field": ["train", "--dataset", "digits", "--set", "parts=block"],
    "unknown value": ["train", "--dataset", "digits", "--arch", "dbn", "--set", "branch_at=layer5"],
    "field without value": ["train", "--dataset", "digits", "--set", "lr"],
    "empty field": ["train", "--dataset", "digits", "--set", "lr="],
    "field twice": ["train", "--dataset", "digits", "--set", "lr=0.1", "--set", "lr=0.2"],
    "option and field": ["train", "--dataset", "digits", "--epochs", "3", "--set", "epochs=4"],
    "seed and field": ["train", "--dataset", "digits", "--seed", "4", "--set", "seed=4"],
    "data set as field": ["train", "--dataset", "digits", "--set", "dataset=cifar10"],
    "eta without tscale": ["train", "--dataset", "digits", "--eta", "5"],
    "alpha without mix": ["train", "--dataset", "digits", "--alpha", "0.5"],
    "gamma without a reverse batch": ["train", "--dataset", "digits", "--gamma", "2"],
    "part of one branch": ["train", "--dataset", "digits", "--set", "branch_at=layer3"],
    "alpha zero": ["train", "--dataset", "digits", "--mix", "bilateral", "--alpha", "0"],
    "eps above one": ["train", "--dataset", "digits", "--tscale", "--eps", "1.5"],
    "eta nan": ["train", "--dataset", "digits", "--tscale", "--eta", "nan"],
    "gamma below zero": ["train", "--dataset", "digits", "--arch", "dbn", "--gamma", "-1"],
    "no epochs": ["train", "--dataset", "digits", "--epochs", "0"],
    "eval never": ["train", "--dataset", "digits", "--eval-every", "0"],
    "seed below zero": ["train", "--dataset", "digits", "--seed", "-1"],
    "device": ["train", "--dataset", "digits", "--device", "tpu"],
    "precision": ["train", "--dataset", "digits", "--precision", "fp8"],
    "grey with shared constants": ["train", "--dataset", "digits", "--set", "normalise=shared"],
    "net": ["train", "--dataset", "digits", "--set", "net=resnet50"],
    "bool": ["train", "--dataset", "digits", "--set", "flip=maybe"],
    "run that is not there": ["show", "cifar100"],
    "folder that is not there": ["ablation-table", "--runs", "nowhere"],
    "seeds": ["ablation-table", "--seeds", "two"],
    "seeds without end": ["ablation-table", "--seeds", "0-9999999999"],
    "seeds of three ends": ["ablation-table", "--seeds", "0-1-5"],
    "plan and run": ["ablation-table", "--dataset", "digits", "--plan", "--run"],
    "a seed of 300 digits": ["train", "--dataset", "digits", "--seed", "9" * 300],
    "seeds backwards": ["ablation-table", "--seeds", "3-1"],
    "ratio of a table": ["ablation-table", "--ratio", "0"],
    "data set of a table": ["ablation-table", "--dataset", "cifra100"],
    "epochs of a table": ["plot-hparams", "--epochs", "0"],
    "run of a table without data": ["ablation-table", "--run"],
    "crt without a parent": ["train", "--dataset", "digits", "--method", "crt"],
    "frozen without a parent": ["train", "--dataset", "digits", "--set", "frozen=true"],
    "parent that is not there": ["train", "--method", "crt", "--set", "parent=digits-r60"],
    "a parent without a name": ["train", "--method", "crt", "--set", "parent"],
    "two parents": ["train", "--method", "crt", "--set", "parent=a", "--set", "parent=b"],
    "ratio that is no number": ["train", "--dataset", "digits", "--ratio", "many"],
    "as-is and an imb_type": ["make-dataset", "digits", "--ratio", "as-is", "--imb-type", "step"],
    "as-is and a factor": ["make-dataset", "digits", "--ratio", "as-is", "--imb-factor", "0.1"],
    "as_is with another ratio": ["train", "--dataset", "digits", "--ratio", "10", "--set", "imb_type=as_is"],
    "drops under a cosine": ["train", "--dataset", "digits", "--set", "schedule=cosine", "--set", "milestones=0.5"],
    "schedule": ["train", "--dataset", "digits", "--set", "schedule=linear"],
    "folder that is no folder": ["make-dataset", "folder:text.npz"],
    "folder without train": ["make-dataset", "folder:."],
    "plan and run of crt": ["crt", "--plan", "--run", "--dataset", "digits"],
    "runs to plot that are not there": ["plot-classes", "cifar10"],
    "runs to plot and options": ["plot-classes", "cifar10", "--ratio", "3"],
    "an empty run": ["show", ""],
    "an empty parent": ["train", "--method", "crt", "--set", "parent="],
    "unwritable classes": ["plot-classes", "--out", "text.npz"],
    "option of bbn": ["train", "--dataset", "digits", "--method", "bbn", "--eta", "3"],
    "gamma of bbn": ["train", "--dataset", "digits", "--method", "bbn", "--gamma", "0"],
}


MESSAGES = json.loads((Path(__file__).parent / "wrong_requests.json").read_text())
"""What each of them prints: read by a person before it was stored. A text alone is what a message of typer's names."""
LISTS = {
    "METHODS": sorted(METHODS),
    "DATASETS": sorted([*sets.names(), "folder:DIR", "npz:FILE"]),
    "SETTINGS": sorted(field_types(DbnMix).keys() - {"dataset", "parents"}),
    "BBN": list(field_types(METHODS["bbn"])),
}


@pytest.fixture
def bad_files():
    Path("text.npz").write_text("no archive")
    np.savez("whole.npz", **NPZ)
    Path("cut.npz").write_bytes(Path("whole.npz").read_bytes()[:-300])
    np.savez("labels.npz", **NPZ | {"train_labels": np.array([0, 1])})
    np.savez("objects.npz", **NPZ | {"train_labels": np.array([0, 0, 0, 1, 1, "x"], dtype=object)}, allow_pickle=True)


@pytest.mark.parametrize("words", WRONG.values(), ids=WRONG)
def test_a_wrong_request_exits_with_2_and_changes_nothing(words, refused, bad_files, one_core, tmp_path):
    before = sorted(path for path in tmp_path.rglob("*"))
    message = refused(*words).replace(str(tmp_path), "HERE")
    assert sorted(path for path in tmp_path.rglob("*")) == before
    (name,) = (name for name, other in WRONG.items() if other is words)
    if isinstance(MESSAGES[name], str):
        first, second = message.splitlines()
        assert MESSAGES[name] in first
        assert second == "  `ltrepro --help` and `ltrepro COMMAND --help` list what is allowed"
        return
    expected = "\n".join(MESSAGES[name])
    for word, listed in LISTS.items():
        expected = expected.replace(word, ", ".join(listed))
    assert message.splitlines() == expected.splitlines()


def test_names_are_suggested(refused):
    assert "did you mean 'bilateral'" in refused("train", "--dataset", "digits", "--mix", "bilatral")
    assert "did you mean 'cifar100'" in refused("make-dataset", "cifar-100")
    assert "train" in refused("tarin")
    assert "did you mean 'branch_at'" in refused("train", "--dataset", "digits", "--set", "branch_ta=block")


def test_a_damaged_stored_file_exits_with_1_and_stays(run, refused, tmp_path):
    _, out, _ = run("train", *DIGITS)
    path = Path(out.strip().splitlines()[-1])
    path.write_text(path.read_text()[:-40])
    before = path.read_bytes()
    refused("show", path, code=1)
    refused("train", *DIGITS, code=1)
    archive = tmp_path / "data" / "cifar-100-python.tar.gz"
    archive.parent.mkdir()
    archive.write_bytes(b"half an archive")
    refused("train", "--epochs", "1", code=1)
    assert (path.read_bytes(), archive.read_bytes()) == (before, b"half an archive")


def test_debug_shows_the_traceback(run):
    code, _, err = run("make-dataset", "digits", "--ratio", "0", "--debug")
    assert code == 2
    assert "Traceback" in err


@pytest.mark.parametrize("words", ["make-dataset digits", "make-dataset digits --json", "methods"])
def test_a_reader_that_goes_away_is_no_error(words):
    done = subprocess.run(
        f"set -o pipefail; {shlex.quote(sys.executable)} -m lt_repro {words} | true",
        executable="/bin/bash",
        shell=True,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_console_without_the_signs_shows_others():
    words = [sys.executable, "-m", "lt_repro", "make-dataset", "digits"]
    done = subprocess.run(
        words, capture_output=True, timeout=60, check=False, env=os.environ | {"PYTHONIOENCODING": "ascii"}
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"?" in done.stdout


def test_progress_that_nobody_reads_stops_no_run():
    words = (
        f"{shlex.quote(sys.executable)} -m lt_repro train {shlex.join(DIGITS)} --eval-every 1 2>&1 >/dev/null | true"
    )
    subprocess.run(words, shell=True, timeout=120, check=True)
    assert len(list(Path("runs").glob("*.json"))) == 1


def test_no_colour_and_no_bar_when_piped(run):
    code, out, err = run("train", *DIGITS)
    assert code == 0, err
    assert "\x1b" not in out + err


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["train", "--resume", "x"], "rerun the same command"),
        (["train", "--train-ratio", "0.01"], "type --ratio 100"),
        (["train", "--loss_type", "LDAM"], "type --method NAME"),
        (["reproduce", "table4", "--gpu", "0"], "type --device cuda"),
        (["reproduce", "table4", "--learning-rate", "0.2"], "type --lr 0.1"),
        (["train", "--wd", "5e-4"], "type --weight-decay 2e-4"),
        (["train", "--no-such-thing"], "list what is allowed"),
    ],
)
def test_options_of_other_codes_say_what_to_type_here(words, hint, run):
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert hint in err


def test_exhibits_are_found_in_capitals_and_a_near_name_is_suggested(run):
    code, out, _ = run("reproduce", "Table4", "--render-only", "--json")
    assert code == 0
    assert {cell["exhibit"] for cell in json.loads(out)["cells"]} == {"table4"}
    code, _, err = run("reproduce", "Tabel4")
    assert (code, err.count("allowed:")) == (2, 1)
    assert "did you mean 'table4'?" in err


@pytest.mark.parametrize("text", ["1h30", "30", "m", "", "1m1h", "-5m"])
def test_a_budget_without_a_unit_is_refused(text, run):
    code, _, err = run("reproduce", "table4", f"--budget={text}")
    assert code == 2
    assert "such as 9m, 90s or 1h30m" in err


def test_a_factor_makes_one_split_in_train_and_make_dataset(run):
    made = json.loads(run("make-dataset", "digits", "--imb-factor", "0.03", "--json")[1])
    words = ["--epochs", "1", "--set", "epoch_steps=1", "--json"]
    trained = json.loads(run("train", "--dataset", "digits", "--imb-factor", "0.03", *words)[1])
    assert trained["split"]["digest"] == made["digest"]


def test_the_options_of_other_codes_work_on_train(run):
    """They give the same run as ours."""
    words = ["train", "--dataset", "digits", "--epochs", "1", "--set", "epoch_steps=1", "--json"]
    keys = []
    for more in (
        ["--imb-factor", "0.05", "--lr", "0.2", "--batch-size", "16", "--weight-decay", "0.001"],
        ["--ratio", "20", "--set", "lr=0.2", "--set", "batch=16", "--set", "weight_decay=0.001"],
    ):
        code, out, err = run(*words, *more)
        assert code == 0, err
        keys.append(json.loads(out)["key"])
    assert keys[0] == keys[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--ratio", "0.01"], "type --ratio 100"),
        (["--imb-factor", "100"], "above 0 and up to 1"),
        (["--imb-factor", "0"], "above 0 and up to 1"),
        (["--imb-factor", "0.01", "--ratio", "100"], "together"),
        (["--lr", "0.1", "--set", "lr=0.2"], "lr is given twice"),
        (["--batch-size", "0"], "batch = 0"),
    ],
)
def test_a_factor_is_not_a_ratio_and_nothing_is_given_twice(words, message, run):
    code, out, err = run("train", "--dataset", "digits", *words)
    assert (code, out) == (2, "")
    assert message in err
