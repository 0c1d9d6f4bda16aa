"""CE-DRW and CE-DRS, LDAM, Remix: each loss against a slow float64 version of its equation, and planted mistakes."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from lt_repro.data.samplers import ClassBalanced, Uniform, generator
from lt_repro.errors import RequestError
from lt_repro.losses import deferred_weights, effective_weights, ldam_margins
from lt_repro.methods.base import Batch, Sampled, StepContext
from lt_repro.methods.cross_entropy import CrossEntropy
from lt_repro.methods.drw import Drw
from lt_repro.methods.ldam import Ldam
from lt_repro.methods.remix import Remix, label_ratios
from lt_repro.nets.resnet_cifar import ResNet
from lt_repro.nets.spec import NetSpec
from lt_repro.papers.dbn_mix.settings import recipe

COUNTS = [60.0, 20.0, 19.0, 4.0]  # the first is 3 times the second, which is not 3 times the third
LABELS = [0, 1, 1, 2, 3, 0]
KEYS = [0.5, 0.1, 0.3, 0.9, 0.2, 0.7]


class Linear:
    """A network that is a fixed linear map, or under LDAM the scaled cosines of one."""

    def __init__(self, method, dtype=torch.float64):
        spec = method.net_spec()
        self.scale = spec.scale if spec.head == "cosine" else None
        drawn = torch.Generator().manual_seed(1)
        self.weights = torch.randn(4, 9, generator=drawn, dtype=torch.float64).to(dtype).requires_grad_()

    def __call__(self, batches):
        (x,) = batches if isinstance(batches, list) else [batches]
        x, w = x.flatten(1), self.weights
        if self.scale is None:
            return [x @ w.T]
        return [self.scale * functional.normalize(x) @ functional.normalize(w).T]


def batch(dtype=torch.float64):
    drawn = torch.Generator().manual_seed(0)
    return Batch(torch.rand(6, 1, 3, 3, generator=drawn, dtype=torch.float64).to(dtype), torch.tensor(LABELS))


def at(epoch=0.9, lam=0.3, dtype=torch.float64):
    random = {"lam": torch.tensor(lam, dtype=dtype), "partner": torch.tensor(KEYS, dtype=dtype)}
    where = map(torch.tensor, (epoch, epoch, 0.1))
    return StepContext(*where, torch.tensor(COUNTS, dtype=dtype), random)


def loss(method, epoch=0.9, lam=0.3, dtype=torch.float64, net=None):
    ((name, *_),) = method.samplers(epoch)
    return method.loss(net or Linear(method, dtype), {name: batch(dtype)}, at(epoch, lam, dtype))


def remix_rule(n_i, n_j, lam, kappa, tau):
    if n_i / n_j >= kappa and lam < tau:
        return 0.0
    if n_i / n_j <= 1 / kappa and 1 - lam < tau:
        return 1.0
    return lam


def slow(method, w, epoch=0.9, lam=0.3, mistake=""):
    """The loss written out, one number at a time; `w` (4, 9). `mistake` names one to plant."""
    x, rows = batch().images.flatten(1).tolist(), range(6)
    y = [[float(k == label) for k in range(4)] for label in LABELS]
    if isinstance(method, Remix) or getattr(method, "mix", "none") == "mixup":
        partner = sorted(rows, key=lambda b: KEYS[b])
        ratios = [lam] * 6
        if isinstance(method, Remix):
            n = [COUNTS[label] for label in LABELS]
            ratios = [remix_rule(n[b], n[partner[b]], lam, method.kappa, method.tau) for b in rows]
        if mistake == "mean of lam_y":  # as in a public code: the rule loses its pair
            ratios = [sum(ratios) / 6] * 6
        inputs = [lam] * 6 if mistake != "lam_y for images" else ratios
        x = [[m * p + (1 - m) * q for p, q in zip(x[b], x[partner[b]], strict=True)] for b, m in enumerate(inputs)]
        y = [[m * p + (1 - m) * q for p, q in zip(y[b], y[partner[b]], strict=True)] for b, m in enumerate(ratios)]
    z = [[sum(p * q for p, q in zip(image, row, strict=True)) for row in w] for image in x]
    if isinstance(method, Ldam):
        norms = [math.hypot(*row) for row in w]
        margin = [method.margin * (min(COUNTS) / n) ** (0.5 if mistake == "square root" else 0.25) for n in COUNTS]
        for image, logits, label in zip(x, z, LABELS, strict=True):
            for k in range(4):
                cosine = logits[k] / math.hypot(*image) / norms[k]
                shift = margin[k] if k == label else 0.0
                logits[k] = method.scale * cosine - (1.0 if mistake == "margin unscaled" else method.scale) * shift
    weights = [1.0] * 4
    if method.rule == "reweight" and (epoch > method.switch if mistake == "late" else epoch >= method.switch):
        raw = [(1 - method.beta) / (1 - method.beta**n) for n in COUNTS]
        weights = [4 * r / sum(raw) for r in raw]
    terms, shares = [], []
    for logits, target in zip(z, y, strict=True):
        total = math.log(sum(math.exp(value) for value in logits))
        terms.append(sum(weights[k] * target[k] * (total - logits[k]) for k in range(4)))
        shares.append(sum(weights[k] * target[k] for k in range(4)))
    return math.fsum(terms) / (6 if mistake == "batch size" else math.fsum(shares))


METHODS = {
    "drw": Drw(beta=0.9),
    "drs": Drw("resample"),
    "mixup-drw": Drw(beta=0.99, mix="mixup"),
    "ldam": Ldam(rule="none"),
    "ldam-drw": Ldam(beta=0.99),
    "ldam-drs": Ldam(0.3, 10.0, "resample"),
    "remix": Remix(rule="none"),
    "remix-drw": Remix(beta=0.99),
    "remix-drs": Remix(rule="resample", kappa=4.0, tau=0.8),
}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(("epoch", "lam"), [(0.79, 0.3), (0.8, 0.3), (0.9, 0.7), (0.9, 0.1)])
def test_the_loss_is_its_equation_written_out(name, epoch, lam):
    net = Linear(METHODS[name])
    expected = slow(METHODS[name], net.weights.tolist(), epoch, lam)
    assert loss(METHODS[name], epoch, lam).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_the_gradient_is_the_slope_of_the_equation(name):
    net, step = Linear(METHODS[name]), 1e-6
    loss(METHODS[name], net=net).backward()
    w = net.weights.tolist()
    for k, d in [(0, 0), (1, 4), (2, 8), (3, 2)]:
        ends = []
        for sign in (1, -1):
            moved = [list(row) for row in w]
            moved[k][d] += sign * step
            ends.append(slow(METHODS[name], moved))
        assert net.weights.grad[k, d].item() == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-5, abs=1e-8)


@pytest.mark.parametrize(
    ("name", "mistake"),
    [
        ("drw", "batch size"),
        ("drw", "late"),
        ("mixup-drw", "batch size"),
        ("ldam-drw", "batch size"),
        ("ldam-drw", "late"),
        ("ldam", "margin unscaled"),
        ("ldam", "square root"),
        ("remix", "mean of lam_y"),
        ("remix", "lam_y for images"),
        ("remix-drw", "batch size"),
        ("remix-drw", "late"),
    ],
)
def test_a_planted_mistake_is_seen(name, mistake):
    w = Linear(METHODS[name]).weights.tolist()
    result = loss(METHODS[name], 0.8).item()
    assert result == pytest.approx(slow(METHODS[name], w, 0.8), rel=1e-6)
    assert result != pytest.approx(slow(METHODS[name], w, 0.8, mistake=mistake), rel=1e-3)


@pytest.mark.parametrize("name", METHODS)
def test_the_loss_of_bf16_logits_is_computed_in_fp32(name):
    method = METHODS[name]
    logits = Linear(method)(batch().images)[0].detach().bfloat16()
    result = loss(method, dtype=torch.float32, net=lambda x: [logits])
    assert result.dtype == torch.float32
    assert result.item() == pytest.approx(loss(method, net=lambda x: [logits.double()]).item(), rel=1e-5)


# The switch


@pytest.mark.parametrize(
    ("epochs", "switch", "first"), [(200, 0.8, 160), (300, 250 / 300, 250), (60, 0.8, 48), (10, 0.7, 7)]
)
def test_the_rule_begins_at_its_epoch_counted_from_0(epochs, switch, first):
    weighted, balanced = [], []
    for epoch in range(epochs):
        weights = deferred_weights(torch.tensor(COUNTS), 0.9999, torch.tensor(epoch / epochs), switch)
        weighted += [epoch] if not torch.equal(weights, torch.ones(4)) else []
        for method in (
            Drw("resample", switch),
            Ldam(rule="resample", switch=switch),
            Remix(rule="resample", switch=switch),
        ):
            (drawn,) = method.samplers(epoch / epochs)
            assert drawn in (Sampled("uniform", Uniform()), Sampled("balanced", ClassBalanced()))
            balanced += [epoch] if drawn.name == "balanced" else []
    assert weighted == list(range(first, epochs))
    assert balanced == [epoch for epoch in range(first, epochs) for _ in range(3)]


@pytest.mark.parametrize("method", [Drw(), Ldam(), Ldam(rule="none"), Remix(), Remix(rule="none")], ids=str)
def test_no_other_rule_changes_the_draws(method):
    assert {method.samplers(progress) for progress in (0.0, 0.8, 0.995)} == {(Sampled("uniform", Uniform()),)}


# Reductions


def cross_entropy(method):
    net = Linear(method)
    return functional.cross_entropy(net(batch().images)[0], torch.tensor(LABELS))


@pytest.mark.parametrize(
    ("method", "epoch"),
    [
        (Drw(), 0.79),
        (Drw(switch=1.0), 0.995),
        (Drw(beta=0.0), 0.9),
        (Drw("resample"), 0.79),
        (Drw("resample", switch=0.0), 0.0),
        (Ldam(0.0, 30.0, "none"), 0.9),
        (Ldam(0.0, 1.0, "none"), 0.9),
    ],
    ids=str,
)
def test_without_weights_and_margins_it_is_cross_entropy(method, epoch):
    torch.testing.assert_close(loss(method, epoch), cross_entropy(method))


def test_at_scale_one_the_logits_are_the_cosines():
    x, w = batch().images.flatten(1), Linear(Ldam()).weights
    expected = functional.cross_entropy(functional.cosine_similarity(x[:, None], w[None], dim=2), torch.tensor(LABELS))
    torch.testing.assert_close(loss(Ldam(0.0, 1.0, "none")), expected)


def test_draws_of_resample_at_switch_0_are_class_balanced():
    assert Drw("resample", switch=0.0).samplers(0.0) == (Sampled("balanced", ClassBalanced()),)


@pytest.mark.parametrize("method", [Ldam(), Remix()], ids=str)
@pytest.mark.parametrize(("fields", "epoch"), [({}, 0.79), ({"switch": 1.0}, 0.995), ({"beta": 0.0}, 0.9)])
def test_before_the_switch_or_at_equal_weights_it_is_the_loss_of_no_rule(method, fields, epoch):
    torch.testing.assert_close(loss(replace(method, **fields), epoch), loss(replace(method, rule="none"), epoch))
    assert loss(method, 0.9) != loss(replace(method, rule="none"), 0.9)


@pytest.mark.parametrize("rule", ["reweight", "resample"])
def test_mixup_at_lambda_one_is_without_mixing(rule):
    torch.testing.assert_close(loss(Drw(rule, mix="mixup"), lam=1.0), loss(Drw(rule)))


def mixup_loss(lam, dtype=torch.float64):
    return loss(CrossEntropy(mix="mixup"), 0.9, lam, dtype)


@pytest.mark.parametrize("lam", [0.1, 0.3, 0.9])
def test_deferred_mixup_before_the_switch_is_mixup(lam):
    torch.testing.assert_close(loss(Drw(mix="mixup"), 0.79, lam), mixup_loss(lam))
    assert loss(Drw("resample", mix="mixup"), 0.79, lam) == mixup_loss(lam)


@pytest.mark.parametrize("lam", [0.1, 0.3, 0.9])
@pytest.mark.parametrize("off", [{"kappa": math.inf}, {"tau": 0.0}])
def test_remix_without_its_label_rule_is_mixup_bit_for_bit(lam, off):
    dtype = torch.float32
    assert loss(Remix(rule="none", **off), 0.9, lam, dtype) == mixup_loss(lam, dtype)
    assert loss(Remix(rule="none"), 0.9, lam, dtype) != mixup_loss(lam, dtype)
    torch.testing.assert_close(
        loss(Remix(**off), 0.9, lam, dtype), loss(Drw(mix="mixup"), 0.9, lam, dtype)
    )  # with class weights, mixup-DRW


@pytest.mark.parametrize("method", [Remix(alpha=0.4), Drw(mix="mixup", alpha=0.4)], ids=str)
def test_lambda_and_partners_are_those_of_mixup(method):
    default = CrossEntropy(mix="mixup", alpha=0.4).random_inputs
    assert set(method.random_inputs) == set(default)
    for name, draw in method.random_inputs.items():
        assert np.array_equal(draw(generator(0, name, 3), 5, 7), default[name](generator(0, name, 3), 5, 7))
    assert Drw().random_inputs == {}


# Remix's label rule, at kappa = 3 and tau = 0.5


@pytest.mark.parametrize(
    ("n_i", "n_j", "lam", "expected"),
    [
        (300, 100, 0.49, 0.0),  # exactly kappa times as many, and little of the image: none of the label
        (300, 100, 0.5, 0.5),  # lam is not below tau
        (300, 100, 0.9, 0.9),
        (300, 100, 0.0, 0.0),
        (299, 100, 0.49, 0.49),  # not kappa times as many
        (100, 300, 0.51, 1.0),  # the same from the other side
        (100, 300, 0.5, 0.5),
        (100, 300, 0.1, 0.1),
        (100, 300, 1.0, 1.0),
        (100, 299, 0.51, 0.51),
        (100, 100, 0.2, 0.2),
        (100, 100, 0.8, 0.8),
        (500, 5, 0.2, 0.0),
        (5, 500, 0.8, 1.0),
    ],
)
def test_the_label_goes_to_the_rarer_class_that_has_enough_of_the_image(n_i, n_j, lam, expected):
    for dtype in (torch.float32, torch.float64):
        sizes = (torch.tensor([float(n)], dtype=dtype) for n in (n_i, n_j))
        given = torch.tensor(lam, dtype=dtype)
        (result,) = label_ratios(*sizes, given, 3.0, 0.5)
        assert result == torch.tensor(expected, dtype=dtype)
        assert result.dtype == dtype


def test_the_label_rule_is_of_each_pair_and_the_first_condition_wins():
    sizes_i, sizes_j = torch.tensor([300.0, 100.0, 100.0]), torch.tensor([100.0, 300.0, 100.0])
    assert label_ratios(sizes_i, sizes_j, torch.tensor(0.25), 3.0, 0.5).tolist() == [0.0, 0.25, 0.25]
    each = torch.tensor([0.75, 0.75, 0.25])
    assert label_ratios(sizes_i, sizes_j, each, 3.0, 0.5).tolist() == [0.75, 1.0, 0.25]
    assert label_ratios(sizes_i, sizes_j, torch.tensor(0.5), 1.0, 1.0).tolist() == [0.0, 1.0, 0.0]


# Known values


def long_tail(largest, classes, ratio):
    return torch.tensor(
        [float(int(largest * ratio ** (-k / (classes - 1)))) for k in range(classes)], dtype=torch.float64
    )


@pytest.mark.parametrize(
    ("largest", "classes", "ratio", "beta", "first", "last"),
    [
        (5000, 10, 100, 0.9999, 0.050611, 3.992724),
        (500, 100, 100, 0.9999, 0.044876, 4.378313),
        (500, 100, 10, 0.9999, 0.258185, 2.524667),
        (5000, 10, 100, 0.99, 0.783832, 1.984417),
        (500, 100, 100, 0.9, 0.820194, 2.002866),
    ],
)
def test_class_weights_of_long_tailed_cifar(largest, classes, ratio, beta, first, last):
    result = effective_weights(long_tail(largest, classes, ratio), beta)
    assert (result[0].item(), result[-1].item()) == pytest.approx((first, last), abs=1e-6)
    assert result.sum().item() == pytest.approx(classes)


@pytest.mark.parametrize(("largest", "classes"), [(5000, 10), (500, 100)])
def test_margins_of_long_tailed_cifar(largest, classes):
    result = ldam_margins(long_tail(largest, classes, 100), Ldam().margin)
    assert (result[0].item(), result[-1].item()) == pytest.approx((0.158114, 0.5), abs=1e-6)


def test_the_head_of_ldam_has_its_scale_and_it_predicts_without_a_margin():
    method = Ldam(scale=12.0)
    assert method.net_spec() == NetSpec(head="cosine", scale=12.0)
    net = ResNet("resnet8", method.net_spec(), 4, [0.5], [0.2]).eval()
    x = torch.rand(3, 1, 8, 8)
    logits, _ = method.predict(net, x)
    features, vectors = net.features(x)[0], net.heads[0].weight
    torch.testing.assert_close(logits, 12 * functional.cosine_similarity(features[:, None], vectors[None], dim=2))
    assert Drw().net_spec() == Remix().net_spec() == NetSpec()


# Settings


@pytest.mark.parametrize("name", ["drw", "ldam"])
def test_published_schedule_of_ldams_code(name):
    made = recipe("cifar100", name, preset="published")
    assert (made.epochs, made.batch, made.method.switch) == (200, 128, 0.8)
    rates = [made.learning_rate(epoch / 200) for epoch in (2.5, 5, 159.9, 160, 179.9, 180)]
    assert rates == pytest.approx([0.05, 0.1, 0.1, 1e-3, 1e-3, 1e-5])
    assert recipe("cifar100", name).milestones == (0.6, 0.8)


def test_published_schedule_of_remix():
    made = recipe("cifar100", "remix", preset="published")
    assert (made.epochs, made.method.rule) == (300, "reweight")
    rates = [made.learning_rate(epoch / 300) for epoch in (0, 149.9, 150, 249.9, 250)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 1e-3])
    assert 249 / 300 < made.method.switch <= 250 / 300


@pytest.mark.parametrize(
    ("method", "inactive"),
    [
        (Drw(), {"alpha"}),
        (Drw("resample"), {"alpha", "beta"}),
        (Drw(mix="mixup"), set()),
        (Ldam(), set()),
        (Ldam(rule="none"), {"switch", "beta"}),
        (Ldam(rule="resample"), {"beta"}),
        (Remix(), set()),
        (Remix(rule="none"), {"switch", "beta"}),
        (Remix(rule="resample", kappa=math.inf), {"beta", "tau"}),
        (Remix(tau=0.0), {"kappa"}),
    ],
    ids=lambda value: str(sorted(value) if isinstance(value, set) else value),
)
def test_inactive_fields_change_nothing_and_the_others_something(method, inactive):
    assert method.inactive_fields() == inactive
    others = {"alpha": 0.5, "beta": 0.5, "switch": 0.95, "kappa": 4.0, "tau": 0.9, "margin": 0.1, "scale": 2.0}

    def decided(changed):
        draws = {name: draw(generator(0, name, 0), 2, 3).tolist() for name, draw in changed.random_inputs.items()}
        return loss(changed, 0.9).item(), changed.samplers(0.9), draws

    for name in vars(method).keys() & others.keys():
        same = decided(replace(method, **{name: others[name]})) == decided(method)
        assert same == (name in inactive), name


@pytest.mark.parametrize(
    ("cls", "fields"),
    [
        (Drw, {"rule": "none"}),
        (Drw, {"switch": 1.1}),
        (Drw, {"switch": -0.1}),
        (Drw, {"beta": 1.0}),
        (Drw, {"mix": "bilateral"}),
        (Drw, {"alpha": 0.0}),
        (Ldam, {"margin": -0.1}),
        (Ldam, {"margin": 2.1}),
        (Ldam, {"scale": 0.0}),
        (Ldam, {"rule": "both"}),
        (Ldam, {"switch": 1.1}),
        (Ldam, {"beta": 1.0}),
        (Remix, {"kappa": 0.9}),
        (Remix, {"tau": 1.1}),
        (Remix, {"alpha": 0.0}),
        (Remix, {"rule": "drw"}),
        (Remix, {"switch": -0.1}),
        (Remix, {"beta": -0.1}),
    ],
    ids=str,
)
def test_bad_values_are_refused_by_name(cls, fields):
    (name,) = fields
    with pytest.raises(RequestError, match=name) as caught:
        cls(**fields)
    assert len(str(caught.value).splitlines()) <= 3
