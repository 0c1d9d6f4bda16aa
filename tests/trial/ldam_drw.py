"""LDAM-DRW: a margin for each class, and class weights from a point of training on."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn import functional

from lt_repro import fields
from lt_repro.methods.base import Method
from lt_repro.nets.spec import NetSpec


@dataclass(frozen=True)
class LdamDrw(Method):
    """Label-distribution-aware margins with deferred re-weighting.

    Source: Cao et al., "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss", NeurIPS 2019.
    Equation: L = sum_i w_i CE(30 (cos - m_y at y)) / sum_i w_i; m_k ~ N_k^(-1/4), at most 0.5;
        w_k = (1 - beta) / (1 - beta^N_k) from `switch` of training on, before that 1
    Deviations: none known.
    Reduces to: cross-entropy on cosine logits at margin 0 before the switch.

    Args:
        margin: Of the smallest class.
        switch: Fraction of training at whose epoch re-weighting begins.
        beta: Of the effective number of images.
    """

    title: ClassVar[str] = "LDAM-DRW"
    margin: float = 0.5
    switch: float = 0.8
    beta: float = 0.9999

    def __post_init__(self):
        fields.check(self)

    def net_spec(self, parent=None):
        return NetSpec(head="cosine")

    def loss(self, net, batches, ctx):
        images, labels = batches["uniform"]
        margins = ctx.class_counts**-0.25
        margins = 30 * self.margin * margins / margins.max()
        logits = net(images)[0].float() - margins * functional.one_hot(labels, len(margins))
        weights = (1 - self.beta) / (1 - self.beta**ctx.class_counts)
        weights = torch.where(ctx.epoch_progress >= self.switch, weights, torch.ones_like(weights))
        return functional.cross_entropy(logits, labels, weight=weights)
