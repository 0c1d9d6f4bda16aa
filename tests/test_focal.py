"""Focal loss and its class-balanced form, against the equations written out with plain numbers."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from lt_repro.errors import RequestError
from lt_repro.losses import effective_weights, focal_loss
from lt_repro.methods.base import Batch, StepContext
from lt_repro.methods.cb_focal import CbFocal
from lt_repro.methods.focal import Focal
from lt_repro.nets.resnet_cifar import ResNet
from lt_repro.papers.dbn_mix.settings import recipe

COUNTS = [12, 7, 4, 3]
LABELS = [0, 2, 3, 1, 0, 0]
FORMS = ["sigmoid", "softmax"]
GAMMAS = [0.0, 0.5, 1.0, 2.0]


@pytest.fixture
def logits():
    return torch.from_numpy(np.random.default_rng(0).normal(0, 2, (6, 4)))


class Fixed:
    """A network whose logits are given."""

    def __init__(self, logits):
        self.logits = logits

    def __call__(self, images):
        return [self.logits]


def loss(method, logits, counts=COUNTS, labels=LABELS):
    where = map(torch.tensor, (0.5, 0.5, 0.1))
    batch = Batch(torch.zeros(len(labels), 1, 8, 8), torch.tensor(labels))
    ctx = StepContext(*where, torch.tensor(counts, dtype=torch.float64))
    return method.loss(Fixed(logits), {"uniform": batch}, ctx)


def slow(row, label, gamma, form, mistake=""):
    """The focal loss of one image from its logits; `mistake` plants an error."""
    if form == "softmax":
        total = sum(math.exp(z) for z in row)
        terms = [(math.exp(row[label]) / total, label)]
    else:
        sign = -1 if mistake == "every class is the label's" else 1
        terms = [(1 / (1 + math.exp(-z if k == label else sign * z)), k) for k, z in enumerate(row)]
    if mistake == "the label's term alone":
        terms = [(p, k) for p, k in terms if k == label]
    value = sum(-((p if mistake == "p^gamma" else 1 - p) ** gamma) * math.log(p) for p, k in terms)
    return value / len(row) if mistake == "a mean over classes" else value


def slow_weights(counts, beta):
    inverse = [(1 - beta) / (1 - beta**n) for n in counts]
    return [w * len(counts) / sum(inverse) for w in inverse]


def slow_loss(rows, beta, gamma, form, mistake=""):
    weights = slow_weights(COUNTS, beta)
    parts = [weights[y] * slow(row, y, gamma, form, mistake) for row, y in zip(rows, LABELS, strict=True)]
    return sum(parts) / (sum(weights[y] for y in LABELS) if mistake == "over the sum of weights" else len(rows))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("gamma", GAMMAS)
def test_focal_loss_is_its_equation_written_out_image_by_image(logits, form, gamma):
    result = focal_loss(logits, torch.tensor(LABELS), gamma, form)
    expected = [slow(row, y, gamma, form) for row, y in zip(logits.tolist(), LABELS, strict=True)]
    assert result.tolist() == pytest.approx(expected, rel=1e-12)
    assert loss(Focal(gamma, form), logits).item() == pytest.approx(sum(expected) / 6, rel=1e-12)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("beta", [0.0, 0.9, 0.9999])
def test_class_balanced_focal_loss_is_its_equation_written_out(logits, form, gamma, beta):
    result = loss(CbFocal(beta, gamma, form), logits).item()
    assert result == pytest.approx(slow_loss(logits.tolist(), beta, gamma, form), rel=1e-9)


@pytest.mark.parametrize(
    ("form", "mistake"),
    [
        ("sigmoid", "every class is the label's"),
        ("sigmoid", "the label's term alone"),
        ("sigmoid", "a mean over classes"),
        ("sigmoid", "p^gamma"),
        ("softmax", "p^gamma"),
        ("sigmoid", "over the sum of weights"),
        ("softmax", "over the sum of weights"),
    ],
)
def test_a_planted_mistake_is_seen(logits, form, mistake):
    result = loss(CbFocal(0.9, 1.0, form), logits).item()
    assert result != pytest.approx(slow_loss(logits.tolist(), 0.9, 1.0, form, mistake), rel=1e-3)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("gamma", GAMMAS)
def test_the_gradient_is_that_of_the_equation_by_finite_differences(logits, form, gamma):
    logits.requires_grad_()
    loss(CbFocal(0.9, gamma, form), logits).backward()
    rows, step = logits.tolist(), 1e-6
    for b in range(6):
        for k in range(4):
            ends = []
            for end in (step, -step):
                moved = [list(row) for row in rows]
                moved[b][k] += end
                ends.append(slow_loss(moved, 0.9, gamma, form))
            assert logits.grad[b, k].item() == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=1e-8)


# Reduces to


def test_softmax_focal_loss_at_gamma_zero_is_cross_entropy(logits):
    result = loss(Focal(0.0, "softmax"), logits)
    torch.testing.assert_close(result, functional.cross_entropy(logits, torch.tensor(LABELS)), rtol=1e-14, atol=0)
    assert loss(Focal(0.1, "softmax"), logits) < result


def test_sigmoid_focal_loss_at_gamma_zero_is_the_sum_of_binary_cross_entropies(logits):
    targets = functional.one_hot(torch.tensor(LABELS), 4).double()
    expected = functional.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / 6
    torch.testing.assert_close(loss(Focal(0.0), logits), expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("gamma", GAMMAS)
def test_equal_weights_give_focal_loss(logits, form, gamma):
    plain = loss(Focal(gamma, form), logits)
    torch.testing.assert_close(loss(CbFocal(0.0, gamma, form), logits), plain)
    torch.testing.assert_close(loss(CbFocal(0.9999, gamma, form), logits, counts=[9, 9, 9, 9]), plain)
    assert not torch.isclose(loss(CbFocal(0.9999, gamma, form), logits), plain, rtol=1e-3)


def test_class_balanced_focal_loss_at_gamma_zero_is_class_balanced_cross_entropy_over_the_number_of_images(logits):
    labels, weights = torch.tensor(LABELS), torch.tensor(slow_weights(COUNTS, 0.99), dtype=torch.float64)
    result = loss(CbFocal(0.99, 0.0, "softmax"), logits)
    torch.testing.assert_close(result, functional.cross_entropy(logits, labels, weights, reduction="sum") / 6)
    assert not torch.isclose(result, functional.cross_entropy(logits, labels, weights), rtol=1e-2)  # over their sum
    targets = functional.one_hot(labels, 4).double()
    binary = functional.binary_cross_entropy_with_logits(logits, targets, weights[labels][:, None], reduction="sum")
    torch.testing.assert_close(loss(CbFocal(0.99, 0.0), logits), binary / 6)


# Vectors


@pytest.mark.parametrize(
    ("classes", "ratio", "beta", "first", "last"),
    [
        (10, 100, 0.9999, 0.050611, 3.992724),
        (10, 100, 0.99, 0.783832, 1.984417),
        (100, 100, 0.9999, 0.044876, 4.378313),
        (100, 100, 0.99, 0.196524, 3.983524),
        (100, 100, 0.9, 0.820194, 2.002866),
        (100, 10, 0.9999, 0.258185, 2.524667),
    ],
)
def test_weights_by_the_effective_number_of_images(classes, ratio, beta, first, last):
    counts = [int(50_000 / classes * (1 / ratio) ** (k / (classes - 1))) for k in range(classes)]
    result = effective_weights(torch.tensor(counts, dtype=torch.float32), beta)
    assert (result[0].item(), result[-1].item()) == pytest.approx((first, last), abs=1.5e-6)
    assert result.tolist() == pytest.approx(slow_weights(counts, beta), rel=1e-5)
    assert result.sum().item() == pytest.approx(classes, rel=1e-6)


# Numbers


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 100.0])
@pytest.mark.parametrize("size", [32.0, 128.0, 8192.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_saturated_logits_give_the_right_loss_and_a_finite_gradient(form, gamma, size, dtype):
    """Right and wrong with all certainty: the loss of the first is 0, that of the second twice its logit."""
    logits = torch.tensor([[size, -size], [-size, size]], dtype=dtype, requires_grad=True)
    result = focal_loss(logits, torch.tensor([0, 0]), gamma, form)
    assert result.dtype == torch.float32
    assert result.tolist() == pytest.approx([0.0, 2 * size], abs=1e-6)
    result.sum().backward()
    assert logits.grad[0].tolist() == pytest.approx([0.0, 0.0], abs=1e-4)
    assert logits.grad[1].tolist() == pytest.approx([-1.0, 1.0], abs=1e-4)


def test_the_published_factor_and_a_power_fail_where_ours_do_not():
    def published(z):  # the true class of one sigmoid
        return (-(z + torch.log1p(torch.exp(-z)))).exp() * -functional.logsigmoid(z)

    def power(z):  # a softmax over z and 0
        p = torch.softmax(torch.stack([z, torch.zeros(())]), 0)[0]
        return -((1 - p) ** 0.5) * p.log()

    for other, at in ((published, -89.0), (power, 20.0)):
        z = torch.tensor(at, requires_grad=True)
        other(z).backward()
        assert z.grad.isnan()
    assert published(torch.tensor(-89.0)) == 0
    assert published(torch.tensor(-80.0)) == pytest.approx(80.0)


@pytest.mark.parametrize("form", FORMS)
def test_low_precision_logits_are_cast_before_the_loss(logits, form):
    half = logits.bfloat16()
    assert torch.equal(loss(Focal(1.0, form), half), loss(Focal(1.0, form), half.float()))


# What is trained


@pytest.mark.parametrize("cls", [Focal, CbFocal])
def test_sigmoids_start_at_one_over_k_and_their_bias_has_no_weight_decay(cls):
    net = ResNet("resnet8", cls().net_spec(), 4, [0.5], [0.2])
    assert torch.sigmoid(net.heads[0].bias).tolist() == pytest.approx([1 / 4] * 4)
    assert cls().param_groups == {"": (1.0, 1.0), "heads.0.bias": (1.0, 0.0)}
    assert "heads.0.bias" in dict(net.named_parameters())
    softmax = cls(form="softmax")
    assert (softmax.net_spec().head, softmax.param_groups) == ("linear", {"": (1.0, 1.0)})


def test_the_authors_beta_is_the_default_of_its_data_set_and_ratio():
    cases = {("cifar10", 100.0): 0.9999, ("cifar10", 50.0): 0.9999, ("cifar100", 100.0): 0.9, ("cifar100", 50.0): 0.99}
    for (dataset, ratio), beta in cases.items():
        method = recipe(dataset, "cb_focal", ratio=ratio).method
        assert method == CbFocal(beta, 1.0, "sigmoid")
    assert recipe("cifar100", "cb_focal", beta=0.5).method.beta == 0.5


@pytest.mark.parametrize("name", ["focal", "cb_focal"])
def test_the_published_preset_has_the_authors_rates(name):
    made = recipe("cifar100", name, preset="published")
    rates = [made.learning_rate((epoch + 0.5) / 200) for epoch in (0, 4, 5, 159, 160, 179, 180)]
    assert rates == pytest.approx([0.01, 0.09, 0.1, 0.1, 1e-3, 1e-3, 1e-5])
    assert (made.batch, made.epochs, made.weight_decay, made.nesterov) == (128, 200, 2e-4, False)


@pytest.mark.parametrize(
    ("cls", "values"),
    [
        (Focal, {"gamma": -0.1}),
        (Focal, {"gamma": math.inf}),
        (Focal, {"form": "tanh"}),
        (CbFocal, {"gamma": -1.0}),
        (CbFocal, {"beta": -0.1}),
        (CbFocal, {"beta": 1.0}),
        (CbFocal, {"form": "sigmoids"}),
    ],
    ids=str,
)
def test_bad_values_are_refused(cls, values):
    with pytest.raises(RequestError, match=next(iter(values))) as caught:
        cls(**values)
    assert len(str(caught.value).splitlines()) <= 3
