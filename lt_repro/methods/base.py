"""The Method contract, version 2: how batches become a loss. Legend: B images of a batch, C x H x W pixels, K classes.

A method is a frozen dataclass in a file of its own; its fields are its hyper-parameters. It declares what it needs:
batches (`samplers`), further random numbers (`random_inputs`), a network (`net_spec`, `aux_modules`), other runs
(`parents`), what is trained at which rate (`param_groups`). It turns a step's batches into a scalar (`loss`). It never
calls `backward` and never touches the optimiser, the device, files or globals; `torch.autograd.grad` and `torch.func`
are allowed.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, Self

import numpy as np
from torch import Tensor, nn
from torch.nn.functional import one_hot

from lt_repro import fields
from lt_repro.data.samplers import Sampler, Uniform
from lt_repro.losses import combine
from lt_repro.mixing import mixup_within
from lt_repro.nets.spec import NetSpec

Bounds = Mapping[str, tuple[float, float]]
"""Smallest and largest value of fields, by name, both allowed; `fields.ABOVE_0` for a field that may not be 0."""

SECOND_STAGE: Mapping[str, Any] = {"epochs": 10, "schedule": "cosine", "warmup": 0.0}
"""The recipe's fields of a stage that starts from a trained network."""

RandomInput = Callable[[np.random.Generator, int, int], np.ndarray[Any, Any]]
"""(generator, steps, batch) -> an epoch's numbers: (steps,), one a step, or (steps, batch), one an image."""

ParentRole = Literal["features", "weights", "teacher"]
"""What another run gives: "features" everything below the heads, which are fresh; "weights" the heads too; "teacher" a
frozen network in evaluation mode, beside the one that is trained and in no checkpoint."""


class Sampled(NamedTuple):
    """A batch that every step takes.

    Args:
        name: Unique among the method's samplers and random inputs.
        sampler: Which images.
        source: Which images there are: "train", or another source of the run's images.
        batch: Images in it; None for the recipe's batch size.
    """

    name: str
    sampler: Sampler
    source: str = "train"
    batch: int | None = None


class Batch(NamedTuple):
    """Images (B, C, H, W) float32 in [0, 1] and labels (B,) int64."""

    images: Tensor
    labels: Tensor


class MetaOptimizer(NamedTuple):
    """SGD that steps auxiliary parameters along `Method.meta_grads`, at one rate throughout training."""

    lr: float
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0


class Preset(NamedTuple):
    """Another recipe for a method, for example what its authors' code does.

    Args:
        source: Where it is written.
        sets: Fields of the recipe and of the method, by name.
        parent: The same of the run that it starts from, where it needs one.
    """

    source: str
    sets: Mapping[str, Any]
    parent: Mapping[str, Any] = {}


class Net(Protocol):
    """A network as a method sees it: one batch per branch, or one for all, gives one (B, K) of logits per branch.

    `features(batches)` gives one (B, D) per branch, `heads(features)` the logits; `aux` holds the method's own modules.
    """

    aux: nn.ModuleDict
    heads: nn.Module

    def __call__(self, batches: Tensor | Sequence[Tensor], /) -> list[Tensor]:
        """Returns the logits of every branch."""

    def features(self, batches: Tensor | Sequence[Tensor]) -> list[Tensor]:
        """Returns the pooled features of every branch."""

    def modules(self) -> Iterator[nn.Module]:
        """Yields the network and all its parts, whose mode a method may change temporarily."""


class StepContext(NamedTuple):
    """Where in training a step is, and what it was given.

    Args:
        progress: (), the fraction of training at the middle of the step.
        epoch_progress: (), the fraction of training at the beginning of its epoch.
        lr: (), the learning rate.
        class_counts: (K,) float32, the training images of each class.
        random: This step's numbers of each random input, () or (B,).
        teachers: The network of each parent in the role of a teacher.
        log: `log(name, value)` notes a scalar; its mean over each epoch goes to the run file.
    """

    progress: Tensor
    epoch_progress: Tensor
    lr: Tensor
    class_counts: Tensor
    random: Mapping[str, Tensor] = {}
    teachers: Mapping[str, Net] = {}
    log: Callable[[str, Tensor], None] = lambda name, value: None

    def targets(self, labels: Tensor) -> Tensor:
        """Returns one-hot targets (B, K) float32 of labels (B,)."""
        return one_hot(labels, len(self.class_counts)).float()

    def mixed(self, batch: Batch, mix: Literal["none", "mixup"]) -> tuple[Tensor, Tensor]:
        """Returns the images and targets of a batch; mixed with itself for "mixup", which needs `mixup_inputs`."""
        images, targets = batch.images, self.targets(batch.labels)
        if mix == "none":
            return images, targets
        return mixup_within(images, targets, self.random["partner"], self.random["lam"])


class Departure(NamedTuple):
    """A point where this project, a paper and its public code differ, or where the paper says nothing.

    Args:
        topic: What it is about.
        paper: What the paper says.
        code: What its public code does; "none" where there is none, or it was not read.
        ours: What this project does.
        effect: What it changes in a result; "" where that was not measured.
    """

    topic: str
    paper: str
    code: str
    ours: str
    effect: str = ""


