"""cRT, LWS, tau-normalisation and MiSLAS: what starts from a trained network, beside slow versions in float64."""

import math

import numpy as np
import pytest
import torch

from lt_repro.data.samplers import ClassBalanced
from lt_repro.errors import RequestError
from lt_repro.losses import combine
from lt_repro.methods.base import Batch, Sampled, StepContext
from lt_repro.methods.crt import Crt
from lt_repro.methods.lws import Lws
from lt_repro.methods.mislas import Mislas, class_smoothing
from lt_repro.methods.tau_norm import TauNorm
from lt_repro.nets.resnet_cifar import ResNet
from lt_repro.nets.spec import NetSpec
from lt_repro.papers.dbn_mix.settings import departures, recipe
from lt_repro.train.loop import fit

COUNTS = torch.tensor([12.0, 7.0, 4.0, 3.0], dtype=torch.float64)
SCALES = [1.3, 0.7, 1.1, 0.4]
CIFAR100 = [int(500 * 0.01 ** (k / 99)) for k in range(100)]
TWO = NetSpec(("conventional", "rebalancing"))
STAGES = (Crt, Lws, TauNorm, Mislas)


def network(method, spec=None, scales=SCALES):
    """A float64 network as a parent leaves it, its heads with a bias; the method's scales are at `scales`."""
    torch.manual_seed(0)
    net = ResNet("resnet8", method.net_spec(spec or NetSpec()), 4, [0.5], [0.2])
    for head in net.heads:
        torch.nn.init.normal_(head.bias)
        head.weight.data *= torch.tensor([[2.0], [1.0], [0.7], [0.3]])
    net(torch.rand(20, 1, 8, 8))
    net.aux.update(method.aux_modules(COUNTS, NetSpec()))
    net = net.double().eval()
    if "scales" in net.aux:
        net.aux["scales"].weight.data = torch.tensor(scales, dtype=torch.float64)
    return net


def batch(rows=6):
    drawn = torch.Generator().manual_seed(1)
    images = torch.rand(rows, 1, 8, 8, generator=drawn, dtype=torch.float64)
    return Batch(images, torch.tensor([0, 1, 2, 3, 3, 0])[:rows])


def loss(method, net, given=None):
    where = (torch.tensor(0.5), torch.tensor(0.5), torch.tensor(0.1), COUNTS)
    (name,) = (sampled.name for sampled in method.samplers(0.0))
    return method.loss(net, {name: given or batch()}, StepContext(*where))


def slow_logits(net, scale=SCALES, shift=(1.0, 1.0, 1.0, 1.0), tau=0.0, branch=0):
    """z_k = scale_k w_k f / |w_k|^tau + shift_k b_k of one branch, in Python's floats."""
    head = net.heads[branch]
    weight, bias = head.weight.tolist(), head.bias.tolist()
    rows = []
    for f in net.features(batch().images)[branch].tolist():
        dots = [math.fsum(w * x for w, x in zip(w_k, f, strict=True)) for w_k in weight]
        lengths = [math.sqrt(math.fsum(w * w for w in w_k)) for w_k in weight]
        rows.append([scale[k] * dots[k] / lengths[k] ** tau + shift[k] * bias[k] for k in range(4)])
    return rows


def slow_loss(rows, smoothing=(0.0, 0.0, 0.0, 0.0), spread=4):
    """(1 - e_y)(-log p_y) + e_y mean(-log p), over `spread` classes: all, or without y where that is K - 1."""
    total = 0.0
    for z, y in zip(rows, batch().labels.tolist(), strict=True):
        norm = math.log(math.fsum(math.exp(z_k) for z_k in z))
        negative = [norm - z_k for z_k in z]
        others = math.fsum(negative[k] for k in range(4) if spread == 4 or k != y)
        total += (1 - smoothing[y]) * negative[y] + smoothing[y] * others / spread
    return total / len(rows)


def slow_smoothing(counts, most, least):
    high, low = max(counts), min(counts)
    return [least + (most - least) * math.sin(math.pi * (n - low) / (2 * (high - low))) for n in counts]


def slopes(value, at):
    """The derivative by each number of `at`, by central differences."""

    def moved(k, step):
        return [x + step * (i == k) for i, x in enumerate(at)]

    return [(value(moved(k, 1e-6)) - value(moved(k, -1e-6))) / 2e-6 for k in range(len(at))]


# LWS


