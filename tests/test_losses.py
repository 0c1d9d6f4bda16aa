"""Every equation of the paper against a slow float64 version written from it, against vectors, and at special cases."""

import math

import numpy as np
import pytest
import torch

from lt_repro.data.load import known_split
from lt_repro.data.samplers import ClassBalanced, Reverse, Uniform, class_probabilities, generator
from lt_repro.losses import (
    branch_loss,
    combine,
    complement_cross_entropy,
    deferred_weights,
    effective_weights,
    ldam_margins,
    less_margins,
    soft_cross_entropy,
    temperatures,
    weighted_cross_entropy,
)
from lt_repro.mixing import bilateral_mixup, bilateral_ratios, mixup

CIFAR10 = np.array([5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50])
CIFAR100 = np.array([int(500 * 0.01 ** (k / 99)) for k in range(100)])


def double(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def soft(rows, classes, seed=0):
    targets = torch.from_numpy(np.random.default_rng(seed).random((rows, classes)))
    return targets / targets.sum(1, keepdim=True)


# Sampling, equations 1 and 2


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 10.0])
def test_reverse_probabilities_follow_1_and_2(gamma):
    weights = [(max(CIFAR10) / n) ** (1.0 / gamma) for n in CIFAR10.tolist()]
    expected = [w / sum(weights) for w in weights]
    np.testing.assert_allclose(class_probabilities(CIFAR10, gamma), expected, rtol=1e-12)


def test_gamma_one_is_bbns_reversed_distribution():
    result = class_probabilities(CIFAR10, 1.0)
    assert result[0] == pytest.approx(0.004024, abs=5e-7)
    assert result[-1] == pytest.approx(0.402365, abs=5e-7)


def test_a_tiny_gamma_draws_the_smallest_class_alone():
    result = class_probabilities(CIFAR10, 0.001)
    assert result[-1] == pytest.approx(1.0)
    assert np.isfinite(result).all()


def test_gamma_infinite_is_class_balanced():
    np.testing.assert_allclose(class_probabilities(CIFAR10, math.inf), 0.1, rtol=1e-15)


def test_larger_gamma_is_closer_to_balanced():
    spreads = [np.ptp(class_probabilities(CIFAR10, gamma)) for gamma in (1.0, 2.0, 5.0, math.inf)]
    assert spreads == sorted(spreads, reverse=True)


@pytest.mark.parametrize("gamma", [1.0, 3.0, math.inf])
def test_reverse_sampler_draws_classes_by_p_and_their_images_uniformly(gamma):
    counts = np.array([40, 10, 2])
    drawn = Reverse(gamma).indices(generator(0, "test", 0), counts, 200_000)
    classes = np.searchsorted(np.cumsum(counts), drawn, side="right")
    shares = np.bincount(classes) / len(drawn)
    np.testing.assert_allclose(shares, class_probabilities(counts, gamma), atol=0.005)
    inside = np.bincount(drawn[classes == 0], minlength=40)
    np.testing.assert_allclose(inside, inside.mean(), atol=5 * inside.mean() ** 0.5)
    assert drawn.min() == 0
    assert drawn.max() == counts.sum() - 1


def test_the_class_balanced_sampler_is_the_reverse_one_at_gamma_infinite():
    counts = np.array([40, 10, 2])
    pair = [sampler.indices(generator(0, "test", 0), counts, 500) for sampler in (ClassBalanced(), Reverse(math.inf))]
    assert np.array_equal(*pair)


def test_uniform_sampler_takes_every_image_once_and_then_again():
    drawn = Uniform().indices(generator(0, "test", 0), np.array([7, 3]), 25)
    assert sorted(drawn[:10]) == sorted(drawn[10:20]) == list(range(10))
    assert len(set(drawn[20:])) == 5
    assert list(drawn[:10]) != list(range(10))


# Mixup, equations 6, 7, 22, 23


