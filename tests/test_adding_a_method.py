"""The page on adding a method: its example is short, passes the contract tests, and its commands run."""

import inspect
import itertools
import re
import shlex
import sys
from pathlib import Path

import pytest
import test_methods as contract
import torch
from conftest import EVERY

import lt_repro.methods
from lt_repro.methods import METHODS
from lt_repro.methods.cross_entropy import CrossEntropy
from lt_repro.papers.dbn_mix.settings import SETTINGS
from lt_repro.papers.table import Variant

PAGE = Path(__file__).parents[1] / "docs/adding-a-method.md"
TEXT = PAGE.read_text()
NAME = "inverse_frequency"
EXAMPLE, ROW = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]
FOR_EACH = [
    decorator.mark for decorator in (contract.EACH, contract.EACH_CARD, contract.EACH_CLASS, contract.EACH_TRAINED)
]
CONTRACT = {
    name: test
    for name, test in vars(contract).items()
    if name.startswith("test_") and any(mark in FOR_EACH for mark in getattr(test, "pytestmark", []))
}


@pytest.fixture
def example(tmp_path, monkeypatch):
    """The page's method, from a file of its own, registered as a file in the package is."""
    (tmp_path / f"{NAME}.py").write_text(EXAMPLE)
    monkeypatch.setattr(lt_repro.methods, "__path__", [*lt_repro.methods.__path__, str(tmp_path)])
    cls = lt_repro.methods._found()[NAME]
    monkeypatch.setitem(METHODS, NAME, cls)
    for number, method in enumerate(cls.examples()):
        monkeypatch.setitem(EVERY, f"{NAME} {number}", method)
    yield cls
    del sys.modules[cls.__module__]


def test_the_example_is_a_file_of_under_40_lines_in_the_form_of_the_house():
    lines = EXAMPLE.splitlines()
    assert len(lines) < 40
    assert max(map(len, lines)) <= 120
    assert f"`lt_repro/methods/{NAME}.py`" in TEXT


def cases(test, cls):
    """The keyword arguments of each call that pytest would make of a contract test, for one method."""
    values = {mark.args[0]: list(mark.args[1]) for mark in test.pytestmark}
    values |= {"name": [name for name in EVERY if name.startswith(f"{NAME} ")], "cls": [cls], "trial": [None]}
    asked = inspect.signature(test).parameters
    return [dict(zip(asked, chosen, strict=True)) for chosen in itertools.product(*(values[name] for name in asked))]


@pytest.mark.parametrize("test", CONTRACT.values(), ids=CONTRACT)
def test_the_example_passes_the_contract_tests(test, example):
    assert len(CONTRACT) >= 9
    made = cases(test, example)
    assert made
    for arguments in made:
        test(**arguments)


def test_a_broken_example_does_not_pass(example, monkeypatch):
    """The checks above see the page's method: with a sum instead of a mean one of them fails."""
    mean = example.loss

    def summed(self, net, batches, ctx):
        return len(batches["uniform"].labels) * mean(self, net, batches, ctx)

    monkeypatch.setattr(example, "loss", summed)
    with pytest.raises(AssertionError):
        contract.test_loss_is_a_mean_over_rows(f"{NAME} 0")


def test_the_examples_reduction_is_true(example):
    net, batches, ctx = contract.step(example(power=0.0))
    torch.testing.assert_close(example(power=0.0).loss(net, batches, ctx), CrossEntropy().loss(net, batches, ctx))
    net, batches, ctx = contract.step(example())
    assert not torch.allclose(example().loss(net, batches, ctx), CrossEntropy().loss(net, batches, ctx))


def test_the_pages_commands_run(example, run, monkeypatch):
    monkeypatch.setitem(SETTINGS.datasets, "digits", SETTINGS.datasets["digits"] | {"epochs": 1})
    typed = [shlex.split(line)[1:] for line in COMMANDS if line.startswith("ltrepro ") and ">" not in line]
    assert len(typed) == 3
    for words in typed:
        code, out, err = run(*words)
        assert code == 0, err
        assert NAME in out


def test_the_pages_row_makes_the_methods_recipe(example):
    row = eval(ROW, {"Variant": Variant})
    made = SETTINGS.recipe("digits", row.edits["method"], ratio=60.0)
    assert type(made.method) is example
    assert row.title == example.title
