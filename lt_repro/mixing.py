"""Mixing images and labels, as pure functions. Legend: B images, K classes; equations are DBN-Mix's."""

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor


def draw_lam(rng: np.random.Generator, alpha: float, size: int | tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Returns mixing ratios drawn from Beta(alpha, alpha), equations (5), (8) and (21).

    Args:
        rng: The stream's generator.
        alpha: > 0.
        size: The shape of the result.
    """
    return rng.beta(alpha, alpha, size=size)


def draw_keys(rng: np.random.Generator, steps: int, batch: int) -> np.ndarray[Any, Any]:
    """Returns keys (steps, batch) whose order pairs each image of a batch with another one of it, see `mixup_within`.

    Args:
        rng: The stream's generator.
        steps: Of an epoch.
        batch: Images of a step.
    """
    return rng.random((steps, batch))


def mixup_inputs(alpha: float) -> dict[str, Callable[[np.random.Generator, int, int], np.ndarray[Any, Any]]]:
    """Returns the random inputs of conventional mixup: one lambda a step, and the keys that make partners.

    Args:
        alpha: Of Beta(alpha, alpha), > 0.
    """
    return {"lam": lambda rng, steps, batch: draw_lam(rng, alpha, steps), "partner": draw_keys}


def mix(a: Tensor, b: Tensor, lam: Tensor) -> Tensor:
    """Returns lam a + (1 - lam) b, the convex combination in every equation below.

    Args:
        a: (B, ...).
        b: The same shape as `a`.
        lam: () for one ratio per batch or (B,) for one per sample, in [0, 1].
    """
    lam = lam.reshape(-1, *[1] * (a.ndim - 1)) if lam.ndim else lam
    return lam * a + (1 - lam) * b


def mixup(x_i: Tensor, y_i: Tensor, x_j: Tensor, y_j: Tensor, lam: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the mixed images and targets, equations (6) and (7).

    With i from the uniform and j from the reverse sampler this is bilateral mixup for one branch, (22) and (23).

    Args:
        x_i: (B, C, H, W) images.
        y_i: (B, K) targets.
        x_j: Images of the same shape.
        y_j: Targets of the same shape.
        lam: () or (B,), the weight of i.

    Returns:
        x (B, C, H, W) and y (B, K).
    """
    return mix(x_i, x_j, lam), mix(y_i, y_j, lam)


def mixup_within(x: Tensor, y: Tensor, keys: Tensor, lam: Tensor) -> tuple[Tensor, Tensor]:
    """Returns conventional mixup of a batch with a permutation of itself, equations (5) to (7).

    Args:
        x: (B, C, H, W) images.
        y: (B, K) targets.
        keys: (B,); the image at the i-th smallest key is the partner of the i-th image.
        lam: () or (B,), the weight of the image itself.

    Returns:
        x (B, C, H, W) and y (B, K).
    """
    partner = keys.argsort()
    return mixup(x, y, x[partner], y[partner], lam)


def bilateral_ratios(lam: Tensor) -> tuple[Tensor, Tensor]:
    """Returns lam_c = max(lam, 1 - lam) and lam_r = 1 - lam_c = min(lam, 1 - lam), equations (9) and (10).

    Args:
        lam: () or (B,), in [0, 1].
    """
    lam_c = lam.maximum(1 - lam)
    return lam_c, 1 - lam_c


def bilateral_mixup(
    x_c: Tensor, y_c: Tensor, x_r: Tensor, y_r: Tensor, lam: Tensor
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Returns the complementary pair that trains the two branches, equations (9) to (14).

    The conventional branch's sample is mostly the uniform one, the re-balancing branch's mostly the reverse one.

    Args:
        x_c: (B, C, H, W) images of the uniform sampler.
        y_c: (B, K) targets of `x_c`.
        x_r: Images of the reverse sampler, the same shape.
        y_r: Targets of `x_r`, the same shape as `y_c`.
        lam: () or (B,), drawn from Beta(alpha, alpha), equation (8).

    Returns:
        (images, targets) for the conventional and for the re-balancing branch.
    """
    lam_c, lam_r = bilateral_ratios(lam)
    return mixup(x_c, y_c, x_r, y_r, lam_c), mixup(x_c, y_c, x_r, y_r, lam_r)
