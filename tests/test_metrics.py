"""Accuracies, calibration and the learning rate against slow versions."""

import numpy as np
import pytest

from lt_repro.metrics import (
    accuracies,
    balanced_accuracy,
    calibration_error,
    confusion,
    per_class_accuracy,
    reliability,
)
from lt_repro.schedules import learning_rate


def test_accuracies_against_a_loop():
    rng = np.random.default_rng(0)
    labels, predicted = np.repeat(np.arange(5), 20), rng.integers(0, 5, 100)
    groups = {"many": np.array([0, 1]), "few": np.array([4])}
    result = accuracies(predicted, labels, groups)
    pairs = list(zip(predicted.tolist(), labels.tolist(), strict=True))
    assert result["all"] == sum(p == y for p, y in pairs) / 100
    assert result["many"] == pytest.approx(sum(p == y for p, y in pairs if y in (0, 1)) / 40)
    assert result["few"] == pytest.approx(sum(p == y for p, y in pairs if y == 4) / 20)
    assert "medium" not in result
    by_class = [sum(p == y for p, y in pairs if y == k) / 20 for k in range(5)]
    assert per_class_accuracy(predicted, labels, 5) == pytest.approx(by_class)


def test_confusion_against_a_loop():
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 3, 90), rng.integers(0, 4, 90)
    counts = confusion(predicted, labels, 4)
    pairs = list(zip(labels.tolist(), predicted.tolist(), strict=True))
    assert counts.tolist() == [[pairs.count((y, p)) for p in range(4)] for y in range(4)]


def test_balanced_accuracy_is_the_mean_over_the_classes_that_have_images():
    labels, predicted = np.array([0, 0, 0, 0, 1, 3]), np.array([0, 0, 0, 1, 1, 0])
    per_class = per_class_accuracy(predicted, labels, 4)
    assert per_class == [0.75, 1.0, None, 0.0]
    assert balanced_accuracy(per_class) == pytest.approx(1.75 / 3)


def slow_calibration_error(logits, labels, bins):
    total = 0.0
    rows = []
    for z, y in zip(logits, labels, strict=True):
        p = np.exp(z) / np.exp(z).sum()
        rows.append((p.max(), p.argmax() == y))
    for b in range(bins):
        inside = [(c, r) for c, r in rows if b / bins < c <= (b + 1) / bins]
        if inside:
            total += len(inside) / len(rows) * abs(np.mean([r for _, r in inside]) - np.mean([c for c, _ in inside]))
    return total


@pytest.mark.parametrize("bins", [15, 4])
def test_calibration_error_against_a_loop(bins):
    rng = np.random.default_rng(0)
    logits, labels = 3 * rng.normal(size=(500, 6)), rng.integers(0, 6, 500)
    result = reliability(logits, labels, bins)
    assert calibration_error(result) == pytest.approx(slow_calibration_error(logits, labels, bins))


@pytest.mark.parametrize("bins", [15, 4])
def test_bins_against_a_loop(bins):
    rng = np.random.default_rng(1)
    logits, labels = 3 * rng.normal(size=(300, 6)), rng.integers(0, 6, 300)
    result = reliability(logits, labels, bins)
    rows = [(np.exp(z) / np.exp(z).sum(), y) for z, y in zip(logits, labels, strict=True)]
    for b in range(bins):
        inside = [(p.max(), p.argmax() == y) for p, y in rows if b / bins < p.max() <= (b + 1) / bins]
        assert result.images[b] == len(inside)
        if inside:
            assert result.confidence[b] == pytest.approx(sum(p for p, _ in inside) / len(inside))
            assert result.accuracy[b] == pytest.approx(sum(right for _, right in inside) / len(inside))
    assert result.images.sum() == 300
    assert (np.isnan(result.confidence) == (result.images == 0)).all()
    assert result.images[0] == 0  # no confidence is below 1/6: an empty bin is NaN, not 0


def test_a_confidence_on_the_edge_of_a_bin_belongs_below_it():
    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.5, 0.5, 1e-300]]))
    assert reliability(logits, np.array([0, 2]), 4).images.tolist() == [0, 2, 0, 0]


def test_calibration_error_of_sure_predictions():
    logits = np.array([[1000.0, 0.0], [0.0, 1000.0]])
    assert calibration_error(reliability(logits, np.array([0, 1]))) == 0.0
    assert calibration_error(reliability(logits, np.array([1, 0]))) == 1.0
    assert reliability(logits, np.array([0, 1])).images.tolist() == [0] * 14 + [2]


PAPER = {"base": 0.1, "warmup": 0.025, "milestones": (0.6, 0.8), "factor": 0.1}


@pytest.mark.parametrize(
    ("epoch", "rate"),
    [(0, 0.01), (2, 0.05), (5, 0.1), (119, 0.1), (120, 0.01), (159, 0.01), (160, 0.001), (199, 0.001)],
)
def test_learning_rate_of_the_paper_at_the_middle_of_an_epoch(epoch, rate):
    assert learning_rate((epoch + 0.5) / 200, **PAPER) == pytest.approx(rate)


def test_learning_rate_crosses_every_milestone_in_ten_epochs_of_three_steps():
    rates = [learning_rate((step + 0.5) / 30, **PAPER) for step in range(30)]
    assert 0 < rates[0] < 0.1
    assert {round(rate, 6) for rate in rates[1:]} == {0.1, 0.01, 0.001}
    assert rates[17] > rates[18]
    assert rates[23] > rates[24]


def test_learning_rate_without_warmup_begins_at_the_base():
    assert learning_rate(0.0, base=0.1, warmup=0.0, milestones=(), factor=0.1) == 0.1
