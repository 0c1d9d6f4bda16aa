"""LWS: a learnable scale for each class on a frozen classifier."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from lt_repro.data.samplers import ClassBalanced
from lt_repro.losses import combine
from lt_repro.methods.base import Method, Sampled


class Scales(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(classes))


@dataclass(frozen=True)
class Lws(Method):
    """Learnable weight scaling: a parent's whole network is frozen, its logits are scaled class by class.

    Source: Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition", ICLR 2020.
    Equation: L = CE(s * z, y), z the parent's logits, s (K,) trained on class-balanced draws
    Deviations:
        1. Bias. Paper: dropped. Code: scaled too. Ours: as the code.
    Reduces to: the parent's prediction at s = 1.
    """

    title: ClassVar[str] = "LWS"
    parents = ("weights",)
    param_groups: ClassVar[dict] = {"aux.scales.": (1.0, 0.0)}
    defaults: ClassVar[dict] = {"epochs": 10, "schedule": "cosine", "warmup": 0.0}

    def aux_modules(self, class_counts):
        return {"scales": Scales(len(class_counts))}

    def samplers(self, progress):
        return (Sampled("balanced", ClassBalanced()),)

    def loss(self, net, batches, ctx):
        images, labels = batches["balanced"]
        return functional.cross_entropy(self.predict(net, images)[0].float(), labels)

    def predict(self, net, images):
        branches = [net.aux["scales"].weight * logits for logits in net(images)]
        return combine(branches), branches
