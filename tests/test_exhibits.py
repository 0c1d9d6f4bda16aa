"""The commands of Table 5, Table 6 and Fig. 1 as a user types them, parents included, and a folder of own images."""

import csv
import io
import json
import math
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lt_repro.cli.plan import command
from lt_repro.data import load
from lt_repro.methods.cross_entropy import CrossEntropy
from lt_repro.methods.dbn_mix import DbnMix
from lt_repro.papers.dbn_mix.settings import SETTINGS
from lt_repro.papers.dbn_mix.tables import TABLE5, TABLE6
from lt_repro.store import locks
from lt_repro.store.runs import Run
from lt_repro.sweep.plan import missing
from lt_repro.sweep.runner import Failed, run_all

pytestmark = pytest.mark.usefixtures("elsewhere")
DATASET = ["--dataset", "digits", "--ratio", "60", "--epochs", "2", "--seeds", "0"]


def trained(run, *words):
    code, out, err = run("train", *words)
    assert code == 0, err
    return Run.read(Path(out.strip().splitlines()[-1]))


def test_crt_trains_parents_first_and_uses_those_that_have_run(run):
    code, out, err = run("crt", *DATASET, "--run")
    assert code == 0, err
    assert "run 13/13" in err
    runs = {path.stem: Run.read(path) for path in Path("runs").glob("*.json")}
    assert len(runs) == 13
    children = [result for result in runs.values() if result.recipe.parents]
    assert len(children) == 8
    for child in children:
        parent = runs[child.parents["features"]["key"]]
        assert child.parents == {"features": {"key": parent.recipe.key(), "weights": parent.weights["sha256"]}}
        assert child.recipe.parents["features"] == parent.recipe
    for half in "ab":
        text = Path(f"tables/table6{half}-digits-e2-r60.md").read_text()
        assert "4 of 4 cells measured; runs 4; n 1; profile set by hand; epochs 2 + 2" in text
        assert "published" not in text
        assert "parent epochs 2 (default: 60)" in text
    before = {path: path.stat().st_mtime_ns for path in Path("runs").iterdir()}
    code, again, err = run("crt", *DATASET, "--run")
    assert (code, again) == (0, out)
    assert {path: path.stat().st_mtime_ns for path in Path("runs").iterdir()} == before


def test_the_plan_names_parents_first_and_its_commands_fill_the_table(run):
    _, out, err = run("crt", *DATASET, "--plan")
    lines = out.strip().splitlines()
    assert len(lines) == 13
    assert "13 runs missing" in err
    for line in lines[:2] + lines[8:10]:  # a parent and its child, of either half
        trained(run, *shlex.split(line)[2:])
    _, out, err = run("crt", *DATASET, "--plan")
    assert out.strip().splitlines() == lines[2:8] + lines[10:]
    _, out, _ = run("crt", *DATASET, "--json")
    assert [cell["status"] for cell in json.loads(out)["cells"]] == ["done", *["missing"] * 3] * 2


@pytest.mark.parametrize("table", [TABLE5, *TABLE6], ids=lambda table: table.id)
def test_commands_say_every_recipe_apart(table):
    requested = missing([table], []).recipes
    assert len({command(recipe, "cifar100") for recipe in requested}) == len(requested)
    assert {recipe.key() for recipe in requested} >= {recipe.key() for recipe in table.recipes()}
    places = {recipe.key(): i for i, recipe in enumerate(requested)}
    assert all(
        places[recipe.parents["features"].key()] < places[recipe.key()] for recipe in requested if recipe.parents
    )


def test_a_parent_whose_weights_are_gone_is_said_to_be_so_and_trained_again(run, refused):
    parent = trained(run, "--dataset", "digits", "--ratio", "60", "--epochs", "2", "--mix", "mixup")
    weights = parent.path.with_suffix(".pt")
    content, record = weights.read_bytes(), parent.path.read_bytes()
    weights.unlink()
    key = parent.recipe.key()
    message = refused("train", "--method", "crt", "--set", f"parent={key}")
    assert f"the weights file of {key} is missing" in message
    assert "--force" in message
    _, out, err = run("crt", *DATASET, "--plan")
    assert f"note: parent {key} has no weights file" in err
    assert len(out.strip().splitlines()) == 13
    code, _, err = run("crt", *DATASET, "--run")
    assert code == 0, err
    assert f"note: parent {key} has no weights file" in err
    assert weights.read_bytes() == content
    assert parent.path.read_bytes() == record
    assert not list(Path("runs").glob("*.ckpt"))