@pytest.mark.parametrize("per_sample", [False, True])
def test_mixup_follows_6_and_7(per_sample):
    x_i, x_j, y_i, y_j = double(3, 2, 4, 4), double(3, 2, 4, 4, seed=1), soft(3, 5), soft(3, 5, seed=1)
    lam = torch.tensor([0.1, 0.7, 0.9] if per_sample else 0.3, dtype=torch.float64)
    x, y = mixup(x_i, y_i, x_j, y_j, lam)
    for b in range(3):
        part = float(lam[b]) if per_sample else 0.3
        for c in range(2):
            for h in range(4):
                for w in range(4):
                    expected = part * x_i[b, c, h, w] + (1 - part) * x_j[b, c, h, w]
                    assert float(x[b, c, h, w]) == pytest.approx(float(expected), rel=1e-12)
        for k in range(5):
            assert float(y[b, k]) == pytest.approx(float(part * y_i[b, k] + (1 - part) * y_j[b, k]), rel=1e-12)


# Bilateral mixup, equations 8 to 14


@pytest.mark.parametrize("lam", [0.0, 0.2, 0.5, 0.8, 1.0])
def test_bilateral_ratios_follow_9_and_10(lam):
    lam_c, lam_r = bilateral_ratios(torch.tensor(lam, dtype=torch.float64))
    assert float(lam_c) == max(lam, 1 - lam)
    assert float(lam_r) == pytest.approx(min(lam, 1 - lam), abs=1e-15)
    assert float(lam_c) >= 0.5 >= float(lam_r)


@pytest.mark.parametrize("lam", [0.2, 0.8])
def test_bilateral_mixup_follows_11_to_14(lam):
    x_c, x_r, y_c, y_r = double(3, 1, 2, 2), double(3, 1, 2, 2, seed=1), soft(3, 4), soft(3, 4, seed=1)
    (x_hat_c, y_hat_c), (x_hat_r, y_hat_r) = bilateral_mixup(x_c, y_c, x_r, y_r, torch.tensor(lam, dtype=torch.float64))
    large, little = max(lam, 1 - lam), min(lam, 1 - lam)
    torch.testing.assert_close(x_hat_c, large * x_c + (1 - large) * x_r)
    torch.testing.assert_close(y_hat_c, large * y_c + (1 - large) * y_r)
    torch.testing.assert_close(x_hat_r, little * x_c + (1 - little) * x_r)
    torch.testing.assert_close(y_hat_r, little * y_c + (1 - little) * y_r)


def test_bilateral_mixup_leans_each_branch_to_its_own_sampler():
    ones, zeros = torch.ones(2, 1, 1, 1), torch.zeros(2, 1, 1, 1)
    label = torch.eye(2)
    for lam in (0.3, 0.7):
        (conventional, _), (rebalancing, _) = bilateral_mixup(ones, label, zeros, label, torch.tensor(lam))
        assert conventional.mean() > 0.5 > rebalancing.mean()


# Temperatures, equations 15 and 16


@pytest.mark.parametrize(("counts", "eta", "eps"), [(CIFAR10, 3.0, 0.6), (CIFAR100, 7.0, 0.6), (CIFAR100, 9.0, 0.2)])
def test_temperatures_follow_15_and_16(counts, eta, eps):
    balance = [eps * n / max(counts) + (1 - eps) for n in counts.tolist()]
    expected = [(max(balance) / b) ** (1 / eta) for b in balance]
    np.testing.assert_allclose(temperatures(torch.from_numpy(counts).double(), eta, eps), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("counts", "eta", "vector"),
    [(CIFAR100, 7.0, {0: 1.0, 50: 1.118155, 99: 1.137430}), (CIFAR10, 3.0, {0: 1.0, 5: 1.308415, 9: 1.350490})],
)
def test_temperatures_of_the_paper_settings(counts, eta, vector):
    result = temperatures(torch.from_numpy(counts).float(), eta, 0.6)
    for k, value in vector.items():
        assert float(result[k]) == pytest.approx(value, abs=2e-6)


@pytest.mark.parametrize(("eta", "eps"), [(7.0, 0.0), (math.inf, 0.6)])
def test_temperatures_are_one_at_eps_zero_and_eta_infinite(eta, eps):
    assert (temperatures(torch.from_numpy(CIFAR100).float(), eta, eps) == 1).all()


