"""A method of the tests' own, with all that the contract knows: modules, a buffer, a stage switch, logged values."""

from dataclasses import dataclass

import torch
from torch import nn

from lt_repro.data.samplers import ClassBalanced, Uniform
from lt_repro.methods.base import Method, Sampled


class Tracker(nn.Module):
    """A running mean of the loss, as a buffer, and how many steps it has seen."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))


@dataclass(frozen=True)
class Probe(Method):
    """Weights every image's loss by a small network of its own loss, and of a running mean; balanced from 0.5 on.

    Source: none.
    Equation: L = mean_i w_i CE_i / mean_i w_i; w = 1 + sigmoid(MLP(CE - mean)) / 2
    Reduces to: cross-entropy, where the weights are equal.

    Args:
        width: Of the hidden layer.
    """

    title = "probe"
    width: int = 3

    def aux_modules(self, class_counts, spec):
        return {
            "weighting": nn.Sequential(nn.Linear(1, self.width), nn.Tanh(), nn.Linear(self.width, 1)),
            "tracker": Tracker(),
        }

    @property
    def param_groups(self):
        return {"": (1.0, 1.0), "aux.weighting.": (0.1, 0.0)}

    def samplers(self, progress):
        return (Sampled("uniform", Uniform()) if progress < 0.5 else Sampled("balanced", ClassBalanced()),)

    @property
    def random_inputs(self):
        return {"jitter": lambda rng, steps, batch: rng.normal(0, 0.01, steps)}

    def loss(self, net, batches, ctx):
        ((images, labels),) = batches.values()
        losses = nn.functional.cross_entropy(net(images)[0].float(), labels, reduction="none")
        tracker = net.aux["tracker"]
        with torch.no_grad():
            tracker.mean.mul_(0.9).add_(0.1 * losses.mean())
            tracker.steps.add_(1)
        seen = (losses.detach() - tracker.mean + ctx.random["jitter"])[:, None]
        weights = 1 + net.aux["weighting"](seen)[:, 0].float().sigmoid() / 2
        ctx.log("weight", weights.mean())
        if ctx.progress < 0.5:  # read on the CPU alone, by a test
            ctx.log("early", tracker.mean)
        return (weights * losses).mean() / weights.mean()