def test_the_plan_for_weights_that_are_gone_can_be_typed(run):
    code, _, err = run("crt", *DATASET, "--run")
    assert code == 0, err
    for path in Path("runs").glob("*.pt"):
        path.unlink()
    for path in Path("runs").glob("*crt*.json"):
        path.unlink()
    _, out, _ = run("crt", *DATASET, "--plan")
    lines = out.strip().splitlines()
    assert len(lines) == 8
    assert [line.endswith(" --force") for line in lines] == [True, False] * 4
    for line in lines:
        trained(run, *shlex.split(line)[2:])
    _, out, err = run("crt", *DATASET, "--plan")
    assert (out, err.count("note")) == ("", 0)
    assert len(list(Path("runs/superseded").glob("*.json"))) == 4


def test_the_plan_names_a_parent_in_another_folder_by_its_path(run):
    trained(run, "--dataset", "digits", "--ratio", "60", "--epochs", "2", "--mix", "mixup", "--out", "one")
    _, out, _ = run("crt", *DATASET, "--runs", "two", "--runs", "one", "--plan")
    lines = [line for line in out.splitlines() if "parent=one/" in line]
    assert len(lines) == 4
    child = trained(run, *shlex.split(lines[0])[2:])
    assert child.path.parent == Path("two")


def test_a_path_names_the_run_at_that_path(run, refused):
    parent = trained(run, "--dataset", "digits", "--ratio", "60", "--epochs", "2")
    other = Path("bad") / parent.path.name
    other.parent.mkdir()
    other.write_bytes(parent.path.read_bytes())
    other.with_suffix(".pt").write_bytes(b"xx")
    assert "bad" in refused("train", "--method", "crt", "--set", f"parent={other}", code=1)
    child = trained(run, "--method", "crt", "--set", f"parent={parent.path.with_suffix('.pt')}")
    assert child.parents["features"]["weights"] == parent.weights["sha256"]
    other.unlink()
    replace(parent, weights={"file": "x", "sha256": "0" * 64}).publish(Path("bad"))
    assert "started from other weights" in refused("train", "--method", "crt", "--set", f"parent={other}")


def test_an_exhibit_that_cannot_be_written_is_said_before_training(run):
    Path("file").touch()
    code, _, err = run("branch-table", *DATASET, "--run", "--out", "file/x")
    assert code == 2
    assert not Path("runs").exists()
    assert "run 1/" not in err


def test_train_again_puts_the_old_run_aside(run):
    first = trained(run, "--dataset", "digits", "--ratio", "60", "--epochs", "1")
    code, _, err = run("train", "--dataset", "digits", "--ratio", "60", "--epochs", "1", "--force")
    assert code == 0
    aside = Path("runs/superseded") / f"{first.recipe.key()}-1.json"
    assert f"the old run is {aside}" in err
    assert json.loads(aside.read_text())["weights"] == first.weights
    assert Run.read(first.path).weights == first.weights
    run("train", "--dataset", "digits", "--ratio", "60", "--epochs", "1", "--force")
    assert len(list(aside.parent.iterdir())) == 4
    with locks.lock(Path("runs"), first.recipe.key()) as mine:
        code, _, err = run("train", "--dataset", "digits", "--ratio", "60", "--epochs", "1", "--force")
        assert (mine, code) == (True, 2)
        assert "another process" in err
    assert len(list(aside.parent.iterdir())) == 4


def test_a_damaged_run_file_stops_no_other_run_of_the_queue(run):
    first = trained(run, "--dataset", "digits", "--ratio", "60", "--epochs", "1", "--mix", "mixup")
    first.path.write_text("{")
    recipes = [first.recipe.replace(seed=seed) for seed in (0, 1)]
    bad, good = run_all(recipes, load.load_pool("digits", Path()), Path("runs"))
    assert isinstance(bad, Failed)
    assert str(first.path) in bad.error
    assert good.status == "done"
    assert first.path.read_text() == "{"


