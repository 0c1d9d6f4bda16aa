"""BBN: a conventional and a reversed branch whose features share one classifier, weighted from the one to the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Literal, Self

from torch import Tensor

from lt_repro.data.samplers import Reverse, Uniform
from lt_repro.fields import ABOVE_0
from lt_repro.losses import soft_cross_entropy
from lt_repro.methods.base import Batch, Departure, Method, Net, Preset, Sampled, StepContext
from lt_repro.mixing import mix
from lt_repro.nets.spec import NetSpec


@dataclass(frozen=True)
class Bbn(Method):
    """A bilateral-branch network trained with cumulative learning: from the uniform to the reversed distribution.

    Source:
        B. Zhou, Q. Cui, X.-S. Wei, Z.-M. Chen, "BBN: Bilateral-Branch Network with Cumulative Learning for Long-Tailed
        Visual Recognition", CVPR 2020, and its public code for what the paper leaves open.
    Equation:
        z = W [2 alpha f_c ; 2 (1 - alpha) f_r] + b, features of the uniform and of the reverse batch
        L = alpha CE(z, y_c) + (1 - alpha) CE(z, y_r)
        alpha = 1 - (epoch / epochs)^2, epochs counted from 0, the same through an epoch
        reverse sampler: class k with probability ~ (N_max / N_k)^(1 / gamma), gamma = 1
        prediction: alpha = 1/2, the same image to both branches
    Reduces to:
        - alpha = 1, the first epoch: cross-entropy of the conventional branch on the uniform batch; the other branch
          has gradients of 0, but still weight decay and the statistics of its batches.
        - alpha = 0: cross-entropy of the re-balancing branch on the reverse batch.
        - identical batches, features and halves of W: cross-entropy of one branch whose classifier is twice a half.
        - prediction: the mean of what each branch predicts alone (alpha = 1 and alpha = 0).

    Args:
        gamma: How the reverse sampler draws classes, > 0; 1 is BBN's reversed distribution, infinity the
            class-balanced one.
        branch_at: Where the branches part: own last block, or own stages from layer3 or layer2 on.
        bn: Whether the trunk normalises each branch's batch on its own or both together.
    """

    title = "BBN"
    bounds = {"gamma": (ABOVE_0, inf)}
    presets = {
        "published": Preset(
            "BBN's code (commit 7992e90) for CIFAR-LT; no setting here: a warm-up from a third of the rate, the short "
            "batch dropped, the best epoch on test",
            {"milestones": (0.6, 0.8), "lr_decay": 0.01, "nesterov": True},
        )
    }

    departures = (
        Departure(
            "Classifier",
            paper="two matrices without a bias, their outputs weighted by alpha and 1 - alpha and summed",
            code="one matrix and one bias, on the features weighted by 2 alpha and 2 (1 - alpha)",
            ours="as the code, but from Kaiming's normal distribution, as all weights; the code leaves the "
            "classifier at torch's default",
        ),
        Departure(
            "Cumulative learning",
            paper="alpha = 1 - (epoch / epochs)^2",
            code="the same with epochs counted from 0; 90 epochs count as 100 and 180 as 200, so that alpha ends "
            "above 0",
            ours="epochs counted from 0, for any number of epochs",
        ),
        Departure(
            "Schedule",
            paper="200 epochs on CIFAR",
            code="the rate x0.01 at 0.6 and again at 0.8 of training, Nesterov momentum, the last short batch dropped",
            ours="this project's schedule for every method: the rate x0.1 at 0.6 and 0.8 of training, no Nesterov "
            "momentum, the last short batch kept",
        ),
        Departure(
            "What a branch reaches alone",
            paper="not said",
            code="none",
            ours="the classifier at alpha = 1 or 0, the bias shared",
        ),
        Departure(
            "Reverse batches",
            paper="a reversed sampler feeds the re-balancing branch",
            code="one reverse image is drawn for each image of the uniform batch",
            ours="a stream of their own",
        ),
    )

    gamma: float = 1.0
    branch_at: Literal["block", "layer3", "layer2"] = "block"
    bn: Literal["per_branch", "joint"] = "per_branch"

    @classmethod
    def examples(cls) -> Sequence[Self]:
        return cls(), cls(inf, "layer3", "joint")

    def net_spec(self, parent: NetSpec | None = None) -> NetSpec:
        return NetSpec(("conventional", "rebalancing"), self.branch_at, "joint", self.bn)

    def samplers(self, progress: float) -> tuple[Sampled, ...]:
        return Sampled("uniform", Uniform()), Sampled("reverse", Reverse(self.gamma))

    def loss(self, net: Net, batches: Mapping[str, Batch], ctx: StepContext) -> Tensor:
        """Returns L; by linearity the cross-entropy of weighted logits against equally weighted targets."""
        alpha = cumulative(ctx.epoch_progress)
        y_c, y_r = (ctx.targets(labels) for _, labels in batches.values())
        z_c, z_r = net([images for images, _ in batches.values()])
        return soft_cross_entropy(mix(z_c, z_r, alpha), mix(y_c, y_r, alpha))


def cumulative(epoch_progress: Tensor) -> Tensor:
    """Returns alpha of cumulative learning, 1 - (epoch / epochs)^2.

    Args:
        epoch_progress: (), the fraction of training that had passed when the epoch began.
    """
    return 1 - epoch_progress**2
