"""`evaluate`: stored weights give the stored accuracies, on the images of the run; predictions, confusion, balance."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import EVERY, ROWS
from test_dataset import saved

from lt_repro.data.images import images_of
from lt_repro.errors import DamagedError
from lt_repro.papers.dbn_mix.settings import SETTINGS, recipe
from lt_repro.store import checkpoint
from lt_repro.store.runs import Run
from lt_repro.train import network
from lt_repro.train.loop import fit
from lt_repro.train.stored import differences, evaluate_run

DIGITS = ["--dataset", "digits", "--ratio", "60", "--epochs", "2", "--set", "net=resnet8"]
DUAL = ["--arch", "dbn", "--mix", "bilateral", "--tscale"]
ACCURACIES = ("accuracy", "per_class", "branches")


def trained(run, *words):
    code, out, err = run("train", *words)
    assert code == 0, err
    return Run.read(Path(out.strip().splitlines()[-1]))


@pytest.fixture
def stored(run):
    """A dual-branch run on the digits, with its weights."""
    return trained(run, *DIGITS, *DUAL)


def planted(stored, folder, **changes):
    """The run with changes, in another folder, beside its weights."""
    changed = replace(stored, **changes).publish(Path(folder))
    changed.path.with_suffix(".pt").write_bytes(stored.path.with_suffix(".pt").read_bytes())
    return changed


def weights_of(result):
    return checkpoint.load_weights(result.weights_path, result.weights["sha256"])


# --- the stored accuracy --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in EVERY if not EVERY[name].parents])
def test_stored_weights_give_exactly_the_stored_accuracies(name, small, pool, tmp_path, trial):
    method = EVERY[name]
    default = replace(small(epochs=1, precision="auto"), method=method)
    if any(sampled.source == "meta" for sampled in method.samplers(0.0)):
        default = default.replace(meta_images=2)
    images = images_of(default.subset, pool)
    trained = fit(default, images, out=tmp_path)
    evaluation = evaluate_run(trained, weights_of(trained), images, torch.device("cpu"))
    assert evaluation.scores == {part: trained.result[part] for part in ACCURACIES}
    assert differences(trained, evaluation.scores) == []


@pytest.mark.parametrize("method", ["crt", "lws", "tau_norm", "dbn_mix"])
def test_so_do_those_of_a_second_stage_and_their_modules(method, small, images, tmp_path, trial):
    parent = small(**ROWS["dbn"], epochs=1)
    fit(parent, images, out=tmp_path)
    role = "weights" if method in ("lws", "tau_norm") else "features"
    settings = {"frozen": True} if method == "dbn_mix" else {}
    made = recipe("made_up", method, parents={role: parent}, epochs=2, **settings)
    trained = fit(made, images, out=tmp_path)
    weights = weights_of(trained)
    evaluation = evaluate_run(trained, weights, images, torch.device("cpu"))
    assert evaluation.scores == {part: trained.result[part] for part in ACCURACIES}
    if method == "lws":  # what a method adds is loaded too, and counts
        weights["aux.scales.weight"] = torch.tensor([1.0, -1.0, -1.0, -1.0])
        other = evaluate_run(trained, weights, images, torch.device("cpu"))
        assert not np.array_equal(other.logits.combined, evaluation.logits.combined)


def test_evaluate_prints_the_accuracies_beside_the_stored_and_agrees(run, stored):
    code, out, err = run("evaluate", "digits-r60")
    assert (code, err) == (0, "")
    for branch in ("combined", "conventional", "rebalancing"):
        rows = [line.split("│")[2:6] for line in out.splitlines() if line.startswith(f"│ {branch}")]
        assert len(rows) == 2
        assert rows[0] == rows[1]
    assert f"{100 * stored.accuracy():.2f}" in out
    assert "tested in fp32 on cpu" in out
    assert out.strip().splitlines()[-1] == f"agrees with {stored.path}: every output, overall and in each class"


def test_evaluate_json_is_one_document_with_the_run_files_numbers(run, stored):
    code, out, err = run("evaluate", stored.path, "--json")
    assert (code, err) == (0, "")
    content = json.loads(out)
    assert content["result"] == content["stored"] == {part: stored.result[part] for part in ACCURACIES}
    assert (content["agrees"], content["key"], content["precision"]) == (True, stored.recipe.key(), "fp32")
    assert (content["device"], content["files"]) == (stored.device, [])


def test_as_many_threads_as_the_run_had(run, stored):
    planted(stored, "b", threads=2)
    assert json.loads(run("evaluate", f"b/{stored.path.name}", "--json")[1])["threads"] == 2


@pytest.mark.parametrize(
    ("part", "changes", "words"),
    [
        ("combined, all", {}, "device, precision and torch are those of the run"),
        (
            "rebalancing, class 9",
            {"device": "cuda (NVIDIA H100)", "precision": "bf16", "test_precision": None},
            "precision bf16 then, fp32 now",
        ),
        ("combined, few", {"versions": {"torch": "2.0"}}, "torch 2.0 then, "),
    ],
)
def test_accuracies_that_are_not_the_stored_ones_are_named_and_exit_with_1(run, stored, part, changes, words):
    result = json.loads(json.dumps(stored.result))
    output, place = part.split(", ")
    scores = result if output == "combined" else result["branches"][output]
    if place.startswith("class "):
        scores["per_class"][9] = 0.125
    else:
        scores["accuracy"][place] = 0.125
    planted(stored, "b", result=result, **changes)
    code, out, err = run("evaluate", f"b/{stored.path.name}", "--save-logits", "logits.npz")
    assert code == 1
    lines = err.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith(
        f"error: {stored.recipe.key()} does not give its stored accuracy: {part}: 12.50 % stored"
    )
    assert words in lines[1]
    assert "agrees" not in out
    assert Path("logits.npz").is_file()  # to see why
    code, out, err = run("evaluate", f"b/{stored.path.name}", "--json")
    assert (code, json.loads(out)["agrees"], err.splitlines()) == (1, False, lines)


# --- what is refused ------------------------------------------------------------------------------------------------


def test_weights_that_are_missing_damaged_or_never_were(run, stored, refused):
    key, weights = stored.recipe.key(), stored.path.with_suffix(".pt")
    content = weights.read_bytes()
    weights.write_bytes(content[:-9])
    assert "is damaged" in refused("evaluate", key, code=1)
    weights.unlink()
    message = refused("evaluate", key)
    assert f"the weights file of {key} is missing: no {key}.pt beside {stored.path}" in message
    Path("b").mkdir()
    (Path("b") / stored.path.name).write_bytes(stored.path.read_bytes())
    (Path("b") / weights.name).write_bytes(content)
    assert run("evaluate", key, "--runs", "runs", "--runs", "b")[0] == 0  # a copy with its weights is found
    diverged = {"status": "diverged", "result": None, "weights": None, "diverged": {"epoch": 0, "step": 0}}
    replace(stored, **diverged).publish(Path("c"))
    assert f"{key} diverged" in refused("evaluate", f"c/{stored.path.name}", "--runs", "c")
    assert "no run matches" in refused("evaluate", "digits-r61")


def test_other_images_are_refused_by_what_differs(stored, refused):
    split = stored.split | {"digest": "0" * 64}
    for folder, changes, word in (("b", {"data_digest": "0" * 64}, "pixels"), ("c", {"split": split}, "split")):
        planted(stored, folder, **changes)
        message = refused("evaluate", f"{folder}/{stored.path.name}")
        assert f"the images of digits have {word} " in message
        assert f"{stored.recipe.key()} has 00000000" in message


def test_weights_of_another_network_are_of_another_version(small, images):
    weights = network.fresh(small(), images).state_dict()
    del weights["heads.0.bias"]
    with pytest.raises(DamagedError, match="do not fit its network") as caught:
        network.trained(small(), weights, images, torch.device("cpu"))
    assert len(str(caught.value).splitlines()) == 3


def test_files_are_never_replaced_by_mistake(run, stored, refused):
    before = stored.path.read_bytes()
    assert "ends in .npz" in refused("evaluate", "digits", "--save-logits", stored.path)
    assert "allowed: a folder" in refused("evaluate", "digits", "--confusion", "matrix.png")
    Path("data.npz").write_bytes(b"mine")
    assert "different content" in refused("evaluate", "digits", "--save-logits", "data.npz")
    assert (stored.path.read_bytes(), Path("data.npz").read_bytes()) == (before, b"mine")


# --- predictions and confusion --------------------------------------------------------------------------------------


def test_the_logits_give_the_stored_accuracies_without_pickles(run, stored):
    for _ in range(2):  # the same file again is no other content
        code, out, err = run("evaluate", "digits", "--save-logits", "logits.npz")
        assert (code, err) == (0, "")
        assert out.strip().splitlines()[-1] == "logits.npz"
    with np.load("logits.npz", allow_pickle=False) as file:
        arrays = dict(file)
    assert set(arrays) == {"logits", "logits_conventional", "logits_rebalancing", "labels", "class_names", "key"}
    assert arrays["key"] == stored.recipe.key()
    assert arrays["class_names"].tolist() == list("0123456789")
    labels = arrays["labels"]
    assert (labels.dtype, labels.shape) == (np.int64, (500,))
    for name, branch in (("logits", None), *((f"logits_{name}", name) for name in stored.result["branches"])):
        assert (arrays[name].dtype, arrays[name].shape) == (np.float32, (500, 10))
        assert (arrays[name].argmax(axis=1) == labels).mean() == stored.accuracy("all", branch)
    both = (arrays["logits_conventional"] + arrays["logits_rebalancing"]) / 2
    assert arrays["logits"] == pytest.approx(both, abs=1e-4)


def test_the_confusion_matrix_has_every_image_and_the_stored_accuracies(run, stored):
    code, out, _ = run("evaluate", "digits", "--confusion", "drawn", "--json")
    stem = f"drawn/confusion-{stored.recipe.key()}"
    assert (code, json.loads(out)["files"]) == (0, [f"{stem}.csv", f"{stem}.png", f"{stem}.svg"])
    assert all(Path(path).is_file() for path in json.loads(out)["files"])
    header, *lines = csv.reader(Path(f"{stem}.csv").read_text().splitlines())
    assert header == ["true class", *"0123456789"]
    assert [line[0] for line in lines] == header[1:]
    counts = np.array([line[1:] for line in lines], dtype=int)
    assert counts.sum(axis=1).tolist() == [50] * 10
    assert (counts.diagonal() / 50).tolist() == stored.result["per_class"]


# --- balanced accuracy ----------------------------------------------------------------------------------------------


@pytest.fixture
def unbalanced(run, monkeypatch):
    """A run on images of one's own: six test images of the first class, three of the second, one of the third."""
    monkeypatch.setitem(SETTINGS.others, "net", "resnet8")
    tests = np.repeat(np.arange(3), (6, 3, 1))
    pixels = np.random.default_rng(1).integers(0, 256, (10, 8, 8), dtype=np.uint8)
    name = saved((24, 6, 3), test_images=pixels, test_labels=tests)
    code, out, _ = run("train", "--dataset", name, "--epochs", "1")
    assert code == 0
    return Run.read(Path(out.strip().splitlines()[-1])), out


