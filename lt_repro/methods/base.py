"""The Method contract: how batches become a loss. Legend: B images of a batch, C x H x W pixels, K classes.

A method is a frozen dataclass in a file of its own; its fields are its hyper-parameters. It says which batches and
random numbers a step takes (`draws`, `streams`), what network it trains and which part of it (`net`, `trains`), what a
parent run gives it (`parents`), and turns them into a scalar (`loss`). It never calls `backward` and never touches the
optimiser, the device, files or globals.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import numpy as np
from torch import Tensor, nn

from lt_repro.losses import combine

Stream = Callable[[np.random.Generator, int, int], np.ndarray[Any, Any]]
"""(generator, steps, batch) -> an epoch's random numbers: (steps,), one a step, or (steps, batch), one an image."""


class Draw(NamedTuple):
    """A batch that every step takes: by the reverse sampler at `gamma`, or, at None, every image once an epoch."""

    name: str
    gamma: float | None = None


class NetSpec(NamedTuple):
    """What network a method trains: the branches' names, where they part, their heads, the trunk's BatchNorm.

    Heads are "linear", "cosine", or "joint": one linear head on the branches' features side by side.
    """

    branches: tuple[str, ...] = ("single",)
    branch_at: str = "block"
    head: str = "linear"
    bn: str = "per_branch"


class Batch(NamedTuple):
    """Images (B, C, H, W) float32 in [0, 1] and labels (B,) int64."""

    images: Tensor
    labels: Tensor


class At(NamedTuple):
    """Where in training a step stands.

    `t`, `epoch` and `lr` are scalars: the fraction of training at the middle of the step and at the beginning of its
    epoch, and the learning rate; `counts` (K,) float32, the training images a class; `draw[name]` this step's numbers
    of each stream, () or (B,); `log(name, value)` notes a scalar, and its mean over each epoch goes to the run file.
    """

    t: Tensor
    epoch: Tensor
    lr: Tensor
    counts: Tensor
    draw: Mapping[str, Tensor]
    log: Callable[[str, Tensor], None] = lambda name, value: None


class Net(Protocol):
    """A network as a method sees it: one batch per branch, or one for all, gives one (B, K) of logits per branch.

    `own` holds the method's own modules.
    """

    own: Mapping[str, nn.Module]

    def __call__(self, batches: Tensor | Sequence[Tensor]) -> list[Tensor]:
        """Returns the logits of every branch."""


@dataclass(frozen=True)
class Method(ABC):
    """What every method has. Methods do not subclass each other: they share `losses` and `mixing`."""

    title: ClassVar[str]

    @classmethod
    def name(cls) -> str:
        """Returns the registry's name for this method, which is its file's."""
        return cls.__module__.rpartition(".")[2]

    def net(self, parent: NetSpec | None = None) -> NetSpec:
        """Returns what network is trained, given the parent's where there is one."""
        return NetSpec()

    def modules(self, classes: int) -> Mapping[str, nn.Module]:
        """Returns fresh modules of the method's own, by name; to `trains` their parameters are "own.NAME...".

        Args:
            classes: K.
        """
        return {}

    @property
    def parents(self) -> tuple[Literal["features"], ...]:
        """Returns the roles of the runs that this one needs: "features" gives all below the heads, to start from."""
        return ()

    @property
    def trains(self) -> Mapping[str, tuple[float, float]]:
        """Returns what the optimiser holds: by the beginning of a parameter's name, (rate factor, decay factor).

        A parameter under no such name is frozen. So are the running statistics beside it, unless `adapts`.
        """
        return {"": (1.0, 1.0)}

    @property
    def adapts(self) -> bool:
        """Returns whether BatchNorm in frozen parts uses and gathers the statistics of the batches it sees."""
        return False

    @property
    def streams(self) -> Mapping[str, Stream]:
        """Returns the further random numbers that a step wants, by name.

        A method without any gives the network its batches as they are: features of images that nothing random changes
        are computed once where all below the heads is frozen.
        """
        return {}

    def draws(self, t: float) -> tuple[Draw, ...]:
        """Returns the batches that a step at the fraction `t` of training takes; asked once an epoch."""
        return (Draw("uniform"),)

    @abstractmethod
    def loss(self, net: Net, batches: Mapping[str, Batch], at: At) -> Tensor:
        """Returns the loss of one step, a finite scalar, a mean over its rows.

        Args:
            net: Called once, in training mode.
            batches: One per draw, by the draw's name, all of the same size.
            at: Where in training this step stands.
        """

    def unused(self) -> frozenset[str]:
        """Returns the names of the fields that decide nothing under the present values of the others."""
        return frozenset()

    def logits(self, net: Net, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Returns how the method predicts: the combined logits (B, K), and those of each branch."""
        branches = net(images)
        return combine(branches), branches
