"""Losses as pure functions of logits.

Legend: B images of a batch, K classes. Logits are (B, K), floating point, and losses are computed in fp32 or higher.
Targets are (B, K), each row sums to 1; labels are (B,) int64. `counts` is (K,), the training images per class, floating
point, each > 0; what has one value for each class is in its dtype.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, one_hot


def full_precision(logits: Tensor) -> Tensor:
    """Returns logits in fp32 or higher."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def log_softmax(logits: Tensor, temperature: Tensor | float = 1.0) -> Tensor:
    """Returns log softmax(z / T), (B, K), in fp32 or higher; T is (K,), one per class, or a number."""
    return torch.log_softmax(full_precision(logits) / temperature, dim=1)


def temperatures(
    counts: Tensor, eta: float, eps: float, formula: Literal["paper", "released", "ride"] = "paper"
) -> Tensor:
    """Returns the temperature of every class, (K,), >= 1: equations (15) and (16) of DBN-Mix (Baik et al. 2024).

    B_k = eps N_k / N_max + (1 - eps);  T_k = (max(B) / B_k)^(1 / eta). The largest class has
    temperature 1, the others more. The authors' released code has eps K N_k / N_max instead of eps N_k / N_max,
    RIDE's code (Wang et al. 2021) eps K N_k / sum N.

    Args:
        counts: See the legend.
        eta: > 0; infinity turns the scaling off (T = 1).
        eps: In [0, 1]; 0 turns the scaling off.
        formula: "paper" for (15) as printed, "released" for the factor K of the released code, "ride" for RIDE's prior.
    """
    factor = 1 if formula == "paper" else len(counts)
    whole = counts.sum() if formula == "ride" else counts.max()
    balance = eps * factor * counts / whole + (1 - eps)
    return (balance.max() / balance) ** (1 / eta)


def soft_cross_entropy(logits: Tensor, targets: Tensor, temperature: Tensor | float = 1.0) -> Tensor:
    """Returns the mean cross-entropy under class temperatures, DBN-Mix's equations (17) and (18) and the L of (19).

    p = softmax(z / T);  L = -sum_k y_k log p_k, averaged over the batch.

    Args:
        logits: See the legend.
        targets: Targets, or labels.
        temperature: (K,), one per class, or 1.
    """
    log_p = log_softmax(logits, temperature)
    return -(_one_hot(targets, log_p) * log_p).sum(dim=1).mean()


def complement_cross_entropy(logits: Tensor, targets: Tensor, temperature: Tensor | float = 1.0) -> Tensor:
    """Returns the mean cross-entropy of "not this class", the second sum in the loss of DBN-Mix's released code.

    p = softmax(z / T);  L = -sum_k (1 - y_k) log(1 - p_k), averaged over the batch. It is finite even if p_k
    rounds to 1: for the largest p, log(1 - p) is the log-sum-exp over the other classes minus that over all.

    Args:
        logits: See the legend.
        targets: See the legend.
        temperature: (K,), one per class, or 1.
    """
    log_p = log_softmax(logits, temperature)
    top = torch.zeros_like(log_p, dtype=torch.bool).scatter(1, log_p.argmax(dim=1, keepdim=True), True)
    others = log_p.masked_fill(top, -torch.inf)
    log_rest = torch.where(top, others.logsumexp(dim=1, keepdim=True), torch.log1p(-others.exp()))  # others: p <= 1/2
    return -((1 - targets) * log_rest).sum(dim=1).mean()


