"""cRT: the classifier of a trained network, trained again on class-balanced draws."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from torch import Tensor

from lt_repro.data.samplers import ClassBalanced
from lt_repro.losses import branch_loss, soft_cross_entropy
from lt_repro.methods.base import SECOND_STAGE, Batch, Departure, Method, Net, ParentRole, Preset, Sampled, StepContext
from lt_repro.nets.spec import NetSpec

BAG_OF_TRICKS = Preset(
    "BagofTricks-LT's configurations for CIFAR (github.com/zhangyongshun/BagofTricks-LT). They do not set "
    "BACKBONE.FREEZE; here all below the heads is frozen. Not its warm-up from a third of the rate, its dropped short "
    "batch, or its choice of the best epoch on test",
    {"epochs": 30, "batch": 128, "lr": 0.1, "weight_decay": 5e-4, "schedule": "steps", "warmup": 1 / 6}
    | {"milestones": (1 / 3, 2 / 3), "lr_decay": 0.1, "nesterov": True, "bn": "train"},
    {"epochs": 200, "batch": 128, "lr": 0.1, "weight_decay": 2e-4, "warmup": 0.025}
    | {"milestones": (0.8, 0.9), "lr_decay": 0.01, "nesterov": True},
)
"""A public recipe for CIFAR of cRT and LWS, whose authors published none."""
KANG: Mapping[str, Any] = {"batch": 512, "lr": 0.2, "weight_decay": 5e-4, "schedule": "cosine", "warmup": 0.0}
"""What both stages of cRT and LWS have in their authors' code for ImageNet-LT."""
KANG_SOURCE = (
    "the authors' code for ImageNet-LT (github.com/facebookresearch/classifier-balancing); not its choice of the best "
    "epoch on validation images"
)


@dataclass(frozen=True)
class Crt(Method):
    """Classifier re-training: everything below the heads is a parent's and frozen, fresh heads learn on balanced draws.

    Source:
        B. Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition", ICLR 2020, Sec. 4,
        and its public code for what the paper leaves open.
    Equation:
        L = mean over heads of CE(W_i f_i + b_i, y), f_i the parent's features of branch i, fixed
        draws: a class uniformly, then one of its images uniformly; every head sees the same batch
        prediction: the mean of the heads' logits
    Reduces to:
        - one branch: cross-entropy of a linear classifier of fixed features on class-balanced draws.
        - identical branches and heads: the loss and the prediction of one branch.

    Args:
        bn: Whether BatchNorm keeps the parent's running statistics ("eval"), or uses the batch's and moves ("train").
    """

    title = "cRT"

    presets = {
        "published": Preset(KANG_SOURCE, {**KANG, "epochs": 10, "bn": "train"}, {**KANG, "epochs": 90}),
        "bagoftricks": BAG_OF_TRICKS,
    }

    departures = (
        Departure(
            "Draws",
            paper="class-balanced sampling",
            code="the classes in turn, in a random order, four images at a time",
            ours="independent draws",
        ),
        Departure(
            "BatchNorm",
            paper="the representation is fixed",
            code="the network stays in training mode, so that the running statistics drift to the balanced "
            "distribution",
            ours='`bn` = "eval" keeps those of the parent, `bn` = "train" is as the code',
        ),
        Departure("Recipe for CIFAR", paper="none published", code="none", ours="10 epochs at rate 0.1 along a cosine"),
        Departure(
            "Fresh heads",
            paper="not said",
            code="at torch's default",
            ours="from Kaiming's normal distribution, as all weights; not those that the parent started from",
        ),
        Departure("Rate", paper="not checked", code="a cosine that moves once an epoch", ours="it moves at every step"),
        Departure(
            "Several branches",
            paper="one classifier",
            code="one classifier",
            ours="a network of several branches keeps its branches, each under a linear head of its own, whatever "
            "it had",
        ),
    )

    bn: Literal["eval", "train"] = "eval"

    @classmethod
    def examples(cls) -> Sequence[Self]:
        return cls(), cls(bn="train")

    @property
    def defaults(self) -> Mapping[str, Any]:
        return SECOND_STAGE

    def net_spec(self, parent: NetSpec | None = None) -> NetSpec:
        return (parent or NetSpec())._replace(head="linear")

    @property
    def parents(self) -> tuple[ParentRole, ...]:
        return ("features",)

    @property
    def param_groups(self) -> Mapping[str, tuple[float, float]]:
        return {"heads.": (1.0, 1.0)}

    @property
    def update_bn_stats(self) -> bool:
        return self.bn == "train"

    def samplers(self, progress: float) -> tuple[Sampled, ...]:
        return (Sampled("balanced", ClassBalanced()),)

    def loss(self, net: Net, batches: Mapping[str, Batch], ctx: StepContext) -> Tensor:
        images, labels = batches["balanced"]
        return branch_loss([soft_cross_entropy(logits, labels) for logits in net(images)])
