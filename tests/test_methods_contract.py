"""The contract, over every registered method: the number found is asserted."""

import copy
import dataclasses
import json
import math
from typing import ClassVar

import numpy as np
import pytest
import torch
from conftest import EVERY
from conftest import METHODS as ROWS
from probe import Probe

from lt_repro.data.samplers import generator
from lt_repro.errors import RequestError
from lt_repro.methods import METHODS
from lt_repro.methods.base import At, Batch, Draw, Method
from lt_repro.methods.bbn import Bbn
from lt_repro.methods.crt import Crt
from lt_repro.methods.dbn_mix import DbnMix
from lt_repro.nets.resnet_cifar import ResNet
from lt_repro.paper.dbn_mix.settings import recipe
from lt_repro.recipe import Recipe

BAD = [
    {"branches": 3},
    {"branches": True},
    {"mix": "cutmix"},
    {"alpha": 0.0},
    {"alpha": math.nan},
    {"alpha": "1"},
    {"gamma": -1.0},
    {"eta": 0.0},
    {"eps": 1.5},
    {"eps": -0.1},
    {"tscale": 1},
    {"branch_at": "layer4"},
    {"bn": "shared"},
    {"lam_per": "epoch"},
    {"head": "mlp"},
    {"branches": 2, "mix": "mixup"},
]


def test_every_method_is_found_and_covered():
    assert list(METHODS) == ["bbn", "crt", "dbn_mix"]
    assert {type(method) for method in EVERY.values()} == {Probe, *METHODS.values()}
    assert all(dataclasses.is_dataclass(cls) and cls.__dataclass_params__.frozen for cls in METHODS.values())


@pytest.mark.parametrize("cls", METHODS.values())
@pytest.mark.parametrize("section", ["Source:", "Equation:", "Deviations:", "Reduces to:", "Args:"])
def test_docstring_says_where_it_comes_from(cls, section):
    assert section in cls.__doc__


def step(method, rows=6, classes=4, absent=(), seed=0):
    """One network, one set of batches and draws for a method."""
    torch.manual_seed(seed)
    net = ResNet("resnet8", method.net(), classes, [0.5], [0.2])
    net.own.update(method.modules(classes))
    allowed = torch.tensor([k for k in range(classes) if k not in absent])
    batches = {
        draw.name: Batch(torch.rand(rows, 1, 8, 8), allowed[torch.randint(0, len(allowed), (rows,))])
        for draw in method.draws(0.0)
    }
    drawn = {n: torch.from_numpy(s(generator(seed, n, 0), 3, rows)).float()[0] for n, s in method.streams.items()}
    return net, batches, At(*map(torch.tensor, (0.5, 0.5, 0.1)), torch.tensor([12.0, 7.0, 4.0, 3.0]), drawn)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("kind", [{}, {"rows": 1}, {"absent": (0, 3)}])
def test_loss_is_a_finite_scalar(name, kind):
    net, batches, at = step(EVERY[name], **kind)
    loss = EVERY[name].loss(net, batches, at)
    assert loss.shape == ()
    assert torch.isfinite(loss)


@pytest.mark.parametrize("name", EVERY)
def test_gradient_reaches_every_parameter(name):
    net, batches, at = step(EVERY[name])
    EVERY[name].loss(net, batches, at).backward()
    trained = [p for n, p in net.named_parameters() if n.startswith(tuple(EVERY[name].trains))]
    assert trained
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in trained)


@pytest.mark.parametrize("name", [name for name, method in EVERY.items() if not method.streams])
def test_a_method_without_random_numbers_gives_the_network_its_batches_as_they_are(name):
    net, batches, at = step(EVERY[name])
    seen = []

    def spy(given):
        seen.extend([given] if isinstance(given, torch.Tensor) else given)
        return net(given)

    spy.own = net.own

    EVERY[name].loss(spy, batches, at)
    assert [id(x) for x in seen] == [id(batch.images) for batch in batches.values()]


@pytest.mark.parametrize("name", EVERY)
def test_inputs_are_left_alone_and_the_same_draws_give_the_same_loss(name):
    net, batches, at = step(EVERY[name])
    before = {key: (batch.images.clone(), batch.labels.clone()) for key, batch in batches.items()}
    own = {key: value.clone() for key, value in net.own.state_dict().items()}
    first = EVERY[name].loss(net, batches, at)
    moved = [key for key, value in net.own.state_dict().items() if not torch.equal(value, own[key])]
    assert moved == (["tracker.mean", "tracker.steps"] if name == "probe" else [])
    for key, batch in batches.items():
        assert torch.equal(batch.images, before[key][0])
        assert torch.equal(batch.labels, before[key][1])
    again = step(EVERY[name])
    assert torch.equal(first, EVERY[name].loss(*again))
    other = step(EVERY[name], seed=1)
    assert not torch.equal(first, EVERY[name].loss(*other))


