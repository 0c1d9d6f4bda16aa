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
