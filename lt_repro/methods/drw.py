"""Deferred re-weighting and re-sampling: plain training first, balanced classes from a point of training on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from torch import Tensor

from lt_repro.data.samplers import ClassBalanced, Uniform
from lt_repro.fields import ABOVE_0
from lt_repro.losses import deferred_weights, soft_cross_entropy, weighted_cross_entropy
from lt_repro.methods.base import Batch, Departure, Method, Net, Preset, RandomInput, Sampled, StepContext
from lt_repro.mixing import mixup_inputs

DEFERRED = {"switch": (0.0, 1.0), "beta": (0.0, 0.999999)}
"""The bounds of class weights by the effective number that begin at a fraction of training."""

INACTIVE = {"none": frozenset({"switch", "beta"}), "resample": frozenset({"beta"}), "reweight": frozenset[str]()}
"""The fields without effect under each rule of what begins at the switch."""

LDAM_RECIPE: dict[str, Any] = {"epochs": 200, "batch": 128, "lr": 0.1, "weight_decay": 2e-4, "nesterov": False}
LDAM_RECIPE |= {"warmup": 0.025, "milestones": (0.8, 0.9), "lr_decay": 0.01, "crop_pad": "zero"}
"""What LDAM's code, and that of methods made from it, sets in the recipe."""

LDAM_DRW = Preset(
    "github.com/kaidic/LDAM-DRW at commit 2536330; it reports the best epoch on the test images",
    LDAM_RECIPE | {"switch": 0.8, "beta": 0.9999},
)
SWITCH_DEPARTURE = Departure(
    "Switch",
    paper="the last drop of the rate",
    code="epoch 160 of 200, counted from 0, the first drop of two",
    ours="0.8 of training, epoch 160 of 200, which is the last drop of the shared schedule",
)
SCHEDULE_DEPARTURE = Departure(
    "Schedule",
    paper="warm-up over 5 of 200 epochs, the rate x0.01 at 160 and again at 180",
    code="the same, the warm-up in steps of an epoch",
    ours='the shared schedule; preset "published" has the code\'s, the warm-up rising with every step',
)


@dataclass(frozen=True)
class Drw(Method):
    """Cross-entropy, then with class weights (CE-DRW) or class-balanced draws (CE-DRS); with or without mixup.

    Source:
        K. Cao, C. Wei, A. Gaidon, N. Arechiga, T. Ma, "Learning Imbalanced Datasets with Label-Distribution-Aware
        Margin Loss", NeurIPS 2019, Algorithm 1, and its public code.
    Equation:
        L = sum_b sum_k w_k y_bk (-log p_bk) / sum_b sum_k w_k y_bk
        "reweight": w_k = 1 before the switch, then ~ (1 - beta) / (1 - beta^N_k), with mean 1 over the classes
        "resample": w_k = 1; draws are uniform before the switch, then a class uniformly and one of its images
        mix = "mixup": x = lam x_i + (1 - lam) x_j, likewise y; j a permutation of the batch, lam ~ Beta(alpha, alpha)
    Reduces to:
        - before the switch, or switch = 1: cross-entropy on uniform draws.
        - "reweight" at beta = 0: cross-entropy.
        - "resample" at switch = 0: cross-entropy on class-balanced draws.
        - mixup at lam = 1: without mixup; before the switch: conventional mixup.

    Args:
        rule: What begins at the switch: class weights ("reweight") or class-balanced draws ("resample").
        switch: Fraction of training at whose epoch it begins, in [0, 1].
        beta: Of the effective number of images, in [0, 0.999999]; 0 gives equal weights.
        mix: "none", or "mixup" within the batch.
        alpha: Parameter of the Beta distribution that mixup draws lambda from, > 0.
    """

    title = "CE-DRW / CE-DRS"
    bounds = {"alpha": (ABOVE_0, 1e6)} | DEFERRED

    presets = {"published": LDAM_DRW}

    departures = (
        Departure(
            "Class weights",
            paper="1 / N_k",
            code="the effective number with beta = 0.9999, divided by the sum of the weights in the batch",
            ours="the code's. BBN's code has beta = 0.999999, nearly 1 / N_k",
        ),
        SWITCH_DEPARTURE,
        Departure(
            "Re-sampling",
            paper="class-balanced draws",
            code="its sampler is made after the loader and never used, so that all draws are uniform; it would "
            "draw by effective numbers",
            ours="the paper's, N draws with replacement",
        ),
        SCHEDULE_DEPARTURE,
        Departure(
            "Mixup",
            paper="none",
            code="none",
            ours='`mix` = "mixup", the control that Remix needs; the class weights apply to both labels of a pair',
        ),
    )

    rule: Literal["reweight", "resample"] = "reweight"
    switch: float = 0.8
    beta: float = 0.9999
    mix: Literal["none", "mixup"] = "none"
    alpha: float = 1.0

    @classmethod
    def examples(cls) -> Sequence[Self]:
        return cls(switch=0.5), cls("resample", 0.5), cls(switch=0.5, mix="mixup")

    def samplers(self, progress: float) -> tuple[Sampled, ...]:
        return deferred_draws(self.rule == "resample", progress, self.switch)

    @property
    def random_inputs(self) -> Mapping[str, RandomInput]:
        return {} if self.mix == "none" else mixup_inputs(self.alpha)

    def loss(self, net: Net, batches: Mapping[str, Batch], ctx: StepContext) -> Tensor:
        (batch,) = batches.values()
        images, targets = ctx.mixed(batch, self.mix)
        return deferred_loss(net(images)[0], targets, ctx, self.rule, self.switch, self.beta)

    def inactive_fields(self) -> frozenset[str]:
        return INACTIVE[self.rule] | ({"alpha"} if self.mix == "none" else set())


def deferred_draws(resample: bool, progress: float, switch: float) -> tuple[Sampled, ...]:
    """Returns the batch of deferred re-sampling: uniform, class-balanced from the switch on.

    Args:
        resample: Whether the method re-samples at all.
        progress: The fraction of training that has passed.
        switch: The fraction of training from which on draws are class-balanced: 0.8 of 200 epochs is epoch 160, from 0.
    """
    if resample and progress >= switch:
        return (Sampled("balanced", ClassBalanced()),)
    return (Sampled("uniform", Uniform()),)


def deferred_loss(logits: Tensor, targets: Tensor, ctx: StepContext, rule: str, switch: float, beta: float) -> Tensor:
    """Returns the mean cross-entropy, under the weights of `deferred_weights` if the rule is "reweight".

    Args:
        logits: (B, K).
        targets: (B, K), or labels (B,).
        ctx: Of the step.
        rule: "reweight", or another, which weighs no class.
        switch: As in `deferred_weights`.
        beta: As in `deferred_weights`.
    """
    if rule != "reweight":
        return soft_cross_entropy(logits, targets)
    weights = deferred_weights(ctx.class_counts, beta, ctx.epoch_progress, switch)
    return weighted_cross_entropy(logits, targets, weights)
