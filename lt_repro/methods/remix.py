"""Remix: mixup whose labels lean to the rarer class of a pair."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Literal, Self

import torch
from torch import Tensor

from lt_repro.fields import ABOVE_0
from lt_repro.methods.base import Batch, Departure, Method, Net, Preset, RandomInput, Sampled, StepContext
from lt_repro.methods.drw import DEFERRED, INACTIVE, deferred_draws, deferred_loss
from lt_repro.mixing import mix, mixup_inputs


@dataclass(frozen=True)
class Remix(Method):
    """Rebalanced mixup: images as in mixup, the label all of the rarer class where it has enough of the image.

    Source:
        H.-P. Chou, S.-C. Chang, J.-Y. Pan, W. Wei, D.-C. Juan, "Remix: Rebalanced Mixup", ECCV 2020 workshops.
    Equation:
        x = lam x_i + (1 - lam) x_j, y = lam_y y_i + (1 - lam_y) y_j; j a permutation of the batch
        lam_y = 0 if N_i / N_j >= kappa and lam < tau; 1 if N_i / N_j <= 1 / kappa and 1 - lam < tau; else lam
        lam ~ Beta(alpha, alpha), one for each batch; lam_y for each pair
        L = sum_b sum_k w_k y_bk (-log p_bk) / sum_b sum_k w_k y_bk
        "reweight": w_k = 1 before the switch, then ~ (1 - beta) / (1 - beta^N_k), with mean 1 over the classes
        "none", "resample": w_k = 1; "resample" draws class-balanced from the switch on
    Reduces to:
        - kappa = infinity, or tau = 0: with rule = "none" conventional mixup bit for bit, else deferred mixup.
        - before the switch, or switch = 1: the loss of rule = "none".
        - "reweight" at beta = 0: the loss of rule = "none".

    Args:
        alpha: Parameter of mixup's Beta distribution of lambda, > 0; the authors take 1, on iNaturalist 0.4.
        kappa: How many times as many images one class of a pair must have, >= 1, infinity allowed.
        tau: The share of the image below which the larger class loses its label, in [0, 1].
        rule: What begins at the switch: nothing, class weights ("reweight"), or class-balanced draws ("resample").
        switch: Fraction of training at whose epoch it begins, in [0, 1].
        beta: Of the effective number of images, in [0, 0.999999]; 0 gives equal weights.
    """

    title = "Remix"
    bounds = {"alpha": (ABOVE_0, 1e6), "kappa": (1.0, inf), "tau": (0.0, 1.0)} | DEFERRED

    presets = {
        "published": Preset(
            "the paper's settings for CIFAR; which epoch it reports is not said, and nor is a warm-up",
            {"epochs": 300, "batch": 128, "lr": 0.1, "weight_decay": 2e-4, "nesterov": False, "warmup": 0.0}
            | {"milestones": (150 / 300, 250 / 300), "lr_decay": 0.1, "switch": 250 / 300},
        )
    }

    departures = (
        Departure(
            "Code",
            paper="names none",
            code="none of the authors'; that of BagofTricks-LT averages the cross-entropy over the batch before it "
            "multiplies by lam_y, so that the label rule parts from its pair",
            ours="the paper's rule, pair by pair",
        ),
        Departure(
            "Class weights on mixed labels",
            paper="not said",
            code="none of the authors'; that of imbalanced-DL weighs each label of a pair by its class and divides "
            "by the batch size",
            ours="the same weights, divided by their sum over the batch, as deferred re-weighting does without mixing",
        ),
        Departure(
            "Switch and schedule",
            paper="300 epochs, the rate x0.1 at 150 and 250, the rule from 250 on, no warm-up named",
            code="none",
            ours='the shared schedule and 0.8 of training; preset "published" has the paper\'s',
        ),
        Departure(
            "Both conditions",
            paper="not said what holds where both do",
            code="none",
            ours="the first; both can hold only if kappa = 1 and tau > 1/2",
        ),
    )

    alpha: float = 1.0
    kappa: float = 3.0
    tau: float = 0.5
    rule: Literal["none", "reweight", "resample"] = "reweight"
    switch: float = 0.8
    beta: float = 0.9999

    @classmethod
    def examples(cls) -> Sequence[Self]:
        return cls(rule="none"), cls(switch=0.5), cls(rule="resample", switch=0.5)

    def samplers(self, progress: float) -> tuple[Sampled, ...]:
        return deferred_draws(self.rule == "resample", progress, self.switch)

    @property
    def random_inputs(self) -> Mapping[str, RandomInput]:
        return mixup_inputs(self.alpha)

    def loss(self, net: Net, batches: Mapping[str, Batch], ctx: StepContext) -> Tensor:
        ((images, labels),) = batches.values()
        lam, partner = ctx.random["lam"], ctx.random["partner"].argsort()
        targets = ctx.targets(labels)
        sizes = ctx.class_counts[labels]
        lam_y = label_ratios(sizes, sizes[partner], lam, self.kappa, self.tau)
        targets = mix(targets, targets[partner], lam_y)
        (logits,) = net(mix(images, images[partner], lam))
        return deferred_loss(logits, targets, ctx, self.rule, self.switch, self.beta)

    def inactive_fields(self) -> frozenset[str]:
        return INACTIVE[self.rule] | ({"tau"} if self.kappa == inf else set()) | ({"kappa"} if self.tau == 0 else set())


def label_ratios(sizes_i: Tensor, sizes_j: Tensor, lam: Tensor, kappa: float, tau: float) -> Tensor:
    """Returns lam_y, the weight of the label of i in each pair.

    Args:
        sizes_i: (B,) training images of the class of i, floating point, each > 0.
        sizes_j: (B,) of the class of j.
        lam: () or (B,), the weight of the image of i, in [0, 1].
        kappa: >= 1; infinity gives `lam`.
        tau: In [0, 1]; 0 gives `lam`.

    Returns:
        (B,), each 0, 1 or lam.
    """
    # Products of whole numbers, so that N_i = kappa N_j is met exactly.
    leans_to_i = (kappa * sizes_i <= sizes_j) & (1 - lam < tau)
    leans_to_j = (sizes_i >= kappa * sizes_j) & (lam < tau)
    return torch.where(leans_to_j, 0.0, torch.where(leans_to_i, 1.0, lam))
