"""Losses as pure functions of logits. Legend: B images of a batch, K classes; equations are DBN-Mix's."""

from collections.abc import Sequence

import torch
from torch import Tensor


def temperatures(counts: Tensor, eta: float, eps: float) -> Tensor:
    """Returns the temperature of every class, equations (15) and (16).

    B_k = eps N_k / N_max + (1 - eps);  T_k = (max(B) / B_k)^(1 / eta). The largest class has
    temperature 1, the others more.

    Args:
        counts: (K,) training images a class, floating point, each > 0.
        eta: > 0; infinity turns the scaling off (T = 1).
        eps: In [0, 1]; 0 turns the scaling off.

    Returns:
        (K,) temperatures >= 1, in the dtype of `counts`.
    """
    balance = eps * counts / counts.max() + (1 - eps)
    return (balance.max() / balance) ** (1 / eta)


def soft_cross_entropy(logits: Tensor, targets: Tensor, temperature: Tensor | float = 1.0) -> Tensor:
    """Returns the mean cross-entropy under the class temperatures, equations (17) and (18) and the L of (19).

    p = softmax(z / T);  L = -sum_k y_k log p_k, averaged over the batch.

    Args:
        logits: (B, K), floating point; computed in fp32 at least.
        targets: (B, K), rows sum to 1.
        temperature: (K,) of each class, or 1.

    Returns:
        A scalar.
    """
    if logits.dtype in (torch.bfloat16, torch.float16):
        logits = logits.float()
    return -(targets * torch.log_softmax(logits / temperature, dim=1)).sum(dim=1).mean()


def branch_loss(losses: Sequence[Tensor]) -> Tensor:
    """Returns the equally weighted loss of the branches, equation (19); of one branch, its own loss.

    Args:
        losses: One scalar per branch.
    """
    return torch.stack(list(losses)).mean()


def combine(logits: Sequence[Tensor]) -> Tensor:
    """Returns the mean of the branches' logits, equation (20); no temperature at test time (Sec. 3.4).

    Args:
        logits: One (B, K) per branch.

    Returns:
        (B, K).
    """
    return torch.stack(list(logits)).mean(dim=0)