def test_weights_that_come_out_otherwise_are_not_put_beside_the_run_file(run, monkeypatch):
    parent = trained(run, "--dataset", "digits", "--ratio", "60", "--epochs", "2", "--mix", "mixup")
    parent.path.with_suffix(".pt").unlink()
    record = parent.path.read_bytes()
    monkeypatch.setattr("lt_repro.recipe.learning_rate", lambda *args, **kwargs: 0.05)
    code, _, err = run("crt", *DATASET, "--run")
    assert code == 3
    assert "gave other weights" in err
    assert "run 9/13" in err  # runs that do not start from it are trained
    assert len(list(Path("runs").glob("*crt*.json"))) == 4
    assert err.count("failed: ") == 5
    assert parent.path.read_bytes() == record
    assert not parent.path.with_suffix(".pt").exists()


def test_a_parent_that_diverges_on_the_way_stops_nothing_else(run, monkeypatch):
    plain = CrossEntropy.loss

    def broken(self, net, batches, at):
        return plain(self, net, batches, at) * (math.nan if self.mix == "mixup" else 1.0)

    monkeypatch.setattr(CrossEntropy, "loss", broken)
    code, out, err = run("crt", *DATASET, "--run")
    assert code == 3
    assert err.count("failed: ") == 4
    assert err.count("diverged") >= 4
    assert len(list(Path("runs").glob("*crt*.json"))) == 4
    _, out, _ = run("crt", *DATASET, "--json")
    reasons = [cell["reason"] for cell in json.loads(out)["cells"]]
    assert reasons[:4] == [None] * 4
    assert all("diverged" in reason for reason in reasons[4:])
    assert "Not measured: " in Path("tables/table6b-digits-e2-r60.md").read_text()


def test_an_error_in_one_run_leaves_a_record_and_stops_no_other(run, monkeypatch):
    plain = DbnMix.loss

    def broken(self, net, batches, at):
        if self.tscale:
            raise ZeroDivisionError("by the test")
        return plain(self, net, batches, at)

    monkeypatch.setattr(DbnMix, "loss", broken)
    code, _, err = run("ablation-table", *DATASET, "--run")
    assert code == 3
    assert err.count("failed: ") == 4
    records = list(Path("runs").glob("*.failed.json"))
    assert len(records) == 4
    assert "ZeroDivisionError: by the test" in json.loads(records[0].read_text())["error"]
    _, out, _ = run("status")
    assert "5 done" in out
    assert "4 failed" in out
    code, _, err = run("train", *DATASET[:-2], "--tscale")
    assert (code, "ZeroDivisionError" in err, "Traceback" in err) == (1, True, False)
    monkeypatch.setattr(DbnMix, "loss", plain)
    code, _, err = run("ablation-table", *DATASET, "--run")
    assert (code, len(list(Path("runs").glob("*.failed.json")))) == (0, 0)


def test_a_parent_in_the_tables_without_weights_is_trained_again_beside(run):
    parent = trained(run, "--dataset", "digits", "--ratio", "60", "--epochs", "2", "--mix", "mixup")
    Path("tables/runs").mkdir(parents=True)
    parent.path.rename(Path("tables/runs") / parent.path.name)
    parent.path.with_suffix(".pt").unlink()
    code, _, err = run("crt", *DATASET, "--run")
    assert code == 0, err
    assert "has no weights file: it is trained again" in err
    assert parent.path.exists()
    assert parent.path.with_suffix(".pt").exists()


def test_nothing_begins_with_a_parent_that_diverged(run):
    parent = trained(run, "--dataset", "digits", "--ratio", "60", "--epochs", "2", "--mix", "mixup")
    parent.path.unlink()
    parent.path.with_suffix(".pt").unlink()
    replace(parent, status="diverged", result=None, weights=None, diverged={"epoch": 0, "step": 1}).publish(
        Path("runs")
    )
    _, out, err = run("crt", *DATASET, "--plan")
    assert "diverged, so its children cannot be trained" in err
    assert len(out.strip().splitlines()) == 8


def test_a_parent_may_be_given_by_path_and_gives_images_seed_and_network(run):
    parent = trained(run, "--dataset", "digits", "--ratio", "20", "--epochs", "1", "--seed", "3", "--out", "elsewhere")
    child = trained(run, "--method", "crt", "--set", f"parent={parent.path}", "--set", "crop=0")
    assert (child.recipe.dataset, child.recipe.ratio, child.recipe.seed) == ("digits", 20.0, 3)
    assert child.recipe.parents["features"] == parent.recipe
    assert child.path.parent == Path("runs")
    _, out, _ = run("show", child.recipe.key())
    assert parent.recipe.key() in out
    assert parent.weights["sha256"] in "".join(out.split())
    assert "parent epochs 1 (default: 60)" in out


