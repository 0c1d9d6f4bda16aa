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
    assert "note: ratio 3 takes 5 of 33 training images, 3, 1, 1 a class; --ratio as-is takes all\n" in err
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


def test_an_exhibit_of_own_images_keeps_its_ratios_and_its_plan_names_them(run):
    name = saved((300, 200, 150))
    words = ["ablation-table", "--dataset", name, "--seeds", "0", "--epochs", "1"]
    planned = run(*words, "--plan")[1].splitlines()
    ratios = [column.label for column in TABLE4.columns]
    number = len(TABLE4.rows)
    assert [sum(f"--ratio {ratio} " in line for line in planned) for ratio in ratios] == [number] * len(ratios)
    run(*shlex.split(next(line for line in planned if "--ratio 100 " in line))[1:])
    assert len(run(*words, "--plan")[1].splitlines()) == number * len(ratios) - 1
    planned = run(*words, "--plan", "--ratio", "as-is")[1].splitlines()
    assert [line.count("--ratio as-is") for line in planned] == [1] * number


def test_train_prints_the_counts_of_a_known_set_in_one_line(run):
    counts = "124, 78, 49, 31, 20, 12, 8, 5, 3, 2 a class"
    code, _, err = run(*DIGITS, "--ratio", "60")
    assert (code, err.count(f"note: ratio 60 takes 332 of 1,297 training images, {counts}\n")) == (0, 1)
    assert "training images" not in run(*DIGITS, "--ratio", "as-is")[2]
    many = saved([3] * 11)
    assert "takes 16 of 33 training images, 3 to 1 a class" in trained(run, "--dataset", many, "--ratio", "3")[1]


def test_an_empty_class_is_explained_by_the_smallest_class(refused):
    for words in (["train", "--dataset", saved((12, 6, 3))], ["make-dataset", "npz:mine.npz"]):
        lines = refused(*words, "--ratio", "100").splitlines()
        assert lines[0].endswith("ratio 100 leaves the last class without images: n_max is 3, as in the smallest class")
        assert "--ratio as-is" in lines[2]


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