@pytest.mark.parametrize("name", EVERY)
def test_loss_is_a_mean_over_rows(name):
    net, batches, at = step(EVERY[name])
    net.eval()  # without batch statistics, twice the rows must give the same mean
    again = copy.deepcopy(net)
    twice = {key: Batch(torch.cat([b.images] * 2), torch.cat([b.labels] * 2)) for key, b in batches.items()}
    keys = {
        n: torch.cat([v, v + 10]) if n == "partner" else torch.cat([v, v]) if v.ndim else v for n, v in at.draw.items()
    }
    torch.testing.assert_close(
        EVERY[name].loss(net, batches, at), EVERY[name].loss(again, twice, at._replace(draw=keys)), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("name", EVERY)
def test_twenty_steps_on_32_images_lower_the_loss(name):
    method = EVERY[name]
    if isinstance(method, DbnMix):
        method = dataclasses.replace(method, mix="none")  # mixed targets have an entropy that no step can lower
    net, batches, at = step(method, rows=32)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(20):
        loss = method.loss(net, batches, at)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("name", EVERY)
def test_json_round_trip(name, probe):
    method = EVERY[name]
    parent = {"parents": {"features": recipe("digits", ratio=60.0)}} if method.parents else {"ratio": 60.0}
    made = recipe("digits", method.name(), **parent, **dataclasses.asdict(method))
    text = json.dumps(made.to_json(), allow_nan=False)
    back = Recipe.from_json(json.loads(text))
    assert back == made
    assert back.method == EVERY[name]
    assert back.key() == made.key()


@pytest.mark.parametrize(
    ("cls", "fields"),
    [
        *((DbnMix, fields) for fields in BAD),
        *((Bbn, fields) for fields in ({"gamma": 0.0}, {"gamma": math.nan}, {"branch_at": "layer4"}, {"bn": "train"})),
        (Crt, {"bn": "per_branch"}),
    ],
    ids=str,
)
def test_bad_hyper_parameters_raise(cls, fields):
    with pytest.raises(RequestError) as caught:
        cls(**fields)
    assert len(str(caught.value).splitlines()) <= 3


def test_streams_have_one_number_a_step_or_an_image():
    shapes = {name: s(generator(0, name, 0), 5, 7).shape for name, s in ROWS["sbn+mixup"].streams.items()}
    assert shapes == {"lam": (5,), "partner": (5, 7)}
    sample = dataclasses.replace(ROWS["dbn+bm"], lam_per="sample")
    assert sample.streams["lam"](generator(0, "lam", 0), 5, 7).shape == (5, 7)


@pytest.mark.parametrize(("alpha", "variance"), [(1.0, 1 / 12), (0.2, 0.25 / 1.4)])
def test_lambda_is_beta_alpha_alpha(alpha, variance):
    drawn = DbnMix(mix="bilateral", alpha=alpha).streams["lam"](generator(0, "lam", 0), 100_000, 1)
    assert np.mean(drawn) == pytest.approx(0.5, abs=0.005)
    assert np.var(drawn) == pytest.approx(variance, rel=0.02)


def test_unused_fields_are_those_that_change_nothing():
    assert ROWS["sbn"].unused() == {"alpha", "lam_per", "eta", "eps", "gamma", "branch_at", "bn", "temperature"}
    assert ROWS["dbn+bm+ts"].unused() == frozenset()
    assert ROWS["sbn+bm"].unused() == {"eta", "eps", "branch_at", "bn", "temperature"}
    assert EVERY["frozen dbn+bm+ts"].unused() == {"branch_at", "bn"}


def test_a_method_needs_a_title_and_a_loss_and_nothing_else():
    @dataclasses.dataclass(frozen=True)
    class Plain(Method):
        title: ClassVar[str] = "plain"

        def loss(self, net, batches, at):
            images, labels = batches["uniform"]
            return torch.nn.functional.cross_entropy(net(images)[0], labels)

    net, batches, at = step(Plain())
    assert torch.isfinite(Plain().loss(net, batches, at))
    assert Plain().draws(0.0) == (Draw("uniform"),)