def test_branch_table_shows_branches_and_groups(run):
    code, out, err = run("branch-table", *DATASET, "--run")
    assert code == 0, err
    assert "run 2/2" in err
    trained = {Run.read(path).recipe.method.name(): Run.read(path) for path in Path("runs").glob("*.json")}
    _, out, _ = run("branch-table", *DATASET, "--json")
    cells = {(cell["row"], cell["column"]): cell["mean"] for cell in json.loads(out)["cells"]}
    for label, name in (("bbn", "bbn"), ("dbn+bm+ts", "dbn_mix")):
        result = trained[name].result
        assert cells[f"{label}/final", "few"] == result["accuracy"]["few"]
        assert cells[f"{label}/rebalancing", "many"] == result["branches"]["rebalancing"]["accuracy"]["many"]
        assert cells[f"{label}/conventional", "all"] == result["branches"]["conventional"]["accuracy"]["all"]
    assert "BBN, re-balancing branch" in Path("tables/table5-digits-e2-r60.md").read_text()


def test_branch_table_of_the_paper_shows_published_beside_missing(run):
    code, _, _ = run("branch-table")
    text = Path("tables/table5.md").read_text()
    assert code == 0
    assert "| — | 66.55 |" in text
    assert text.count("| —") == len(list(TABLE5.cells()))


def test_plot_classes_draws_the_papers_three(run):
    code, out, err = run("plot-classes", *DATASET, "--run")
    assert code == 0, err
    assert "run 3/3" in err
    lines = list(csv.DictReader(io.StringIO(Path("figures/fig1-digits-e2-r60.csv").read_text())))
    assert len(lines) == 30
    assert {line["series"] for line in lines} == {"Vanilla", "BBN", "DBN-Mix"}
    for suffix in ("png", "svg"):
        assert Path(f"figures/fig1-digits-e2-r60.{suffix}").stat().st_size > 1000
    _, out, _ = run("plot-classes", *DATASET, "--json")
    document = json.loads(out)
    bbn = next(Run.read(path) for path in Path("runs").glob("*bbn*.json"))
    assert [entry["series"]["BBN"]["mean"] for entry in document["classes"]] == bbn.result["per_class"]
    assert [entry["images"] for entry in document["classes"]] == bbn.split["counts"]
    assert [cell["row"] for cell in document["cells"]] == ["sbn", "bbn", "dbn+bm+ts"]


def test_plot_classes_before_anything_has_run_shows_the_images_and_what_is_not_run(run):
    code, out, _ = run("plot-classes")
    assert code == 0
    lines = list(csv.DictReader(io.StringIO(Path("figures/fig1.csv").read_text())))
    counts = [5000, 2775, 1540, 854, 474, 263, 146, 81, 45, 25]
    assert [int(line["images"]) for line in lines if line["series"] == "BBN"] == counts
    assert {line["mean"] for line in lines} == {""}
    assert "│ 0 " in out
    assert "65.87†" in out


def test_plot_classes_of_chosen_runs(run, refused):
    first = trained(run, "--dataset", "digits", "--ratio", "60", "--epochs", "1")
    second = trained(run, "--dataset", "digits", "--ratio", "60", "--epochs", "1", "--tscale")
    other = trained(run, "--dataset", "digits", "--ratio", "10", "--epochs", "1")
    code, out, _ = run("plot-classes", first.recipe.key(), str(second.path))
    assert code == 0
    assert "Cross-entropy" in out
    assert "DBN-Mix (" in out
    stem = Path(out.strip().splitlines()[-1])
    assert stem.name.startswith("classes-")
    _, out, _ = run("plot-classes", first.recipe.key(), second.recipe.key(), "--json")
    shown = json.loads(out)["classes"]
    assert [entry["series"]["Cross-entropy"]["mean"] for entry in shown] == first.result["per_class"]
    assert "different splits" in refused("plot-classes", first.recipe.key(), other.recipe.key())


# own images


@pytest.fixture
def birds():
    """Four kinds that differ in brightness: 24, 12, 6, 3 to train, 4 each to test; two sizes, two formats."""
    rng = np.random.default_rng(0)
    for part, sizes in (("train", (24, 12, 6, 3)), ("val", (4, 4, 4, 4))):
        for k, (name, size) in enumerate(zip(("wren", "auk", "tern", "ibis"), sizes, strict=True)):
            folder = Path("birds") / part / name
            folder.mkdir(parents=True)
            for i in range(size):
                pixels = rng.integers(0, 50, (40 + 8 * (i % 2), 40, 3)) + 60 * k
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.{('png', 'jpg')[i % 2]}")
    return "folder:birds"


