"""The contract, over every example of every registered method and of the tests' own."""

import copy
import dataclasses
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import EVERY
from conftest import METHODS as ROWS
from trial import TRIAL

import lt_repro.methods
from lt_repro.cards import card
from lt_repro.data.samplers import Uniform, generator
from lt_repro.errors import RequestError
from lt_repro.methods import METHODS
from lt_repro.methods.base import Batch, Method, Sampled, StepContext
from lt_repro.methods.bbn import Bbn
from lt_repro.methods.cross_entropy import CrossEntropy
from lt_repro.methods.crt import Crt
from lt_repro.methods.dbn_mix import DbnMix
from lt_repro.methods.drw import Drw
from lt_repro.nets.resnet_cifar import ResNet
from lt_repro.nets.spec import NetSpec
from lt_repro.papers.dbn_mix.settings import recipe
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


EACH_CLASS = pytest.mark.parametrize("cls", METHODS.values())
EACH_CARD = pytest.mark.parametrize("cls", [*METHODS.values(), *TRIAL.values()])
EACH = pytest.mark.parametrize("name", EVERY)
TRAINED = [name for name, method in EVERY.items() if method.param_groups]
EACH_TRAINED = pytest.mark.parametrize("name", TRAINED)


def test_every_method_is_found_by_being_there():
    files = {path.stem for path in Path(lt_repro.methods.__file__).parent.glob("[a-z]*.py")} - {"base"}
    assert set(METHODS) == files
    assert {"bbn", "crt", "dbn_mix"} <= files
    assert {type(method) for method in EVERY.values()} == {*METHODS.values(), *TRIAL.values()}
    assert all(dataclasses.is_dataclass(cls) and cls.__dataclass_params__.frozen for cls in METHODS.values())


def test_a_new_file_is_found_and_tested_without_a_further_line(tmp_path, monkeypatch):
    """What conftest does at its import, with one more method in the folder."""
    text = """
from dataclasses import dataclass
from lt_repro.methods.base import Method

@dataclass(frozen=True)
class Plain(Method):
    title = "plain"

    def loss(self, net, batches, ctx):
        return net(batches["uniform"].images)[0].square().mean()
"""
    (tmp_path / "plain.py").write_text(text)
    monkeypatch.setattr(lt_repro.methods, "__path__", [*lt_repro.methods.__path__, str(tmp_path)])
    result = lt_repro.methods._found()
    monkeypatch.delitem(sys.modules, "lt_repro.methods.plain")
    assert set(result) == {*METHODS, "plain"}
    assert [method.title for method in result["plain"].examples()] == ["plain"]


@EACH_CLASS
def test_no_field_is_also_a_field_of_the_recipe(cls):
    assert not {field.name for field in dataclasses.fields(cls)} & {field.name for field in dataclasses.fields(Recipe)}


@EACH_CLASS
def test_a_value_of_the_wrong_kind_is_refused_in_every_field(cls):
    for field in dataclasses.fields(cls):
        for value in ("nonsense", math.nan, None):
            with pytest.raises(RequestError, match=field.name):
                cls(**{field.name: value})


@EACH_CLASS
def test_what_the_contract_does_not_document_has_a_docstring(cls):
    members = {name: vars(Method)[name] for name in vars(Method) if name[0] != "_"}
    assert all(member.__doc__ for member in members.values())
    for owner in vars(sys.modules[cls.__module__]).values():
        if isinstance(owner, type) and owner.__module__ == cls.__module__:
            known = members if issubclass(owner, Method) else {}
            public = {name: value for name, value in vars(owner).items() if name[0] != "_" and name not in known}
            assert [name for name, value in public.items() if not value.__doc__] == []


@EACH_CARD
def test_docstring_is_a_card(cls):
    """Its sections are there, and each field has a meaning."""
    made = card(cls)
    assert [setting.name for setting in made.settings] == [field.name for field in dataclasses.fields(cls)]
    assert all((made.about, made.source, made.equation, made.reductions))


@EACH_CARD
def test_departures_say_all_and_have_no_full_stop(cls):
    texts = [text for point in cls.departures for text in (point.topic, point.paper, point.code, point.ours)]
    assert all(text == text.strip() and not text.endswith(".") for text in texts)
    assert all(texts)
    assert not any(point.effect.endswith(".") for point in cls.departures)
    assert len({point.topic for point in cls.departures}) == len(cls.departures)