NOTE = "the test set is not balanced: all is top-1 over its images, balanced the mean over its classes"


def test_where_the_test_set_is_not_balanced_the_mean_over_classes_is_beside_top_1(run, unbalanced, refused):
    stored, out = unbalanced
    mean = np.mean(stored.result["per_class"])
    assert stored.result["accuracy"]["balanced"] == stored.accuracy("balanced") == pytest.approx(mean)
    assert stored.accuracy("balanced", "single") == stored.accuracy("balanced")
    assert stored.accuracy() == pytest.approx(np.dot(stored.result["per_class"], [0.6, 0.3, 0.1]))
    assert stored.accuracy() != pytest.approx(mean)
    key = stored.recipe.key()
    assert "add --dataset npz:FILE" in refused("evaluate", key)
    assert "was trained on mine-" in refused("evaluate", key, "--dataset", "digits")
    shown = [out, run("show", key)[1], run("evaluate", key, "--dataset", "npz:mine.npz")[1]]
    for text in shown:
        (header,) = [line.split("┃") for line in text.splitlines() if "top-1 %, last epoch" in line]
        rows = {tuple(line.split("│")[2:4]) for line in text.splitlines() if line.startswith("│ single")}
        assert [word.strip() for word in header[2:4]] == ["all", "balanced"]
        assert rows == {(f" {100 * stored.accuracy():.2f} ", f" {100 * mean:>8.2f} ")}
        assert NOTE in text.splitlines()


