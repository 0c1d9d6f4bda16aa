"""Balanced softmax and logit adjustment: the loss written out, its gradient, what it reduces to, post-hoc."""

import math

import pytest
import torch
from conftest import METHODS
from torch import nn

from lt_repro.errors import RequestError
from lt_repro.methods.balanced_softmax import BalancedSoftmax
from lt_repro.methods.base import Batch, StepContext
from lt_repro.methods.logit_adjustment import LogitAdjustment
from lt_repro.nets.resnet_cifar import ResNet
from lt_repro.nets.spec import NetSpec
from lt_repro.papers.dbn_mix.settings import recipe

COUNTS = (12.0, 7.0, 4.0, 3.0)
LAM, KEYS = 0.3, [0.5, 0.1, 0.3, 0.9, 0.2, 0.7]
PARTNER = sorted(range(6), key=KEYS.__getitem__)


class Table(nn.Module):
    """A network whose logits are looked up: image i holds the number i, mixed images their mean."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, images):
        return [images.flatten(1) @ self.logits]


@pytest.fixture
def table():
    torch.manual_seed(0)
    return Table(torch.randn(6, 4, dtype=torch.float64))


LABELS = [0, 0, 1, 3, 2, 0]


def result(method, net, counts=COUNTS):
    batch = Batch(torch.eye(6, dtype=torch.float64)[:, None, None, :], torch.tensor(LABELS))
    random = {"lam": torch.tensor(LAM), "partner": torch.tensor(KEYS)}
    where = map(torch.tensor, (0.5, 0.5, 0.1))
    return method.loss(net, {"uniform": batch}, StepContext(*where, torch.tensor(counts), random))


def slow(logits, shift, mixup):
    """The mean of -sum_k y_k log p_k with raised logits, in plain Python."""
    total = 0.0
    for b, label in enumerate(LABELS):
        lam = LAM if mixup else 1.0
        z = [lam * logits[b][k] + (1 - lam) * logits[PARTNER[b]][k] + shift[k] for k in range(4)]
        log_sum = math.log(sum(math.exp(value) for value in z))
        total -= lam * (z[label] - log_sum) + (1 - lam) * (z[LABELS[PARTNER[b]]] - log_sum)
    return total / 6


CASES = {
    "balanced softmax": (BalancedSoftmax(), lambda n: math.log(n), False),
    "balanced softmax, mixup": (BalancedSoftmax("mixup"), lambda n: math.log(n), True),
    "adjusted": (LogitAdjustment(), lambda n: math.log(n / 26), False),
    "adjusted by half": (LogitAdjustment(0.5), lambda n: 0.5 * math.log(n / 26), False),
    "adjusted, mixup": (LogitAdjustment(2.0, mix="mixup"), lambda n: 2 * math.log(n / 26), True),
}


@pytest.mark.parametrize("name", CASES)
def test_the_loss_and_its_gradient_are_the_equation_written_out(name, table):
    method, shift, mixup = CASES[name]
    shifts = [shift(n) for n in COUNTS]
    loss = result(method, table)
    logits = table.logits.tolist()
    assert loss.item() == pytest.approx(slow(logits, shifts, mixup), rel=1e-6)
    loss.backward()
    for b, k in ((0, 0), (3, 2), (5, 3)):
        ends = []
        for step in (1e-5, -1e-5):
            moved = [row[:] for row in logits]
            moved[b][k] += step
            ends.append(slow(moved, shifts, mixup))
        assert table.logits.grad[b, k].item() == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-4, abs=1e-7)
    lowered = slow(logits, [-value for value in shifts], mixup)  # the prior taken off instead of added
    assert loss.item() != pytest.approx(lowered, rel=1e-2)


@pytest.mark.parametrize("name", CASES)
def test_equal_counts_give_cross_entropy_or_mixup(name, table):
    method, _, mixup = CASES[name]
    plain = METHODS["sbn+mixup" if mixup else "sbn"]
    torch.testing.assert_close(result(method, table, (5.0,) * 4), result(plain, lambda images: table(images[0])))


def test_tau_zero_gives_cross_entropy_and_tau_one_the_balanced_softmax(table):
    torch.testing.assert_close(
        result(LogitAdjustment(0.0), table), result(METHODS["sbn"], lambda images: table(images[0]))
    )
    for mix in ("none", "mixup"):
        torch.testing.assert_close(result(LogitAdjustment(mix=mix), table), result(BalancedSoftmax(mix), table))


def trained(branches=("single",), **fields):
    torch.manual_seed(0)
    method = LogitAdjustment(frozen=True, **fields)
    net = ResNet("resnet8", method.net_spec(NetSpec(branches)), 4, [0.5], [0.2]).eval()
    net.aux.update(method.aux_modules(torch.tensor(COUNTS), NetSpec(branches)))
    return method, net


@pytest.mark.parametrize("branches", [("single",), ("conventional", "rebalancing")])
def test_post_hoc_takes_the_prior_off_each_branch_and_their_mean(branches):
    method, net = trained(branches, tau=1.5)
    x = torch.rand(3, 1, 8, 8)
    combined, each = method.predict(net, x)
    taken = torch.tensor([1.5 * math.log(n / 26) for n in COUNTS])
    plain = net(x)
    torch.testing.assert_close(each, [logits - taken for logits in plain])
    torch.testing.assert_close(combined, sum(plain) / len(plain) - taken)
    assert (method.parents, method.param_groups) == (("weights",), {})


def test_post_hoc_with_tau_zero_is_the_parents_prediction_and_the_adjusted_loss_needs_nothing_at_test_time():
    method, net = trained(tau=0.0)
    x = torch.rand(3, 1, 8, 8)
    assert torch.equal(method.predict(net, x)[0], net(x)[0])
    assert torch.equal(LogitAdjustment().predict(net, x)[0], net(x)[0])
    assert torch.equal(BalancedSoftmax().predict(net, x)[0], net(x)[0])


def test_the_parents_mixup_is_no_setting_of_the_adjustment():
    assert LogitAdjustment(frozen=True).inactive_fields() == {"alpha", "mix"}
    assert LogitAdjustment().inactive_fields() == {"alpha"}
    assert LogitAdjustment(mix="mixup").inactive_fields() == frozenset()


@pytest.mark.parametrize("fields", [{"tau": -1.0}, {"alpha": 0.0}, {"mix": "bilateral"}])
def test_values_that_are_not_allowed_are_refused(fields):
    with pytest.raises(RequestError):
        LogitAdjustment(**fields)


def test_the_published_schedule_is_that_of_cifar_10():
    made = recipe("cifar10", "logit_adjustment", preset="published")
    assert (made.epochs, made.batch, made.weight_decay, made.nesterov) == (1241, 128, 2e-4, True)
    rates = [made.learning_rate((epoch + 0.5) / 1241) for epoch in (19, 20, 603, 604, 925, 926, 1127, 1128)]
    assert rates == pytest.approx([0.1 * 19.5 / 20, 0.1, 0.1, 0.01, 0.01, 1e-3, 1e-3, 1e-4])