SHORT = ["--epochs", "1", "--seeds", "0"]


def test_a_folder_goes_through_every_command_as_it_is(run, birds, monkeypatch):
    monkeypatch.setitem(SETTINGS.others, "net", "resnet8")
    options = [birds, "--ratio", "as-is"]
    code, out, err = run("make-dataset", *options, "--json")
    assert code == 0, err
    split = json.loads(out)
    assert split["counts"] == [12, 3, 6, 24]
    assert (split["ratio"], split["imb_type"], split["n_test"]) == (8.0, "as_is", 16)
    _, out, _ = run("make-dataset", *options)
    assert all(f"{name} " in out for name in ("auk", "ibis", "tern", "wren"))
    options = ["--dataset", birds, "--ratio", "as-is"]
    result = trained(run, *options, "--epochs", "1")
    assert result.split["class_names"] == ["auk", "ibis", "tern", "wren"]
    assert result.split["digest"] == split["digest"]
    assert (result.recipe.ratio, result.recipe.imb_type) == (8.0, "as_is")
    for name, runs in {"ablation-table": 9, "branch-table": 1, "crt": 8, "plot-classes": 0, "plot-hparams": 33}.items():
        code, out, err = run(name, *options, *SHORT, "--plan")
        planned = out.strip().splitlines()
        if name != "plot-hparams":
            code, out, err = run(name, *options, *SHORT, "--run")
            assert code == 0, (name, err)
        else:
            assert len(planned) == runs
        assert all("--ratio as-is" in line or "parent=" in line for line in planned)
    code, out, _ = run("plot-classes", *options, *SHORT)
    rows = [line for line in out.splitlines() if any(bird in line for bird in ("auk", "ibis", "tern", "wren"))]
    assert [row.split()[1] for row in rows] == ["wren", "auk", "tern", "ibis"]
    assert len(list(Path("tables").glob("*-e1-as-is.md"))) == 4
    parent = next(Run.read(path) for path in Path("runs").glob("*dbn_mix-e1-s0*") if path.suffix == ".json")
    child = trained(run, "--dataset", birds, "--method", "crt", "--set", f"parent={parent.recipe.key()}")
    assert child.recipe.imb_type == "as_is"


def test_the_dataset_of_a_parent_of_own_images_must_be_named(run, refused, birds, monkeypatch):
    monkeypatch.setitem(SETTINGS.others, "net", "resnet8")
    parent = trained(run, "--dataset", birds, "--ratio", "3", "--epochs", "1")
    assert "--dataset" in refused("train", "--method", "crt", "--set", f"parent={parent.recipe.key()}")
    assert "but the parent has dataset=" in refused(
        "train", "--dataset", "digits", "--method", "crt", "--set", f"parent={parent.recipe.key()}"
    )


def test_a_damaged_image_is_named_by_every_command(refused, birds):
    path = Path("birds/train/auk/3.jpg")
    path.write_bytes(path.read_bytes()[:200])
    for words in (["make-dataset", birds], ["train", "--dataset", birds], ["crt", "--dataset", birds, "--run"]):
        assert "train/auk/3.jpg" in refused(*words)


def test_a_long_tail_as_it_is_of_the_digits_keeps_every_image(run):
    pool = load.load_pool("digits", Path())
    result = trained(run, "--dataset", "digits", "--ratio", "as-is", "--epochs", "1")
    assert sum(result.split["counts"]) == len(pool.train_labels) - 500
    code, out, _ = run(
        "ablation-table", "--dataset", "digits", "--ratio", "as-is", "--epochs", "1", "--seeds", "0", "--json"
    )
    assert code == 0
    assert [cell["n"] for cell in json.loads(out)["cells"]] == [1] + [0] * 8


def test_a_run_file_cannot_steer_the_terminal(run):
    result = trained(run, "--dataset", "digits", "--ratio", "60", "--epochs", "1", "--out", "elsewhere")
    replace(result, device="cpu\x1b]0;owned\x07").publish(Path("runs"))
    code, out, err = run("show", f"runs/{result.recipe.key()}.json")
    assert code == 0
    assert "cpu?]0;owned?" in out
    assert "\x1b]0" not in out + err
