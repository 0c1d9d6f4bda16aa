"""Focal loss: cross-entropy in which an image counts the less, the better it is classified."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

from torch import Tensor

from lt_repro.losses import focal_loss
from lt_repro.methods.base import Batch, Departure, Method, Net, Preset, StepContext
from lt_repro.nets.spec import NetSpec

SCHEDULE_DEPARTURE = Departure(
    "Schedule",
    paper="the rate x0.01 at epochs 160 and 180 of 200",
    code="the same, set by its scripts",
    ours='that of every method, x0.1 at 0.6 and 0.8 of training; the preset "published" has the paper\'s',
)


@dataclass(frozen=True)
class Focal(Method):
    """Focal loss on uniform draws, without class weights; over one-vs-all sigmoids or over the softmax.

    Source:
        T.-Y. Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017; for long-tailed CIFAR ("Paper", "Code")
        Y. Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019, and its code (1d78572).
    Equation:
        "sigmoid": L = 1/B sum_b sum_k -(1 - p_bk)^gamma log p_bk, p_bk = sigmoid(z_bk) if k = y_b, else sigmoid(-z_bk)
        "softmax": L = 1/B sum_b -(1 - p_b)^gamma log p_b, p_b = softmax(z_b) at y_b
    Reduces to:
        - "softmax", gamma = 0: cross-entropy.
        - "sigmoid", gamma = 0: the sum over classes of binary cross-entropies.

    Args:
        gamma: How much the well classified are discounted, in [0, 100]; 0 is no discount.
        form: "sigmoid" for one binary loss per class, or "softmax".
    """

    title = "Focal loss"
    bounds = {"gamma": (0.0, 100.0)}
    presets = {
        "published": Preset(
            "the scripts of Cui et al. 2019's code; no setting here: pixels as x / 128 - 1, shortcuts that average "
            "instead of sub-sampling, an unseeded subset, batches that run on over the end of an epoch",
            {"milestones": (0.8, 0.9), "lr_decay": 0.01},
        )
    }

    departures = (
        Departure(
            "The factor (1 - p)^gamma",
            paper="a power of 1 - p",
            code="exp(-gamma (z + log(1 + exp(-z)))) for the true class; below a logit of -88 in fp32 this is 0 "
            "where it should be 1, and its gradient is not a number. LDAM-DRW's, of the softmax, is a power "
            "of 1 - p, whose slope is infinite at p = 1 for gamma < 1",
            ours="exp(gamma log(1 - p)), log(1 - p) without cancellation: right, with a finite gradient, at every "
            "logit and gamma",
        ),
        Departure(
            "The bias of the sigmoids",
            paper="starts at -log(K - 1), a prior of 1 / K",
            code="the same, and no weight decay on it",
            ours="the code's. The softmax form has the linear head of cross-entropy",
        ),
        Departure(
            "gamma", paper="0.5, 1 or 2, the best on the test set", code="1 by default", ours="1, as in the quoted row"
        ),
        Departure(
            "Weight of the positives",
            paper="none; 0.25 in Lin et al., for detection",
            code="class weights, see `cb_focal`",
            ours="none",
        ),
        SCHEDULE_DEPARTURE,
    )

    gamma: float = 1.0
    form: Literal["sigmoid", "softmax"] = "sigmoid"

    @classmethod
    def examples(cls) -> Sequence[Self]:
        """Returns both forms, one with a factor whose slope is infinite at p = 1."""
        return cls(), cls(0.5, "softmax")

    def net_spec(self, parent: NetSpec | None = None) -> NetSpec:
        return NetSpec(head="sigmoid" if self.form == "sigmoid" else "linear")

    @property
    def param_groups(self) -> Mapping[str, tuple[float, float]]:
        return {"": (1.0, 1.0)} | ({"heads.0.bias": (1.0, 0.0)} if self.form == "sigmoid" else {})

    def loss(self, net: Net, batches: Mapping[str, Batch], ctx: StepContext) -> Tensor:
        images, labels = batches["uniform"]
        return focal_loss(net(images)[0], labels, self.gamma, self.form).mean()
