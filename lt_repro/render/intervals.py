"""Confidence intervals of a mean over seeds, by Student's t."""

import math
import statistics
from collections.abc import Sequence


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
