"""Tau-normalisation: a parent's classifier with its class vectors brought closer in length. Trains nothing."""

from dataclasses import dataclass
from typing import ClassVar

from torch.nn import functional

from lt_repro.losses import combine
from lt_repro.methods.base import Method


@dataclass(frozen=True)
class TauNorm(Method):
    """Classifier normalisation after training.

    Source: Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition", ICLR 2020.
    Equation: z_k = (w_k f) / |w_k|^tau
    Deviations: none known.
    Reduces to: the parent's prediction without its bias at tau = 0.

    Args:
        tau: 0 for the parent's lengths, 1 for equal ones.
    """

    title: ClassVar[str] = "tau-normalisation"
    tau: float = 0.5
    parents = ("weights",)
    param_groups: ClassVar[dict] = {}

    def predict(self, net, images):
        weights = [head.weight for head in net.heads]
        scaled = [weight / weight.norm(dim=1, keepdim=True) ** self.tau for weight in weights]
        branches = [functional.linear(f, w) for f, w in zip(net.features(images), scaled, strict=True)]
        return combine(branches), branches

    def loss(self, net, batches, ctx):
        images, labels = batches["uniform"]
        return functional.cross_entropy(self.predict(net, images)[0].float(), labels)
