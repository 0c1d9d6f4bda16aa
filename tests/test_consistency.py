"""`verify` on run files whose digest is right and whose numbers are not."""

import copy
import json
from pathlib import Path

import pytest

from lt_repro.store import run_file

ROOT = Path(__file__).parents[1]
STORED = sorted((ROOT / "tables/runs").glob("*.json"))
KEY = "cifar100-r100-dbn_mix-e20-s0-3a5db568"


def full():
    """A stored run file's content; with the accuracies of its best epoch and of other statistics, if it lacks them."""
    content = json.loads((ROOT / f"tables/runs/{KEY}.json").read_text())
    result = content["result"]
    parts = {name: copy.deepcopy(result[name]) for name in ("accuracy", "per_class", "branches", "ece", "reliability")}
    content["result_bn"] = {"clean": parts}
    result["best"] = {"epoch": 20, "all": result["accuracy"]["all"], "accuracy": copy.deepcopy(result["accuracy"])}
    result["best"]["branches"] = {
        name: {"accuracy": dict(part["accuracy"])} for name, part in result["branches"].items()
    }
    content["curve"][-1]["all"] = max(point["all"] for point in content["curve"])
    content["curve"] = content["curve"][-1:]
    return content


def published(content):
    path = Path("runs", f"{KEY}.json")
    path.parent.mkdir(exist_ok=True)
    del content["payload_sha256"]
    path.write_text(json.dumps(run_file.sealed(content)))
    return path


PLANTED = {
    "the result": ("result", "accuracy", "all"),
    "a group of the result": ("result", "accuracy", "few"),
    "a class": ("result", "per_class", 7),
    "a group of a branch": ("result", "branches", "rebalancing", "accuracy", "medium"),
    "a class of a branch": ("result", "branches", "conventional", "per_class", 0),
    "other statistics": ("result_bn", "clean", "accuracy", "many"),
    "a branch under other statistics": ("result_bn", "clean", "branches", "rebalancing", "accuracy", "all"),
    "a group at the best epoch": ("result", "best", "accuracy", "many"),
    "a branch at the best epoch": ("result", "best", "branches", "rebalancing", "accuracy", "all"),
    "the best epoch": ("result", "best", "all"),
    "the curve": ("curve", -1, "all"),
    "ece": ("result", "ece"),
    "images by confidence": ("result", "reliability", "images", 7),
}


@pytest.mark.parametrize("place", PLANTED.values(), ids=PLANTED)
def test_a_planted_error_is_found_although_the_digest_is_right(place, run):
    content = full()
    part = content
    for name in place[:-1]:
        part = part[name]
    part[place[-1]] += 10 if place[-2] == "images" else 0.0002
    path = published(content)
    code, out, _ = run("verify", "runs", "--json")
    assert code == 1
    assert [entry["path"] for entry in json.loads(out)["bad"]] == [str(path)]


def test_numbers_that_agree_are_not_bad_and_lost_ones_are(run):
    published(full())
    assert run("verify", "runs")[0] == 0
    content = full()
    del content["result"]["per_class"][3]
    published(content)
    assert "99 accuracies of 100 classes" in run("verify", "runs")[1]
    content = full()
    del content["result"]["accuracy"]["few"]
    published(content)
    assert run("verify", "runs")[0] == 1


def test_where_classes_differ_in_size_an_accuracy_lies_between_its_classes(run):
    content = full()
    result = content["result"]
    for outcome in (result, *result["branches"].values(), *content["result_bn"].values()):
        outcome["accuracy"]["balanced"] = sum(outcome["per_class"]) / 100
    for outcome in content["result_bn"]["clean"]["branches"].values():
        outcome["accuracy"]["balanced"] = sum(outcome["per_class"]) / 100
    for part in (result["best"], *result["best"]["branches"].values()):
        part["accuracy"]["balanced"] = 0.5
    result["accuracy"]["many"] += 0.01  # possible: some classes have more images
    published(copy.deepcopy(content))
    assert run("verify", "runs")[0] == 0
    result["accuracy"]["balanced"] += 0.0002
    published(content)
    assert "balanced" in run("verify", "runs")[1]


def test_every_stored_file_agrees_with_itself(run):
    assert len(STORED) > 200
    code, out, _ = run("verify", ROOT / "tables/runs", "--json")
    assert (code, json.loads(out)["bad"]) == (0, [])