def test_temperature_rises_towards_the_tail():
    result = temperatures(torch.from_numpy(CIFAR100).double(), 7.0, 0.6)
    assert (result.diff() >= 0).all()
    assert result[0] == 1


# The released code's temperatures: (15) with the factor K


@pytest.mark.parametrize(("counts", "eta", "eps"), [(CIFAR10, 3.0, 0.6), (CIFAR100, 7.0, 0.6), (CIFAR100, 9.0, 0.2)])
def test_released_temperatures_have_the_factor_k(counts, eta, eps):
    balance = [eps * len(counts) * n / max(counts) + (1 - eps) for n in counts.tolist()]
    expected = [(max(balance) / b) ** (1 / eta) for b in balance]
    result = temperatures(torch.from_numpy(counts).double(), eta, eps, "released")
    np.testing.assert_allclose(result, expected, rtol=1e-12)
    k_left_out = temperatures(torch.from_numpy(counts).double(), eta, eps)
    assert not np.allclose(k_left_out, expected, rtol=1e-3)


def long_tail(classes, n_max, ratio):
    return torch.tensor([int(n_max * (1 / ratio) ** (k / (classes - 1))) for k in range(classes)]).float()


@pytest.mark.parametrize(
    ("classes", "n_max", "ratio", "eta", "vector"),
    [
        (100, 500, 200, 7.0, (1, 1.207683, 1.450087, 1.698677, 1.914796)),
        (100, 500, 100, 7.0, (1, 1.178594, 1.385596, 1.605153, 1.796527)),
        (100, 500, 50, 7.0, (1, 1.149903, 1.319349, 1.508371, 1.679863)),
        (100, 500, 10, 7.0, (1, 1.086102, 1.178594, 1.278123, 1.378051)),
        (10, 5000, 100, 3.0, (1, 1.358058, 1.949044, 2.243452, 2.405142)),
    ],
)
def test_released_temperatures_of_the_cifars(classes, n_max, ratio, eta, vector):
    result = temperatures(long_tail(classes, n_max, ratio), eta, 0.6, "released")
    places = [0, classes // 4, classes // 2, 3 * classes // 4, classes - 1]
    np.testing.assert_allclose(result[places], vector, rtol=3e-6)


@pytest.mark.parametrize(("eps", "as_printed"), [(0.3, 0.3 * 100 / (1 + 0.3 * 99)), (0.6, 60 / 60.4)])
def test_released_temperatures_are_those_of_the_paper_at_another_eps(eps, as_printed):
    """eps K : 1 - eps is eps' : 1 - eps' at eps' = eps K / (1 + eps (K - 1)), and a common factor cancels in (16)."""
    counts = torch.from_numpy(CIFAR100).double()
    torch.testing.assert_close(temperatures(counts, 7.0, eps, "released"), temperatures(counts, 7.0, as_printed))


@pytest.mark.parametrize(("eta", "eps"), [(7.0, 0.0), (math.inf, 0.6)])
def test_released_temperatures_are_one_at_eps_zero_and_eta_infinite(eta, eps):
    assert (temperatures(torch.from_numpy(CIFAR100).float(), eta, eps, "released") == 1).all()


# The temperatures by the prior of RIDE's code


@pytest.mark.parametrize(("counts", "eta", "eps"), [(CIFAR10, 3.0, 0.6), (CIFAR100, 7.0, 0.6), (CIFAR100, 9.0, 0.2)])
def test_temperatures_by_rides_prior_have_the_mean_class_for_the_largest(counts, eta, eps):
    total = sum(counts.tolist())
    balance = [eps * len(counts) * n / total + (1 - eps) for n in counts.tolist()]
    expected = [(max(balance) / b) ** (1 / eta) for b in balance]
    result = temperatures(torch.from_numpy(counts).double(), eta, eps, "ride")
    np.testing.assert_allclose(result, expected, rtol=1e-12)
    lower, upper = (temperatures(torch.from_numpy(counts).double(), eta, eps, form) for form in ("paper", "released"))
    assert (lower[1:] < result[1:]).all()
    assert (result[1:] < upper[1:]).all()


def test_the_rarest_class_of_cifar_lt_100_has_1_331_by_rides_prior():
    """Of 10,847 images 500 are of the largest class and 5 of the rarest: B is 3.1657417 and 0.4276574."""
    counts = torch.from_numpy(known_split("cifar100", 100.0, "exp", 0).counts).float()
    assert (counts.sum(), counts[0], counts[-1]) == (10_847, 500, 5)
    result = temperatures(counts, 7.0, 0.6, "ride")[[0, 25, 50, 75, 99]]
    np.testing.assert_allclose(result, (1, 1.140288, 1.249568, 1.308129, 1.331058), rtol=1e-6)


@pytest.mark.parametrize("eps", [0.05, 0.6, 1.0])
def test_temperatures_by_rides_prior_are_released_ones_at_another_eps(eps):
    """eps K N_max / sum N : 1 - eps is eps' K : 1 - eps' at eps' = eps m / (1 - eps (1 - m)), m = N_max / sum N."""
    counts = torch.from_numpy(CIFAR100).double()
    m = 500 / 10_847
    released = temperatures(counts, 7.0, eps * m / (1 - eps * (1 - m)), "released")
    torch.testing.assert_close(temperatures(counts, 7.0, eps, "ride"), released)
    at_the_same = temperatures(counts, 7.0, eps, "released")
    assert torch.allclose(released, at_the_same, rtol=1e-3) == (eps == 1)


@pytest.mark.parametrize(("eta", "eps"), [(7.0, 0.0), (math.inf, 0.6)])
def test_temperatures_by_rides_prior_are_one_at_eps_zero_and_eta_infinite(eta, eps):
    assert (temperatures(torch.from_numpy(CIFAR100).float(), eta, eps, "ride") == 1).all()


@pytest.mark.parametrize("formula", ["paper", "released", "ride"])
def test_temperatures_of_balanced_classes_are_one(formula):
    assert (temperatures(torch.full((7,), 30.0), 7.0, 0.6, formula) == 1).all()
    assert (temperatures(torch.tensor([30.0, 29.0]), 7.0, 0.6, formula) == 1).sum() == 1


# Loss and prediction, equations 17 to 20


def slow_cross_entropy(logits, targets, temperature):
    total = 0.0
    for z, y in zip(logits.tolist(), targets.tolist(), strict=True):
        scaled = [z_k / t_k for z_k, t_k in zip(z, temperature, strict=True)]
        norm = math.fsum(math.exp(s) for s in scaled)
        total += -math.fsum(y_k * math.log(math.exp(s) / norm) for y_k, s in zip(y, scaled, strict=True))
    return total / len(logits)


@pytest.mark.parametrize("temperature", [[1.0, 1.0, 1.0], [1.0, 1.2, 1.7]])
def test_cross_entropy_follows_17_to_19(temperature):
    logits, targets = double(6, 3) * 3, soft(6, 3)
    expected = slow_cross_entropy(logits, targets, temperature)
    assert float(soft_cross_entropy(logits, targets, torch.tensor(temperature).double())) == pytest.approx(expected)


def test_cross_entropy_of_hard_labels_is_torchs():
    logits, labels = double(6, 3), torch.tensor([0, 1, 2, 2, 1, 0])
    result = soft_cross_entropy(logits, torch.nn.functional.one_hot(labels).double())
    torch.testing.assert_close(result, torch.nn.functional.cross_entropy(logits, labels))


def test_cross_entropy_of_bf16_logits_is_computed_in_fp32():
    assert soft_cross_entropy(double(6, 3).bfloat16(), soft(6, 3).float()).dtype == torch.float32


# The released code's second sum


def slow_complement(logits, targets, temperature):
    rows = []
    for z, y in zip(logits.tolist(), targets.tolist(), strict=True):
        e = [math.exp(z_k / t_k) for z_k, t_k in zip(z, temperature, strict=True)]
        rest = [math.fsum(e[:k] + e[k + 1 :]) / math.fsum(e) for k in range(len(e))]
        rows.append(-math.fsum((1 - y_k) * math.log(r) for y_k, r in zip(y, rest, strict=True)))
    return rows


VECTOR = (
    torch.tensor([[2, -1, 0.5, 0], [0, 0, 0, 0], [10, -10, 3, 1]], dtype=torch.float64),
    torch.tensor([[0.7, 0, 0.3, 0], [0, 1, 0, 0], [0.5, 0.5, 0, 0]], dtype=torch.float64),
    torch.tensor([1, 1.2, 1.5, 1.8], dtype=torch.float64),
)


def test_the_released_loss_of_a_known_batch():
    logits, targets, t = VECTOR
    rows = [(logits[i : i + 1], targets[i : i + 1], t) for i in range(3)]
    first = [float(soft_cross_entropy(*row)) for row in rows]
    second = [float(complement_cross_entropy(*row)) for row in rows]
    assert first == pytest.approx([0.82427483, 1.38629436, 9.16708118], abs=1e-8)
    assert second == pytest.approx([0.63440166, 0.86304622, 3.89471813], abs=1e-8)
    whole = float(soft_cross_entropy(logits, targets, t) + complement_cross_entropy(logits, targets, t))
    assert whole == pytest.approx(5.589938793, abs=1e-9)
    assert float(soft_cross_entropy(logits, targets, t)) == pytest.approx(3.792550126, abs=1e-9)


@pytest.mark.parametrize("temperature", [[1.0, 1.0, 1.0, 1.0], [1.0, 1.2, 1.7, 2.4]])
def test_the_second_sum_and_its_gradient_follow_the_equation(temperature):
    logits, targets, t = (double(6, 4) * 4).requires_grad_(), soft(6, 4), torch.tensor(temperature, dtype=torch.float64)
    result = complement_cross_entropy(logits, targets, t)
    assert float(result.detach()) == pytest.approx(
        math.fsum(slow_complement(logits, targets, temperature)) / 6, rel=1e-12
    )
    (gradient,) = torch.autograd.grad(result, logits)
    for b, k in ((0, 0), (3, 2), (5, 1)):
        moved = [(logits.detach() + step * torch.eye(24).reshape(24, 6, 4)[4 * b + k]) for step in (1e-6, -1e-6)]
        up, down = (math.fsum(slow_complement(z, targets, temperature)) / 6 for z in moved)
        assert float(gradient[b, k]) == pytest.approx((up - down) / 2e-6, rel=1e-5, abs=1e-9)


def test_of_one_hot_targets_it_sums_over_the_wrong_classes():
    logits, labels = double(6, 4) * 2, torch.tensor([0, 1, 2, 3, 3, 0])
    targets = torch.nn.functional.one_hot(labels).double()
    p = torch.softmax(logits, dim=1)
    wrong = torch.stack([-torch.log(1 - p[b][targets[b] == 0]).sum() for b in range(6)]).mean()
    torch.testing.assert_close(complement_cross_entropy(logits, targets), wrong)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_log_one_minus_p_is_finite_where_p_is_one(dtype):
    logits = torch.tensor([[300.0, 0.0, -5.0], [0.0, 120.0, 120.0]], dtype=dtype).requires_grad_()
    assert torch.softmax(logits.float(), dim=1)[0, 0] == 1
    targets = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    result = complement_cross_entropy(logits, targets)
    (gradient,) = torch.autograd.grad(result, logits)
    assert result.dtype == torch.float32
    assert torch.isfinite(gradient).all()
    # row 1: p_1 = 1, log(1 - p_1) = -(300 - log(1 + e^-5)); row 2: both others have p = 1/2
    assert float(result.detach()) == pytest.approx((300 - math.log1p(math.exp(-5)) + 2 * math.log(2)) / 2, rel=1e-6)
    assert float(gradient[0, 0]) == pytest.approx(0.5, rel=1e-2)


def test_dividing_by_t_makes_the_tail_harder_to_satisfy():
    logits, tail = torch.zeros(1, 2), torch.tensor([[0.0, 1.0]])
    sure = torch.tensor([[0.0, 3.0]])
    scaled = torch.tensor([1.0, 2.0])
    assert soft_cross_entropy(sure, tail, scaled) > soft_cross_entropy(sure, tail)
    assert soft_cross_entropy(logits, tail, scaled) == soft_cross_entropy(logits, tail)


def test_total_loss_follows_19_and_prediction_20():
    assert float(branch_loss([torch.tensor(1.0), torch.tensor(4.0)])) == 0.5 * 1.0 + 0.5 * 4.0
    z_c, z_r = double(5, 3), double(5, 3, seed=1)
    torch.testing.assert_close(combine([z_c, z_r]), 0.5 * (z_c + z_r))
    assert float(branch_loss([torch.tensor(2.5)])) == 2.5
    torch.testing.assert_close(combine([z_c]), z_c)


# What rivals share


@pytest.mark.parametrize(
    ("counts", "beta", "first", "last"),
    [
        (CIFAR10, 0.9999, 0.050611, 3.992724),
        (CIFAR100, 0.9999, 0.044876, 4.378313),
        (CIFAR100, 0.9, 0.820194, 2.002866),
        (CIFAR10, 0.99, 0.783832, 1.984417),
        (CIFAR10, 1 - 1e-9, 0.0402365, 4.023650),  # close to 1 / N
    ],
)
def test_class_weights_by_the_effective_number_of_images(counts, beta, first, last):
    result = effective_weights(torch.tensor(counts.tolist()).float(), beta)
    slow = [(1 - beta) / (1 - beta ** int(n)) for n in counts]
    slow = [len(counts) * w / sum(slow) for w in slow]
    assert result.tolist() == pytest.approx(slow, rel=1e-5)
    assert (result[0].item(), result[-1].item()) == pytest.approx((first, last), abs=2e-6)


def test_beta_zero_gives_equal_weights():
    assert effective_weights(torch.tensor([9.0, 3.0, 1.0]), 0.0).tolist() == [1, 1, 1]


@pytest.mark.parametrize("epochs", [5, 10, 20, 60, 200, 300])
def test_weights_begin_with_the_epoch_at_the_switch(epochs):
    counts = torch.tensor([9.0, 1.0])
    weighted = [
        not torch.equal(deferred_weights(counts, 0.9, torch.tensor(e / epochs), 0.8), torch.ones(2))
        for e in range(epochs)
    ]
    assert weighted == [e >= epochs * 8 // 10 for e in range(epochs)]


def test_ldam_margins_fall_with_the_fourth_root_and_the_largest_is_as_given():
    result = ldam_margins(torch.tensor(CIFAR10.tolist()).float(), 0.5)
    assert result.tolist() == pytest.approx([0.5 * (50 / int(n)) ** 0.25 for n in CIFAR10], rel=1e-6)
    assert (result[0].item(), result[-1].item()) == pytest.approx((0.158114, 0.5), abs=1e-6)


def test_margins_lower_each_label_and_keep_their_precision():
    logits, margins = torch.zeros(2, 3, dtype=torch.bfloat16), torch.tensor([0.1, 0.2, 0.3])
    result = less_margins(logits, torch.tensor([2, 0]), margins)
    assert torch.equal(result, -torch.tensor([[0.0, 0.0, margins[2]], [margins[0], 0.0, 0.0]]))


def test_weighted_cross_entropy_is_divided_by_the_weights_and_not_by_the_batch():
    z, w = double(5, 4), torch.tensor([0.2, 0.5, 1.0, 3.0], dtype=torch.float64)
    labels = torch.tensor([0, 3, 3, 1, 2])
    y = torch.nn.functional.one_hot(labels, 4).double()
    total = sum(w[k] * -math.log(math.exp(z[b, k]) / sum(map(math.exp, z[b].tolist()))) for b, k in enumerate(labels))
    assert weighted_cross_entropy(z, y, w).item() == pytest.approx((total / w[labels].sum()).item(), rel=1e-12)
    torch.testing.assert_close(weighted_cross_entropy(z, y, w), torch.nn.functional.cross_entropy(z, labels, weight=w))
    mixed = 0.3 * y + 0.7 * y[[1, 2, 3, 4, 0]]
    parts = [-(w * mixed[b] * torch.log_softmax(z[b], 0)).sum() for b in range(5)]
    torch.testing.assert_close(weighted_cross_entropy(z, mixed, w), sum(parts) / (mixed @ w).sum())
    torch.testing.assert_close(weighted_cross_entropy(z, mixed, 7 * torch.ones(4)), soft_cross_entropy(z, mixed))