def test_an_older_file_has_it_from_its_classes_and_a_balanced_test_set_never_has(run, unbalanced, stored):
    trained, _ = unbalanced
    result = json.loads(json.dumps(trained.result))
    for scores in (result, *result["branches"].values()):
        del scores["accuracy"]["balanced"]
    older = planted(trained, "b", result=result)
    assert Run.read(older.path).accuracy("balanced") == trained.accuracy("balanced")
    assert NOTE in run("show", older.path)[1]
    assert run("evaluate", older.path, "--dataset", "npz:mine.npz")[0] == 0
    assert "balanced" not in stored.result["accuracy"]
    assert stored.accuracy("balanced") is None
    for command in ("show", "evaluate"):
        out = run(command, stored.path)[1]
        assert "not balanced" not in out
        assert not [line for line in out.splitlines() if "top-1 %" in line and "balanced" in line]


def test_tables_say_that_the_test_set_is_not_balanced(run, unbalanced):
    result, _ = unbalanced
    words = ["--dataset", "npz:mine.npz", "--ratio", "as-is", "--epochs", "1", "--out", "x"]
    code, out, err = run("ablation-table", *words)
    assert code == 0, err
    line = "The test set is not balanced: top-1 is over its images, not the mean over its classes."
    assert line in out.splitlines()
    assert f"- {line}" in next(Path("x").glob("*.md")).read_text()
    assert line in json.loads(next(Path("x").glob("*.json")).read_text())["footer"]
    result.path.unlink()
    assert line not in run("ablation-table", *words)[1]
