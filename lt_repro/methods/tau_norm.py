"""Tau-normalisation: a trained classifier with its class vectors brought closer in length; nothing is trained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from torch import Tensor
from torch.nn.functional import linear

from lt_repro.losses import branch_loss, combine, soft_cross_entropy
from lt_repro.methods.base import Batch, Departure, Method, Net, ParentRole, Preset, StepContext
from lt_repro.methods.crt import BAG_OF_TRICKS
from lt_repro.nets.spec import NetSpec, require_linear


@dataclass(frozen=True)
class TauNorm(Method):
    """Classifier normalisation after training: a parent's class vectors are divided by a power of their length.

    Source:
        B. Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition", ICLR 2020, Sec. 4,
        and its public code for what the paper leaves open.
    Equation:
        z_k = w_k f / |w_k|^tau, f the parent's features; `bias` = "kept": + b_k, as it is
        prediction: the mean of the heads' z
    Reduces to:
        - tau = 0, bias kept: the parent's prediction.
        - tau = 1, bias dropped: the largest cosine between features and class vectors wins.
        - identical branches and heads: the prediction of one branch.

    Args:
        tau: >= 0; 0 leaves the lengths, 1 makes them equal, more makes long ones short.
        bias: Whether the parent's bias is "dropped" or "kept".

    Raises:
        RequestError: A value is not allowed, or the parent's heads are not linear.
    """

    title = "Tau-normalisation"
    bounds = {"tau": (0.0, 100.0)}

    presets = {"bagoftricks": Preset(BAG_OF_TRICKS.source, {"tau": 1.0, "bias": "kept"}, BAG_OF_TRICKS.parent)}

    departures = (
        Departure(
            "Choice of tau",
            paper="on validation images",
            code="from 0, 0.1, ..., 2; for iNaturalist on the test images",
            ours="1, at which all class vectors have the same length, because the long-tailed CIFARs have no "
            "images to choose by. A tau that is chosen by test accuracy is no fair result: show all of the "
            "curve",
        ),
        Departure(
            "Bias",
            paper="dropped",
            code="dropped",
            ours='dropped; BagofTricks-LT\'s figures for CIFAR keep it (`bias` = "kept", the preset "bagoftricks")',
        ),
        Departure(
            "Several branches",
            paper="one classifier",
            code="one",
            ours="each head's class vectors by their own lengths",
        ),
    )

    tau: float = 1.0
    bias: Literal["dropped", "kept"] = "dropped"

    @classmethod
    def examples(cls) -> Sequence[Self]:
        return cls(), cls(0.5, "kept")

    @property
    def defaults(self) -> Mapping[str, Any]:
        """Returns one epoch, so that a plan counts no training."""
        return {"epochs": 1}

    @property
    def parents(self) -> tuple[ParentRole, ...]:
        return ("weights",)

    def net_spec(self, parent: NetSpec | None = None) -> NetSpec:
        return require_linear(parent or NetSpec(), "tau_norm")

    @property
    def param_groups(self) -> Mapping[str, tuple[float, float]]:
        return {}

    def predict(self, net: Net, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        heads: Any = net.heads
        branches = [
            linear(
                features,
                head.weight / head.weight.norm(dim=1, keepdim=True) ** self.tau,
                head.bias if self.bias == "kept" else None,
            )
            for features, head in zip(net.features(images), heads, strict=True)
        ]
        return combine(branches), branches

    def loss(self, net: Net, batches: Mapping[str, Batch], ctx: StepContext) -> Tensor:
        """Returns the cross-entropy of the normalised classifier; nothing is trained on it."""
        images, labels = batches["uniform"]
        return branch_loss([soft_cross_entropy(logits, labels) for logits in self.predict(net, images)[1]])
