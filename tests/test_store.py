"""`status`, `verify`, `collect`, `diff`, locks, and run files of every schema."""

import contextlib
import itertools
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest

from lt_repro.cli.plan import command
from lt_repro.store import checkpoint, files, locks, provenance, run_file, status
from lt_repro.store.runs import Run

pytestmark = pytest.mark.usefixtures("elsewhere")
GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.json"))
DIGITS = ["--dataset", "digits", "--ratio", "60", "--epochs", "2"]


def trained(run, *words):
    code, out, err = run("train", *DIGITS, *words)
    assert code == 0, err
    return Run.read(Path(out.strip().splitlines()[-1]))


def interrupted_checkpoint(key="digits-r60-dbn_mix-e60-s0-04e54b30", epoch=3, folder="runs"):
    """A checkpoint with a position, of a run that no process trains."""
    path = Path(folder) / f"{key}.ckpt"
    checkpoint.save(path, {"epoch": epoch}, {"key": key, "epoch": epoch, "epochs": 60, "step": 1, "steps": 3})
    return path


# schemas


def test_there_is_a_run_file_of_every_schema():
    assert {json.loads(path.read_text())["schema"] for path in GOLDEN} == {run_file.SCHEMA}


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_stored_run_file_is_read_and_keeps_its_key(path):
    content, run = json.loads(path.read_text()), Run.read(path)
    assert run.recipe.key() == content["key"] == path.stem
    assert run.accuracy() == content["result"]["accuracy"]["all"]
    assert (run.determinism, len(run.split["class_names"])) == ("A", 10)


def test_a_run_file_says_how_it_came_about(run):
    result = trained(run, "--seed", "4")
    assert result.command == "ltrepro train --dataset digits --ratio 60 --epochs 2 --seed 4"
    assert (result.threads, result.determinism) == (1, "A")


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("--runs /home/me/long/runs", "--runs runs"),
        ("--out=/data/out/ --dataset npz:/home/me/a.npz", "--out=out/ --dataset npz:a.npz"),
        ("--set parent=/home/me/a-b.json", "--set parent=a-b.json"),
        ("--runs runs --out ../tables/x --set milestones=0.6,0.8 --rows dbn/all", None),
        ("--out /", None),
    ],
)
def test_a_run_file_names_no_folder_of_a_machine(monkeypatch, typed, kept):
    monkeypatch.setattr("sys.argv", ["/usr/bin/ltrepro", *typed.split()])
    assert provenance.command() == f"ltrepro {kept or typed}"


# locks


def holder(folder, key, ready, release):
    with locks.lock(Path(folder), key) as mine:
        ready.put(mine)
        release.wait(60)


