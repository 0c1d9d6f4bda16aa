"""Stop-and-go equals a straight run bit for bit: every row and method, fp32 and bf16, in fresh processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from resume_driver import CASES

from lt_repro.methods import METHODS
from lt_repro.store.runs import Run

pytestmark = pytest.mark.usefixtures("probe")  # registered, as in the driver
VOLATILE = {"seconds", "images_per_second", "attempts", "payload_sha256", "command"}


def drive(mode, out, *only):
    here = Path(__file__).parent
    words = [sys.executable, "-W", "error", str(here / "resume_driver.py"), mode, str(out), *only]
    return subprocess.run(
        words, capture_output=True, text=True, timeout=600, env=os.environ | {"PYTHONHASHSEED": "random"}, check=False
    )


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    straight, cut = tmp_path_factory.mktemp("straight"), tmp_path_factory.mktemp("cut")
    for mode, out in (("straight", straight), ("cut", cut), ("go", cut)):
        done = drive(mode, out)
        assert done.returncode == 0, done.stderr[-2000:]
        if mode == "cut":
            assert not list(cut.glob("*.json"))
            assert len({path.name.split(".")[0] for path in cut.glob("*.ckpt")}) == len(CASES)
    return straight, cut


def content(folder, made):
    run = json.loads((folder / f"{made.key()}.json").read_text())
    return {name: value for name, value in run.items() if name not in VOLATILE}


def test_every_method_is_among_the_cases():
    assert {made.method.name() for _, made in CASES} == {*METHODS}
    assert {"bbn", "crt", "dbn_mix", "probe"} <= {*METHODS}


def test_two_epochs_of_a_run_differ(folders):
    """A negative control: what is compared is not the same whatever happens."""
    for path in folders[0].glob("*.json"):
        losses = Run.read(path).history["loss"]
        assert len(set(losses)) == len(losses) == 3


def test_what_a_method_logs_is_in_the_run_file(folders):
    runs = [Run.read(path) for path in folders[0].glob("*probe*.json")]
    for run in runs:
        assert [1 < weight < 1.5 for weight in run.history["weight"]] == [True] * 3
        assert run.history["early"][2] is None
        assert run.history["early"][0] > 0
        state = torch.load(run.path.with_suffix(".pt"), weights_only=True)
        assert state["own.tracker.steps"] == 3 * 4
    assert len(runs) == 3


@pytest.mark.parametrize(("name", "made"), CASES, ids=[name for name, _ in CASES])
def test_stop_and_go_equals_a_straight_run(folders, name, made):
    straight, gone_on = (content(folder, made) for folder in folders)
    assert gone_on == straight  # the digest of the weights is in it
    (began,) = (
        at for cut, at in {"killed": (1, 0), "mid-epoch": (1, 2), "last step": (1, 4)}.items() if name.endswith(cut)
    )
    attempts = Run.read(folders[1] / f"{made.key()}.json").attempts
    ended = "lost" if name.endswith("killed") else "stopped"
    assert attempts == [{"epoch": 0, "step": 0, "ended": ended}, {"epoch": began[0], "step": began[1], "ended": "done"}]


def test_runs_that_differ_in_anything_differ_in_their_weights(folders):
    digests = {Run.read(path).weights["sha256"] for path in folders[0].glob("*.json")}
    assert len(digests) == len(CASES)


def test_nothing_is_left_behind_but_runs_and_weights(folders):
    for folder in folders:
        assert {path.suffix for path in folder.iterdir() if path.name != "parents"} == {".json", ".pt"}


def test_sigkill_goes_on_from_the_last_epoch(folders, tmp_path):
    name, made = next(case for case in CASES if case[0].startswith("dbn+bm+ts") and case[0].endswith("killed"))
    killed = drive("sigkill", tmp_path, name)
    assert killed.returncode == -9, killed.stderr[-2000:]
    assert drive("go", tmp_path, name).returncode == 0
    assert content(tmp_path, made) == content(folders[0], made)
    assert [attempt["epoch"] for attempt in Run.read(tmp_path / f"{made.key()}.json").attempts] == [0, 1]


def test_weights_load_without_running_anything(folders):
    path = next(folders[0].glob("*.pt"))
    assert all(isinstance(value, torch.Tensor) for value in torch.load(path, weights_only=True).values())
