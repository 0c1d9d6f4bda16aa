"""Cards: what a method says of itself, as data, on the terminal and as the page of departures."""

import dataclasses
import json
from pathlib import Path

import pytest

from lt_repro.cards import card, settings
from lt_repro.errors import RequestError
from lt_repro.methods import METHODS
from lt_repro.methods.base import Departure, Method
from lt_repro.nets.resnet_cifar import BLOCKS
from lt_repro.recipe import Recipe

PAGE = Path(__file__).parents[1] / "docs/departures.md"
DOCSTRING = """Margins by class
    size.

    Source: A. Author, "A Paper",
        Conf 2020.
    Equation:
        L = CE(z - m, y)
            m_k = C / N_k

    Reduces to:
        - m = 0: cross-entropy.
        - one class:
          nothing.

    Args:
        scale: Of the cosine,
            > 0.
        joint:
            Whether both.

    Raises:
        RequestError: A value is not allowed.
    """


@dataclasses.dataclass(frozen=True)
class Sized(Method):
    __doc__ = DOCSTRING

    title = "Sized"
    departures = (
        Departure("Margins", paper="m_k ~ N_k", code="none", ours="see 0.5; as the paper"),
        Departure("Bias", paper="not said", code="a bias", ours="none", effect="0.3 +- 0.1 points"),
    )
    scale: float = 30.0
    joint: bool = False

    def loss(self, net, batches, ctx):
        raise NotImplementedError


def with_docstring(docstring):
    return type("Sized", (Sized,), {"__doc__": docstring})


def test_a_card_holds_all_that_the_method_says():
    made = card(Sized)
    assert made.about == "Margins by class size."
    assert made.source == 'A. Author, "A Paper", Conf 2020.'
    assert made.equation == ("L = CE(z - m, y)", "    m_k = C / N_k")
    assert made.departures == Sized.departures
    assert made.reductions == ("m = 0: cross-entropy", "one class: nothing")
    assert [dataclasses.astuple(setting) for setting in made.settings] == [
        ("scale", "30", "a number, or inf", "Of the cosine, > 0."),
        ("joint", "false", "true or false", "Whether both."),
    ]


def test_layout_is_free():
    whole = DOCSTRING.replace("Equation:\n        L", "Equation: L").replace(
        "Reduces to:\n        - m", "Reduces to: m"
    )
    made = card(with_docstring(whole))
    assert made.equation == ("L = CE(z - m, y)", "m_k = C / N_k")
    assert made.reductions[0] == "m = 0: cross-entropy"


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("Margins by class\n    size.\n", "", "no description"),
        ("    Source:", "    Origin:", "no section Source"),
        ("    Source:", "    Note:\n        more\n    Source:", "a section Note"),
        ("    Args:", "    Source: twice.\n    Args:", "Source is there twice"),
        ("    Equation:", "    Equation of\n        this:", "the line 'Equation of' after Source is not indented"),
        ("        L = CE(z - m, y)\n            m_k = C / N_k\n", "", "nothing after Equation"),
        ("            Whether both.\n", "", "nothing after joint"),
        ("        joint:", "        joined:", "joint has no meaning under Args"),
        ("        joint:", "        other: What.\n        joint:", "other is under Args and no field"),
        ("        joint:", "        scale: Again.\n        joint:", "scale is there twice"),
        ("        joint:\n", "        joint\n", "the line 'joint' after scale is not indented"),
        ("    Args:\n", "    Args:\n        Two.\n", "Args has the line 'Two.'"),
    ],
)
def test_a_malformed_docstring_is_named_in_a_line(old, new, what):
    assert old in DOCSTRING
    with pytest.raises(RequestError) as caught:
        card(with_docstring(DOCSTRING.replace(old, new)))
    first, *rest = str(caught.value).splitlines()
    assert first.startswith("docstring of Sized: ")
    assert what in first
    assert len(rest) == 1


def test_every_setting_of_a_recipe_has_a_meaning():
    listed = {setting.name: setting for setting in settings(Recipe)}
    assert set(listed) == {field.name for field in dataclasses.fields(Recipe)}
    assert listed["milestones"].default == "0.6,0.8"
    assert listed["lr"].default is None
    assert [name for name in BLOCKS if name not in listed["net"].meaning] == []


# on the terminal


def test_a_method_is_shown_with_the_meaning_of_its_settings(run):
    code, out, err = run("methods", "crt")
    assert code == 0, err
    made = card(METHODS["crt"])
    texts = [made.title, made.about, made.source, *made.equation, *made.reductions]
    texts += [setting.meaning for setting in made.settings]
    texts += [text for point in made.departures for text in (point.topic, point.paper, point.code, point.ours)]
    assert [text for text in texts if text not in out] == []
    assert out.count("not measured") == len(made.departures)
    rows = {line.split()[0]: line for line in out.splitlines() if line}
    assert "Fraction of training with a linearly rising rate." in rows["warmup"]
    assert rows["schedule"].split()[1] == "cosine"  # cRT's, not the recipe's
    assert "by data set" in rows["lr"]
    assert "dataset" not in rows


@dataclasses.dataclass(frozen=True)
class Bare(Method):
    """A method without departures and settings.

    Source: Nobody, "Nothing", 2019.
    Equation: L = 0
    Reduces to: nothing.
    """

    title = "bare"

    def loss(self, net, batches, ctx):
        return batches["uniform"].images.sum() * 0


@pytest.fixture
def bare(monkeypatch):
    monkeypatch.setitem(METHODS, Bare.name(), Bare)
    return Bare.name()


def test_a_method_without_departures_and_settings_is_shown(run, bare):
    code, out, err = run("methods", bare)
    assert code == 0, err
    assert "departures: none known\nreduces to:" in out
    assert out.count("setting ") == 1  # the grid of the recipe's


def test_a_card_is_one_json_document(run):
    content = json.loads(run("methods", "bbn", "--json")[1])
    recipe = content.pop("recipe")
    assert content == json.loads(json.dumps(dataclasses.asdict(card(METHODS["bbn"]))))
    assert {"name": "warmup", "default": "0.025"}.items() <= next(s for s in recipe if s["name"] == "warmup").items()


def test_wrong_requests(refused):
    assert "did you mean 'dbn_mix'?" in refused("methods", "dbnmix")
    for words in (["crt", "--markdown"], ["--markdown", "--json"]):
        assert "--markdown alone" in refused("methods", *words)


def test_the_page_of_departures_is_what_the_command_prints(run):
    printed = run("methods", "--markdown")[1]
    assert PAGE.read_text() == printed, "ltrepro methods --markdown > docs/departures.md"
    assert [name for name, cls in METHODS.items() if f"## {cls.title} (`{name}`)" not in printed] == []
    effects = [point.effect for cls in METHODS.values() for point in card(cls).departures]
    assert printed.count("| not measured |") == effects.count("") < len(effects)


def test_a_method_without_departures_is_on_the_page(run, bare):
    assert '"Nothing", 2019.\n\nNone known.\n' in run("methods", "--markdown")[1]