def test_a_claim_is_held_by_one_process_and_ends_with_it(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready, release = context.Queue(), context.Event()
    other = context.Process(target=holder, args=(str(tmp_path / "runs"), "key", ready, release))
    other.start()
    try:
        assert ready.get(timeout=60)
        lock = tmp_path / "runs" / "key.lock"
        assert locks.held(lock)
        with locks.lock(tmp_path / "runs", "key") as mine:
            assert not mine
        with locks.lock(tmp_path / "runs", "another") as mine:
            assert mine
        os.kill(other.pid, signal.SIGKILL)
        other.join(60)
        assert not locks.held(lock)
        with locks.lock(tmp_path / "runs", "key") as mine:
            assert mine
        assert not (tmp_path / "runs" / "key.lock").exists()
    finally:
        other.kill()
        other.join()


@contextlib.contextmanager
def another_user():
    """This process without root's rights, as a user of another group."""
    if os.geteuid():
        pytest.skip("only root can become another user")
    os.setegid(65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.fixture
def shared():
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


def test_another_user_sees_who_trains_and_goes_on_after_a_crash(shared):
    with locks.lock(shared, "key-00000000") as mine:
        assert mine
        with another_user():
            assert locks.held(shared / "key-00000000.lock")
            (seen,) = status.run_statuses([shared])
            assert seen.state == "running"
            assert f" on {socket.gethostname()} since " in seen.note
            with locks.lock(shared, "key-00000000") as other:
                assert not other
    left = shared / "key-00000000.lock"
    left.touch(0o644)  # as a crash leaves it
    with another_user():
        assert [path.name for path in status.strays(shared)] == [left.name]
        with locks.lock(shared, "key-00000000") as mine:
            assert mine
        left.touch()
        assert status.clean(left)
    assert not left.exists()


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_the_umask_decides_who_may_read_and_write(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        with locks.lock(tmp_path, "key"):
            assert (tmp_path / "key.lock").stat().st_mode & 0o777 == mode
        files.write(tmp_path / "a.json", b"{}")
        assert (tmp_path / "a.json").stat().st_mode & 0o777 == mode
    finally:
        os.umask(before)


def test_a_claim_leaves_nothing_where_nothing_was_written(tmp_path):
    with locks.lock(tmp_path / "new", "key") as mine:
        assert mine
    assert not (tmp_path / "new").exists()


def test_a_lock_file_that_its_last_owner_removed_is_no_claim(tmp_path, monkeypatch):
    """The lock file is removed between opening and locking it, so the lock is taken again."""
    path, opened, plain = tmp_path / "key.lock", [], os.open

    def removed_behind(name, *args, **kwargs):
        descriptor = plain(name, *args, **kwargs)
        if str(name) == str(path):
            opened.append(descriptor)
            if len(opened) == 1:
                path.unlink()
        return descriptor

    monkeypatch.setattr(os, "open", removed_behind)
    with locks.lock(tmp_path, "key") as mine:
        assert mine
        assert path.exists()
        assert locks.held(path)
    assert len(opened) >= 2


def test_two_processes_on_one_folder_train_every_run_once(run):
    words = ["ablation-table", *DIGITS[:4], "--epochs", "3", "--seeds", "0", "--run"]
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    other, until = subprocess.Popen([sys.executable, "-m", "lt_repro", *words], **piped), time.monotonic() + 60
    while not list(Path("runs").glob("*.lock")):  # it takes seconds to start
        assert time.monotonic() < until
        time.sleep(0.01)
    code, *output = run(*words)
    outputs = [output, other.communicate(timeout=300)]
    assert (code, other.returncode) == (0, 0), outputs
    runs = [Run.read(path) for path in Path("runs").glob("*.json")]
    assert len(runs) == 9
    assert all(len(result.attempts) == 1 for result in runs)
    assert {path.suffix for path in Path("runs").iterdir()} == {".json", ".pt"}
    trained_by = [err.count("accuracy") - err.count("by another process") for _, err in outputs]
    assert sum(trained_by) == 9
    assert outputs[0][0] == outputs[1][0]
    assert "\x1b" not in "".join(itertools.chain.from_iterable(outputs))  # neither colour nor a bar in a pipe


# status


def test_status_derives_every_state_from_the_files(run):
    done = trained(run)
    dead = replace(done, recipe=done.recipe.replace(seed=9), status="diverged", result=None, weights=None)
    replace(dead, diverged={"epoch": 0, "step": 1}).publish(Path("runs"))
    interrupted = interrupted_checkpoint().stem
    failed = interrupted_checkpoint("digits-r60-dbn_mix-e60-s1-046bbfcd", 7).stem
    Path(f"runs/{failed}.failed.json").write_text("{}")
    running = interrupted_checkpoint("digits-r60-dbn_mix-e60-s2-479d8cf0", 5).stem
    Path("runs/digits-r60-dbn_mix-e60-s2-5ba7be9a.json").write_text("{")
    with locks.lock(Path("runs"), running), locks.lock(Path("runs"), "early-12345678"):
        _, out, _ = run("status", "--json")
        _, text, _ = run("status")
    document = json.loads(out)
    states = {entry["key"]: (entry["state"], entry["note"]) for entry in document["runs"]}
    assert states[done.recipe.key()] == ("done", "")
    assert states[dead.recipe.key()][0] == "diverged"
    assert states[interrupted] == ("interrupted", "epoch 3/60, step 1/3")
    assert states[failed] == ("failed", f"epoch 7/60, step 1/3; see {failed}.failed.json")
    assert states[running][0] == states["early-12345678"][0] == "running"
    assert states[running][1].startswith("epoch 5/60, step 1/3; ")
    assert states["early-12345678"][1].startswith("no checkpoint; ")
    assert states["digits-r60-dbn_mix-e60-s2-5ba7be9a"][0] == "damaged"
    assert document["totals"] == {"done": 1, "diverged": 1, "interrupted": 1, "failed": 1, "running": 2, "damaged": 1}
    assert next(entry["accuracy"] for entry in document["runs"] if entry["state"] == "done") == done.accuracy()
    for word in ("interrupted", "epoch 5/60", "2 running", "1 damaged"):
        assert word in text


def test_status_of_nothing_and_of_a_folder_that_is_not_there(run, refused):
    assert run("status")[:2] == (0, "no runs in runs\n")
    refused("status", "--runs", "nowhere")


def test_status_watches_until_ctrl_c(run, monkeypatch):
    looks = []

    def tired(seconds):
        looks.append(seconds)
        if len(looks) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", tired)
    code, _, _ = run("status", "--watch")
    assert (code, looks) == (130, [2, 2, 2])


def test_a_look_needs_no_torch():
    script = "import sys; from lt_repro.cli import main\ntry:\n main()\nfinally:\n sys.exit('torch' in sys.modules)"
    for words in (["status"], ["verify"]):
        done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr


# verify


def test_verify_names_every_bad_file_and_cleans_what_was_left_behind(run):
    first, second, third = (trained(run, "--seed", str(seed)) for seed in range(3))
    code, out, _ = run("verify")
    assert (code, out.strip()) == (0, "6 files, 0 bad; 0 left behind, 0 removed")
    first.path.write_text(first.path.read_text().replace('"status": "done"', '"status": "dome"'))
    weights = second.path.with_suffix(".pt").read_bytes()
    second.path.with_suffix(".pt").write_bytes(
        weights[: len(weights) // 2] + b"x" * 9 + weights[len(weights) // 2 + 9 :]
    )
    Path("runs/orphan-00000000.pt").write_bytes(b"")
    good, bad = interrupted_checkpoint(), interrupted_checkpoint("digits-r60-dbn_mix-e60-s1-046bbfcd")
    bad.write_bytes(bad.read_bytes()[:-1] + b"?")
    left = [Path("runs/.x.json.4194999.tmp"), Path("runs/a-00000000.lock"), Path("runs/b.ckpt.damaged")]
    for path in left:
        path.touch()
    outlived = third.path.with_suffix(".ckpt")
    outlived.write_bytes(good.read_bytes())
    code, out, _ = run("verify", "--json")
    document = json.loads(out)
    wrong = {Path(entry["path"]).name for entry in document["bad"]}
    assert code == 1
    assert wrong == {
        first.path.name,
        first.path.with_suffix(".pt").name,
        second.path.with_suffix(".pt").name,
        "orphan-00000000.pt",
        bad.name,
        outlived.name,
    }
    assert set(document["strays"]) == {str(path) for path in (*left, outlived)}
    before = set(Path("runs").iterdir())
    code, out, _ = run("verify", "runs", "--clean")
    assert code == 1
    assert first.path.name in out
    assert before - set(Path("runs").iterdir()) == {*left, outlived}


def test_verify_names_weights_that_are_gone_and_what_needs_them(run):
    parent, other = trained(run, "--seed", "0", "--arch", "dbn"), trained(run, "--seed", "1")
    child = trained(run, "--method", "crt", "--set", f"parent={parent.path}")
    assert json.loads(run("verify", "--json")[1])["without_weights"] == []
    parent.path.with_suffix(".pt").unlink()
    other.path.with_suffix(".pt").unlink()
    code, out, _ = run("verify")
    *named, total = out.splitlines()
    assert (code, total) == (0, "4 files, 0 bad; 0 left behind, 0 removed; 2 without weights")
    assert f"{parent.path.with_suffix('.pt')} is gone; needed for {child.recipe.key()}" in named
    (planned,) = (line for line in named if line.startswith(f"{other.path.with_suffix('.pt')} is gone; needed for "))
    assert "rivals-digits-e2-r60 (cRT)" in planned
    entries = {entry["key"]: entry for entry in json.loads(run("verify", "--json")[1])["without_weights"]}
    assert entries.keys() == {parent.recipe.key(), other.recipe.key()}
    child.path.rename("child.json")
    assert "pt is gone; needed for table6a-digits-e2-r60 (Dual branch)" in run("verify")[1]  # it is still planned
    wide = trained(run, "--set", "lr=0.3")
    wide.path.with_suffix(".pt").unlink()
    assert f"{wide.path.with_suffix('.pt')} is gone; no run needs it" in run("verify")[1]
    wide.path.unlink()
    run("collect", "runs")
    assert "2 without weights" in run("verify")[1]  # the copies never have any
    assert "2 without weights" in run("verify", "tables/runs")[1]
    Path("copies").mkdir()
    parent.path.rename(Path("copies") / parent.path.name)
    assert "1 without weights" in run("verify", "runs")[1]
    assert "2 without weights" in run("verify", "runs", "copies")[1]
    Path(f"copies/{parent.recipe.key()}.pt").write_bytes(b"")
    assert "1 without weights" in run("verify", "runs", "copies")[1]  # damaged, but there


def test_verify_takes_nothing_from_a_process_that_lives(run, refused):
    result = trained(run)
    outlived = result.path.with_suffix(".ckpt")  # its weights are being trained again, say
    outlived.write_bytes(b"")
    temporary = Path(f"runs/.{result.recipe.key()}.pt.{os.getpid()}.tmp")
    temporary.touch()
    with locks.lock(Path("runs"), result.recipe.key()) as mine:
        assert mine
        _, out, _ = run("verify", "--clean", "--json")
        assert json.loads(out)["strays"] == []
        with locks.lock(Path("runs"), result.recipe.key()) as other:
            assert not other
    assert outlived.exists()
    assert temporary.exists()
    refused("verify", "nowhere")


def test_a_stray_lock_that_is_claimed_between_the_look_and_the_removal_stays(tmp_path):
    (tmp_path / "key-00000000.lock").touch()
    (stray,) = status.strays(tmp_path)
    with locks.lock(tmp_path, "key-00000000") as mine:
        assert mine
        assert not status.clean(stray)
        with locks.lock(tmp_path, "key-00000000") as other:
            assert not other
    assert not stray.exists()


def test_a_claim_makes_its_folder_anew_where_another_took_it_away(tmp_path, monkeypatch):
    folder, tries, plain = tmp_path / "new", [], os.open

    def taken_away(name, *args, **kwargs):
        if str(name).endswith(".lock"):
            tries.append(name)
            if len(tries) == 1:
                folder.rmdir()
        return plain(name, *args, **kwargs)

    monkeypatch.setattr(os, "open", taken_away)
    with locks.lock(folder, "key") as mine:
        assert mine
    assert len(tries) == 2


# collect


def test_collect_brings_what_is_whole_and_writes_over_nothing(run):
    whole, unexpected, other = (trained(run, "--seed", str(seed), "--out", "there") for seed in range(3))
    unexpected.path.write_text(unexpected.path.read_text()[:-9])
    other.path.unlink()
    replace(other, split=other.split | {"digest": "0" * 64}).publish(Path("there"))
    Path("there/x.failed.json").write_text("{}")
    code, out, _ = run("collect", "there")
    lines = out.strip().splitlines()
    assert code == 1
    assert lines[-1] == "1 copied to tables/runs, 0 already there, 2 refused"
    assert any(unexpected.path.name in line for line in lines)
    assert any("different split 00000000" in line for line in lines)
    brought = Path("tables/runs") / whole.path.name
    assert brought.read_bytes() == whole.path.read_bytes()
    assert list(brought.parent.iterdir()) == [brought]
    code, out, _ = run("collect", str(whole.path), "--json")
    assert (code, json.loads(out)) == (0, {"brought": [], "there": [str(brought)], "refused": []})
    whole.path.unlink()
    replace(whole, seconds=1.0).publish(Path("there"))
    code, out, _ = run("collect", str(whole.path))
    assert code == 1
    assert "different content" in out


# diff


def test_diff_shows_every_field_and_the_classes_that_moved(run):
    first, second = trained(run), trained(run, "--tscale", "--seed", "3")
    code, out, _ = run("diff", first.recipe.key(), str(second.path), "--json")
    document = json.loads(out)
    assert code == 0
    fields = {entry["field"]: (entry["first"], entry["second"]) for entry in document["fields"]}
    assert fields["recipe.method.name"] == ("cross_entropy", "dbn_mix")
    assert fields["recipe.method.tscale"] == (None, True)
    assert fields["recipe.seed"] == (0, 3)
    assert fields["weights.sha256"] == (first.weights["sha256"], second.weights["sha256"])
    assert "recipe.method.mix" not in fields
    assert "split.digest" not in fields
    moved = {entry["class"]: (entry["first"], entry["second"]) for entry in document["classes"]}
    for name, left, right in zip("0123456789", first.result["per_class"], second.result["per_class"], strict=True):
        assert (name in moved) == (left != right)
        assert moved.get(name, (left, right)) == (left, right)
    gaps = [abs(entry["first"] - entry["second"]) for entry in document["classes"]]
    assert gaps == sorted(gaps, reverse=True)
    _, out, _ = run("diff", first.recipe.key(), second.recipe.key())
    assert "recipe.method.tscale" in out
    _, out, _ = run("diff", first.recipe.key(), first.recipe.key())
    assert "0 fields differ, 0 classes differ" in out


def test_commands_of_odd_recipes_can_be_typed(run):
    """What `--plan` prints gives the recipe that it was printed for, digit by digit."""
    parent = trained(run, "--arch", "dbn").recipe
    unexpected = {"lr": 1 / 3, "milestones": (1 / 3, 2 / 3), "momentum": 0.1 + 0.2}
    for made in (
        parent.replace(**unexpected),
        replace(parent, parents={"features": parent}, method=replace(parent.method, frozen=True)),
    ):
        line = command(made, "digits").split()
        code, out, err = run(*line[1:], "--json")
        assert code == 0, err
        assert json.loads(out)["key"] == made.key()
