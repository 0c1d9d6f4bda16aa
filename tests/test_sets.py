"""The data sets known by name: each says the truth about its images, and a new file is found by being there."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lt_repro.data import sets
from lt_repro.data.load import known_split, load_pool
from lt_repro.papers.dbn_mix.settings import SETTINGS
from lt_repro.papers.dbn_mix.tables import TABLE4

STRIPES = '''
"""Striped noise, made when it is read."""

from pathlib import Path

import numpy as np

from lt_repro.data.dataset import DataSet, NotThere
from lt_repro.data.images import Pool


class _Stripes(DataSet):
    def read(self, root):
        if not (root / "stripes.here").exists():
            error = NotThere(f"no stripes in {root}")
            error.name = self.name
            raise error
        labels = np.repeat(np.arange(3), self.sizes)
        images = np.random.default_rng(0).integers(0, 256, (len(labels), 8, 8, 3), dtype=np.uint8)
        return Pool(self.name, images, labels, images[::10], labels[::10], ("a", "b", "c"), 0, root)

    def download(self, root, report):
        root.mkdir(parents=True, exist_ok=True)
        (root / "stripes.here").touch()
        return root / "stripes.here"


DATASET = _Stripes(
    name="stripes", title="Stripes", long_tailed="Stripes-LT", sizes=(20, 20, 20), side=8, statistics=((0.5,) * 3,) * 2
)
'''


@pytest.mark.parametrize("name", sets.names())
def test_every_set_has_the_name_of_its_file_and_titles_of_its_own(name):
    dataset = sets.find(name)
    assert dataset.name == name
    others = [sets.find(other) for other in sets.names() if other != name]
    for other in others:
        assert not {dataset.title, dataset.long_tailed} & {other.title, other.long_tailed}


@pytest.mark.parametrize("name", [name for name in sets.names() if sets.find(name).bundled])
def test_a_bundled_set_is_what_it_declares(name):
    dataset, pool = sets.find(name), load_pool(name, Path("nowhere"))
    assert tuple(np.bincount(pool.train_labels)) == dataset.sizes
    assert pool.train_images.shape[1:3] == (dataset.side, dataset.side)
    assert (pool.name, pool.hold_out) == (name, dataset.hold_out)


def test_a_name_is_unread_where_no_file_has_it_and_it_is_no_users():
    assert sets.is_unread("imagenet_lt")
    assert not sets.is_unread("cifar10")
    assert not sets.is_unread("bloodmnist-01234567")


@pytest.fixture
def stripes(tmp_path, monkeypatch):
    folder = tmp_path / "sets"
    folder.mkdir()
    (folder / "stripes.py").write_text(STRIPES)
    monkeypatch.setattr(sets, "__path__", [*sets.__path__, str(folder)])
    yield folder
    sys.modules.pop("lt_repro.data.sets.stripes", None)
    known_split.cache_clear()


def test_a_new_file_is_downloaded_split_trained_and_named(stripes, run, refused, monkeypatch, elsewhere):
    monkeypatch.setitem(SETTINGS.others, "net", "resnet8")
    assert sets.is_unread("imagenet_lt") and not sets.is_unread("stripes")
    assert "stripes" in refused("make-dataset", "stripe")
    assert "no stripes in" in refused("train", "--dataset", "stripes", "--epochs", 1)
    code, out, err = run("make-dataset", "stripes", "--ratio", 10)
    assert code == 0, err
    assert "28 training and 6 test images, 3 classes" in out
    code, out, err = run("train", "--dataset", "stripes", "--ratio", 10, "--epochs", 1, "--set", "normalise=own")
    assert code == 0, err
    assert "stripes-r10-cross_entropy" in out
    code, out, _ = run("ablation-table", "--plan", "--dataset", "stripes", "--ratio", 10, "--seeds", 0)
    assert code == 0
    assert "--dataset stripes" in out
    assert "Stripes-LT" in TABLE4.with_settings(dataset="stripes").caption


def test_the_help_lists_a_new_file(stripes):
    source = (
        f"from lt_repro.data import sets\nsets.__path__.append({str(stripes)!r})\nfrom lt_repro import cli\ncli.main()"
    )
    words = [sys.executable, "-c", source, "make-dataset", "--help"]
    shown = subprocess.run(words, capture_output=True, text=True, check=True, env=os.environ | {"COLUMNS": "200"})
    assert ", ".join([*sets.names()]) in " ".join(shown.stdout.replace("│", " ").split())
