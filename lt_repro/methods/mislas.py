"""MiSLAS, the second stage: heads and class scales of a mixup-trained network learn with label-aware smoothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import pi
from typing import Any, Literal, Self

from torch import Tensor, nn
from torch.nn.functional import one_hot

from lt_repro.data.samplers import ClassBalanced
from lt_repro.losses import branch_loss, combine, soft_cross_entropy
from lt_repro.methods.base import SECOND_STAGE, Batch, Departure, Method, Net, ParentRole, Preset, Sampled, StepContext
from lt_repro.methods.lws import ClassScales
from lt_repro.nets.spec import NetSpec


@dataclass(frozen=True)
class Mislas(Method):
    """Label-aware smoothing: a parent trained with mixup, its features frozen, its heads tuned on balanced draws.

    Source:
        Z. Zhong, J. Cui, S. Liu, J. Jia, "Improving Calibration for Long-Tailed Recognition", CVPR 2021, and its public
        code for what the paper leaves open.
    Equation:
        z = s * (W f + b), f the parent's features; W and b start as the parent's, s (K,) at 1
        L = mean over heads of (1 - e_y)(-log p_y) + e_y / K sum_k(-log p_k), p = softmax(z)
        e_y = e_least + (e_most - e_least) sin(pi (N_y - N_min) / (2 (N_max - N_min)))
        draws: a class uniformly, then one of its images uniformly
        prediction: the mean of the heads' z
    Reduces to:
        - smoothing 0 and scales 1: cRT's loss on the same network.
        - smoothing 0 and head_lr 0: LWS.
        - smooth_most = smooth_least: label smoothing with one value for all classes.
        - identical branches and heads: the loss and the prediction of one branch.

    Args:
        smooth_most: Smoothing of the class with the most images, in [0, 1]; the default is ImageNet-LT's.
        smooth_least: Smoothing of the class with the fewest images, in [0, 1].
        head_lr: The heads' part of the learning rate, >= 0; 0 freezes them. The default is ImageNet-LT's.
        bn: Whether BatchNorm keeps the parent's running statistics ("eval"), or uses the batch's and moves ("train").
    """

    title = "MiSLAS"
    bounds = {"smooth_most": (0.0, 1.0), "smooth_least": (0.0, 1.0), "head_lr": (0.0, 1e3)}

    tuned = {
        (dataset, ratio): {"smooth_most": most, "smooth_least": least, "head_lr": head_lr, "bn": bn}
        for dataset, ratios, most, least, head_lr, bn in (
            ("cifar10", (10.0, 20.0), 0.1, 0.0, 0.2, "eval"),
            ("cifar10", (50.0,), 0.2, 0.0, 0.2, "eval"),
            ("cifar10", (100.0, 200.0), 0.3, 0.0, 0.5, "eval"),
            ("cifar100", (10.0, 20.0), 0.2, 0.0, 0.1, "train"),
            ("cifar100", (50.0,), 0.3, 0.0, 0.1, "train"),
            ("cifar100", (100.0, 200.0), 0.4, 0.1, 0.2, "train"),
        )
        for ratio in ratios
    }
    presets = {
        "published": Preset(
            "the authors' code for CIFAR; not its choice of the best epoch on test in both stages, nor a rate that "
            "moves once an epoch",
            {"epochs": 10, "batch": 128, "lr": 0.1, "weight_decay": 2e-4, "schedule": "cosine", "warmup": 0.0},
            {"epochs": 200, "mix": "mixup", "alpha": 1.0, "milestones": (0.8, 0.9), "lr_decay": 0.1},
        )
    }

    departures = (
        Departure(
            "Smoothing",
            paper="e_y is spread over the K - 1 other classes",
            code="over all K, so the true class keeps 1 - e_y + e_y / K",
            ours="as the code",
        ),
        Departure("Equal counts", paper="0 / 0", code="not a number", ours="e_least for every class"),
        Departure(
            "Classifier",
            paper="W stays, a matrix learned from 0 is added",
            code="W and b are learned at `head_lr` times the rate, s at the rate itself",
            ours="as the code; the same function, but weight decay acts on W",
        ),
        Departure(
            "Weight decay", paper="not checked", code="acts on s too, so it pulls s to 0, not to 1", ours="as the code"
        ),
        Departure(
            "BatchNorm",
            paper="shifted, its running statistics move to the balanced distribution",
            code="not for CIFAR-10",
            ours="`bn`, chosen as in the code; the affine part is frozen",
        ),
        Departure(
            "Draws",
            paper="class-balanced",
            code="goes through the classes in turn, four images at a time, and has one batch more in an epoch",
            ours="independent draws, an epoch is N images",
        ),
        Departure("Rate", paper="not checked", code="a cosine that moves once an epoch", ours="it moves at every step"),
        Departure(
            "Checkpoint", paper="not checked", code="the best epoch on test, of both stages", ours="the last of both"
        ),
        Departure("Ratios 20 and 200", paper="none", code="none", ours="the values of 10 and 100"),
        Departure(
            "Several branches", paper="one classifier", code="one", ours="each head is tuned, all under the same scales"
        ),
    )

    smooth_most: float = 0.3
    smooth_least: float = 0.0
    head_lr: float = 0.05
    bn: Literal["eval", "train"] = "train"

    @classmethod
    def examples(cls) -> Sequence[Self]:
        return cls(), cls(0.4, 0.1, 0.2, "eval")

    @property
    def defaults(self) -> Mapping[str, Any]:
        return SECOND_STAGE

    @property
    def parents(self) -> tuple[ParentRole, ...]:
        return ("weights",)

    def aux_modules(self, class_counts: Tensor, spec: NetSpec) -> Mapping[str, nn.Module]:
        return {"scales": ClassScales(len(class_counts))}

    @property
    def param_groups(self) -> Mapping[str, tuple[float, float]]:
        return {"heads.": (self.head_lr, 1.0), "aux.scales.": (1.0, 1.0)}

    @property
    def update_bn_stats(self) -> bool:
        return self.bn == "train"

    def samplers(self, progress: float) -> tuple[Sampled, ...]:
        return (Sampled("balanced", ClassBalanced()),)

    def predict(self, net: Net, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        branches = net.aux["scales"](net(images))
        return combine(branches), branches

    def loss(self, net: Net, batches: Mapping[str, Batch], ctx: StepContext) -> Tensor:
        """Returns L, as the cross-entropy against targets of 1 - e_y at y and e_y / K everywhere."""
        images, labels = batches["balanced"]
        classes = len(ctx.class_counts)
        smoothing = class_smoothing(ctx.class_counts, self.smooth_most, self.smooth_least)[labels][:, None]
        targets = (1 - smoothing) * one_hot(labels, classes) + smoothing / classes
        return branch_loss([soft_cross_entropy(logits, targets) for logits in self.predict(net, images)[1]])


def class_smoothing(counts: Tensor, most: float, least: float) -> Tensor:
    """Returns e_k, how much of a label of class k is spread over all classes.

    Args:
        counts: (K,) training images per class, whole numbers in floating point, each > 0.
        most: Of the class with the most images, in [0, 1].
        least: Of the class with the fewest images, in [0, 1]; of all where the counts are equal.

    Returns:
        (K,) in [0, 1], in the dtype of `counts`.
    """
    span = (counts.max() - counts.min()).clamp(min=1)  # of whole numbers: 0 only where all are equal
    return least + (most - least) * (pi / 2 * (counts - counts.min()) / span).sin()
