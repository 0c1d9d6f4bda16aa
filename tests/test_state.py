"""A resumed run equals a straight one bit for bit: every example of every method, in fresh processes."""

import dataclasses
import os
import subprocess
import sys

import pytest
import resume_driver
import torch
from chaos import small
from conftest import EVERY
from resume_driver import CASES, EPOCHS, STEPS

from lt_repro.store.runs import Run
from lt_repro.train.loop import fit

RESUMES_AT = {"killed": (1, 0), "mid-epoch": (1, 1), "last step": (1, STEPS), "SIGKILL": (1, 0)}  # (epoch, step)
pytestmark = pytest.mark.usefixtures("trial")  # registered, as in the driver
UNTRAINED = [method for method in EVERY.values() if not method.param_groups]


def drive(mode, out):
    """Runs the driver in a process of its own, with other hashes, and returns how it ended."""
    words = [sys.executable, "-W", "error", resume_driver.__file__, mode, str(out)]
    variables = os.environ | {"PYTHONHASHSEED": "random"}
    return subprocess.run(words, capture_output=True, text=True, timeout=600, env=variables, check=False)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Straight runs of this process, and those that one process starts and another resumes."""
    straight, cut = tmp_path_factory.mktemp("straight"), tmp_path_factory.mktemp("cut")
    resume_driver.main("straight", straight)
    killed = drive("cut", cut)
    assert killed.returncode == -9, killed.stderr[-2000:]
    assert not list(cut.glob("*.json"))
    assert len({path.name.split(".")[0] for path in cut.glob("*.ckpt")}) == len(CASES)
    resumed = drive("resume", cut)
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    return straight, cut


def test_every_method_that_trains_is_among_the_cases():
    trained = {method for method in EVERY.values() if method.param_groups}
    assert {made.method for _, made in CASES} == trained
    assert {(made.precision, name.rpartition(" ")[2]) for name, made in CASES} >= {("fp32", "step"), ("bf16", "killed")}


def test_two_epochs_of_a_run_differ(folders):
    """A negative control: what is compared is not the same whatever happens."""
    for path in folders[0].glob("*.json"):
        losses = Run.read(path).history["loss"]
        assert len(set(losses)) == len(losses) == EPOCHS, path


def test_what_a_method_logs_is_in_the_run_file(folders):
    runs = [Run.read(path) for path in folders[0].glob("*probe*.json")]
    for run in runs:
        assert [1 < weight < 1.5 for weight in run.history["weight"]] == [True] * EPOCHS
        assert run.history["early"][-1] is None
        assert run.history["early"][0] > 0
        state = torch.load(run.path.with_suffix(".pt"), weights_only=True)
        assert state["aux.tracker.steps"] == EPOCHS * STEPS
    assert len(runs) == 2


@pytest.mark.parametrize(("name", "made"), CASES, ids=[name for name, _ in CASES])
def test_stop_and_go_equals_a_straight_run(folders, name, made):
    straight, resumed = (small.content(folder / f"{made.key()}.json") for folder in folders)
    assert resumed == straight  # the digest of the weights is in it
    (epoch, step) = next(at for cut, at in RESUMES_AT.items() if name.endswith(cut))
    attempts = Run.read(folders[1] / f"{made.key()}.json").attempts
    ended = "stopped" if step else "lost"
    places = [{name: attempt[name] for name in ("epoch", "step", "ended")} for attempt in attempts]
    assert places == [{"epoch": 0, "step": 0, "ended": ended}, {"epoch": epoch, "step": step, "ended": "done"}]


def test_runs_that_differ_in_anything_differ_in_their_weights(folders):
    digests = {Run.read(path).weights["sha256"] for path in folders[0].glob("*.json")}
    assert len(digests) == len(CASES)


def test_nothing_is_left_behind_but_runs_and_weights(folders):
    for folder in folders:
        assert {path.suffix for path in folder.iterdir() if path.name != "parents"} == {".json", ".pt"}


def test_weights_load_without_running_anything(folders):
    path = next(folders[0].glob("*.pt"))
    assert all(isinstance(value, torch.Tensor) for value in torch.load(path, weights_only=True).values())


def test_a_meta_optimiser_moves_its_parameters_and_its_state_is_resumed(folders):
    """Its momentum decides the third epoch: without it the resumed run above would differ."""
    weights = {}
    for made in (made for _, made in CASES if made.method.name() == "meta_weight_net"):
        states = [torch.load(folder / f"{made.key()}.pt", weights_only=True) for folder in folders]
        straight, resumed = (state["aux.weighting.layers.0.weight"] for state in states)
        assert torch.equal(straight, resumed)
        weights[made.method.learned] = straight
    assert not torch.equal(weights[True], weights[False])


def test_a_method_that_trains_nothing_is_evaluated_as_it_is(folders, tmp_path):
    parent = next(made.parents["weights"] for _, made in CASES if "weights" in made.parents)
    assert UNTRAINED
    for method in UNTRAINED:
        settings = dataclasses.asdict(method)
        made = small.made(method=method.name(), parents=dict.fromkeys(method.parents, parent), **settings)
        run = fit(made, small.images(), out=tmp_path, parents=[folders[0] / "parents"], device="cpu")
        assert (run.status, run.history, [point["epoch"] for point in run.curve]) == (
            "done",
            {"loss": []},
            [made.epochs],
        )
        old, new = (
            torch.load(folder / f"{key}.pt", weights_only=True)
            for folder, key in ((folders[0] / "parents", parent.key()), (tmp_path, made.key()))
        )
        assert all(torch.equal(new[name], value) for name, value in old.items())
