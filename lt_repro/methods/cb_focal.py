"""Class-balanced focal loss: focal loss under class weights by the effective number of images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

from torch import Tensor

from lt_repro.losses import effective_weights, focal_loss
from lt_repro.methods.base import Batch, Departure, Method, Net, StepContext
from lt_repro.methods.focal import SCHEDULE_DEPARTURE, Focal
from lt_repro.nets.spec import NetSpec


@dataclass(frozen=True)
class CbFocal(Method):
    """Focal loss on uniform draws, each image weighted by its class from the first epoch on.

    Source:
        Y. Cui, M. Jia, T.-Y. Lin, Y. Song, S. Belongie, "Class-Balanced Loss Based on Effective Number of Samples",
        CVPR 2019, and its public code (commit 1d78572).
    Equation:
        L = 1/B sum_b w_(y_b) F_b, F_b the focal loss of image b with `gamma` and `form`, as in `focal`
        w_k ~ (1 - beta) / (1 - beta^N_k), scaled so that sum_k w_k = K
    Reduces to:
        - beta = 0, or as many images in every class: focal loss.
        - gamma = 0, "softmax": class-balanced cross-entropy, divided by the number of images.
        - gamma = 0, "sigmoid": class-balanced binary cross-entropies, likewise.

    Args:
        beta: Of the effective number, in [0, 0.999999]; 0 gives equal weights, towards 1 they go to 1 / N_k.
        gamma: How much the well classified are discounted, in [0, 100]; 0 is no discount.
        form: "sigmoid" for one binary loss per class, or "softmax".
    """

    title = "Class-balanced focal loss"
    bounds = {"beta": (0.0, 0.999999), "gamma": (0.0, 100.0)}
    presets = Focal.presets
    tuned = {
        ("cifar100", 100.0): {"beta": 0.9},
        ("cifar100", 50.0): {"beta": 0.99},
    }

    departures = (
        Departure(
            "Divisor",
            paper="not said",
            code="the number of images, for each of its losses",
            ours="the code's; not the sum of the weights, by which the weighted mean of PyTorch's cross-entropy "
            "divides",
        ),
        Departure(
            "What is weighted",
            paper="the loss of an image",
            code="all K sigmoids of an image, by the weight of its class; LDAM-DRW's weights the cross-entropy "
            "before it takes p = exp(-CE), which is a wrong p",
            ours="the paper's",
        ),
        Departure(
            "Factor (1 - p)^gamma, and bias of the sigmoids",
            paper="see `focal`",
            code="see `focal`",
            ours="as in `focal`",
        ),
        Departure(
            "beta and gamma",
            paper="the best on the test set for each data set and ratio, over three losses, beta 0.9, 0.99, 0.999, "
            "0.9999 and gamma 0.5, 1, 2: some of its class-balanced rows are no focal loss",
            code="0 and 1 by default",
            ours="those of BagofTricks-LT's code (commit ce7859a), gamma 1, beta 0.9999 for CIFAR-10, 0.9 and 0.99 "
            "for CIFAR-100 at ratio 100 and 50; elsewhere 0.9999, which on CIFAR-100 is nearly 1 / N_k",
        ),
        SCHEDULE_DEPARTURE,
    )

    beta: float = 0.9999
    gamma: float = 1.0
    form: Literal["sigmoid", "softmax"] = "sigmoid"

    @classmethod
    def examples(cls) -> Sequence[Self]:
        return cls(), cls(0.9, 0.0, "softmax")

    def net_spec(self, parent: NetSpec | None = None) -> NetSpec:
        return Focal(form=self.form).net_spec(parent)

    @property
    def param_groups(self) -> Mapping[str, tuple[float, float]]:
        return Focal(form=self.form).param_groups

    def loss(self, net: Net, batches: Mapping[str, Batch], ctx: StepContext) -> Tensor:
        images, labels = batches["uniform"]
        weights = effective_weights(ctx.class_counts, self.beta)[labels]
        return (weights * focal_loss(net(images)[0], labels, self.gamma, self.form)).mean()
