"""ResNet for small images (He et al. 2016, Sec. 4.2), whose last part may be split into branches.

Legend: B images of a batch, C channels, H x W pixels, D features, K classes.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from lt_repro.errors import unknown
from lt_repro.nets.batchnorm import BatchNorm
from lt_repro.nets.spec import NetSpec

BLOCKS = {f"resnet{6 * blocks + 2}": blocks for blocks in (1, 2, 3, 5, 7, 9)}
"""Blocks of each of the three stages, by name: (depth - 2) / 6."""


class Normalise(nn.Module):
    """The first layer: (x - mean) / std per channel, so that batches can be images in [0, 1].

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
        """Returns (B, C, H, W) with zero mean and unit standard deviation over the training set."""
        return (images - self.mean) / self.std


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut without parameters that sub-samples and pads channels with zeros (option A).

    Args:
        inside: Channels in.
        outside: Channels out, at least `inside`.
        stride: 1, or 2 for the first block of stages 2 and 3.
    """

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.before, self.after = (outside - inside) // 2, outside - inside - (outside - inside) // 2
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1 = BatchNorm(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = BatchNorm(outside)

    def forward(self, x: Tensor) -> Tensor:
        """Returns (B, outside, H / stride, W / stride)."""
        # In place where no backward pass reads what is overwritten: fewer passes over memory.
        out = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu_()))
        if self.stride > 1:
            x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.before, self.after))
        out += x
        return cast(Tensor, out.relu_())


class Cosine(nn.Module):
    """A classifier without bias: logits are scale x cos(features, class vector) (LDAM's and RIDE's code).

    Args:
        features: D.
        classes: K.
        scale: Factor of the cosines.
    """

    def __init__(self, features: int, classes: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(functional.normalize(torch.empty(classes, features).uniform_(-1, 1)))

    def forward(self, features: Tensor) -> Tensor:
        """Returns (B, K) logits."""
        return self.scale * functional.linear(functional.normalize(features), functional.normalize(self.weight))


def _head(spec: NetSpec, features: int, classes: int) -> nn.Module:
    """Returns the classifier of one branch."""
    if spec.head == "cosine":
        return Cosine(features, classes, spec.scale)
    head = nn.Linear(features, classes)
    if spec.head == "sigmoid":
        nn.init.constant_(head.bias, -math.log(max(classes - 1, 1)))
    return head


class Heads(nn.ModuleList):
    """One classifier for each branch, on that branch's features."""

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Returns one (B, K) of logits per branch, from one (B, D) of features per branch."""
        return [cast(Tensor, head(x)) for head, x in zip(self, features, strict=True)]


class Joint(nn.Module):
    """One linear classifier on the concatenated features of n branches (BBN); it returns the logits of each branch.

    On [n a_1 f_1 ; ... ; n a_n f_n], with weights a that sum to 1, BBN's classifier gives sum_i a_i z_i. This one
    returns each z_i = n W_i f_i + b, where W_i is branch i's part of the weight matrix and b the bias.

    Args:
        branches: n.
        features: D of each branch.
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
    """The mean over all pixels; unlike adaptive pooling, its backward pass is deterministic on every device."""

    def forward(self, x: Tensor) -> Tensor:
        """Returns (B, C)."""
        return x.mean((2, 3))


class ResNet(nn.Module):
    """A ResNet with one or more branches, split where the spec says; it returns one (B, K) of logits per branch.

    Args:
        name: A name in `BLOCKS`.
        spec: The branches, where they split, their heads, the widths, and the trunk's BatchNorm over several batches.
        classes: K.
        mean: C values for the first layer; len(mean) is the number of image channels.
        std: C values for the first layer.

    Attributes:
        aux: A method's own modules, which the network stores but does not use.
        images_seen: Images passed in training mode since it was built; a batch that feeds every branch counts once.

    Raises:
        RequestError: No network has that name.
    """

    __call__: Callable[[Tensor | Sequence[Tensor]], list[Tensor]]

    def __init__(self, name: str, spec: NetSpec, classes: int, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if name not in BLOCKS:
            raise unknown("network", name, BLOCKS)
        self.joint = spec.bn == "joint"
        count, channels = BLOCKS[name], len(mean)
        first, *_, last = spec.widths
        inside = [first] + [width for width in spec.widths for _ in range(count)]
        strides = [2 if i in (count, 2 * count) else 1 for i in range(3 * count)]
        sizes = [(*pair, stride) for pair, stride in zip(pairwise(inside), strides, strict=True)]
        cut = {"block": 3 * count - 1, "layer3": 2 * count, "layer2": count}[spec.split_at]
        conv = nn.Conv2d(channels, first, 3, 1, 1, bias=False)
        stem = [Normalise(mean, std), conv, BatchNorm(first), nn.ReLU(inplace=True)]
        self.trunk = nn.Sequential(*stem, *(Block(*size) for size in sizes[:cut]))
        self.branches = nn.ModuleList(
            nn.Sequential(*(Block(*size) for size in sizes[cut:]), Pool()) for _ in spec.branches
        )
        self.heads: nn.Module
        if spec.head == "joint":
            self.heads = Joint(len(spec.branches), last, classes)
        else:
            self.heads = Heads(_head(spec, last, classes) for _ in spec.branches)
        self.aux = nn.ModuleDict()
        self.images_seen = 0
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, batches: Tensor | Sequence[Tensor]) -> list[Tensor]:
        """Returns the logits of every branch, equations (3) and (4) of DBN-Mix.

        Args:
            batches: One batch per branch, each (B, C, H, W) in [0, 1]; or a single batch for every branch.

        Returns:
            One (B, K) per branch, in the order of the spec's branches.
        """
        return cast(list[Tensor], self.heads(self.features(batches)))

    def features(self, batches: Tensor | Sequence[Tensor]) -> list[Tensor]:
        """Returns the pooled features of every branch, one (B, D) each: the input of the heads.

        Args:
            batches: See `forward`.
        """
        if self.training:
            self.images_seen += len(batches) if isinstance(batches, Tensor) else sum(map(len, batches))
        if isinstance(batches, Tensor):
            shared = [self.trunk(batches)] * len(self.branches)
        elif self.joint:
            shared = list(self.trunk(torch.cat(list(batches))).split([len(batch) for batch in batches]))
        else:  # one pass per batch, each with its own statistics; running ones are updated in order
            shared = [self.trunk(batch) for batch in batches]
        return [cast(Tensor, branch(x)) for branch, x in zip(self.branches, shared, strict=True)]

    def load_parent(self, weights: Mapping[str, Tensor], heads: bool) -> None:
        """Loads everything below the heads from another network; if it has one branch, every branch gets a copy.

        Args:
            weights: The state of a network of the same name, whose branches split at the same place.
            heads: Whether to load the heads too; then both networks must have the same branches.

        Raises:
            RuntimeError: A weight is missing, unexpected, or has another shape.
        """

        def under(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}

        self.trunk.load_state_dict(under("trunk."))
        for i, branch in enumerate(self.branches):
            branch.load_state_dict(under(f"branches.{i}.") or under("branches.0."))
        if heads:
            self.heads.load_state_dict(under("heads."))
