"""RIDE: several narrow experts above a shared trunk, kept apart by a divergence; with or without a teacher."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Literal, Self

import torch
from torch import Tensor

from lt_repro.fields import ABOVE_0
from lt_repro.losses import (
    combine,
    deferred_weights,
    full_precision,
    ldam_margins,
    less_margins,
    weighted_cross_entropy,
)
from lt_repro.methods.base import Batch, Departure, Method, Net, ParentRole, Preset, StepContext
from lt_repro.methods.drw import DEFERRED
from lt_repro.nets.spec import NetSpec

DISTILL_TEMPERATURE = 1.5
_PUBLISHED: dict[str, Any] = {"epochs": 200, "batch": 128, "lr": 0.1, "weight_decay": 5e-4, "warmup": 0.025}
_PUBLISHED |= {"nesterov": True, "milestones": (0.8, 0.9), "lr_decay": 0.01, "rotation": 15.0}


@dataclass(frozen=True)
class Ride(Method):
    """Routing diverse distribution-aware experts, the first stage: experts that see the same images and must differ.

    Source:
        X. Wang, L. Lian, Z. Miao, Z. Liu, S. X. Yu, "Long-tailed Recognition by Routing Diverse Distribution-Aware
        Experts", ICLR 2021, and its public code.
    Equation:
        L = sum_i [ LDAM(z_i, y) + diversity mean(T)^2 KL(softmax(zbar / T) || softmax(z_i / T)) ]
        zbar: the mean of the experts' logits, without gradient in the divergence
        LDAM = sum_b w_y CE(z - scale m_y at y, y) / sum_b w_y, z = scale cos, m_k = margin (N_min / N_k)^(1/4)
        w_k ~ (1 - beta) / (1 - beta^N_k), mean 1, from the switch on; before that 1
        T_k = b_k / max b, b_k = prior_weight K N_k / N + 1 - prior_weight, from the switch on; before that 1
        with a teacher: L + distill 1.5^2 KL(softmax(zbar_teacher / 1.5) || softmax(zbar / 1.5))
        prediction: zbar
    Reduces to:
        - one expert: LDAM with deferred re-weighting.
        - diversity = 0: the sum of the experts' LDAM losses.
        - identical experts: LDAM of one expert times their number; the divergence is 0.
        - before the switch: T = 1 and equal weights; so always at switch = 1, beta = 0 and prior_weight = 0.
        - margin = 0, beta = 0, diversity = 0: the sum of the experts' cross-entropies.

    Args:
        experts: How many; 1 is a plain network of full width, 6 a teacher.
        diversity: Factor of the divergence, at most 0; the lower, the more the experts are pushed apart.
        prior_weight: How far the temperatures of the divergence follow the class sizes, in [0, 1].
        margin: Of the rarest class, a difference of cosines, in [0, 2].
        scale: Of the cosines, > 0.
        beta: Of the effective number of images, in [0, 0.999999]; 0 gives equal weights.
        switch: Fraction of training at whose epoch class weights and temperatures begin, in [0, 1].
        distill: Factor of the divergence from a teacher's prediction, >= 0, above 0 where there is a teacher; then 1.
    """

    title = "RIDE"
    bounds = (
        DEFERRED
        | {"diversity": (-100.0, 0.0), "prior_weight": (0.0, 1.0), "margin": (0.0, 2.0)}
        | {"scale": (ABOVE_0, inf), "distill": (0.0, 100.0)}
    )
    first_stage = "ride"

    presets = {
        "published": Preset(
            "github.com/frank-xwang/RIDE-LongTailRecognition at commit ab8be5c, CIFAR-100-LT (100); it keeps the best "
            "epoch on the test images, and with a teacher its warm-up is 0.1",
            _PUBLISHED,
            parent=_PUBLISHED | {"experts": 6},
        )
    }

    departures = (
        Departure(
            "Divergence",
            paper="from each of the other experts, averaged",
            code="from the mean of all experts' logits, with a further factor mean(T)^2",
            ours="the code's",
        ),
        Departure(
            "Temperatures",
            paper="shifted, b_k + 1 - max b",
            code="divided, b_k / max b; 1 for all classes until the switch",
            ours="the code's",
        ),
        Departure(
            "No diversity",
            paper="not said",
            code="diversity = 0 silently trains the mean of the logits instead of each expert",
            ours="each expert keeps its loss",
        ),
        Departure(
            "Sign of the divergence",
            paper="experts are pushed apart",
            code="its first release pulled them together at +0.2; later it pushes at -0.45",
            ours="at most 0, -0.45",
        ),
        Departure(
            "Sum over experts",
            paper="each expert has its loss",
            code="a sum, so that gradients of the trunk grow with the number of experts",
            ours="the code's",
        ),
        Departure(
            "Width",
            paper="experts have fewer filters",
            code="on CIFAR they part before layer2 and have 24 and 48 channels instead of 32 and 64",
            ours="the code's; a single expert has 32 and 64",
        ),
        Departure(
            "Recipe",
            paper="weight decay 2e-4, the rate drops at 120 and 160 of 200 epochs",
            code="5e-4, Nesterov's momentum, x0.01 at 160 and 180, images turned by up to 15 degrees, which no "
            "other method's are",
            ours='the recipe of every method here; the preset "published" has the code\'s',
        ),
        Departure(
            "Distillation",
            paper="from a teacher of six experts",
            code="repeats the whole loss for each expert, which multiplies it by their number; its teacher stays "
            "in training mode, under the batch's statistics",
            ours="the loss once, from a teacher in evaluation mode",
        ),
        Departure(
            "Routing",
            paper="an expert assignment module, trained in a second stage, saves experts at test time",
            code="as the paper",
            ours="the method ride_routing; here every image is seen by all experts",
        ),
        Departure(
            "Expert counts and data sets",
            paper="CIFAR-100-LT (100)",
            code="no configuration for CIFAR-10",
            ours="the values of CIFAR-100-LT (100) everywhere",
        ),
    )

    experts: Literal[1, 2, 3, 4, 6] = 3
    diversity: float = -0.45
    prior_weight: float = 0.05
    margin: float = 0.5
    scale: float = 30.0
    beta: float = 0.9999
    switch: float = 0.8
    distill: float = 0.0

    @classmethod
    def examples(cls) -> Sequence[Self]:
        counts = (cls(experts, switch=0.5) for experts in (3, 2, 4))
        return *counts, cls(1, beta=0.9, switch=0.5), cls(2, switch=0.5, distill=1.0)

    @classmethod
    def with_parent(cls, spec: NetSpec) -> Mapping[str, Any]:
        return {"distill": 1.0}

    @property
    def parents(self) -> tuple[ParentRole, ...]:
        return ("teacher",) if self.distill else ()

    def net_spec(self, parent: NetSpec | None = None) -> NetSpec:
        """Returns narrow experts split before layer2, each under a cosine head; one expert is of full width."""
        if self.experts == 1:
            return NetSpec(head="cosine", scale=self.scale)
        names = tuple(f"expert_{number}" for number in range(1, self.experts + 1))
        return NetSpec(names, "layer2", "cosine", widths=(16, 24, 48), scale=self.scale)

    def loss(self, net: Net, batches: Mapping[str, Batch], ctx: StepContext) -> Tensor:
        """Returns L; logs the mean divergence of the experts from their mean."""
        images, labels = batches["uniform"]
        counts = ctx.class_counts
        margins = self.scale * ldam_margins(counts, self.margin)
        weights = deferred_weights(counts, self.beta, ctx.epoch_progress, self.switch)
        temperature = class_temperatures(counts, self.prior_weight, ctx.epoch_progress, self.switch)
        experts = [full_precision(logits) for logits in net(images)]
        mean = combine(experts)
        lowered = [less_margins(logits, labels, margins) for logits in experts]
        fits = torch.stack([weighted_cross_entropy(logits, labels, weights) for logits in lowered])
        divergences = torch.stack([divergence(mean, logits, temperature) for logits in experts])
        ctx.log("divergence", divergences.mean())
        total = fits.sum() + self.diversity * temperature.mean() ** 2 * divergences.sum()
        if self.distill:
            teacher = combine([full_precision(logits) for logits in ctx.teachers["teacher"](images)])
            total = total + self.distill * DISTILL_TEMPERATURE**2 * divergence(teacher, mean, DISTILL_TEMPERATURE)
        return total

    def inactive_fields(self) -> frozenset[str]:
        inactive = {"diversity", "prior_weight"} if self.experts == 1 else set[str]()
        return frozenset(inactive if self.diversity else inactive | {"prior_weight"})


def class_temperatures(counts: Tensor, prior_weight: float, epoch_progress: Tensor, switch: float) -> Tensor:
    """Returns the temperatures of the divergence: 1, then from the switch T_k = b_k / max b, at most 1.

    b_k = prior_weight K N_k / N + 1 - prior_weight.

    Args:
        counts: (K,) training images per class, floating point, each > 0.
        prior_weight: In [0, 1]; 0 gives 1 for every class.
        epoch_progress: (), the fraction of training that had passed when the epoch began.
        switch: The fraction of training from which on classes have their temperatures.

    Returns:
        (K,) temperatures in (0, 1].
    """
    balance = prior_weight * len(counts) * counts / counts.sum() + 1 - prior_weight
    return torch.where(epoch_progress >= switch, balance / balance.max(), torch.ones_like(balance))


def divergence(target: Tensor, logits: Tensor, temperature: Tensor | float) -> Tensor:
    """Returns KL(softmax(target / T) || softmax(logits / T)), averaged over the batch, no gradient into the target.

    Args:
        target: (B, K) logits.
        logits: (B, K).
        temperature: (K,), one per class, or a number.

    Returns:
        A scalar.
    """
    log_p = torch.log_softmax(target.detach() / temperature, dim=1)
    log_q = torch.log_softmax(logits / temperature, dim=1)
    return (log_p.exp() * (log_p - log_q)).sum(dim=1).mean()
