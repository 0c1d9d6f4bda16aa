"""Run files: strict, checked, never overwritten."""

import dataclasses
import json
from pathlib import Path

import pytest
from conftest import ROWS

from lt_repro.canonical import digest
from lt_repro.errors import DamagedError, RequestError
from lt_repro.store import files, run_file, runs
from lt_repro.store.runs import Run
from lt_repro.train.loop import fit


@pytest.fixture
def run(small, images, tmp_path):
    made = fit(small(epochs=1, **ROWS["dbn"]), images, out=tmp_path / "runs")
    return made


def test_it_reads_what_it_wrote(run):
    assert Run.read(run.path) == run


def test_fields_are_those_that_others_read(run):
    named = "schema key status recipe result curve history split data_digest weights seconds images_per_second device"
    named += " precision versions commit attempts payload_sha256"
    content = json.loads(run.path.read_text())
    assert set(named.split()) <= set(content)
    assert set(content["result"]) == {"accuracy", "per_class", "branches", "best", "ece", "reliability"}
    bins = content["result"]["reliability"]
    assert {name: len(values) for name, values in bins.items()} == {"images": 15, "confidence": 15, "accuracy": 15}
    assert sum(bins["images"]) == 20
    assert all((value is None) == (n == 0) for value, n in zip(bins["accuracy"], bins["images"], strict=True))
    assert set(content["weights"]) == {"file", "sha256"}
    assert content["recipe"]["method"]["gamma"] == "inf"
    assert all(0 <= value <= 1 for value in content["result"]["accuracy"].values())


def edited(run, change):
    content = json.loads(run.path.read_text())
    change(content)
    content.pop("payload_sha256")
    run.path.write_text(json.dumps(content | {"payload_sha256": digest(content)}))


DAMAGE = {
    "truncated": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "flipped digit": lambda text: text.replace('"seconds": ', '"seconds": 1', 1),
    "NaN": lambda text: text.replace('"ece": ', '"ece": NaN, "was": ', 1),
    "twice": lambda text: text.replace('"status": "done"', '"status": "done", "status": "done"', 1),
    "no JSON": lambda text: "accuracy: 0.51",
    "a list": lambda text: "[1, 2]",
    "no digest": lambda text: text.replace("payload_sha256", "payload_md5"),
    "deep": lambda text: "[" * 100_000,
    "not UTF-8": lambda text: "ä".encode("latin1"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_named_in_three_lines_and_left_alone(kind, run):
    broken = DAMAGE[kind](run.path.read_text())
    run.path.write_bytes(broken if isinstance(broken, bytes) else broken.encode())
    before = run.path.read_bytes()
    with pytest.raises(DamagedError, match=run.path.name) as caught:
        Run.read(run.path)
    assert len(str(caught.value).splitlines()) <= 3
    result, bad = runs.load_runs([run.path.parent])
    assert (result, len(bad)) == ([], 1)
    assert run.path.read_bytes() == before


def test_a_newer_schema_and_a_wrong_key_are_refused(run):
    edited(run, lambda content: content.update(schema=run_file.SCHEMA + 1))
    with pytest.raises(DamagedError, match="reads schema"):
        Run.read(run.path)
    edited(run, lambda content: content.update(schema=run_file.SCHEMA, key="digits-r60"))
    with pytest.raises(DamagedError, match="do not match"):
        Run.read(run.path)


def test_an_edited_recipe_and_a_renamed_file_are_refused(run):
    moved = run.path.with_name("other.json")
    run.path.rename(moved)
    with pytest.raises(DamagedError, match="do not match"):
        Run.read(moved)
    moved.rename(run.path)
    edited(run, lambda content: content["recipe"].update(lr=0.2))
    with pytest.raises(DamagedError, match="do not match"):
        Run.read(run.path)


def test_a_finished_run_is_never_written_over(run):
    before = run.path.read_bytes()
    other = dataclasses.replace(run, seconds=1e6)
    assert other.publish(run.path.parent) == run
    assert run.path.read_bytes() == before


def test_find_by_path_key_and_beginning(run, small, images):
    folder = run.path.parent
    key = run.recipe.key()
    for text in (str(run.path), key, key[:-2], "made_up"):
        assert runs.find_run(text, [folder]) == run
    fit(small(epochs=1), images, out=folder)
    with pytest.raises(RequestError, match="matches 2 runs"):
        runs.find_run("made_up", [folder])
    for text in ("nothing", "*", "[", "../x", ""):
        with pytest.raises(RequestError):
            runs.find_run(text, [folder])


def test_a_folder_that_is_searched_anyway_is_searched_once(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    always = Path("tables/runs")
    assert runs.run_folders(None) == [Path("runs"), always]
    assert runs.run_folders([Path("a"), Path("./tables/runs"), Path("a")]) == [Path("a"), always]


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "kept.json"
    files.write(path, b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(RequestError, match="No space left"):
        files.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