@dataclass(frozen=True)
class Method(ABC):
    """What every method has. Methods do not subclass each other, they import what they share.

    Raises:
        RequestError: A field has a value of another type or outside `bounds`.
    """

    title: ClassVar[str]
    bounds: ClassVar[Bounds] = {}
    """Of its fields."""

    presets: ClassVar[Mapping[str, Preset]] = {}
    """Other recipes by name; "published" is what the authors' paper or code does."""

    tuned: ClassVar[Mapping[tuple[str, float], Mapping[str, Any]]] = {}
    """The method's fields that its authors chose for a data set and a ratio, by (data set, ratio)."""

    departures: ClassVar[tuple[Departure, ...]] = ()
    """Where paper, public code and this project differ; empty where no difference is known."""

    first_stage: ClassVar[str] = "cross_entropy"
    """The method of its parents where nothing else is chosen, by name."""

    def __post_init__(self) -> None:
        fields.check(self)
        fields.check_bounds(self, self.bounds)

    @classmethod
    def name(cls) -> str:
        """Returns the registry's name for this method, which is its file's."""
        return cls.__module__.rpartition(".")[2]

    def spelled(self) -> "Method":
        """Returns what this training is called: itself, or a simpler method that gives the same weights bit for bit."""
        return self

    @classmethod
    def examples(cls) -> Sequence[Self]:
        """Returns instances for the contract tests: one for each path that a field opens through the training loop."""
        return (cls(),)

    @property
    def defaults(self) -> Mapping[str, Any]:
        """Returns the recipe's fields in which this method differs from the data set's settings."""
        return {}

    @property
    def parents(self) -> tuple[ParentRole, ...]:
        """Returns the roles of the other runs that this one needs."""
        return ()

    @classmethod
    def with_parent(cls, spec: NetSpec) -> Mapping[str, Any]:
        """Returns the fields that a run with a parent of a network has where they are not given."""
        return {}

    def net_spec(self, parent: NetSpec | None = None) -> NetSpec:
        """Returns what network is trained, given that of the parent whose features or weights it starts from."""
        return parent or NetSpec()

    def aux_modules(self, class_counts: Tensor, spec: NetSpec) -> Mapping[str, nn.Module]:
        """Returns fresh modules of the method's own, by name; their parameters are "aux.NAME...".

        Args:
            class_counts: (K,) float32, the training images of each class.
            spec: The network that is trained.
        """
        return {}

    @property
    def param_groups(self) -> Mapping[str, tuple[float, float]]:
        """Returns what the optimiser trains: by a prefix of parameter names, (rate factor, weight-decay factor).

        Everything else is frozen. Auxiliary modules are trained only under a prefix that begins with "aux.". An empty
        mapping trains nothing: the run is evaluated as it is.
        """
        return {"": (1.0, 1.0)}

    @property
    def update_bn_stats(self) -> bool:
        """Returns whether BatchNorm in frozen parts uses and gathers the statistics of the batches it sees."""
        return False

    def samplers(self, progress: float) -> tuple[Sampled, ...]:
        """Returns the batches that a step takes; asked at the beginning of each epoch.

        Args:
            progress: The fraction of training that has passed.
        """
        return (Sampled("uniform", Uniform()),)

    @property
    def random_inputs(self) -> Mapping[str, RandomInput]:
        """Returns the further random numbers that a step needs, by name."""
        return {}

    @abstractmethod
    def loss(self, net: Net, batches: Mapping[str, Batch], ctx: StepContext) -> Tensor:
        """Returns the loss of one step, a finite scalar, a mean over its rows.

        Args:
            net: In training mode where it is trained.
            batches: One per sampler, by its name.
            ctx: Where in training this step is.
        """

    @property
    def meta_optimizer(self) -> MetaOptimizer | None:
        """Returns the optimiser of the auxiliary parameters that no `param_groups` name; None without `meta_grads`."""
        return None

    def meta_grads(self, net: Net, batches: Mapping[str, Batch], ctx: StepContext) -> Mapping[str, Tensor]:
        """Returns gradients of auxiliary parameters, by name ("aux.NAME..."); taken before `loss`.

        It leaves the network as it is, its buffers too.

        Args:
            net: As in `loss`.
            batches: As in `loss`.
            ctx: As in `loss`.
        """
        return {}

    def unmixed(self, progress: float) -> tuple[str, ...]:
        """Returns which batch each branch would see without mixing, by sampler name; () if the method mixes nothing.

        A method that trains on other images than it draws (mixed, translated) names them here. BatchNorm's running
        statistics are then not those of test images, and each run also says what its weights give with statistics of
        these batches (`train.bn_statistics`). The first is the batch that all branches could share. A method with the
        random input "lam" mixes every batch, if it does not say otherwise here.

        Args:
            progress: As in `samplers`.
        """
        return tuple(sampled.name for sampled in self.samplers(progress)) if "lam" in self.random_inputs else ()

    @property
    def gathers_mixed(self) -> bool:
        """Returns whether BatchNorm's running statistics are of images that the method has mixed: it follows.

        They are not where nothing is mixed, nor where everything below the heads is frozen with its statistics.
        """
        trains_below = any(not prefix.startswith(("heads.", "aux.")) for prefix in self.param_groups)
        return bool(self.unmixed(1.0)) and (trains_below or self.update_bn_stats)

    def predict(self, net: Net, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Returns how the method predicts: the combined logits (B, K), and those of each branch."""
        branches = net(images)
        return combine(branches), branches

    def inactive_fields(self) -> frozenset[str]:
        """Returns the names of the fields that have no effect with the values of the others."""
        return frozenset()
