"""Meta-Weight-Net: a small network weighs every image by its loss, trained on balanced images of another source."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from lt_repro.data.samplers import Uniform
from lt_repro.methods.base import MetaOptimizer, Method, Sampled


@dataclass(frozen=True)
class MetaWeightNet(Method):
    """Weights learned through one virtual step of the network.

    Source: Shu et al., "Meta-Weight-Net: Learning an Explicit Mapping For Sample Weighting", NeurIPS 2019.
    Equation: w' = w - lr grad_w mean_i V(l_i) l_i;  V moves along -grad_V of the meta batch's loss at w'
        L = mean_i V(l_i) l_i / mean_i V(l_i)
    Deviations: none known.
    Reduces to: cross-entropy at a constant V.
    """

    title: ClassVar[str] = "Meta-Weight-Net"
    meta_optimizer = MetaOptimizer("adam", lr=1e-3, weight_decay=1e-4)

    def aux_modules(self, class_counts):
        return {"weighting": nn.Sequential(nn.Linear(1, 8), nn.ReLU(), nn.Linear(8, 1), nn.Sigmoid())}

    def samplers(self, progress):
        return Sampled("uniform", Uniform()), Sampled("meta", Uniform(), source="meta", batch=5)

    def meta_grads(self, net, batches, ctx):
        net_parameters = {name: p for name, p in net.named_parameters() if not name.startswith("aux.")}
        aux = {name: p for name, p in net.named_parameters() if name.startswith("aux.")}

        def losses(parameters, batch):  # on copies of the running statistics
            buffers = {name: value.clone() for name, value in net.named_buffers()}
            logits = functional_call(net, {**parameters, **buffers}, (batch.images,))[0]
            return functional.cross_entropy(logits.float(), batch.labels, reduction="none")

        inner = losses(net_parameters, batches["uniform"])
        weights = net.aux["weighting"](inner.detach()[:, None])[:, 0]
        gradients = torch.autograd.grad((weights * inner).mean(), net_parameters.values(), create_graph=True)
        stepped = {name: p - ctx.lr * g for (name, p), g in zip(net_parameters.items(), gradients, strict=True)}
        found = torch.autograd.grad(losses(stepped, batches["meta"]).mean(), aux.values())
        return dict(zip(aux, found, strict=True))

    def loss(self, net, batches, ctx):
        images, labels = batches["uniform"]
        losses = functional.cross_entropy(net(images)[0].float(), labels, reduction="none")
        with torch.no_grad():
            weights = net.aux["weighting"](losses[:, None])[:, 0].float()
        return (weights * losses).mean() / weights.mean()
