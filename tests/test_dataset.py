"""A user's images, `npz:FILE` and `folder:DIR`, through the commands: which of them are used, and what is said."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lt_repro.papers.dbn_mix.settings import SETTINGS
from lt_repro.papers.dbn_mix.tables import TABLE4
from lt_repro.store.runs import Run

pytestmark = pytest.mark.usefixtures("elsewhere")
DIGITS = ["train", "--dataset", "digits", "--epochs", "1"]


@pytest.fixture(autouse=True)
def _small_net(monkeypatch):
    monkeypatch.setitem(SETTINGS.others, "net", "resnet8")


def saved(sizes=(24, 6, 3), name="mine.npz", **changes):
    """A file of grey noise, 8x8, with so many training images of each class and two test images."""
    labels, tests = np.repeat(np.arange(len(sizes)), sizes), np.repeat(np.arange(len(sizes)), 2)
    rng = np.random.default_rng(0)
    arrays = {
        "train_images": rng.integers(0, 256, (len(labels), 8, 8), dtype=np.uint8),
        "test_images": rng.integers(0, 256, (len(tests), 8, 8), dtype=np.uint8),
    }
    np.savez(name, **arrays | {"train_labels": labels, "test_labels": tests} | changes)
    return f"npz:{name}"


def trained(run, *words):
    code, out, err = run("train", *words, "--epochs", "1")
    assert code == 0, err
    return Run.read(Path(out.strip().splitlines()[-1])), err


# --- the ratio ------------------------------------------------------------------------------------------------------


def test_own_images_are_used_as_they_are(run):
    result, err = trained(run, "--dataset", saved())
    assert (result.split["counts"], result.recipe.imb_type, result.recipe.ratio) == ([24, 6, 3], "as_is", 8.0)
    assert "training images" not in err
    typed, _ = trained(run, "--dataset", "npz:mine.npz", "--ratio", "as-is", "--out", "other")
    assert typed.recipe.key() == result.recipe.key()
    code, out, _ = run("make-dataset", "npz:mine.npz", "--json")
    assert (code, json.loads(out)["counts"], json.loads(out)["imb_type"]) == (0, [24, 6, 3], "as_is")


def test_a_ratio_that_is_given_wins_and_train_prints_the_counts(run):
    result, err = trained(run, "--dataset", saved(), "--ratio", "3")
    assert result.split["counts"] == [3, 1, 1]
    assert "note: ratio 3 takes 5 of 33 training images, 0: 3, 1: 1, 2: 1; --ratio as-is takes all\n" in err
    assert trained(run, "--dataset", "npz:mine.npz", "--set", "ratio=3")[0].recipe.key() == result.recipe.key()
    for words in (["--ratio", "3"], ["--imb-factor", "0.333333333333"], ["--ratio", "3", "--imb-type", "step"]):
        assert json.loads(run("make-dataset", "npz:mine.npz", *words, "--json")[1])["n_train"] == 5


def test_an_imb_type_alone_is_refused_for_own_images(run, refused):
    name = saved()
    for words in (["make-dataset", name, "--imb-type", "step"], ["train", "--dataset", name, "--set", "imb_type=exp"]):
        assert "without a ratio" in (err := refused(*words))
        assert "add --ratio N" in err
    result, _ = trained(run, "--dataset", name, "--set", "imb_type=as_is")
    assert result.split["counts"] == [24, 6, 3]


def test_a_second_stage_keeps_the_ratio_of_its_parent(run):
    parent, _ = trained(run, "--dataset", saved(), "--ratio", "3")
    words = ["--dataset", "npz:mine.npz", "--method", "crt", "--set", f"parent={parent.recipe.key()}"]
    child, _ = trained(run, *words)
    assert (child.recipe.ratio, child.recipe.imb_type) == (3.0, "exp")


EXHIBITS = (
    "ablation-table",
    "branch-table",
    "crt",
    "plot-classes",
    "plot-hparams",
    "reproduce table4",
    "reproduce table2",
)


def asked(exhibit, name, *words, plan=True):
    """The words of an exhibit of one seed and one epoch on a user's images, planned or trained."""
    does = "--run" if not plan else "--dry-run" if "reproduce" in exhibit else "--plan"
    return [*exhibit.split(), "--dataset", name, "--seeds", "0", "--epochs", "1", does, *words]


@pytest.mark.parametrize("exhibit", EXHIBITS)
def test_an_exhibit_takes_own_images_as_they_are_unless_a_ratio_is_given(run, refused, exhibit):
    name = saved((30, 20, 12), class_names=np.array(["ant", "bee", "10"]))
    code, out, err = run(*asked(exhibit, name))
    planned = [line for line in out.splitlines() if line.startswith("ltrepro train")]
    assert code == 0, err
    assert planned
    assert all("--ratio as-is" in line or "parent=" in line for line in planned)
    assert "training images" not in err
    code, out, err = run(*asked(exhibit, name, "--ratio", "2"))
    assert "--ratio 2 " in out
    line = "note: ratio 2 takes 26 of 62 training images, ant: 12, bee: 8, 10: 6; --ratio as-is takes all\n"
    assert (code, err.count(line)) == (0, 1)
    assert "leaves the last class without images" in refused(*asked(exhibit, name, "--ratio", "100"))


