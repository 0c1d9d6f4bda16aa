"""The README's commands run as typed, on made-up images of CIFAR-100's number of classes."""

import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

from lt_repro import cli
from lt_repro.data import load
from lt_repro.data.images import Pool
from lt_repro.paper.dbn_mix.settings import SETTINGS

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if line.startswith("ltrepro ")]
BRIEF = (
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


def test_the_readme_has_the_four_commands_of_the_brief():
    assert [shlex.split(line, comments=True) for line in COMMANDS[:4]] == [shlex.split(line) for line in BRIEF]
    assert len(COMMANDS) == 21


def test_its_commands_run(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LTREPRO_DATA", str(tmp_path))
    for name, row in SETTINGS.datasets.items():
        monkeypatch.setitem(SETTINGS.datasets, name, row | {"net": "resnet8", "epochs": 1})
    real = load.load_pool
    monkeypatch.setattr(
        load, "load_pool", lambda name, root: made_up_cifar(name, root) if name == "cifar100" else real(name, root)
    )
    for line in COMMANDS:
        monkeypatch.setattr(sys, "argv", shlex.split(line, comments=True))
        with pytest.raises(SystemExit) as left:
            cli.main()
        assert left.value.code in (0, None), (line, capsys.readouterr().err)
    assert len(list(Path("tables").glob("*.md"))) == 5
    assert len(list(Path("figures").glob("*.png"))) == 4


def test_every_link_of_the_readme_is_there():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    assert [link for link in links if "://" not in link and not (Path(__file__).parents[1] / link).exists()] == []