def weighted_cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Returns the cross-entropy under class weights, divided by the sum of the weights, not by the batch size.

    L = sum_b sum_k w_k y_bk (-log p_bk) / sum_b sum_k w_k y_bk. With one-hot targets this is the weighted mean of
    `torch.nn.functional.cross_entropy`, with equal weights the plain mean.

    Args:
        logits: See the legend.
        targets: Targets, or labels.
        weights: (K,), >= 0, with a positive one among the classes of the batch.
    """
    log_p = log_softmax(logits)
    weighted = weights * _one_hot(targets, log_p)
    return -(weighted * log_p).sum() / weighted.sum()


def _one_hot(targets: Tensor, like: Tensor) -> Tensor:
    return one_hot(targets, like.shape[1]).to(like.dtype) if targets.ndim == 1 else targets


def effective_weights(counts: Tensor, beta: float) -> Tensor:
    """Returns class weights by the effective number of images (Cui et al. 2019), (K,), scaled to a mean of 1.

    w_k ~ (1 - beta) / (1 - beta^N_k), beta in [0, 1). At 0 weights are equal; as beta goes to 1 they go to 1 / N_k.
    """
    if beta == 0:
        return torch.ones_like(counts)
    weights = -1 / torch.expm1(counts * math.log(beta))  # 1 - beta^N without cancellation
    return weights * (len(counts) / weights.sum())


def deferred_weights(counts: Tensor, beta: float, epoch_progress: Tensor, switch: float) -> Tensor:
    """Returns the class weights of deferred re-weighting (Cao et al. 2019): 1, then from the switch effective weights.

    Args:
        counts: See the legend.
        beta: In [0, 1).
        epoch_progress: (), the fraction of training that had passed when the epoch began.
        switch: The fraction of training from which on classes are weighted: 0.8 of 200 epochs is epoch 160, from 0.
    """
    weights = effective_weights(counts, beta)
    return torch.where(epoch_progress >= switch, weights, torch.ones_like(weights))


def ldam_margins(counts: Tensor, largest: float) -> Tensor:
    """Returns the margin of each class (K,), C / N_k^(1/4), the rarest class has the `largest` (Cao et al. 2019)."""
    return largest * (counts.min() / counts) ** 0.25


def less_margins(logits: Tensor, labels: Tensor, margins: Tensor) -> Tensor:
    """Returns logits less the margin of its class at each label, in the precision of the margins (K,) or higher."""
    return logits - margins * one_hot(labels, len(margins))


def branch_loss(losses: Sequence[Tensor]) -> Tensor:
    """Returns the mean of the branches' losses, one scalar each: equation (19) of DBN-Mix."""
    return torch.stack(list(losses)).mean()


def combine(logits: Sequence[Tensor]) -> Tensor:
    """Returns the mean (B, K) of the branches' logits, equation (20) of DBN-Mix: no temperature at test (Sec. 3.4)."""
    return torch.stack(list(logits)).mean(dim=0)


def focal_loss(logits: Tensor, labels: Tensor, gamma: float, form: Literal["sigmoid", "softmax"]) -> Tensor:
    """Returns each image's focal loss (B,) (Lin et al. 2017), over the sigmoids (Cui et al. 2019) or the softmax.

    "sigmoid": F = sum_k -(1 - p_k)^gamma log p_k, p_k = sigmoid(z_k) for the label's class, sigmoid(-z_k) for others.
    "softmax": F = -(1 - p)^gamma log p, p = softmax(z) at the label. (1 - p)^gamma is exp(gamma log(1 - p)), with
    log(1 - p) free of cancellation: no logit meets log 0, or the infinite slope of x^gamma at 0 for gamma < 1.

    Args:
        logits: See the legend; K >= 2.
        labels: See the legend.
        gamma: >= 0, finite; 0 gives cross-entropy, or the sum of binary cross-entropies.
        form: "sigmoid" or "softmax".
    """
    correct = one_hot(labels, logits.shape[1]).bool()
    if form == "sigmoid":
        logits = full_precision(logits)
        signed = torch.where(correct, logits, -logits)
        return -((gamma * logsigmoid(-signed)).exp() * logsigmoid(signed)).sum(dim=1)
    log_p = log_softmax(logits)
    log_rest = log_p.masked_fill(correct, -torch.inf).logsumexp(dim=1)
    return -(gamma * log_rest).exp() * log_p.gather(1, labels[:, None]).squeeze(1)


def cross_entropies(logits: Tensor, labels: Tensor) -> Tensor:
    """Returns the cross-entropy of each image, (B,): -log p at the label, p = softmax(z)."""
    return -log_softmax(logits).gather(1, labels[:, None]).squeeze(1)