def step(method, rows=6, classes=4, absent=(), seed=0):
    """One network, one set of batches and random numbers for a method."""
    torch.manual_seed(seed)
    parent = METHODS[method.first_stage]().net_spec()
    spec = method.net_spec(parent if method.parents else None)
    net = ResNet("resnet8", spec, classes, [0.5], [0.2])
    counts = torch.tensor([12.0, 7.0, 4.0, 3.0])
    net.aux.update(method.aux_modules(counts, spec))
    allowed = torch.tensor([k for k in range(classes) if k not in absent])
    batches = {}
    for sampled in method.samplers(0.0):
        size = sampled.batch or rows
        labels = allowed[torch.randint(0, len(allowed), (size,))]
        batches[sampled.name] = Batch(torch.rand(size, 1, 8, 8), labels)
    random = {
        n: torch.from_numpy(s(generator(seed, n, 0), 3, rows)).float()[0] for n, s in method.random_inputs.items()
    }
    teachers = {}
    if "teacher" in method.parents:
        teacher = ResNet("resnet8", NetSpec(), classes, [0.5], [0.2]).eval()
        teachers["teacher"] = teacher.requires_grad_(False)
    where = map(torch.tensor, (0.5, 0.5, 0.1))
    return net, batches, StepContext(*where, counts, random, teachers)


def trained(method, net):
    """The parameters that the method's groups name, as the contract says: auxiliary ones only by an "aux." prefix."""
    for name, parameter in net.named_parameters():
        prefixes = [p for p in method.param_groups if p.startswith("aux.") == name.startswith("aux.")]
        if name.startswith(tuple(prefixes)):
            yield parameter


@EACH
@pytest.mark.parametrize("kind", [{}, {"rows": 1}, {"absent": (0, 3)}])
def test_loss_is_a_finite_scalar(name, kind):
    net, batches, ctx = step(EVERY[name], **kind)
    loss = EVERY[name].loss(net, batches, ctx)
    assert loss.shape == ()
    assert torch.isfinite(loss)


@EACH_TRAINED
def test_gradient_reaches_every_parameter(name):
    net, batches, ctx = step(EVERY[name])
    EVERY[name].loss(net, batches, ctx).backward()
    reached = list(trained(EVERY[name], net))
    assert reached
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in reached)


@pytest.mark.parametrize("name", [name for name, method in EVERY.items() if method.meta_optimizer])
def test_meta_gradients_are_of_auxiliary_parameters_and_leave_the_network_alone(name):
    net, batches, ctx = step(EVERY[name])
    before = {key: value.clone() for key, value in net.state_dict().items()}
    result = EVERY[name].meta_grads(net, batches, ctx)
    assert result
    for key, gradient in result.items():
        assert key.startswith("aux.")
        assert gradient.shape == net.get_parameter(key).shape
        assert gradient.abs().sum() > 0
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())


@EACH
def test_inputs_are_left_alone_and_the_same_draws_give_the_same_loss(name):
    net, batches, ctx = step(EVERY[name])
    before = {key: (batch.images.clone(), batch.labels.clone()) for key, batch in batches.items()}
    aux = {key: value.clone() for key, value in net.aux.state_dict().items()}
    first = EVERY[name].loss(net, batches, ctx)
    moved = [key for key, value in net.aux.state_dict().items() if not torch.equal(value, aux[key])]
    assert not {key for key, _ in net.aux.named_parameters()}.intersection(moved)  # a buffer may follow the batches
    for key, batch in batches.items():
        assert torch.equal(batch.images, before[key][0])
        assert torch.equal(batch.labels, before[key][1])
    again = step(EVERY[name])
    assert torch.equal(first, EVERY[name].loss(*again))
    other = step(EVERY[name], seed=1)
    assert not torch.equal(first, EVERY[name].loss(*other))


@EACH
def test_loss_is_a_mean_over_rows(name):
    net, batches, ctx = step(EVERY[name])
    net.eval()  # without batch statistics, twice the rows must give the same mean
    again = copy.deepcopy(net)

    def doubled(rows):
        return rows.repeat_interleave(2, dim=0)  # each row beside its copy, so numbers that sort rows pair them alike

    twice = {key: Batch(doubled(batch.images), doubled(batch.labels)) for key, batch in batches.items()}
    keys = {key: doubled(value) if value.ndim else value for key, value in ctx.random.items()}
    torch.testing.assert_close(
        EVERY[name].loss(net, batches, ctx),
        EVERY[name].loss(again, twice, ctx._replace(random=keys)),
        rtol=1e-5,
        atol=1e-6,
    )


