"""RIDE against its equations written out with plain numbers, its reductions, and its network."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from lt_repro.cli.plan import command
from lt_repro.errors import RequestError
from lt_repro.losses import combine, effective_weights, ldam_margins, weighted_cross_entropy
from lt_repro.methods.base import Batch, StepContext
from lt_repro.methods.ride import Ride, class_temperatures, divergence
from lt_repro.nets.resnet_cifar import ResNet
from lt_repro.nets.spec import NetSpec
from lt_repro.papers.dbn_mix.rivals import RIVALS
from lt_repro.papers.dbn_mix.settings import departures, recipe
from lt_repro.train.loop import fit

COUNTS = [12, 7, 4, 3]
LABELS = [0, 2, 3, 1, 0, 0]
AFTER, BEFORE = 0.8, 0.795  # epochs 160 and 159 of 200


@pytest.fixture
def logits():
    return torch.from_numpy(np.random.default_rng(0).normal(0, 3, (4, 6, 4)))  # experts, images, classes


class Fixed:
    """A network whose logits are given, one (B, K) per expert."""

    def __init__(self, logits):
        self.logits = logits

    def __call__(self, images):
        return list(self.logits)


def loss(method, logits, epoch_progress=AFTER, counts=COUNTS, teacher=None, logged=None):
    where = torch.tensor(0.5), torch.tensor(epoch_progress), torch.tensor(0.1)
    batch = Batch(torch.zeros(len(LABELS), 1, 8, 8), torch.tensor(LABELS))
    teachers = {} if teacher is None else {"teacher": Fixed(teacher)}
    log = (lambda name, value: None) if logged is None else logged.__setitem__
    ctx = StepContext(*where, torch.tensor(counts, dtype=torch.float64), {}, teachers, log)
    return method.loss(Fixed(logits), {"uniform": batch}, ctx)


def softmax(row, temperature):
    powers = [math.exp(z / t) for z, t in zip(row, temperature, strict=True)]
    return [power / sum(powers) for power in powers]


def slow_divergence(target, row, temperature):
    p, q = softmax(target, temperature), softmax(row, temperature)
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def slow_temperatures(r, mistake=""):
    k = 1 if mistake == "the prior without K" else len(COUNTS)
    b = [k * r * n / sum(COUNTS) + 1 - r for n in COUNTS]
    return b if mistake == "temperatures not divided by the largest" else [x / max(b) for x in b]


def slow(method, experts, weighted=True, teacher=None, targets=None, mistake=""):
    """L from lists of logits; `targets` are the logits that the experts are kept apart from, `mistake` plants one."""
    number, classes, rows = len(experts), len(COUNTS), len(LABELS)
    mean = [[sum(z[b][k] for z in experts) / number for k in range(classes)] for b in range(rows)]
    weights, temperature = [1.0] * classes, [1.0] * classes
    if weighted:
        weights = [(1 - method.beta) / (1 - method.beta**n) for n in COUNTS]
        weights = [w * classes / sum(weights) for w in weights]
        temperature = slow_temperatures(method.prior_weight, mistake)
    margins = [method.margin * (n / min(COUNTS)) ** -0.25 for n in COUNTS]
    scale = 1 if mistake == "margin without scale" else method.scale
    square = 1 if mistake == "no squared temperature" else (sum(temperature) / classes) ** 2
    total = 0.0
    for z in experts:
        fit_sum = apart = 0.0
        for b, y in enumerate(LABELS):
            row = [z[b][k] - (scale * margins[k] if k == y else 0) for k in range(classes)]
            fit_sum -= weights[y] * math.log(softmax(row, [1.0] * classes)[y])
            pair = ((targets or mean)[b], z[b])
            apart += slow_divergence(*(pair[::-1] if mistake == "divergence the other way" else pair), temperature)
        over = rows if mistake == "over the batch size" else sum(weights[y] for y in LABELS)
        total += fit_sum / over + method.diversity * square * apart / rows
    if teacher:
        wise = [[sum(z[b][k] for z in teacher) / len(teacher) for k in range(classes)] for b in range(rows)]
        pairs = zip(wise, mean, strict=True)
        total += method.distill * 1.5**2 * sum(slow_divergence(a, m, [1.5] * classes) for a, m in pairs) / rows
    return total / number if mistake == "the mean over experts" else total


@pytest.mark.parametrize("experts", [1, 2, 3, 4])
@pytest.mark.parametrize("epoch_progress", [AFTER, BEFORE])
@pytest.mark.parametrize("settings", [{}, {"diversity": -0.2, "prior_weight": 0.4, "beta": 0.9, "scale": 10.0}])
def test_the_loss_is_its_equation_written_out(logits, experts, epoch_progress, settings):
    method = Ride(experts, **settings)
    result = loss(method, logits[:experts], epoch_progress)
    expected = slow(method, logits[:experts].tolist(), epoch_progress == AFTER)
    assert result.item() == pytest.approx(expected, rel=1e-9)


def test_the_distilled_loss_is_its_equation_written_out(logits):
    method = Ride(2, distill=0.7)
    result = loss(method, logits[:2], teacher=logits[1:])
    assert result.item() == pytest.approx(slow(method, logits[:2].tolist(), teacher=logits[1:].tolist()), rel=1e-9)
    assert result > loss(replace(method, distill=0.0), logits[:2])
    same = loss(method, logits[:2], teacher=combine(logits[:2])[None])
    torch.testing.assert_close(same, loss(replace(method, distill=0.0), logits[:2]))


MISTAKES = [
    "the mean over experts",
    "over the batch size",
    "margin without scale",
    "divergence the other way",
    "no squared temperature",
    "the prior without K",
    "temperatures not divided by the largest",
]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_planted_mistake_is_seen(logits, mistake):
    method = Ride(3, prior_weight=0.4, beta=0.9)
    result = loss(method, logits[:3]).item()
    assert result != pytest.approx(slow(method, logits[:3].tolist(), mistake=mistake), rel=1e-4)


@pytest.mark.parametrize("distill", [0.0, 0.7])
def test_the_gradient_is_that_of_the_equation_without_the_mean_as_target(logits, distill):
    """By finite differences in which the experts move and what they are kept apart from stays."""
    method, moved = Ride(3, prior_weight=0.4, distill=distill), logits[:3].clone().requires_grad_()
    teacher = logits[1:] if distill else None
    loss(method, moved, teacher=teacher).backward()
    rows, step = logits[:3].tolist(), 1e-6
    targets = combine(logits[:3]).tolist()
    wise = teacher.tolist() if distill else None
    for i, b, k in [(i, b, k) for i in range(3) for b in range(6) for k in range(4)]:
        ends = []
        for end in (step, -step):
            value, rows[i][b][k] = rows[i][b][k], rows[i][b][k] + end
            ends.append(slow(method, rows, teacher=wise, targets=targets))
            rows[i][b][k] = value
        assert moved.grad[i, b, k].item() == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-5, abs=1e-7)


def test_the_teacher_gets_no_gradient(logits):
    teacher = logits[1:].clone().requires_grad_()
    loss(Ride(2, distill=1.0), logits[:2].clone().requires_grad_(), teacher=teacher).backward()
    assert teacher.grad is None


def test_logits_in_bf16_are_computed_in_fp32(logits):
    half = logits[:3].bfloat16()
    result = loss(Ride(3), half)
    torch.testing.assert_close(result, loss(Ride(3), half.double()), rtol=1e-5, atol=0, check_dtype=False)


# The temperatures, and the switch


def test_temperatures_of_the_published_settings():
    """The rarest class of CIFAR-100-LT (100) has 0.81."""
    counts = torch.tensor([int(500 * 0.01 ** (k / 99)) for k in range(100)], dtype=torch.float64)
    result = class_temperatures(counts, 0.05, torch.tensor(AFTER), 0.8)
    assert result[0] == result.max() == 1
    assert result[-1].item() == pytest.approx(0.81, abs=0.005)
    assert result[-1].item() == pytest.approx((100 * 5 / 10847 * 0.05 + 0.95) / (100 * 500 / 10847 * 0.05 + 0.95))
    assert torch.equal(result, result.sort(descending=True).values)


def test_weights_and_temperatures_begin_at_epoch_160_of_200(logits):
    for changes in ({"beta": 0.0}, {"prior_weight": 0.0}):
        for epoch in (0, 159, 160, 199):
            both = [loss(method, logits[:3], epoch / 200) for method in (Ride(3), replace(Ride(3), **changes))]
            assert torch.isclose(*both) == (epoch < 160)


# Reduces to


def ldam(logits, epoch_progress=AFTER, margin=0.5):
    """From the shared pieces alone."""
    counts, targets = torch.tensor(COUNTS, dtype=torch.float64), functional.one_hot(torch.tensor(LABELS), 4).double()
    weights = effective_weights(counts, 0.9999) if epoch_progress >= 0.8 else torch.ones(4, dtype=torch.float64)
    return weighted_cross_entropy(logits - 30 * ldam_margins(counts, margin) * targets, targets, weights)


@pytest.mark.parametrize("epoch_progress", [AFTER, BEFORE])
def test_one_expert_is_ldam_with_deferred_weights(logits, epoch_progress):
    one_expert = logits[:1].clone().requires_grad_()
    result = loss(Ride(1), one_expert, epoch_progress)
    torch.testing.assert_close(result, ldam(logits[0], epoch_progress))
    result.backward()
    alone = logits[0].clone().requires_grad_()
    ldam(alone, epoch_progress).backward()
    torch.testing.assert_close(one_expert.grad[0], alone.grad)
    assert Ride(1).net_spec() == NetSpec(head="cosine")


def test_without_diversity_each_expert_keeps_its_loss(logits):
    result = loss(Ride(3, diversity=0.0), logits[:3])
    torch.testing.assert_close(result, sum(ldam(z) for z in logits[:3]))
    assert not torch.isclose(result, 3 * ldam(combine(logits[:3])))  # what the public code trains instead
    assert loss(Ride(3), logits[:3]) < result


def test_identical_experts_have_no_divergence(logits):
    logged = {}
    result = loss(Ride(3), logits[:1].expand(3, 6, 4), logged=logged)
    torch.testing.assert_close(result, 3 * ldam(logits[0]))
    assert logged["divergence"].item() == pytest.approx(0, abs=1e-12)
    loss(Ride(3), logits[:3], logged=logged)
    assert logged["divergence"] > 0.1


def test_before_the_switch_there_are_no_weights_and_no_temperatures(logits):
    plain = Ride(3, switch=1.0)
    torch.testing.assert_close(loss(Ride(3), logits[:3], BEFORE), loss(plain, logits[:3], AFTER))
    torch.testing.assert_close(loss(Ride(3, beta=0.0, prior_weight=0.0), logits[:3]), loss(plain, logits[:3], AFTER))
    assert not torch.isclose(loss(Ride(3), logits[:3]), loss(plain, logits[:3]))


def test_without_margin_weights_and_diversity_it_is_the_sum_of_cross_entropies(logits):
    result = loss(Ride(3, diversity=0.0, margin=0.0, beta=0.0), logits[:3])
    expected = sum(functional.cross_entropy(z, torch.tensor(LABELS)) for z in logits[:3])
    torch.testing.assert_close(result, expected)


def test_the_divergence_is_torchs_and_has_no_gradient_into_its_target(logits):
    target, moved = logits[0].clone().requires_grad_(), logits[1].clone().requires_grad_()
    result = divergence(target, moved, 1.5)
    expected = functional.kl_div(
        (logits[1] / 1.5).log_softmax(1), (logits[0] / 1.5).log_softmax(1), reduction="batchmean", log_target=True
    )
    torch.testing.assert_close(result, expected)
    result.backward()
    assert target.grad is None
    assert moved.grad.abs().sum() > 0


# The network, the settings, a run


@pytest.mark.parametrize(("experts", "millions"), [(1, 0.47), (2, 0.53), (3, 0.78), (4, 1.04)])
def test_the_experts_are_as_narrow_as_published(experts, millions):
    method = Ride(experts, scale=20.0)
    net = ResNet("resnet32", method.net_spec(), 100, [0.5] * 3, [0.2] * 3).eval()
    assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(millions, abs=0.006)
    combined, branches = method.predict(net, torch.rand(2, 3, 32, 32))
    assert len(branches) == experts
    torch.testing.assert_close(combined, sum(branches) / experts)
    assert max(z.abs().max() for z in branches) <= 20 * 1.0001


def test_fields_without_effect(logits):
    assert Ride().inactive_fields() == frozenset()
    assert Ride(1).inactive_fields() == {"diversity", "prior_weight"}
    assert Ride(2, diversity=0.0).inactive_fields() == {"prior_weight"}
    changed = {"diversity": -0.1, "prior_weight": 0.5}
    for method in (Ride(1), Ride(2, diversity=0.0)):
        for name in method.inactive_fields():
            other = replace(method, **{name: changed[name]})
            torch.testing.assert_close(loss(other, logits[: method.experts]), loss(method, logits[: method.experts]))


@pytest.mark.parametrize(
    "settings",
    [
        {"experts": 5},
        {"diversity": 0.1},
        {"prior_weight": 1.1},
        {"prior_weight": -0.1},
        {"margin": -0.1},
        {"scale": 0.0},
        {"beta": 1.0},
        {"switch": 1.5},
        {"distill": -1.0},
    ],
    ids=str,
)
def test_bad_values_are_refused(settings):
    with pytest.raises(RequestError, match=next(iter(settings))):
        Ride(**settings)


def test_the_published_recipe():
    made = recipe("cifar100", "ride", preset="published")
    assert (made.epochs, made.batch, made.lr, made.weight_decay) == (200, 128, 0.1, 5e-4)
    assert (made.nesterov, made.milestones, made.lr_decay, made.rotation) == (True, (0.8, 0.9), 0.01, 15.0)
    assert made.method == Ride()
    assert recipe("cifar100", "ride").rotation == 0
    rates = [made.learning_rate((epoch + 0.5) / 200) for epoch in (100, 160, 180)]
    assert rates == pytest.approx([0.1, 1e-3, 1e-5])
    six = recipe("cifar100", "ride", preset="published", experts=6)
    taught = recipe("cifar100", "ride", preset="published", experts=4, parents={"teacher": six})
    assert departures(taught, preset="published").keys() == {"experts"}
    shared = recipe("cifar100", "ride", preset="published", parents={"teacher": recipe("cifar100", "ride")})
    assert {"parent lr_decay", "parent rotation"} <= departures(shared, preset="published").keys()


def test_the_distilled_row_of_the_rivals_has_a_teacher_of_six_experts_under_the_same_recipe():
    cells = {cell.row.label: cell for cell in RIVALS.cells() if cell.column.label == "all"}
    (taught, *_), (alone, *_) = cells["ride-distilled"].recipes, cells["ride"].recipes
    assert taught == alone.replace(distill=1.0, parents={"teacher": alone.replace(experts=6)})


def test_the_command_of_a_recipe_gives_it_back():
    six = recipe("cifar100", "ride", experts=6)
    assert command(six, "cifar100") == "ltrepro train --method ride --set experts=6"
    published = recipe("cifar100", "ride", preset="published")
    assert command(published, "cifar100") == "ltrepro train --method ride --preset published"
    taught = recipe("cifar100", "ride", parents={"teacher": six})
    assert command(taught, "cifar100") == f"ltrepro train --method ride --set parent={six.key()}"
    weaker = taught.replace(distill=0.5)
    assert command(weaker, "cifar100") == f"ltrepro train --method ride --set parent={six.key()} --set distill=0.5"


def test_a_teacher_is_needed_to_distil_and_does_not_shorten_the_run(small, images, tmp_path):
    six = recipe("cifar100", "ride", experts=6)
    taught = recipe("cifar100", "ride", parents={"teacher": six})
    with pytest.raises(RequestError, match="without a parent"):
        taught.replace(parents={})
    assert recipe("cifar100", "ride", distill=1.0, **{"parent.experts": 6}) == taught  # one that is not given is made
    assert (taught.method.distill, taught.epochs) == (1.0, 200)
    wise = replace(small(epochs=1, batch=16), method=Ride(6, switch=0.0))
    student = recipe("made_up", "ride", parents={"teacher": wise}, epochs=2, batch=16, experts=2)
    fit(wise, images, out=tmp_path, device="cpu")
    run = fit(student, images, out=tmp_path, device="cpu")
    assert run.status == "done"
    assert set(run.result["branches"]) == {"expert_1", "expert_2"}
    assert len(run.history["divergence"]) == 2
    alone = fit(student.replace(distill=0.0, parents={}), images, out=tmp_path, device="cpu")
    assert alone.history["loss"] != run.history["loss"]
