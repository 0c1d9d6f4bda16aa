"""Several runs at once: the same results, parents before children, nothing lost or left behind when it ends early."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from lt_repro.data.load import load_pool
from lt_repro.errors import RequestError
from lt_repro.papers.dbn_mix.settings import recipe
from lt_repro.store import locks
from lt_repro.store.runs import Run
from lt_repro.sweep import workers
from lt_repro.sweep.runner import Failed, records, run_all
from lt_repro.sweep.workers import run_jobs
from lt_repro.train.signals import Interrupted

pytestmark = pytest.mark.usefixtures("elsewhere")
LONG = ["reproduce", "table4", "--dataset", "digits", "--ratio", "60", "--rows", "sbn,dbn", "--seeds", "0"]


def brief(epochs=1, **settings):
    return recipe("digits", **{"ratio": 60.0, "epochs": epochs} | settings)


def digits():
    return load_pool("digits", Path())


def wait_for(what, seconds=60.0):
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.fixture
def forked(monkeypatch):
    """Workers are forked by a process that has imported torch once, which takes each of them seconds otherwise."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["lt_repro.sweep.workers"])
    monkeypatch.setattr(workers.multiprocessing, "get_context", lambda kind: server)


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_two_at_once_come_out_as_one_by_one(one_thread, forked):
    parents = [brief(branches=2, seed=seed) for seed in (0, 1)]
    requested = [*parents, *(brief(method="crt", parents={"features": parent}) for parent in parents), brief()]
    seen = []
    ended = list(run_jobs(requested, digits(), Path("two"), jobs=2, watch=seen.append))
    assert sorted(run.recipe.key() for run in ended) == sorted(recipe.key() for recipe in requested)
    assert {at.key for at in seen if at.ended} == {recipe.key() for recipe in requested}
    assert multiprocessing.active_children() == []
    sequential = {run.recipe.key(): run for run in run_all(requested, digits(), Path("one"))}
    for run in ended:
        other = sequential[run.recipe.key()]
        assert (run.result, run.curve, run.history, run.weights) == (
            other.result,
            other.curve,
            other.history,
            other.weights,
        )
    assert not list(Path("two").glob("*.lock")) + list(Path("two").glob("*.ckpt"))


def test_what_a_killed_worker_trained_is_taken_over_and_a_budget_stops_all(one_thread, forked):
    requested = [brief(20, seed=seed) for seed in (0, 1)]
    killed = []

    def kill_worker(at):
        if not killed and at.epoch > 1:
            killed.append(at.key)
            multiprocessing.active_children()[0].kill()

    ended = list(run_jobs(requested, digits(), Path("runs"), jobs=2, watch=kill_worker))
    assert killed
    assert [run.status for run in ended] == ["done"] * 2
    long = [brief(2000, seed=seed) for seed in (0, 1)]
    with pytest.raises(Interrupted) as stopped:
        list(run_jobs(long, digits(), Path("more"), jobs=2, until=time.monotonic() + 4))
    assert stopped.value.exit_code == 5
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda signum: signum.name)
def test_a_signal_sent_twice_to_the_whole_group_is_one_request_and_every_worker_saves(tmp_path, signum):
    words = ["reproduce", "table4", "--dataset", "digits", "--ratio", "60", "--seeds", "0", "--epochs", "3000"]
    command = [sys.executable, "-m", "lt_repro", *words, "--jobs", "2"]
    options = {"cwd": tmp_path, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, start_new_session=True, **options) as queue:
        try:
            until = time.monotonic() + 120
            while len(list(tmp_path.glob("runs/*.lock"))) < 2:
                assert time.monotonic() < until
                time.sleep(0.05)
            time.sleep(1)
            for _ in range(2):
                os.killpg(queue.pid, signum)
                time.sleep(0.05)
            said = queue.communicate(timeout=60)[1]
        finally:
            queue.kill()
    assert queue.returncode == 128 + signum
    assert "everything is saved" in said
    assert "Traceback" not in said
    assert len(list(tmp_path.glob("runs/*.ckpt"))) == 2


def test_a_wrong_request_in_a_worker_is_one_here(forked):
    with pytest.raises(RequestError, match="ratio"):
        list(run_jobs([brief(ratio=1e6, seed=seed) for seed in (0, 1)], digits(), Path("runs"), jobs=2))
    assert multiprocessing.active_children() == []


def test_what_breaks_in_one_worker_is_not_tried_in_the_next(monkeypatch):
    def broken(*args):
        raise ZeroDivisionError("by the test")

    before = records(Path("runs"))
    with monkeypatch.context() as patch:
        patch.setattr("lt_repro.train.loop.train_step", broken)
        (first,) = run_all([brief()], digits(), Path("runs"))
    assert isinstance(first, Failed)
    (second,) = run_all([brief()], digits(), Path("runs"), known=before)
    assert second.recipe == brief()
    assert second.error.splitlines()[:2] == [
        "ZeroDivisionError: by the test",
        "in an earlier attempt, by another process of this queue",
    ]


def test_a_record_from_the_future_is_an_earlier_attempt_all_the_same():
    record = Path("runs") / f"{brief().key()}.failed.json"
    record.parent.mkdir()
    record.write_text('{"error": "ZeroDivisionError: long ago, on another machine"}')
    os.utime(record, (2**32, 2**32))  # copied from a machine whose clock is ahead
    (run,) = run_all([brief()], digits(), Path("runs"))
    assert run.status == "done"
    assert not record.exists()
    (third,) = run_all([brief()], digits(), Path("runs"))
    assert third.status == "done"


def signal_when_both_train(folder, signal_all):
    """Calls `signal_all` from a thread when two runs are under way."""

    def wait_and_signal():
        wait_for(lambda: len(list(folder.glob("*.lock"))) == 2)
        time.sleep(0.3)
        signal_all()

    threading.Thread(target=wait_and_signal, daemon=True).start()


def test_the_workers_leave_with_their_queue_which_can_be_resumed(run, forked):
    words = [*LONG, "--set", "epochs=25"]
    signal_when_both_train(Path("runs"), lambda: os.kill(os.getpid(), signal.SIGTERM))
    code, _, err = run(*words, "--jobs", "2")
    assert code == 143, err
    assert "Traceback" not in err
    assert multiprocessing.active_children() == []
    assert len(list(Path("runs").glob("*.ckpt"))) == 2
    assert run(*words)[0] == 0
    runs = [Run.read(path) for path in Path("runs").glob("*.json")]
    assert [[attempt["ended"] for attempt in run.attempts] for run in runs] == [["stopped", "done"]] * 2


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_its_queue(signum):
    run_all([brief()], digits(), Path("runs"))  # so that the network's speed is known
    words = [sys.executable, "-m", "lt_repro", *LONG, "--set", "epochs=2000", "--jobs", "2"]
    queue = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True)

    def signal_all():
        if signum == signal.SIGINT:
            os.killpg(queue.pid, signum)  # as a terminal does it
        else:
            queue.send_signal(signum)

    try:
        signal_when_both_train(Path("runs"), signal_all)
        _, stderr = queue.communicate(timeout=60)
    finally:
        queue.kill()
    assert queue.returncode == {signal.SIGKILL: -9}.get(signum, 128 + signum), stderr
    assert "Traceback" not in stderr
    wait_for(lambda: not any(map(locks.held, Path("runs").glob("*.lock"))), 20.0)
    assert len(list(Path("runs").glob("*.ckpt"))) == 2


def test_jobs_below_one_are_refused(refused):
    assert "--jobs" in refused(*LONG, "--jobs", "0")
