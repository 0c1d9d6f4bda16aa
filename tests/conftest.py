"""Made-up images and recipes, small enough to train in a moment."""

import dataclasses
import functools
import sys

import numpy as np
import pytest
import torch
from trial import TRIAL

from lt_repro import cli
from lt_repro.data.images import Images, Pool, select
from lt_repro.data.split import make_split
from lt_repro.methods import METHODS as METHODS_FOUND
from lt_repro.methods.dbn_mix import DbnMix
from lt_repro.papers.dbn_mix.settings import SETTINGS, recipe
from lt_repro.papers.shared import SHARED
from lt_repro.store import provenance
from lt_repro.sweep import cost

ROWS = {
    "sbn": {},
    "sbn+mixup": {"mix": "mixup"},
    "sbn+ts": {"tscale": True},
    "sbn+bm": {"mix": "bilateral"},
    "sbn+bm+ts": {"mix": "bilateral", "tscale": True},
    "dbn": {"branches": 2},
    "dbn+ts": {"branches": 2, "tscale": True},
    "dbn+bm": {"branches": 2, "mix": "bilateral"},
    "dbn+bm+ts": {"branches": 2, "mix": "bilateral", "tscale": True},
}
METHODS = {label: DbnMix(**dict(SETTINGS.ablation[1]) | fields) for label, fields in ROWS.items()}
EVERY = {
    f"{name} {number}": method
    for name, cls in (METHODS_FOUND | TRIAL).items()
    for number, method in enumerate(cls.examples())
}
"""Every example of every registered method and of the tests' own: the contract tests run over them."""


LONGEST = ("workers", "state", "chaos_processes", "cli", "exhibits", "methods", "reproduce", "figures", "train")


def pytest_collection_modifyitems(items):
    """The longest files come first, so that no worker is left with one when the others are done."""
    order = {f"test_{name}": number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _known_speed(monkeypatch):
    """Networks train on 1,000 images/s, so that no plan takes seconds to measure it."""
    monkeypatch.setattr(cost, "measure_speed", lambda net, side, device: 1000.0)


commit = functools.cache(provenance.commit)


@pytest.fixture(autouse=True)
def _known_commit(monkeypatch):
    """Git is run once, not three times for each of hundreds of runs."""
    monkeypatch.setattr(provenance, "commit", commit)


@pytest.fixture(autouse=True)
def _fresh_recipes(monkeypatch):
    """No test gets a recipe that was made before it changed the settings."""
    for paper_settings in (SETTINGS, SHARED):
        monkeypatch.setitem(vars(paper_settings), "_made", {})


@pytest.fixture
def trial(monkeypatch):
    """The tests' own methods, registered."""
    for name, cls in TRIAL.items():
        monkeypatch.setitem(METHODS_FOUND, name, cls)


@pytest.fixture
def pool() -> Pool:
    """Four classes of 12 training and 5 test images, 8x8, grey, in a shuffled order; classes differ in brightness."""
    rng = np.random.default_rng(0)

    def part(each):
        labels = np.repeat(np.arange(4), each)
        rng.shuffle(labels)
        noise = rng.integers(0, 60, (len(labels), 8, 8, 1))
        return (noise + 60 * labels[:, None, None, None]).astype(np.uint8), labels.astype(np.int64)

    return Pool("made_up", *part(12), *part(5), ("a", "b", "c", "d"), 0, None)


@pytest.fixture
def images(pool) -> Images:
    return select(pool, make_split(pool.train_labels, ratio=4, name=pool.name))


@pytest.fixture
def small():
    """A recipe on the made-up pool: three epochs of a few steps."""

    def make(**settings):
        default = {"ratio": 4.0, "net": "resnet8", "epochs": 3, "batch": 8, "crop": 1, "precision": "fp32"}
        return recipe("made_up", **default | settings)

    return make


@pytest.fixture
def changed():
    return dataclasses.replace


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty folder to work in, without data and without runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LTREPRO_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("LTREPRO_RUNS", raising=False)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def run(elsewhere, monkeypatch, capsys):
    """Types a command and gives exit code, stdout and stderr."""

    def type_in(*words):
        monkeypatch.setattr(sys, "argv", ["ltrepro", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        printed = capsys.readouterr()
        return left.value.code or 0, printed.out, printed.err

    return type_in


@pytest.fixture
def refused(run):
    """Types a command that must be refused in at most three lines, and gives them."""

    def type_in(*words, code=2):
        result, out, err = run(*words)
        lines = err.strip().splitlines()
        assert result == code, err
        assert 1 <= len(lines) <= 3, err
        assert lines[0].startswith("error: ")
        assert "Traceback" not in err
        assert out == ""
        return err

    return type_in
