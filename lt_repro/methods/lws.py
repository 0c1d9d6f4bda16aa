"""LWS: one learnable scale for each class on the logits of a frozen network, trained on class-balanced draws."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from lt_repro.data.samplers import ClassBalanced
from lt_repro.losses import branch_loss, combine, soft_cross_entropy
from lt_repro.methods.base import SECOND_STAGE, Batch, Departure, Method, Net, ParentRole, Preset, Sampled, StepContext
from lt_repro.methods.crt import BAG_OF_TRICKS, KANG, KANG_SOURCE
from lt_repro.nets.spec import NetSpec, require_linear


class ClassScales(nn.Module):
    """One learnable scale for each class, 1 at first, shared by all branches.

    Args:
        classes: K.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(classes))

    def forward(self, logits: Sequence[Tensor]) -> list[Tensor]:
        """Returns the logits (B, K) of every branch, each class times its scale."""
        return [self.weight * branch for branch in logits]


@dataclass(frozen=True)
class Lws(Method):
    """Learnable weight scaling: a parent's whole network is frozen, its logits are scaled class by class.

    Source:
        B. Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition", ICLR 2020, Sec. 4,
        and its public code for what the paper leaves open.
    Equation:
        z_k = s_k (w_k f + b_k), s (K,) starts at 1 and is all that is trained; `bias` = "dropped": z_k = s_k w_k f
        L = mean over heads of CE(z, y)
        draws: a class uniformly, then one of its images uniformly
        prediction: the mean of the heads' z
    Reduces to:
        - scales 1, bias scaled: the parent's prediction.
        - identical branches and heads: the loss and the prediction of one branch.

    Args:
        bn: Whether BatchNorm keeps the parent's running statistics ("eval"), or uses the batch's and moves ("train").
        bias: Whether the parent's bias is "scaled" with its class, or "dropped", which needs linear heads.

    Raises:
        RequestError: A value is not allowed, or the bias of heads that are not linear is to be dropped.
    """

    title = "LWS"

    presets = {
        "published": Preset(KANG_SOURCE, {**KANG, "epochs": 5, "bn": "train"}, {**KANG, "epochs": 90}),
        "bagoftricks": BAG_OF_TRICKS,
    }

    departures = (
        Departure(
            "Bias",
            paper="z_k = s_k w_k f, no bias",
            code="the frozen bias is scaled too",
            ours='as the code; `bias` = "dropped" is the paper\'s',
        ),
        Departure(
            "Weight decay",
            paper="not checked",
            code="acts on the scales, pulling them to 0, not to 1",
            ours="as the code",
        ),
        Departure(
            "BatchNorm",
            paper="not checked",
            code="uses the batch's statistics and moves the running ones to the balanced distribution",
            ours='`bn` = "eval" keeps the parent\'s; "train" is the code\'s',
        ),
        Departure(
            "Draws",
            paper="class-balanced",
            code="goes through the classes in turn, four images at a time",
            ours="independent draws",
        ),
        Departure(
            "Recipe for CIFAR",
            paper="none",
            code="none",
            ours='10 epochs at rate 0.1 along a cosine; the preset "bagoftricks" is a public one',
        ),
        Departure("Rate", paper="not checked", code="a cosine that moves once an epoch", ours="it moves at every step"),
        Departure("Checkpoint", paper="not checked", code="the best epoch on validation images", ours="the last epoch"),
        Departure("Several branches", paper="one classifier", code="one", ours="the same scales for every head"),
    )

    bn: Literal["eval", "train"] = "eval"
    bias: Literal["scaled", "dropped"] = "scaled"

    @classmethod
    def examples(cls) -> Sequence[Self]:
        return cls(), cls("train", "dropped")

    @property
    def defaults(self) -> Mapping[str, Any]:
        return SECOND_STAGE

    @property
    def parents(self) -> tuple[ParentRole, ...]:
        return ("weights",)

    def net_spec(self, parent: NetSpec | None = None) -> NetSpec:
        spec = parent or NetSpec()
        return require_linear(spec, "lws with bias = 'dropped'") if self.bias == "dropped" else spec

    def aux_modules(self, class_counts: Tensor, spec: NetSpec) -> Mapping[str, nn.Module]:
        return {"scales": ClassScales(len(class_counts))}

    @property
    def param_groups(self) -> Mapping[str, tuple[float, float]]:
        return {"aux.scales.": (1.0, 1.0)}

    @property
    def update_bn_stats(self) -> bool:
        return self.bn == "train"

    def samplers(self, progress: float) -> tuple[Sampled, ...]:
        return (Sampled("balanced", ClassBalanced()),)

    def predict(self, net: Net, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        if self.bias == "scaled":
            logits = net(images)
        else:
            heads: Any = net.heads
            logits = [linear(f, head.weight) for f, head in zip(net.features(images), heads, strict=True)]
        branches = net.aux["scales"](logits)
        return combine(branches), branches

    def loss(self, net: Net, batches: Mapping[str, Batch], ctx: StepContext) -> Tensor:
        images, labels = batches["balanced"]
        return branch_loss([soft_cross_entropy(logits, labels) for logits in self.predict(net, images)[1]])
