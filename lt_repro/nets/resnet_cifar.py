"""ResNet for small images (He et al. 2016, Sec. 4.2), whose last part may be doubled into branches.

Legend: B images of a batch, C channels, H x W pixels, D features, K classes.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from lt_repro.errors import unknown
from lt_repro.methods.base import NetSpec

WIDTHS = (16, 32, 64)
BLOCKS = {
    "resnet8": 1,
    "resnet14": 2,
    "resnet20": 3,
    "resnet32": 5,
    "resnet44": 7,
    "resnet56": 9,
}  # per stage: (depth - 2) / 6


class Normalise(nn.Module):
    """The first layer: (x - mean) / std for each channel, so that batches are plain images in [0, 1].

    Args:
        mean: C values, on the scale of [0, 1].
        std: C values.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).reshape(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).reshape(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Returns (B, C, H, W) with zero mean and unit deviation over the training set."""
        return (images - self.mean) / self.std


class Block(nn.Module):
    """Two 3x3 convolutions and a parameter-free shortcut that sub-samples and pads channels with zeros (option A).

    Args:
        inside: Channels in.
        outside: Channels out, `inside` or twice that.
    """

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.stride = 1 if inside == outside else 2
        self.extra = (outside - inside) // 2
        self.conv1 = nn.Conv2d(inside, outside, 3, self.stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)

    def forward(self, x: Tensor) -> Tensor:
        """Returns (B, outside, H / stride, W / stride)."""
        out = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        if self.stride > 1:
            x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.extra, self.extra))
        return functional.relu(out + x)


class Cosine(nn.Module):
    """A classifier whose logits are scale x cos(features, class vector), without bias (LDAM and RIDE code).

    Args:
        features: D.
        classes: K.
        scale: What the cosines are multiplied by.
    """

    def __init__(self, features: int, classes: int, scale: float = 30.0) -> None:
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(functional.normalize(torch.empty(classes, features).uniform_(-1, 1)))

    def forward(self, features: Tensor) -> Tensor:
        """Returns (B, K) logits."""
        return self.scale * functional.linear(functional.normalize(features), functional.normalize(self.weight))


class Heads(nn.ModuleList):
    """One classifier for each branch, on that branch's features."""

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Returns one (B, K) of logits per branch, from one (B, D) of features per branch."""
        return [cast(Tensor, head(x)) for head, x in zip(self, features, strict=True)]


class Joint(nn.Module):
    """One linear classifier of the concatenated features of n branches (BBN), whose logits come apart by branch.

    On [n a_1 f_1 ; ... ; n a_n f_n] with weights a that sum to 1 it gives sum_i a_i z_i, where z_i = n W_i f_i + b is
    what comes back here: W_i is branch i's part of the weight matrix, b the bias.

    Args:
        branches: n.
        features: D, of each branch.
        classes: K.
    """

    def __init__(self, branches: int, features: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(branches * features, classes)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Returns one (B, K) of logits per branch, from one (B, D) of features per branch."""
        parts = self.linear.weight.chunk(len(features), dim=1)
        return [
            functional.linear(len(features) * x, part, self.linear.bias)
            for x, part in zip(features, parts, strict=True)
        ]


class Pool(nn.Module):
    """The mean over all pixels; as a plain mean it has a deterministic backward pass on every device."""

    def forward(self, x: Tensor) -> Tensor:
        """Returns (B, C)."""
        return x.mean((2, 3))


class ResNet(nn.Module):
    """A ResNet with one or more branches that part where the spec says; its logits come as one (B, K) per branch.

    Args:
        name: One of `BLOCKS`.
        spec: How many branches, where they part, which head, how the trunk's BatchNorm sees several batches.
        classes: K.
        mean: C values for the first layer; len(mean) is the number of image channels.
        std: C values for the first layer.

    Attributes:
        own: A method's own modules, which the network carries but does not use.

    Raises:
        RequestError: No network has that name.
    """

    def __init__(self, name: str, spec: NetSpec, classes: int, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if name not in BLOCKS:
            raise unknown("network", name, BLOCKS)
        self.joint = spec.bn == "joint"
        count, channels = BLOCKS[name], len(mean)
        inside = [WIDTHS[0]] + [width for width in WIDTHS for _ in range(count)]
        sizes = list(pairwise(inside))
        cut = {"block": 3 * count - 1, "layer3": 2 * count, "layer2": count}[spec.branch_at]
        stem = [Normalise(mean, std), nn.Conv2d(channels, WIDTHS[0], 3, 1, 1, bias=False)]
        self.trunk = nn.Sequential(*stem, nn.BatchNorm2d(WIDTHS[0]), nn.ReLU(), *(Block(*size) for size in sizes[:cut]))
        self.branches = nn.ModuleList(
            nn.Sequential(*(Block(*size) for size in sizes[cut:]), Pool()) for _ in spec.branches
        )
        self.heads: nn.Module
        if spec.head == "joint":
            self.heads = Joint(len(spec.branches), WIDTHS[-1], classes)
        else:
            head = {"linear": nn.Linear, "cosine": Cosine}[spec.head]
            self.heads = Heads(head(WIDTHS[-1], classes) for _ in spec.branches)
        self.own = nn.ModuleDict()
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, batches: Tensor | Sequence[Tensor]) -> list[Tensor]:
        """Returns the logits of every branch, equations (3) and (4) of DBN-Mix.

        Args:
            batches: One batch per branch, each (B, C, H, W) in [0, 1]; or a single batch, which feeds every branch.

        Returns:
            One (B, K) per branch, in the order of the spec's branches.
        """
        return cast(list[Tensor], self.heads(self.features(batches)))

    def features(self, batches: Tensor | Sequence[Tensor]) -> list[Tensor]:
        """Returns the pooled features of every branch, one (B, D) each: all that comes before the heads.

        Args:
            batches: As in `forward`.
        """
        if isinstance(batches, Tensor):
            shared = [self.trunk(batches)] * len(self.branches)
        elif self.joint:
            shared = list(self.trunk(torch.cat(list(batches))).split([len(batch) for batch in batches]))
        else:  # one pass each: own batch statistics, running ones updated in order, conventional first
            shared = [self.trunk(batch) for batch in batches]
        return [cast(Tensor, branch(x)) for branch, x in zip(self.branches, shared, strict=True)]

    def classify(self, batches: Tensor | Sequence[Tensor]) -> list[Tensor]:
        """Returns the logits of every branch from features that were computed before, not from images.

        Args:
            batches: As in `forward`, but each (B, n, D): of every image its features in each of the n branches.
        """
        given = [batches] * len(self.branches) if isinstance(batches, Tensor) else batches
        return cast(list[Tensor], self.heads([x[:, i] for i, x in enumerate(given)]))

    def take_features(self, weights: Mapping[str, Tensor]) -> None:
        """Loads all that lies below the heads from another network; its only branch goes into each of several.

        Args:
            weights: The state of a network of the same name, whose branches part at the same place.

        Raises:
            RuntimeError: A weight is missing, left over, or of another shape.
        """

        def under(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}

        self.trunk.load_state_dict(under("trunk."))
        for i, branch in enumerate(self.branches):
            branch.load_state_dict(under(f"branches.{i}.") or under("branches.0."))