@EACH_TRAINED
def test_twenty_steps_on_32_images_lower_the_loss(name):
    method = EVERY[name]
    net, batches, ctx = step(method, rows=32)
    optimizer = torch.optim.SGD(trained(method, net), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(20):
        loss = method.loss(net, batches, ctx)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    # Mixed targets have an entropy that no step can lower; a head alone on frozen features learns less.
    assert losses[-1] < (0.97 if method.random_inputs or method.parents else 0.8) * losses[0]


@EACH
def test_json_round_trip(name, trial):
    method = EVERY[name]
    fits = {"branches": len(method.net_spec().branches)} if method.first_stage == "dbn_mix" else {}
    parents = {role: recipe("digits", method.first_stage, ratio=60.0, **fits) for role in method.parents}
    made = recipe("digits", method.name(), parents=parents, ratio=60.0, **dataclasses.asdict(method))
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


def test_a_method_that_draws_lambda_mixes_every_batch():
    assert CrossEntropy("mixup").unmixed(0.5) == ("uniform",)
    assert [Drw("resample", 0.5, mix="mixup").unmixed(t) for t in (0.4, 0.5)] == [("uniform",), ("balanced",)]
    assert (CrossEntropy().unmixed(0.5), TRIAL["probe"]().unmixed(0.5)) == ((), ())  # the probe draws other numbers


def test_a_step_mixes_a_batch_with_itself_by_its_random_inputs():
    ctx = StepContext(*map(torch.tensor, (0.5, 0.5, 0.1)), torch.ones(3))
    batch = Batch(torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1), torch.tensor([2, 0]))
    images, targets = ctx.mixed(batch, "none")
    assert images is batch.images
    assert targets.tolist() == [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    random = {"lam": torch.tensor(0.75), "partner": torch.tensor([0.9, 0.1])}
    images, targets = ctx._replace(random=random).mixed(batch, "mixup")
    assert images.flatten().tolist() == [0.25, 0.75]
    assert targets.tolist() == [[0.25, 0.0, 0.75], [0.75, 0.0, 0.25]]


def test_random_inputs_have_one_number_a_step_or_an_image():
    shapes = {name: s(generator(0, name, 0), 5, 7).shape for name, s in ROWS["sbn+mixup"].random_inputs.items()}
    assert shapes == {"lam": (5,), "partner": (5, 7)}
    sample = dataclasses.replace(ROWS["dbn+bm"], lam_per="sample")
    assert sample.random_inputs["lam"](generator(0, "lam", 0), 5, 7).shape == (5, 7)


@pytest.mark.parametrize(("alpha", "variance"), [(1.0, 1 / 12), (0.2, 0.25 / 1.4)])
def test_lambda_is_beta_alpha_alpha(alpha, variance):
    drawn = DbnMix(mix="bilateral", alpha=alpha).random_inputs["lam"](generator(0, "lam", 0), 100_000, 1)
    assert np.mean(drawn) == pytest.approx(0.5, abs=0.005)
    assert np.var(drawn) == pytest.approx(variance, rel=0.02)


def test_inactive_fields_are_those_that_change_nothing():
    assert ROWS["sbn"].inactive_fields() == {
        "alpha",
        "lam_per",
        "eta",
        "eps",
        "gamma",
        "branch_at",
        "bn",
        "temperature",
    }
    assert ROWS["dbn+bm+ts"].inactive_fields() == frozenset()
    assert ROWS["sbn+bm"].inactive_fields() == {"eta", "eps", "branch_at", "bn", "temperature"}
    assert dataclasses.replace(ROWS["dbn+bm+ts"], frozen=True).inactive_fields() == {"branch_at", "bn"}


def test_a_method_needs_a_title_and_a_loss_and_nothing_else():
    @dataclasses.dataclass(frozen=True)
    class Plain(Method):
        title = "plain"

        def loss(self, net, batches, ctx):
            images, labels = batches["uniform"]
            return torch.nn.functional.cross_entropy(net(images)[0], labels)

    net, batches, ctx = step(Plain())
    assert torch.isfinite(Plain().loss(net, batches, ctx))
    assert Plain().samplers(0.0) == (Sampled("uniform", Uniform()),)