@pytest.mark.parametrize("bias", ["scaled", "dropped"])
def test_the_loss_of_lws_and_its_gradient_follow_the_equation(bias):
    method = Lws(bias=bias)
    net = network(method)

    def value(scales):
        return slow_loss(slow_logits(net, scales, scales if bias == "scaled" else [0.0] * 4))

    result = loss(method, net)
    assert result.item() == pytest.approx(value(SCALES), rel=1e-9)
    (gradient,) = torch.autograd.grad(result, net.aux["scales"].weight)
    assert gradient.tolist() == pytest.approx(slopes(value, SCALES), rel=1e-5, abs=1e-9)
    for shift in ([1.0] * 4, [0.0] * 4 if bias == "scaled" else SCALES):  # kept as it is; dropped or scaled
        assert result.item() != pytest.approx(slow_loss(slow_logits(net, SCALES, shift)), rel=1e-3)
    assert result.item() != pytest.approx(slow_loss(slow_logits(net, [1.0] * 4)), rel=1e-3)


def test_lws_at_scales_one_predicts_as_the_parent_does():
    for spec in (NetSpec(), TWO, NetSpec(head="cosine"), TWO._replace(head="joint")):
        torch.manual_seed(0)
        net = ResNet("resnet8", Lws().net_spec(spec), 4, [0.5], [0.2]).eval()
        net.aux.update(Lws().aux_modules(COUNTS, spec))
        x = batch().images.float()
        combined, branches = Lws().predict(net, x)
        assert torch.equal(combined, combine(net(x)))
        assert all(map(torch.equal, branches, net(x)))
    net = network(Lws())
    assert not torch.allclose(Lws().predict(net, batch().images)[0], combine(net(batch().images)))


# Tau-normalisation


@pytest.mark.parametrize("tau", [0.0, 0.7, 1.0, 2.0])
@pytest.mark.parametrize("bias", ["dropped", "kept"])
def test_tau_normalisation_follows_the_equation(tau, bias):
    method, shift = TauNorm(tau, bias), [float(bias == "kept")] * 4
    net = network(method)
    expected = slow_logits(net, [1.0] * 4, shift, tau)
    result = method.predict(net, batch().images)[0]
    np.testing.assert_allclose(result.detach().numpy(), expected, rtol=1e-9)
    assert loss(method, net).item() == pytest.approx(slow_loss(expected), rel=1e-9)
    wrong = [([1.0] * 4, [1 - shift[0]] * 4, tau), ([1.0] * 4, shift, tau + 1)]
    assert not any(np.allclose(result.detach(), slow_logits(net, *mistake), rtol=1e-3) for mistake in wrong)


def test_tau_normalisation_at_zero_with_the_bias_predicts_as_the_parent_does():
    net = network(TauNorm(), TWO)
    combined, branches = TauNorm(0.0, "kept").predict(net, batch().images)
    assert torch.equal(combined, combine(net(batch().images)))
    assert all(map(torch.equal, branches, net(batch().images)))
    assert not torch.allclose(TauNorm(0.0).predict(net, batch().images)[0], combined)


def test_at_tau_one_without_bias_the_largest_cosine_wins():
    net, x = network(TauNorm()), batch().images
    cosines = torch.nn.functional.cosine_similarity(net.features(x)[0][:, None], net.heads[0].weight[None], dim=2)
    assert torch.equal(TauNorm().predict(net, x)[0].argsort(1), cosines.argsort(1))


def test_tau_normalisation_trains_nothing_and_refuses_what_would_train(run, refused):
    assert TauNorm().param_groups == {}
    made = recipe("cifar100", "tau_norm", parents={"weights": recipe("cifar100")})
    assert made.epochs == 1
    assert {"epochs", "lr", "batch", "crop"} <= made.inactive_fields()
    assert not {"epochs", "lr", "batch", "crop"} & recipe("cifar100").inactive_fields()
    short = ("--dataset", "digits", "--out", "runs")
    code, out, err = run("train", *short, "--ratio", 60, "--epochs", 1, "--set", "epoch_steps=1")
    assert code == 0, err
    parent = f"parent={out.split()[-1]}"
    for method in ("lws", "mislas", "tau_norm"):
        code, out, err = run("train", *short, "--method", method, "--set", parent)
        assert code == 0, err
        assert f"-{method}-" in out.split()[-1]
    assert "epochs has no effect" in refused("train", *short, "--method", "tau_norm", "--set", parent, "--epochs", 3)


# MiSLAS


@pytest.mark.parametrize("method", [Mislas(0.4, 0.1), Mislas(0.3, 0.0), Mislas(0.2, 0.2)])
def test_the_loss_of_mislas_and_its_gradient_follow_the_equation(method):
    net, smoothing = network(method), slow_smoothing(COUNTS.tolist(), method.smooth_most, method.smooth_least)

    def value(scales):
        return slow_loss(slow_logits(net, scales, scales), smoothing)

    result = loss(method, net)
    assert result.item() == pytest.approx(value(SCALES), rel=1e-9)
    scales, weight = torch.autograd.grad(result, [net.aux["scales"].weight, net.heads[0].weight])
    assert scales.tolist() == pytest.approx(slopes(value, SCALES), rel=1e-5, abs=1e-9)
    before = net.heads[0].weight.data.clone()

    def moved(first):
        net.heads[0].weight.data = before.clone()
        net.heads[0].weight.data[:, 5] = torch.tensor(first, dtype=torch.float64)
        return value(SCALES)

    assert weight[:, 5].tolist() == pytest.approx(slopes(moved, before[:, 5].tolist()), rel=1e-5, abs=1e-9)
    net.heads[0].weight.data = before
    z = slow_logits(net, SCALES, SCALES)
    mistakes = [(z, smoothing, 3), (slow_logits(net, SCALES), smoothing), (slow_logits(net, [1.0] * 4), smoothing)]
    if method.smooth_most != method.smooth_least:
        mistakes.append((z, slow_smoothing(COUNTS.tolist(), method.smooth_least, method.smooth_most)))
    for mistake in mistakes:
        assert result.item() != pytest.approx(slow_loss(*mistake), rel=1e-3)


@pytest.mark.parametrize(("most", "least"), [(0.4, 0.1), (0.3, 0.0)])
def test_smoothing_follows_the_sine_from_the_rarest_class_to_the_largest(most, least):
    result = class_smoothing(torch.tensor(CIFAR100, dtype=torch.float64), most, least)
    assert result.tolist() == pytest.approx(slow_smoothing(CIFAR100, most, least), abs=1e-12)
    assert (result[0].item(), result[-1].item()) == (pytest.approx(most), least)
    assert class_smoothing(torch.tensor([5.0, 3.0, 1.0]), 1.0, 0.0)[1].item() == pytest.approx(math.sqrt(0.5))
    straight = [least + (most - least) * (n - 5) / 495 for n in CIFAR100]
    assert not np.allclose(result, straight, atol=1e-3)


def test_equal_counts_are_smoothed_by_the_least():
    assert class_smoothing(torch.full((3,), 7.0), 0.4, 0.125).tolist() == [0.125] * 3


@pytest.mark.parametrize("spec", [NetSpec(), TWO])
def test_without_smoothing_at_scales_one_mislas_has_the_loss_of_crt(spec):
    method = Mislas(0.0, 0.0)
    net = network(method, spec, [1.0] * 4)
    assert loss(method, net) == loss(Crt(), net)
    assert loss(Mislas(0.1, 0.0), net) != loss(Crt(), net)


@pytest.mark.parametrize("method", [Lws(), Lws(bias="dropped"), TauNorm(), TauNorm(0.5, "kept"), Mislas()], ids=str)
def test_identical_branches_have_the_loss_and_the_prediction_of_one_branch(method):
    net = network(method, TWO)
    net.branches[1].load_state_dict(net.branches[0].state_dict())
    single, x = network(method), batch().images
    single.load_state_dict({name: value for name, value in net.state_dict().items() if name in single.state_dict()})
    different = loss(method, net)
    net.heads[1].load_state_dict(net.heads[0].state_dict())
    torch.testing.assert_close(loss(method, net), loss(method, single))
    torch.testing.assert_close(method.predict(net, x)[0], method.predict(single, x)[0])
    assert different != loss(method, single)


# What is trained, on what


@pytest.mark.parametrize("method", [Crt(), Lws(), Mislas()], ids=str)
def test_second_stages_learn_on_class_balanced_draws_from_beginning_to_end(method):
    for progress in (0.0, 0.5, 0.9):
        assert method.samplers(progress) == (Sampled("balanced", ClassBalanced()),)
    assert method.defaults == {"epochs": 10, "schedule": "cosine", "warmup": 0.0}


@pytest.fixture
def trained(images, small, tmp_path):
    parent = small(mix="mixup")
    fit(parent, images, out=tmp_path, device="cpu")

    def train(method, **fields):
        made = small(parents={"weights": parent}, method=method, **fields)
        fit(made, images, out=tmp_path, device="cpu")
        return tuple(torch.load(tmp_path / f"{run.key()}.pt", weights_only=True) for run in (parent, made))

    return train


def moved(before, after):
    """The parts of a network that changed, by the beginning of their names and whether they are statistics."""
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    return {"statistics" if name.endswith(statistics) else name.partition(".")[0] for name in changed}


@pytest.mark.parametrize("bn", ["eval", "train"])
@pytest.mark.parametrize(("method", "learned"), [("lws", set()), ("mislas", {"heads"})])
def test_features_are_frozen_and_statistics_move_only_where_asked(trained, method, learned, bn):
    before, after = trained(method, bn=bn)
    assert moved(before, after) == learned | ({"statistics"} if bn == "train" else set())
    assert set(after) - set(before) == {"aux.scales.weight"}
    assert not torch.equal(after["aux.scales.weight"], torch.ones(4))


@pytest.mark.parametrize("bn", ["eval", "train"])
def test_mislas_without_smoothing_and_with_frozen_heads_is_lws_bit_for_bit(trained, bn):
    plain = {"smooth_most": 0.0, "smooth_least": 0.0, "bn": bn}
    _, expected = trained("lws", bn=bn)
    _, result = trained("mislas", head_lr=0.0, **plain)
    assert all(torch.equal(value, expected[name]) for name, value in result.items())
    _, other = trained("mislas", head_lr=0.01, **plain)
    assert not torch.equal(other["aux.scales.weight"], expected["aux.scales.weight"])


def test_rates_and_weight_decay_of_each_part():
    assert Lws().param_groups == {"aux.scales.": (1.0, 1.0)}
    assert Mislas(head_lr=0.2).param_groups == {"heads.": (0.2, 1.0), "aux.scales.": (1.0, 1.0)}


# Settings


@pytest.mark.parametrize(
    ("dataset", "ratio", "expected"),
    [
        ("cifar10", 10.0, Mislas(0.1, 0.0, 0.2, "eval")),
        ("cifar10", 50.0, Mislas(0.2, 0.0, 0.2, "eval")),
        ("cifar10", 100.0, Mislas(0.3, 0.0, 0.5, "eval")),
        ("cifar100", 10.0, Mislas(0.2, 0.0, 0.1, "train")),
        ("cifar100", 50.0, Mislas(0.3, 0.0, 0.1, "train")),
        ("cifar100", 100.0, Mislas(0.4, 0.1, 0.2, "train")),
        ("cifar10", 20.0, Mislas(0.1, 0.0, 0.2, "eval")),  # not published: those of the ratio next to it
        ("cifar10", 200.0, Mislas(0.3, 0.0, 0.5, "eval")),
        ("cifar100", 20.0, Mislas(0.2, 0.0, 0.1, "train")),
        ("cifar100", 200.0, Mislas(0.4, 0.1, 0.2, "train")),
    ],
)
def test_mislas_has_its_authors_values_for_each_set_and_ratio(dataset, ratio, expected):
    parent = recipe(dataset, mix="mixup", ratio=ratio)
    made = recipe(dataset, "mislas", parents={"weights": parent})
    assert (made.method, made.ratio, made.epochs, made.lr) == (expected, ratio, 10, 0.1)


_KANG = {"batch": 512, "lr": 0.2, "weight_decay": 5e-4, "schedule": "cosine", "warmup": 0.0}  # as in its configuration
_BAG = {"batch": 128, "lr": 0.1, "nesterov": True}
_BAG_STAGE = _BAG | {"epochs": 30, "weight_decay": 5e-4, "schedule": "steps", "bn": "train"}
_BAG_PARENT = _BAG | {"epochs": 200, "weight_decay": 2e-4}
_ZHONG = {"batch": 128, "lr": 0.1, "weight_decay": 2e-4}
PRESETS = {
    (Crt, "published"): (_KANG | {"epochs": 10, "bn": "train"}, _KANG | {"epochs": 90}),
    (Lws, "published"): (_KANG | {"epochs": 5, "bn": "train"}, _KANG | {"epochs": 90}),
    (Crt, "bagoftricks"): (_BAG_STAGE, _BAG_PARENT),
    (Lws, "bagoftricks"): (_BAG_STAGE, _BAG_PARENT),
    (TauNorm, "bagoftricks"): ({"tau": 1.0, "bias": "kept"}, _BAG_PARENT),
    (Mislas, "published"): (
        _ZHONG | {"epochs": 10, "schedule": "cosine", "warmup": 0.0},
        _ZHONG | {"epochs": 200, "mix": "mixup", "alpha": 1.0},
    ),
}


def test_every_preset_of_a_second_stage_is_tested():
    assert PRESETS.keys() == {(cls, name) for cls in STAGES for name in cls.presets}


@pytest.mark.parametrize(("chosen", "expected"), PRESETS.items(), ids=str)
def test_a_preset_gives_both_stages(chosen, expected):
    cls, preset = chosen
    parent = recipe("cifar100", **cls.presets[preset].parent)
    made = recipe("cifar100", cls.name(), preset=preset, parents=dict.fromkeys(cls().parents, parent))
    for stage, values in zip((made, parent), expected, strict=True):
        assert {name: stage.values[name] for name in values} == values


def test_under_a_preset_a_parent_of_another_method_departs_in_what_it_has():
    parent = recipe("cifar100", "focal", form="softmax")
    made = recipe("cifar100", "mislas", preset="published", parents={"weights": parent})
    assert departures(made, preset="published").keys() == {"parent milestones", "parent form"}


@pytest.mark.parametrize("method", ["logit_adjustment", "tau_norm", "lws", "mislas", "m2m"])
def test_a_parent_that_predicts_with_more_than_its_network_is_refused(method):
    first = recipe("digits")
    for scaled in ("lws", "mislas", "tau_norm", "logit_adjustment"):
        extra = {"frozen": True} if scaled == "logit_adjustment" else {}
        parent = recipe("digits", scaled, parents={"weights": first}, **extra)
        role = "teacher" if method == "m2m" else "weights"
        fields = {"frozen": True} if method == "logit_adjustment" else {}
        with pytest.raises(RequestError, match=f"a parent of method {scaled} for {method}") as caught:
            recipe("digits", method, parents={role: parent}, **fields)
        assert first.key() in str(caught.value)
        assert recipe("digits", "crt", parents={"features": parent}).parents == {"features": parent}


def test_bag_of_tricks_warms_up_for_5_of_30_epochs_and_drops_at_10_and_20():
    parent = recipe("cifar100", **Lws.presets["bagoftricks"].parent)
    made = recipe("cifar100", "lws", preset="bagoftricks", parents={"weights": parent})
    rates = [made.learning_rate(epoch / 30) for epoch in (2.5, 5, 9.9, 10, 19.9, 20)]
    assert rates == pytest.approx([0.05, 0.1, 0.1, 0.01, 0.01, 0.001])
    assert [parent.learning_rate(epoch / 200) for epoch in (159.9, 160, 180)] == pytest.approx([0.1, 1e-3, 1e-5])
    stage1 = recipe("cifar100", **Mislas.presets["published"].parent)
    assert [stage1.learning_rate(epoch / 200) for epoch in (159.9, 160, 180)] == pytest.approx([0.1, 0.01, 0.001])


@pytest.mark.parametrize(
    ("method", "fields", "parent", "expected"),
    [
        ("tau_norm", {}, {"head": "cosine"}, "tau_norm on a parent with head=cosine"),
        ("tau_norm", {}, {"method": "bbn"}, "tau_norm on a parent with head=joint"),
        ("lws", {"bias": "dropped"}, {"head": "cosine"}, "lws with bias = 'dropped' on a parent with head=cosine"),
    ],
)
def test_class_vectors_and_biases_need_a_linear_head(method, fields, parent, expected):
    made = recipe("digits", **parent)
    with pytest.raises(RequestError, match=expected) as caught:
        recipe("digits", method, parents={"weights": made}, **fields)
    assert len(str(caught.value).splitlines()) == 3
    assert recipe("digits", "lws", parents={"weights": made}).spec == made.spec
    assert recipe("digits", "mislas", parents={"weights": made}).spec == made.spec
    sigmoid = NetSpec(head="sigmoid")  # linear, with another bias at first
    assert TauNorm().net_spec(sigmoid) == Lws(bias="dropped").net_spec(sigmoid) == sigmoid


@pytest.mark.parametrize(
    ("cls", "fields"),
    [
        *((Lws, fields) for fields in ({"bn": "batch"}, {"bias": "kept"})),
        *((TauNorm, fields) for fields in ({"tau": -0.1}, {"tau": math.inf}, {"bias": "scaled"})),
        *((Mislas, fields) for fields in ({"smooth_most": 1.1}, {"smooth_least": -0.1}, {"head_lr": -1.0})),
        (Mislas, {"bn": "shift"}),
    ],
    ids=str,
)
def test_bad_values_are_refused(cls, fields):
    with pytest.raises(RequestError, match=next(iter(fields))):
        cls(**fields)
