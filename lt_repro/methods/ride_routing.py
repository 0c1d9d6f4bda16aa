"""RIDE, the second stage: gates on frozen experts learn which images need the next expert."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, normalize

from lt_repro.data.samplers import ClassBalanced
from lt_repro.errors import RequestError
from lt_repro.fields import ABOVE_0
from lt_repro.losses import combine, full_precision
from lt_repro.methods.base import Batch, Departure, Method, Net, ParentRole, Preset, Sampled, StepContext
from lt_repro.methods.ride import Ride
from lt_repro.nets.spec import NetSpec

HIDDEN = 16
STAGE: Mapping[str, Any] = {"epochs": 5, "batch": 512, "lr": 0.01, "schedule": "cosine", "warmup": 0.0} | {
    "weight_decay": 5e-4,
    "nesterov": True,
}


class Gates(nn.Module):
    """Scores of whether an image needs the next expert, one for each expert but the last.

    Args:
        experts: E, at least 2.
        features: D.
        top: k, at most the number of classes.
    """

    def __init__(self, experts: int, features: int, top: int) -> None:
        super().__init__()
        self.top = top
        self.features = nn.ModuleList(nn.Linear(features, HIDDEN) for _ in range(experts - 1))
        self.shared = nn.Linear(HIDDEN + top, 1)
        for layer in (*self.features, self.shared):
            nn.init.kaiming_normal_(layer.get_parameter("weight"))

    def forward(self, features: Sequence[Tensor], running: Tensor) -> Tensor:
        """Returns (B, E - 1) scores; above 0 the next expert is used.

        Args:
            features: E of (B, D); the last one's are not read.
            running: (E, B, K), see `running_means`.
        """
        scores = []
        for layer, feature, logits in zip(self.features, features[:-1], running[:-1], strict=True):
            seen = layer(normalize(feature.to(running.dtype))).relu()
            scores.append(self.shared(torch.cat([logits.topk(self.top).values, seen], dim=1)))
        return torch.cat(scores, dim=1)


@dataclass(frozen=True)
class RideRouting(Method):
    """Expert assignment: an image goes to the next expert only where a gate expects that one to correct the others.

    The experts are a parent's, all frozen. `RideRouting.assigned` says how many an image uses; the run file's history
    has their mean over the training batches of each epoch under "experts".

    Source:
        X. Wang, L. Lian, Z. Miao, Z. Liu, S. X. Yu, "Long-tailed Recognition by Routing Diverse Distribution-Aware
        Experts", ICLR 2021, and its public code.
    Equation:
        zbar_i: the mean of the logits of experts 1..i; f_i: the pooled features of expert i, i < E
        s_i = u . [the top_k largest of zbar_i ; ReLU(V_i f_i / |f_i| + c_i)] + b, u and b shared, V_i (16, D)
        t_i = 1 where zbar_i is wrong and zbar_j is right for some j > i, else 0
        L = mean over i < E and images of -pos_weight t_i log sigmoid(s_i) - (1 - t_i) log(1 - sigmoid(s_i))
        draws: a class uniformly, then one of its images uniformly
        prediction: zbar_n, n the first i with sigmoid(s_i) <= 1/2, else E
    Reduces to:
        - open gates: the parent's prediction, the mean of all experts.
        - closed gates: the first expert's prediction.
        - pos_weight = 1: the binary cross-entropy of the gates.

    Args:
        top_k: How many of the largest logits a gate reads, in [1, 100000]; where there are fewer classes, all.
        pos_weight: Weight of an image that needs the next expert beside one that does not, in (0, 1e6].

    Raises:
        RequestError: A value is not allowed, or the parent has one branch.
    """

    title = "RIDE, routed"
    bounds = {"top_k": (1, 100_000), "pos_weight": (ABOVE_0, 1e6)}
    first_stage = "ride"

    presets = {
        "published": Preset(
            "github.com/frank-xwang/RIDE-LongTailRecognition at commit ab8be5c, CIFAR-100-LT (100); it keeps the best "
            "epoch on the test images",
            STAGE,
            Ride.presets["published"].sets,
        )
    }

    departures = (
        Departure("Gate", paper="not checked", code="reads logits at their scale of 30", ours="as the code"),
        Departure("Rare targets", paper="not checked", code="100 times the weight where t_i = 1", ours="as the code"),
        Departure(
            "top_k",
            paper="not checked",
            code="30 for CIFAR-100, 50 for ImageNet-LT and iNaturalist; no configuration for CIFAR-10, which has "
            "fewer classes",
            ours="30, at most the number of classes",
        ),
        Departure(
            "What is saved",
            paper="computation at test time",
            code="not checked",
            ours="every expert is computed, since the run file has the accuracy of each; those that an image uses "
            "are counted, not timed",
            effect="on digits (60), three seeds, a test image uses 1.08 of 3 experts; the trunk is always computed",
        ),
        Departure(
            "Accuracy",
            paper="not checked",
            code="for four experts a user reports 49.58 without and 49.14 with routing on CIFAR-100-LT (100)",
            ours="the routed accuracy is the result",
            effect="on digits (60), three seeds, 85.80 routed, 85.87 with all of 3 experts, 85.07 with the first alone",
        ),
        Departure(
            "Schedule",
            paper="not checked",
            code="one rate for each epoch, along a cosine",
            ours="the cosine goes on within an epoch, so that the rates sum to 5/6 of the code's",
        ),
        Departure("Checkpoint", paper="not checked", code="the best epoch on test", ours="the last"),
        Departure("Parents", paper="RIDE's experts", code="the same", ours="any network with two branches or more"),
    )

    top_k: int = 30
    pos_weight: float = 100.0

    @property
    def defaults(self) -> Mapping[str, Any]:
        return STAGE

    @property
    def parents(self) -> tuple[ParentRole, ...]:
        return ("weights",)

    def net_spec(self, parent: NetSpec | None = None) -> NetSpec:
        """Returns the parent's network, which has an expert to leave out; RIDE's where none is given."""
        spec = parent or Ride().net_spec()
        if len(spec.branches) == 1:
            raise RequestError(
                "ride_routing on a parent with one branch",
                "allowed: a parent with two branches or more, each an expert",
                "train method ride with experts=3, and use that run as the parent",
            )
        return spec

    def aux_modules(self, class_counts: Tensor, spec: NetSpec) -> Mapping[str, nn.Module]:
        return {"gates": Gates(len(spec.branches), spec.widths[-1], min(self.top_k, len(class_counts)))}

    @property
    def param_groups(self) -> Mapping[str, tuple[float, float]]:
        return {"aux.gates.": (1.0, 1.0)}

    def samplers(self, progress: float) -> tuple[Sampled, ...]:
        return (Sampled("balanced", ClassBalanced()),)

    def loss(self, net: Net, batches: Mapping[str, Batch], ctx: StepContext) -> Tensor:
        """Returns L; logs how many experts the batch uses."""
        images, labels = batches["balanced"]
        scores, running, _ = self._scores(net, images)
        ctx.log("experts", experts_used(scores.detach() > 0).float().mean())
        weight = scores.new_full((), self.pos_weight)
        return binary_cross_entropy_with_logits(scores, next_needed(running, labels).to(scores), pos_weight=weight)

    def predict(self, net: Net, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        scores, running, branches = self._scores(net, images)
        used = experts_used(scores > 0)
        return running[used - 1, torch.arange(len(used), device=used.device)], branches

    def assigned(self, net: Net, images: Tensor) -> Tensor:
        """Returns how many experts each image uses, (B,) int64 in [1, E]: what routing saves, of E for each image.

        Args:
            net: In evaluation mode.
            images: (B, C, H, W) float32 in [0, 1].
        """
        return experts_used(self._scores(net, images)[0] > 0)

    def _scores(self, net: Net, images: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Returns the gates' scores, the running means and the logits of every expert."""
        with torch.no_grad():  # the experts are frozen
            features = net.features(images)
            branches = [full_precision(logits) for logits in cast(list[Tensor], net.heads(features))]
            running = running_means(branches)
        with torch.autocast(images.device.type, enabled=False):
            return net.aux["gates"](features, running), running, branches


def running_means(branches: Sequence[Tensor]) -> Tensor:
    """Returns zbar, (E, B, K): the mean of the logits of the first expert, of the first two, ..., of all.

    Args:
        branches: E of (B, K).
    """
    return torch.stack([combine(branches[:number]) for number in range(1, len(branches) + 1)])


def next_needed(running: Tensor, labels: Tensor) -> Tensor:
    """Returns t, (B, E - 1) bool: where the first i experts together are wrong, and some larger number is right.

    Args:
        running: (E, B, K), see `running_means`.
        labels: (B,) int64.
    """
    right = running.argmax(dim=2) == labels
    some_from = right.flip(0).cumsum(0).flip(0) > 0
    return (~right[:-1] & some_from[1:]).T


def experts_used(gates: Tensor) -> Tensor:
    """Returns how many experts an image uses, (B,) int64 in [1, E]: one more than its gates open before the first shut.

    Args:
        gates: (B, E - 1) bool, whether expert i hands the image on to the next.
    """
    return 1 + gates.long().cumprod(dim=1).sum(dim=1)