def test_a_planned_run_of_own_images_is_the_one_that_the_exhibit_trains(run):
    name = saved((30, 20, 12))
    for ratio, counts in (((), [30, 20, 12]), (("--ratio", "2"), [12, 8, 6])):
        plan = run(*asked("branch-table", name, *ratio))[1].splitlines()
        assert len(plan) == 2
        run(*shlex.split(plan[0])[1:])
        assert run(*asked("branch-table", name, *ratio))[1].splitlines() == plan[1:]
        code, _, err = run(*asked("branch-table", name, *ratio, plan=False))
        assert (code, err.count("training images")) == (0, len(ratio) // 2)
        stored = [Run.read(path).split["counts"] for path in Path("runs").glob("*.json")]
        assert stored.count(counts) == 2


def test_a_plan_refuses_what_training_refuses(run, refused):
    tiny = saved(
        (30, 20, 12), "tiny.npz", train_images=np.zeros((62, 6, 6), np.uint8), test_images=np.zeros((6, 6, 6), np.uint8)
    )
    name = saved((30, 20, 12))
    for plan in (True, False):
        assert "images of 6 x 6 pixels" in refused(*asked("ablation-table", tiny, plan=plan))
        assert "ratio 40 leaves the last" in refused(*asked("ablation-table", name, "--ratio", "40", plan=plan))
        assert "ratio 500 leaves the last" in refused(*asked("ablation-table", "digits", "--ratio", "500", plan=plan))
    assert not Path("runs").exists()
    steps = ["reproduce", "table4", "--dataset", name, "--seeds", "0", "--set", "imb_type=step", "--dry-run"]
    assert "add --ratio N" in refused(*steps)
    code, _, err = run(*steps, "--ratio", "2")
    assert (code, err.count("takes 24 of 62 training images, 0: 12, 1: 6, 2: 6;")) == (0, 1)
    assert "add --dataset NAME" in refused("ablation-table", "--ratio", "as-is", "--plan")


def test_a_known_data_set_keeps_the_ratios_of_an_exhibit(run):
    planned = run("ablation-table", "--dataset", "digits", "--seeds", "0", "--plan")[1].splitlines()
    ratios = [column.label for column in TABLE4.columns]
    assert len(planned) == len(TABLE4.rows) * len(ratios)
    assert not any("as-is" in line for line in planned)


def test_train_prints_the_counts_of_a_known_set_in_one_line(run):
    counts = ", ".join(f"{k}: {count}" for k, count in enumerate((124, 78, 49, 31, 20, 12, 8, 5, 3, 2)))
    code, _, err = run(*DIGITS, "--ratio", "60")
    assert (code, err.count(f"note: ratio 60 takes 332 of 1,297 training images, {counts}\n")) == (0, 1)
    assert "training images" not in run(*DIGITS, "--ratio", "as-is")[2]
    many = saved([3] * 11)
    assert "takes 16 of 33 training images, 0: 3 to 10: 1;" in trained(run, "--dataset", many, "--ratio", "3")[1]


def test_an_empty_class_is_explained_by_the_smallest_class(refused):
    for words in (["train", "--dataset", saved((12, 6, 3))], ["make-dataset", "npz:mine.npz"]):
        lines = refused(*words, "--ratio", "100").splitlines()
        assert lines[0].endswith("ratio 100 leaves the last class without images: n_max is 3, as in the smallest class")
        assert "--ratio as-is" in lines[2]


def test_two_classes_of_one_name_are_refused(refused):
    name = saved(class_names=np.array(["a", "b", "a"]))
    for words in (["make-dataset", name], ["train", "--dataset", name], ["crt", "--dataset", name, "--plan"]):
        assert "mine.npz: classes whose names look the same: 'a', 'a'" in refused(*words)


# --- what was lost in reading ---------------------------------------------------------------------------------------


def painted(pixels):
    """A folder of two classes, each with this one training image, one of them brighter, and a grey test image."""
    for k, name in enumerate(("ant", "bee")):
        for part, levels in (("train", pixels), ("test", np.full((32, 32), 9 + k, np.uint8))):
            Path("pets", part, name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(levels + np.asarray(16 * k, levels.dtype)).save(f"pets/{part}/{name}/a.png")
    return "folder:pets"


def test_what_was_lost_is_noted_by_every_command_that_reads_the_images(run):
    name = painted(np.arange(0, 4000, 1000, np.uint16).reshape(2, 2))
    note = "note: 12 of 16 bits used in 2 images: 4095 is read as white\n"
    for words in (["make-dataset", name], ["ablation-table", "--dataset", name, "--ratio", "1", "--plan"]):
        code, out, err = run(*words)
        assert (code, err.count(note), "4095" in out) == (0, 1, False)
    assert trained(run, "--dataset", name)[1].count(note) == 1
    code, out, err = run("train", "--dataset", name, "--epochs", "1", "--json", "--out", "other")
    assert (code, err) == (0, note)
    assert json.loads(out)["status"] == "done"
