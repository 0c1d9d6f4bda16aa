"""Paired tests and Holm's correction against slow versions written from their definitions, and against scipy.stats."""

import math

import numpy as np
import pytest
from scipy import stats

from lt_repro.render.intervals import holm, interval, one_more, p_value

SAMPLES = [
    (0.1, 0.4),
    (-0.2, 0.01),
    (0.05, 0.06, 0.07),
    (-0.04, -0.05, 0.06),
    (0.01, 0.02, -0.03, 0.0),
    tuple(np.random.default_rng(0).normal(0.02, 0.05, 12)),
]


def tail(t, df, steps=100_000):
    """Twice the area of Student's t beyond |t|, by x = sqrt(df) tan(angle), where its density is cos(angle)^(df-1)."""

    def area(begin, end):
        width = (end - begin) / steps
        return width * math.fsum(math.cos(begin + (i + 0.5) * width) ** (df - 1) for i in range(steps))

    return 2 * area(math.atan(abs(t) / math.sqrt(df)), math.pi / 2) / area(-math.pi / 2, math.pi / 2)


def rejected(p_values, level):
    """Which hypotheses Holm's step-down method rejects: smallest first, each at level / (those that are left)."""
    left, out = list(range(len(p_values))), set()
    while left:
        smallest = min(left, key=lambda i: p_values[i])
        if p_values[smallest] > level / len(left):
            break
        out.add(smallest)
        left.remove(smallest)
    return out


@pytest.mark.parametrize("values", SAMPLES, ids=len)
def test_p_value_is_the_area_beyond_t(values):
    n = len(values)
    mean = sum(values) / n
    sd = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1))
    assert p_value(values) == pytest.approx(tail(mean / (sd / math.sqrt(n)), n - 1), rel=1e-6)


@pytest.mark.parametrize("values", SAMPLES, ids=len)
def test_p_value_is_that_of_scipy_of_either_sign_and_in_any_order(values):
    before = np.linspace(0.3, 0.4, len(values))
    assert p_value(values) == pytest.approx(stats.ttest_rel(before + values, before).pvalue, rel=1e-9)
    assert p_value([-value for value in reversed(values)]) == pytest.approx(p_value(values), rel=1e-12)


@pytest.mark.parametrize("values", SAMPLES, ids=len)
def test_p_value_is_below_5_percent_exactly_where_the_interval_excludes_0(values):
    mean, half = interval(values)
    for share in (0.5, 0.999, 1.001, 2.0):  # the same spread around a mean of so many half widths
        moved = [value - mean + share * half for value in values]
        assert (p_value(moved) < 0.05) == (share > 1)


def test_p_value_without_spread_and_of_too_few():
    assert p_value([0.25, 0.25, 0.25]) == p_value([-0.5, -0.5]) == 0.0
    assert p_value([0.0, 0.0]) == p_value([0.0] * 5) == 1.0
    assert p_value([-0.25, 0.25]) == 1.0
    for values in ([], [0.1]):
        with pytest.raises(ValueError, match=f"at least 2 differences, not {len(values)}"):
            p_value(values)


def test_one_more_holds_95_percent_of_further_values():
    draws = np.random.default_rng(1).normal(0.5, 0.1, (20_000, 4))
    inside = [abs(further - mean) <= half for *seen, further in draws for mean, half in [one_more(seen)]]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.005)  # three standard errors
    assert one_more([0.1, 0.1]) == (0.1, 0.0)
    with pytest.raises(ValueError, match="at least 2 values"):
        one_more([0.5])


@pytest.mark.parametrize("count", [1, 2, 3, 4, 8, 24])
def test_holm_rejects_what_the_step_down_method_rejects(count):
    rng = np.random.default_rng(count)
    for _ in range(50):
        p_values = [round(float(p), 2) for p in rng.random(count) ** 3]  # with ties, zeros and small ones
        adjusted = holm(p_values)
        for level in {*np.linspace(0.0101, 0.9901, 40), *(p + 1e-9 for p in adjusted), *(p - 1e-9 for p in adjusted)}:
            assert {i for i, p in enumerate(adjusted) if p <= level} == rejected(p_values, level) or level >= 1
        assert all(p <= q <= 1 for p, q in zip(p_values, adjusted, strict=True))
        order = sorted(range(count), key=lambda i: p_values[i])
        assert [adjusted[i] for i in order] == sorted(adjusted)
        assert all(adjusted[i] == adjusted[j] for i in order for j in order if p_values[i] == p_values[j])
        assert holm(p_values[::-1]) == adjusted[::-1]


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # Holm's method, worked out
    assert holm([0.02, 0.021]) == pytest.approx([0.04, 0.04])  # no p value gets less than a smaller one
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.03]) == [0.03]
    assert holm([]) == []
