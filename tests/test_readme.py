"""The README's commands run as typed, on made-up images of CIFAR-100's number of classes."""

import itertools
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

from lt_repro import cli
from lt_repro.data import load
from lt_repro.data.images import Pool
from lt_repro.paper import papers
from lt_repro.paper.dbn_mix.settings import SETTINGS, recipe

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if line.startswith("ltrepro ")]
KEY = "cifar100-r100-dbn_mix-e200-s0-8d7a"
MAIN = (
    "ltrepro make-dataset cifar100 --ratio 100",
    "ltrepro train --arch dbn --mix bilateral --tscale",
    "ltrepro ablation-table",
    "ltrepro plot-hparams",
)


def made_up_cifar(name, root):
    """100 classes of 100 training images and one test image, 8x8 pixels in colour."""
    train, test = np.repeat(np.arange(100), 100), np.arange(100)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (len(labels), 8, 8, 3), dtype=np.uint8) for labels in (train, test)]
    return Pool(name, images[0], train, images[1], test, tuple(map(str, test)), 0, root)


def test_the_readme_has_the_four_main_commands():
    assert [shlex.split(line, comments=True) for line in COMMANDS[:4]] == [shlex.split(line) for line in MAIN]
    assert len(COMMANDS) == 22


def test_the_run_that_the_readme_names_is_stored_and_is_that_of_its_second_command():
    assert recipe("cifar100", branches=2, mix="bilateral", tscale=True).key().startswith(KEY)
    assert len(list((ROOT / "tables/runs").glob(f"{KEY}*.json"))) == 1


@pytest.fixture
def short(monkeypatch):
    """Every data set with a small network and one epoch; the paper's tables keep no cells from before or after."""

    def forget():
        for table in itertools.chain(*(paper.tables() for paper in papers().values())):
            vars(table).pop("_cells", None)

    forget()
    for name, row in SETTINGS.datasets.items():
        monkeypatch.setitem(SETTINGS.datasets, name, row | {"net": "resnet8", "epochs": 1})
    yield
    forget()


def test_its_commands_run(short, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LTREPRO_DATA", str(tmp_path))
    real = load.load_pool
    monkeypatch.setattr(
        load, "load_pool", lambda name, root: made_up_cifar(name, root) if name == "cifar100" else real(name, root)
    )
    for line in COMMANDS:
        if KEY in line:
            (trained,) = Path("runs").glob("cifar100-r100-dbn_mix-e1-s0-*.json")
            line = line.replace(KEY, trained.stem)
        monkeypatch.setattr(sys, "argv", shlex.split(line, comments=True))
        with pytest.raises(SystemExit) as left:
            cli.main()
        assert left.value.code in (0, None), (line, capsys.readouterr().err)
    assert len(list(Path("tables").glob("*.md"))) == 5
    assert len(list(Path("figures").glob("*.png"))) == 4


def test_every_link_of_the_readme_is_there():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []
