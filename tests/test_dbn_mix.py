"""Every line under `Reduces to:` of a method's docstring, and the planted mistakes that must not go unseen."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import METHODS
from torch.nn import functional

from lt_repro.data.samplers import Reverse, Uniform, class_probabilities, generator
from lt_repro.losses import combine
from lt_repro.methods.base import Batch, Sampled, StepContext
from lt_repro.methods.bbn import Bbn, cumulative
from lt_repro.methods.crt import Crt
from lt_repro.methods.dbn_mix import DbnMix
from lt_repro.nets.resnet_cifar import ResNet
from lt_repro.nets.spec import NetSpec
from lt_repro.papers.dbn_mix.settings import recipe

COUNTS = torch.tensor([12.0, 7.0, 4.0, 3.0])
TEMPERATURES = torch.tensor([max(0.6 * 12 / 12 + 0.4, 1) / (0.6 * n / 12 + 0.4) for n in (12, 7, 4, 3)]) ** (1 / 7)


@pytest.fixture
def batches():
    drawn = torch.Generator().manual_seed(0)
    images = [torch.rand(6, 1, 8, 8, generator=drawn) for _ in range(2)]
    labels = [torch.randint(0, 4, (6,), generator=drawn) for _ in range(2)]
    return {name: Batch(x, y) for name, x, y in zip(("uniform", "reverse"), images, labels, strict=True)}


class Spy:
    """A network that is a fixed linear map, and remembers what it was given."""

    def __init__(self, branches, same=True):
        torch.manual_seed(0)
        weights = [torch.randn(4, 64) for _ in range(branches)]
        self.weights = weights[:1] * branches if same else weights

    def __call__(self, batches):
        self.seen = batches
        given = [batches] * len(self.weights) if isinstance(batches, torch.Tensor) else batches
        return [x.flatten(1) @ w.T for x, w in zip(given, self.weights, strict=True)]


def at(lam=0.3, epoch=0.5):
    random = {"lam": torch.tensor(lam), "partner": torch.tensor([0.5, 0.1, 0.3, 0.9, 0.2, 0.7])}
    return StepContext(torch.tensor(0.5), torch.tensor(epoch), torch.tensor(0.1), COUNTS, random)


def loss(method, batches, lam=0.3, net=None):
    net = net or Spy(method.branches, same=False)
    used = {sampled.name: batches[sampled.name] for sampled in method.samplers(0.0)}
    return method.loss(net, used, at(lam)), net


def test_vanilla_is_cross_entropy(batches):
    result, net = loss(METHODS["sbn"], batches)
    expected = functional.cross_entropy(net(batches["uniform"].images)[0], batches["uniform"].labels)
    torch.testing.assert_close(result, expected)


@pytest.mark.parametrize("label", ["sbn+ts", "sbn+bm+ts", "dbn+ts", "dbn+bm+ts"])
@pytest.mark.parametrize("off", [{"eps": 0.0}, {"eta": math.inf}, {"tscale": False}])
def test_temperature_off_is_plain_cross_entropy_on_the_same_samples(label, off, batches):
    method = METHODS[label]
    assert loss(replace(method, **off), batches)[0] == loss(METHODS[label.replace("+ts", "")], batches)[0]
    assert loss(method, batches)[0] != loss(replace(method, **off), batches)[0]


@pytest.mark.parametrize("lam", [0.0, 1.0])
def test_bilateral_mixup_at_lambda_one_is_the_dual_branch_without_mixing(lam, batches):
    torch.testing.assert_close(loss(METHODS["dbn+bm"], batches, lam)[0], loss(METHODS["dbn"], batches)[0])


def test_one_branch_bilateral_mixup_at_lambda_one_is_the_uniform_sample_alone(batches):
    torch.testing.assert_close(loss(METHODS["sbn+bm"], batches, 1.0)[0], loss(METHODS["sbn"], batches)[0])
    result, net = loss(METHODS["sbn+bm"], batches, 0.0)
    expected = functional.cross_entropy(net(batches["reverse"].images)[0], batches["reverse"].labels)
    torch.testing.assert_close(result, expected)


def test_conventional_mixup_at_lambda_one_is_the_batch_itself(batches):
    torch.testing.assert_close(loss(METHODS["sbn+mixup"], batches, 1.0)[0], loss(METHODS["sbn"], batches)[0])


def test_conventional_mixup_pairs_by_a_permutation_of_the_batch(batches):
    _, net = loss(METHODS["sbn+mixup"], batches, 0.3)
    x = batches["uniform"].images
    torch.testing.assert_close(net.seen[0], 0.3 * x + 0.7 * x[[1, 4, 2, 0, 5, 3]])


@pytest.mark.parametrize("label", ["dbn", "dbn+ts"])
def test_identical_branches_and_batches_give_the_loss_of_one_branch(label, batches):
    same = {"uniform": batches["uniform"], "reverse": batches["uniform"]}
    dual, _ = loss(METHODS[label], same, net=Spy(2))
    single, _ = loss(METHODS[label.replace("dbn", "sbn")], same, net=Spy(1))
    torch.testing.assert_close(dual, single)


def test_identical_branches_give_the_prediction_of_one_branch():
    torch.manual_seed(0)
    net = ResNet("resnet8", METHODS["dbn"].net_spec(), 4, [0.5], [0.2]).eval()
    net.branches[1].load_state_dict(net.branches[0].state_dict())
    net.heads[1].load_state_dict(net.heads[0].state_dict())
    combined, (first, second) = METHODS["dbn"].predict(net, torch.rand(3, 1, 8, 8))
    torch.testing.assert_close(combined, first)
    torch.testing.assert_close(first, second)


# The total loss written out from the equations: a swapped lambda, a multiplied T, a wrong branch fails here.


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("lam", [0.2, 0.7])
def test_dbn_mix_is_its_equations_written_out(scaled, lam, batches):
    method = METHODS["dbn+bm+ts" if scaled else "dbn+bm"]
    result, net = loss(method, batches, lam)
    (x_c, l_c), (x_r, l_r) = batches["uniform"], batches["reverse"]
    y_c, y_r = functional.one_hot(l_c, 4).float(), functional.one_hot(l_r, 4).float()
    large = max(lam, 1 - lam)
    t = TEMPERATURES if scaled else torch.ones(4)
    expected = 0.0
    for part, weight in ((large, net.weights[0]), (1 - large, net.weights[1])):
        z = (part * x_c + (1 - part) * x_r).flatten(1) @ weight.T
        y = part * y_c + (1 - part) * y_r
        expected = expected + 0.5 * -(y * torch.log_softmax(z / t, 1)).sum(1).mean()
    torch.testing.assert_close(result, expected)


def released_loss(method, batches, net, lam, k=4, sign=1.0):
    """The released code's loss written out; `k` and `sign` are where a mistake can be planted."""
    (x_c, l_c), (x_r, l_r) = batches["uniform"], batches["reverse"]
    y_c, y_r = functional.one_hot(l_c, 4).float(), functional.one_hot(l_r, 4).float()
    balance = [method.eps * k * n / 12 + 1 - method.eps for n in COUNTS.tolist()]
    t = torch.tensor([(max(balance) / b) ** (1 / method.eta) for b in balance])
    total = 0.0
    for part, weight in ((max(lam, 1 - lam), net.weights[0]), (min(lam, 1 - lam), net.weights[1])):
        p = torch.softmax((part * x_c + (1 - part) * x_r).flatten(1) @ weight.T / t, 1)
        y = part * y_c + (1 - part) * y_r
        total = total + 0.5 * -(y * p.log() + sign * (1 - y) * (1 - p).log()).sum(1).mean()
    return total


@pytest.mark.parametrize("lam", [0.2, 0.7])
def test_the_released_dbn_mix_is_its_formula_written_out_and_a_planted_mistake_is_not(lam, batches):
    method = replace(METHODS["dbn+bm+ts"], temperature="released", branch_loss="ce_complement")
    result, net = loss(method, batches, lam)
    torch.testing.assert_close(result, released_loss(method, batches, net, lam))
    for mistake in ({"k": 1}, {"sign": -1.0}, {"sign": 0.0}):
        assert not torch.isclose(result, released_loss(method, batches, net, lam, **mistake), rtol=1e-3)


def test_without_the_second_sum_and_with_eps_k_for_eps_it_is_the_loss_of_the_paper(batches):
    released = replace(METHODS["dbn+bm+ts"], temperature="released")
    printed = replace(METHODS["dbn+bm+ts"], eps=0.6 * 4 / (1 + 0.6 * 3))
    torch.testing.assert_close(loss(released, batches)[0], loss(printed, batches)[0])


def test_by_rides_prior_it_is_the_released_loss_at_another_eps(batches):
    """Counts 12, 7, 4, 3: m = 12 / 26, eps' = .6 m / (1 - .6 (1 - m))."""
    ride = replace(METHODS["dbn+bm+ts"], temperature="ride")
    m = 12 / 26
    released = replace(METHODS["dbn+bm+ts"], temperature="released", eps=0.6 * m / (1 - 0.6 * (1 - m)))
    torch.testing.assert_close(loss(ride, batches)[0], loss(released, batches)[0])
    assert loss(ride, batches)[0] != loss(replace(released, eps=0.6), batches)[0]


@pytest.mark.parametrize("label", METHODS)
def test_temperature_is_never_applied_at_test_time(label):
    method = replace(METHODS[label], temperature="released")
    net = Spy(method.branches, same=False)
    x = torch.rand(5, 1, 8, 8)
    combined, branches = method.predict(net, x)
    plain = [x.flatten(1) @ w.T for w in net.weights]
    torch.testing.assert_close(combined, sum(plain) / len(plain))
    for result, expected in zip(branches, plain, strict=True):
        torch.testing.assert_close(result, expected)


def test_dual_branch_without_mixing_sees_the_uniform_and_the_reverse_batch(batches):
    _, net = loss(METHODS["dbn"], batches)
    assert net.seen[0] is batches["uniform"].images
    assert net.seen[1] is batches["reverse"].images


def test_gamma_goes_to_the_reverse_sampler_alone():
    drawn = DbnMix(branches=2, gamma=3.0).samplers(0.0)
    assert drawn == (Sampled("uniform", Uniform()), Sampled("reverse", Reverse(3.0)))
    assert [sampled.name for sampled in METHODS["sbn+ts"].samplers(0.0)] == ["uniform"]


# BBN


def bbn_loss(batches, epoch, net):
    return Bbn().loss(net, batches, at(epoch=epoch))


def joint_net(branch_at="block"):
    torch.manual_seed(0)
    return ResNet("resnet8", Bbn(branch_at=branch_at).net_spec(), 4, [0.5], [0.2])


def test_bbns_alpha_at_epoch_0_100_and_199_of_200():
    result = [cumulative(torch.tensor(epoch / 200, dtype=torch.float64)).item() for epoch in (0, 100, 199)]
    assert result == pytest.approx([1.0, 0.75, 0.009975], rel=1e-12)


@pytest.mark.parametrize("epoch", [0.0, 0.3, 0.5, 0.995])
def test_bbn_is_one_classifier_on_the_weighted_features_side_by_side(batches, epoch):
    net = joint_net().double()
    pairs = {name: Batch(images.double(), labels) for name, (images, labels) in batches.items()}
    result = bbn_loss(pairs, epoch, net)
    alpha = 1 - epoch**2
    f_c, f_r = joint_net().double().features([pairs["uniform"].images, pairs["reverse"].images])
    z = net.heads.linear(torch.cat([2 * alpha * f_c, 2 * (1 - alpha) * f_r], dim=1))
    p = torch.softmax(z, dim=1).tolist()
    losses = {name: [-math.log(p[i][y]) for i, y in enumerate(batch.labels)] for name, batch in batches.items()}
    mean = {name: sum(values) / len(values) for name, values in losses.items()}
    assert result.item() == pytest.approx(alpha * mean["uniform"] + (1 - alpha) * mean["reverse"], rel=1e-6)
    slow_net = joint_net().double()
    f_c, f_r = slow_net.features([pairs["uniform"].images, pairs["reverse"].images])
    log_p = slow_net.heads.linear(torch.cat([2 * alpha * f_c, 2 * (1 - alpha) * f_r], dim=1)).log_softmax(dim=1)
    for name, part in {"uniform": alpha, "reverse": 1 - alpha}.items():
        (-part * log_p.gather(1, batches[name].labels[:, None]).mean()).backward(retain_graph=True)
    result.backward()
    for p, slow in zip(net.parameters(), slow_net.parameters(), strict=True):
        torch.testing.assert_close(p.grad, slow.grad, rtol=1e-5, atol=1e-6)  # targets are mixed in fp32


def test_bbn_with_branches_and_batches_exchanged_is_the_same_where_alpha_is_one_half(batches):
    net, other = joint_net(), joint_net()
    for i in (0, 1):
        other.branches[i].load_state_dict(net.branches[1 - i].state_dict())
    with torch.no_grad():
        other.heads.linear.weight[:] = net.heads.linear.weight.roll(64, dims=1)
    exchanged = {"uniform": batches["reverse"], "reverse": batches["uniform"]}
    half = math.sqrt(0.5)
    torch.testing.assert_close(bbn_loss(batches, half, net), bbn_loss(exchanged, half, other))
    assert bbn_loss(batches, 0.3, net).item() != pytest.approx(bbn_loss(exchanged, 0.3, other).item(), rel=1e-3)


def test_bbn_at_alpha_one_is_cross_entropy_of_the_conventional_branch_and_the_other_has_no_gradient(batches):
    net = joint_net()
    result = bbn_loss(batches, 0.0, net)
    result.backward()
    f_c = joint_net().features(batches["uniform"].images)[0]
    z = 2 * f_c @ net.heads.linear.weight[:, :64].T + net.heads.linear.bias
    torch.testing.assert_close(result, functional.cross_entropy(z, batches["uniform"].labels))
    assert not any(p.grad.any() for p in net.branches[1].parameters())
    assert all(p.grad.any() for p in net.branches[0].parameters())


def test_the_names_of_the_branches_are_those_of_their_samples(batches):
    for method in (Bbn(), METHODS["dbn"]):
        assert method.net_spec().branches == ("conventional", "rebalancing")
        assert [sampled.name for sampled in method.samplers(0.0)] == ["uniform", "reverse"]
    net = joint_net()
    bbn_loss(batches, 0.0, net).backward()  # alpha = 1: the uniform batch alone
    named = dict(zip(Bbn().net_spec().branches, net.branches, strict=True))
    assert any(p.grad.any() for p in named["conventional"].parameters())
    assert not any(p.grad.any() for p in named["rebalancing"].parameters())


def test_bbn_at_alpha_zero_is_cross_entropy_of_the_rebalancing_branch(batches):
    net = joint_net()
    result = bbn_loss(batches, 1.0, net)
    f_r = joint_net().features(batches["reverse"].images)[1]
    z = 2 * f_r @ net.heads.linear.weight[:, 64:].T + net.heads.linear.bias
    torch.testing.assert_close(result, functional.cross_entropy(z, batches["reverse"].labels))


@pytest.mark.parametrize("epoch", [0.0, 0.6])
def test_bbn_with_identical_branches_and_batches_is_one_branch(batches, epoch):
    net = joint_net()
    net.branches[1].load_state_dict(net.branches[0].state_dict())
    with torch.no_grad():
        net.heads.linear.weight[:, 64:] = net.heads.linear.weight[:, :64]
    same = {"uniform": batches["uniform"], "reverse": batches["uniform"]}
    f = net.features(batches["uniform"].images)[0]
    z = 2 * f @ net.heads.linear.weight[:, :64].T + net.heads.linear.bias
    expected = functional.cross_entropy(z, batches["uniform"].labels)
    torch.testing.assert_close(bbn_loss(same, epoch, net), expected)


def test_bbn_predicts_at_alpha_one_half_with_one_image_for_both_branches():
    net, x = joint_net().eval(), torch.rand(3, 1, 8, 8)
    combined, branches = Bbn().predict(net, x)
    torch.testing.assert_close(combined, net.heads.linear(torch.cat(net.features(x), dim=1)))
    torch.testing.assert_close(combined, combine(branches))


def test_bbns_published_schedule():
    made = recipe("cifar100", "bbn", preset="published")
    assert (made.epochs, made.batch, made.weight_decay, made.nesterov) == (200, 128, 2e-4, True)
    rates = [made.learning_rate((epoch + 0.5) / 200) for epoch in (100, 119, 120, 159, 160)]
    assert rates == pytest.approx([0.1, 0.1, 1e-3, 1e-3, 1e-5])


def test_bbns_reverse_sampler_is_the_reversed_distribution():
    uniform, reverse = Bbn().samplers(0.0)
    assert (uniform, reverse) == (Sampled("uniform", Uniform()), Sampled("reverse", Reverse(1.0)))
    assert [Bbn(gamma=gamma).samplers(0.0)[1].sampler.gamma for gamma in (2.0, math.inf)] == [2.0, math.inf]
    counts = [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    p = class_probabilities(np.array(counts), reverse.sampler.gamma)
    assert (p[0], p[-1]) == pytest.approx((0.004024, 0.402365), abs=5e-7)
    slow = [max(counts) / n for n in counts]
    assert p.tolist() == pytest.approx([w / sum(slow) for w in slow])


# cRT


def test_crt_of_one_branch_is_cross_entropy_on_class_balanced_draws(batches):
    (draw,) = Crt().samplers(0.0)
    drawn = draw.sampler.indices(generator(0, "test", 0), np.array([124, 31, 2]), 60_000)
    assert np.histogram(drawn, [0, 124, 155, 157])[0] / 60_000 == pytest.approx([1 / 3] * 3, abs=0.01)
    net = Spy(1)
    result = Crt().loss(net, {draw.name: batches["reverse"]}, at())
    expected = functional.cross_entropy(net(batches["reverse"].images)[0], batches["reverse"].labels)
    torch.testing.assert_close(result, expected)


def test_crt_gives_one_batch_to_every_branch_and_takes_the_mean_of_their_losses(batches):
    net = Spy(2, same=False)
    result = Crt().loss(net, {"balanced": batches["uniform"]}, at())
    x, labels = batches["uniform"]
    expected = sum(functional.cross_entropy(x.flatten(1) @ w.T, labels) for w in net.weights) / 2
    torch.testing.assert_close(result, expected)
    torch.testing.assert_close(
        Crt().loss(Spy(2), {"balanced": batches["uniform"]}, at()),
        Crt().loss(Spy(1), {"balanced": batches["uniform"]}, at()),
    )


def test_crt_keeps_the_parents_branches_under_linear_heads():
    parent = NetSpec(("conventional", "rebalancing"), "layer3", "joint", "joint")
    assert Crt().net_spec(parent) == parent._replace(head="linear")
