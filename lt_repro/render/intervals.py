"""Intervals and tests of a mean over seeds, by Student's t, and the correction for having made several tests."""

import math
import statistics
from collections.abc import Collection, Sequence


def mean_sd(values: Collection[float]) -> tuple[float | None, float | None]:
    """Returns the mean and the standard deviation (ddof 1); None without a value, and for the latter with only one."""
    mean = statistics.fmean(values) if values else None
    return mean, statistics.stdev(values) if len(values) > 1 else None


def quantile(n: int) -> float:
    """Returns t(.975, n-1), the quantile of Student's t for a two-sided 95 % interval of n values.

    Raises:
        ValueError: Fewer than two values.
    """
    from scipy.special import stdtrit

    if n < 2:
        raise ValueError(f"an interval needs at least 2 values, not {n}")
    return float(stdtrit(n - 1, 0.975))


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Returns the 95 % confidence interval of the mean as mean and half width, t(.975, n-1) sd / sqrt(n), ddof 1.

    Raises:
        ValueError: Fewer than two values.
    """
    t = quantile(len(values))
    return statistics.mean(values), t * statistics.stdev(values) / math.sqrt(len(values))


def one_more(values: Sequence[float]) -> tuple[float, float]:
    """Returns the 95 % prediction interval of one more value as mean and half width, t(.975, n-1) sd sqrt(1 + 1/n).

    Raises:
        ValueError: Fewer than two values.
    """
    t = quantile(len(values))
    return statistics.mean(values), t * statistics.stdev(values) * math.sqrt(1 + 1 / len(values))


def p_value(differences: Sequence[float]) -> float:
    """Returns the two-sided p value of a paired t test: how likely a mean so far from 0 is where the true mean is 0.

    Equal differences have no spread: then it is 0, or 1 where all of them are 0.

    Args:
        differences: One for each pair.

    Raises:
        ValueError: Fewer than two differences.
    """
    from scipy.special import stdtr

    n = len(differences)
    if n < 2:
        raise ValueError(f"a paired test needs at least 2 differences, not {n}")
    mean, sd = statistics.mean(differences), statistics.stdev(differences)
    if sd == 0:
        return 0.0 if mean else 1.0
    return float(2 * stdtr(n - 1, -abs(mean) / (sd / math.sqrt(n))))


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns p values adjusted for their number by Holm's step-down method (Scand. J. Statist. 6, 1979), in order.

    The smallest of m is multiplied by m, the next by m - 1, and so on; none gets less than a smaller one, or more
    than 1. Rejecting what is below 0.05 then errs anywhere among the m with a probability of at most 5 %.

    Args:
        p_values: Each from 0 to 1.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def values_needed(gap: float, half: float, n: int, most: int = 100) -> int | None:
    """Returns how many values give an interval of a smaller half width than `gap`, if their spread stays the same.

    Args:
        gap: The half width to be under.
        half: The half width of the interval of the `n` values there are.
        n: How many values there are, two or more.
        most: Where the search ends; then None is returned.
    """
    sd = half * math.sqrt(n) / quantile(n)
    return next((count for count in range(n + 1, most + 1) if quantile(count) * sd / math.sqrt(count) < gap), None)
