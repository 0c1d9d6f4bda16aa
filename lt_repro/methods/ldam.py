"""LDAM: a margin for each class on cosine logits, with deferred re-weighting or re-sampling."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Literal, Self

from torch import Tensor

from lt_repro.fields import ABOVE_0
from lt_repro.losses import ldam_margins, less_margins
from lt_repro.methods.base import Batch, Departure, Method, Net, Sampled, StepContext
from lt_repro.methods.drw import (
    DEFERRED,
    INACTIVE,
    LDAM_DRW,
    SCHEDULE_DEPARTURE,
    SWITCH_DEPARTURE,
    deferred_draws,
    deferred_loss,
)
from lt_repro.nets.spec import NetSpec


@dataclass(frozen=True)
class Ldam(Method):
    """Label-distribution-aware margins: the rarer the class, the larger the margin (LDAM, LDAM-DRW, LDAM-DRS).

    Source:
        K. Cao, C. Wei, A. Gaidon, N. Arechiga, T. Ma, "Learning Imbalanced Datasets with Label-Distribution-Aware
        Margin Loss", NeurIPS 2019, and its public code.
    Equation:
        L = sum_b w_y CE(s (cos_b - m_y at y), y) / sum_b w_y, cos_bk the cosine of features and class vector k
        m_k = C / N_k^(1/4), C such that the rarest class has the margin `margin`
        "reweight": w_k = 1 before the switch, then ~ (1 - beta) / (1 - beta^N_k), with mean 1 over the classes
        "none", "resample": w_k = 1; "resample" draws class-balanced from the switch on
        prediction: s cos, without margin
    Reduces to:
        - margin = 0, rule = "none": cross-entropy of cosine logits; at scale = 1 of the cosines themselves.
        - before the switch, or switch = 1: the loss of rule = "none".
        - "reweight" at beta = 0: the loss of rule = "none".

    Args:
        margin: Of the rarest class, a difference of cosines, in [0, 2]; the authors take 0.5, on iNaturalist 0.3.
        scale: s, > 0.
        rule: What begins at the switch: nothing, class weights ("reweight"), or class-balanced draws ("resample").
        switch: Fraction of training at whose epoch it begins, in [0, 1].
        beta: Of the effective number of images, in [0, 0.999999]; 0 gives equal weights.
    """

    title = "LDAM"
    bounds = {"margin": (0.0, 2.0), "scale": (ABOVE_0, inf)} | DEFERRED

    presets = {"published": LDAM_DRW._replace(sets={**LDAM_DRW.sets, "margin": 0.5, "scale": 30.0})}

    departures = (
        Departure("Scale", paper="not said", code="s = 30 on cosines and margins alike", ours="the code's"),
        Departure(
            "Class weights",
            paper="1 / N_k",
            code="the effective number with beta = 0.9999, divided by the sum of the weights in the batch",
            ours="the code's",
        ),
        SWITCH_DEPARTURE,
        Departure(
            "Re-sampling",
            paper="class-balanced draws",
            code="its sampler is made after the loader and never used, so that all draws are uniform",
            ours="the paper's, N draws with replacement",
        ),
        SCHEDULE_DEPARTURE,
    )

    margin: float = 0.5
    scale: float = 30.0
    rule: Literal["none", "reweight", "resample"] = "reweight"
    switch: float = 0.8
    beta: float = 0.9999

    @classmethod
    def examples(cls) -> Sequence[Self]:
        """Returns the three rules, early enough that a short run sees them."""
        return cls(rule="none"), cls(switch=0.5), cls(rule="resample", switch=0.5)

    def net_spec(self, parent: NetSpec | None = None) -> NetSpec:
        return NetSpec(head="cosine", scale=self.scale)

    def samplers(self, progress: float) -> tuple[Sampled, ...]:
        return deferred_draws(self.rule == "resample", progress, self.switch)

    def loss(self, net: Net, batches: Mapping[str, Batch], ctx: StepContext) -> Tensor:
        """Returns L; the head's logits are s cos, so the margins are scaled as well."""
        ((images, labels),) = batches.values()
        margins = self.scale * ldam_margins(ctx.class_counts, self.margin)
        logits = less_margins(net(images)[0], labels, margins)
        return deferred_loss(logits, labels, ctx, self.rule, self.switch, self.beta)

    def inactive_fields(self) -> frozenset[str]:
        return INACTIVE[self.rule]
