"""Logit adjustment: log-priors added to the logits of the loss, or taken off the logits of a trained network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Literal, Self

from torch import Tensor, nn

from lt_repro.fields import ABOVE_0
from lt_repro.losses import combine, soft_cross_entropy
from lt_repro.methods.base import Batch, Departure, Method, Net, ParentRole, Preset, RandomInput, StepContext
from lt_repro.mixing import mixup_inputs
from lt_repro.nets.spec import NetSpec


class LogPrior(nn.Module):
    """The log of each class's share of the training images, stored with the weights.

    Args:
        class_counts: (K,).
    """

    value: Tensor

    def __init__(self, class_counts: Tensor) -> None:
        super().__init__()
        self.register_buffer("value", (class_counts / class_counts.sum()).log())


@dataclass(frozen=True)
class LogitAdjustment(Method):
    """Training with a loss adjusted by the class priors, or adjusting the predictions of a trained network.

    Source:
        A. K. Menon et al., "Long-tail Learning via Logit Adjustment", ICLR 2021, equations (9) and (10).
    Equation:
        prior pi_k = N_k / N
        loss: L = mean_b CE(z_b + tau log pi, y_b); prediction: z
        post-hoc, `frozen`: nothing is trained; prediction: z - tau log pi, z the logits of a parent
    Reduces to:
        - tau = 0: cross-entropy; post-hoc: the parent's prediction.
        - loss with tau = 1: the balanced softmax.
        - equal counts: cross-entropy.
        - post-hoc, a network of several branches: each branch's logits and their mean are adjusted alike.

    Args:
        tau: Strength of the adjustment, >= 0.
        frozen: Whether a parent's whole network stays as it is and its predictions are adjusted (post-hoc).
        mix: "none", or "mixup" of a batch with itself.
        alpha: Parameter of the Beta distribution that mixup draws lambda from, > 0.
    """

    title = "Logit adjustment"
    bounds = {"tau": (0.0, 1e6), "alpha": (ABOVE_0, inf)}

    presets = {
        "published": Preset(
            "github.com/google-research/google-research, logit_adjustment: CIFAR-10; for CIFAR-100 1,419 epochs. No "
            "setting here: its network and how that starts, BatchNorm without weight decay, smaller shifts of the "
            "crops, pixels as x / 255 - 0.5, the short batch dropped",
            {
                "epochs": 1241,
                "warmup": 20 / 1241,
                "milestones": (604 / 1241, 926 / 1241, 1128 / 1241),
                "nesterov": True,
            },
        )
    }

    departures = (
        Departure(
            "Training recipe",
            paper="ResNet-32 for about 120,000 steps",
            code="1,241 epochs of CIFAR-10-LT (100), 1,419 of CIFAR-100-LT (100), Nesterov momentum, Keras's L2 of "
            "1e-4, crops from 2 effective pixels of padding, x/255 - 0.5, and a ResNet-32 of blocks with "
            "three convolutions and a last BatchNorm. Its L2 spares BatchNorm, its classifier starts near 0 "
            "(standard deviation 0.01), short batches are dropped",
            ours='the recipe of every method here; the preset "published" has the code\'s length and rates',
        ),
        Departure("tau", paper="1, or the best on a held-out set", code="1", ours="1"),
        Departure(
            "Mixup", paper="none", code="none", ours='`mix` = "mixup" as a control; post-hoc it is the parent\'s'
        ),
    )

    tau: float = 1.0
    frozen: bool = False
    mix: Literal["none", "mixup"] = "none"
    alpha: float = 1.0

    @classmethod
    def examples(cls) -> Sequence[Self]:
        return cls(), cls(0.5, mix="mixup"), cls(frozen=True)

    @classmethod
    def with_parent(cls, spec: NetSpec) -> Mapping[str, Any]:
        return {"frozen": True}

    @property
    def parents(self) -> tuple[ParentRole, ...]:
        return ("weights",) if self.frozen else ()

    @property
    def param_groups(self) -> Mapping[str, tuple[float, float]]:
        return {} if self.frozen else {"": (1.0, 1.0)}

    def aux_modules(self, class_counts: Tensor, spec: NetSpec) -> Mapping[str, nn.Module]:
        return {"log_prior": LogPrior(class_counts)} if self.frozen else {}

    @property
    def random_inputs(self) -> Mapping[str, RandomInput]:
        return mixup_inputs(self.alpha) if self.mix == "mixup" and not self.frozen else {}

    def loss(self, net: Net, batches: Mapping[str, Batch], ctx: StepContext) -> Tensor:
        images, targets = ctx.mixed(batches["uniform"], "none" if self.frozen else self.mix)
        log_prior = (ctx.class_counts / ctx.class_counts.sum()).log()
        return soft_cross_entropy(net(images)[0] + self.tau * log_prior, targets)

    def predict(self, net: Net, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        branches = net(images)
        if self.frozen:
            log_prior = net.aux.get_buffer("log_prior.value")
            branches = [logits - self.tau * log_prior for logits in branches]
        return combine(branches), branches

    def inactive_fields(self) -> frozenset[str]:
        return frozenset() if self.random_inputs else frozenset({"alpha"} | ({"mix"} if self.frozen else set()))
