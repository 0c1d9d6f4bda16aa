"""Mixing images and labels, as pure functions; equations by number are those of DBN-Mix (Baik et al. 2024).

Legend: B images of a batch, K classes. Images x are (B, C, H, W), targets y (B, K). A ratio lam, in [0, 1], is () for
one per batch or (B,) for one per sample.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor


def draw_keys(rng: np.random.Generator, steps: int, batch: int) -> np.ndarray[Any, Any]:
    """Returns keys (steps, batch) whose order pairs each image of a batch with another of it, see `mixup_within`."""
    return rng.random((steps, batch))


def mixup_inputs(alpha: float) -> dict[str, Callable[[np.random.Generator, int, int], np.ndarray[Any, Any]]]:
    """Returns the random inputs of mixup (Zhang et al. 2018): one lambda a step, and the keys that make partners."""
    return {"lam": lambda rng, steps, batch: rng.beta(alpha, alpha, steps), "partner": draw_keys}


def mix(a: Tensor, b: Tensor, lam: Tensor) -> Tensor:
    """Returns lam a + (1 - lam) b, for a and b of one shape (B, ...): the combination in every equation below."""
    lam = lam.reshape(-1, *[1] * (a.ndim - 1)) if lam.ndim else lam
    return lam * a + (1 - lam) * b


def mixup(x_i: Tensor, y_i: Tensor, x_j: Tensor, y_j: Tensor, lam: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the mixed images and targets, equations (6) and (7); lam is the weight of i.

    With i from the uniform and j from the reverse sampler this is bilateral mixup for one branch, (22) and (23).
    """
    return mix(x_i, x_j, lam), mix(y_i, y_j, lam)


def mixup_within(x: Tensor, y: Tensor, keys: Tensor, lam: Tensor) -> tuple[Tensor, Tensor]:
    """Returns conventional mixup of a batch with a permutation of itself (Zhang et al. 2018), equations (5) to (7).

    Args:
        x: Images.
        y: Targets.
        keys: (B,); the image at the i-th smallest key is the partner of the i-th image.
        lam: The weight of the image itself.
    """
    partner = keys.argsort()
    return mixup(x, y, x[partner], y[partner], lam)


def bilateral_ratios(lam: Tensor) -> tuple[Tensor, Tensor]:
    """Returns lam_c = max(lam, 1 - lam) and lam_r = 1 - lam_c = min(lam, 1 - lam), equations (9) and (10)."""
    lam_c = lam.maximum(1 - lam)
    return lam_c, 1 - lam_c


def bilateral_mixup(
    x_c: Tensor, y_c: Tensor, x_r: Tensor, y_r: Tensor, lam: Tensor
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Returns (images, targets) of the conventional and of the re-balancing branch, equations (9) to (14).

    The conventional branch's sample is mostly the uniform one, the re-balancing branch's mostly the reverse one.

    Args:
        x_c: Images of the uniform sampler.
        y_c: Their targets.
        x_r: Images of the reverse sampler, the same shape.
        y_r: Their targets.
        lam: Drawn from Beta(alpha, alpha), equation (8).
    """
    lam_c, lam_r = bilateral_ratios(lam)
    return mixup(x_c, y_c, x_r, y_r, lam_c), mixup(x_c, y_c, x_r, y_r, lam_r)
