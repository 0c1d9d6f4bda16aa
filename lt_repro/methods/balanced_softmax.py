"""Balanced softmax: cross-entropy on logits that are raised by the log of the class sizes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Literal, Self

from torch import Tensor

from lt_repro.fields import ABOVE_0
from lt_repro.losses import soft_cross_entropy
from lt_repro.methods.base import Batch, Departure, Method, Net, RandomInput, StepContext
from lt_repro.mixing import mixup_inputs


@dataclass(frozen=True)
class BalancedSoftmax(Method):
    """Cross-entropy of the softmax under the training prior; without the prior at test time it predicts balanced.

    Source:
        J. Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition", NeurIPS 2020, Sec. 3.1: the balanced
        softmax alone, without its meta sampler.
    Equation:
        L = mean_b CE(z_b + log N, y_b)
        prediction: z
    Reduces to:
        - equal counts: cross-entropy, with mixup the conventional mixup.
        - logit adjustment of the loss with tau = 1, whose priors differ from N by a common factor.

    Args:
        mix: "none", or "mixup" of a batch with itself.
        alpha: Parameter of the Beta distribution that mixup draws lambda from, > 0.
    """

    title = "Balanced softmax"
    bounds = {"alpha": (ABOVE_0, inf)}

    departures = (
        Departure(
            "Training recipe",
            paper="CIFAR with AutoAugment and Cutout, batches of 512, 13,000 steps along a cosine",
            code="the same, on a subset without a fixed seed",
            ours="the recipe of every method here, crops and flips alone, so that the published numbers are not "
            "comparable",
        ),
        Departure(
            "Mixup",
            paper="none",
            code="none",
            ours='`mix` = "mixup" as a control: mixed images and mixed targets under the same raised logits',
        ),
    )

    mix: Literal["none", "mixup"] = "none"
    alpha: float = 1.0

    @classmethod
    def examples(cls) -> Sequence[Self]:
        return cls(), cls("mixup")

    @property
    def random_inputs(self) -> Mapping[str, RandomInput]:
        return mixup_inputs(self.alpha) if self.mix == "mixup" else {}

    def loss(self, net: Net, batches: Mapping[str, Batch], ctx: StepContext) -> Tensor:
        images, targets = ctx.mixed(batches["uniform"], self.mix)
        (logits,) = net(images)
        return soft_cross_entropy(logits + ctx.class_counts.log(), targets)

    def inactive_fields(self) -> frozenset[str]:
        return frozenset() if self.mix == "mixup" else frozenset({"alpha"})
