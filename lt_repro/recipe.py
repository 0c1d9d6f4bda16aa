"""The Recipe: everything that decides a number, and nothing else."""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Self

from lt_repro import fields
from lt_repro.canonical import digest
from lt_repro.errors import RequestError, unknown
from lt_repro.methods import ALIASES, METHODS
from lt_repro.methods.base import Bounds, Method
from lt_repro.nets.spec import NetSpec
from lt_repro.schedules import learning_rate


@dataclass(frozen=True)
class Recipe:
    """What is trained, on which images, how, and with which seed. Changed only by `replace`.

    Device, paths and verbosity are not in it. Where a default depends on the data set there is none here:
    `papers.settings.Settings.recipe` fills it in.

    Args:
        dataset: A known data set (`data.sets`), or what `npz:FILE` or `folder:DIR` is called after it was read.
        ratio: n_max / n_min of the training set, >= 1.
        method: How batches become a loss.
        net: resnet8, resnet14, resnet20, resnet32, resnet44 or resnet56.
        epochs: Passes over the training set, >= 1.
        batch: Images per step and draw, >= 1.
        lr: Learning rate between warm-up and the first milestone, > 0.
        weight_decay: Weight decay of SGD, on every parameter, >= 0.
        imb_type: How class sizes fall from the first class to the last; "as_is" takes all images there are.
        split_seed: Which draw of the long-tailed split; 0 is the field's. Typed "run", it is the run's seed.
        momentum: Momentum of SGD, in [0, 1).
        warmup: Fraction of training with a linearly rising rate.
        milestones: Fractions of training at which the rate is multiplied by `lr_decay`.
        lr_decay: What each milestone multiplies the rate by.
        epoch_images: An epoch is as many images as the set has, or K x N_max ("balanced").
        normalise: "shared" has CIFAR-10's constants; "own" the data set's own mean and deviation.
        crop: Pixels around an image within which random crops are taken; 0 for none.
        flip: Whether half of the images are flipped left to right.
        seed: Random seed of the initial weights and of every draw.
        precision: "auto" is bf16 where the hardware gains by it; then it is not in the key, and the run file says what
            it became.
        schedule: "steps" drops the rate at `milestones`; "cosine" takes it to 0 along half a cosine.
        epoch_steps: At most so many steps an epoch, for a trial; 0 for no limit.
        nesterov: Whether SGD's momentum is Nesterov's.
        crop_pad: What surrounds an image before a crop is taken: black pixels ("zero"), or the image mirrored.
        rotation: Each image is turned by an angle between this and its negative, in degrees, after crop and flip.
        meta_images: Images of each class that are moved out of the training set before the long-tailed split: the
            balanced meta set of the methods that have one. 0 for none.
        bn_parts: Equal parts of each batch, in each of which BatchNorm takes its own statistics in training, as on so
            many cards; above 1 the last short batch of an epoch is dropped. A second stage does not inherit it.
        parents: The runs that this one needs, by the roles that its method names; on the same images, in the same
            network. Never changed in place.

    Raises:
        RequestError: A value is not allowed, or a parent is missing, not allowed, or has other images.
    """

    bounds: ClassVar[Bounds] = {
        "ratio": (1.0, 1e9),
        "epochs": (1, 10**6),
        "batch": (1, 10**6),
        "lr": (fields.ABOVE_0, 1e3),
        "weight_decay": (0.0, 1.0),
        "split_seed": (0, 2**32 - 1),
        "momentum": (0.0, 0.999),
        "warmup": (0.0, 1.0),
        "lr_decay": (0.0, 1.0),
        "crop": (0, math.inf),
        "seed": (0, 2**63),
        "epoch_steps": (0, math.inf),
        "rotation": (0.0, 180.0),
        "meta_images": (0, math.inf),
        "bn_parts": (1, math.inf),
    }

    dataset: str
    ratio: float
    method: Method
    net: str
    epochs: int
    batch: int
    lr: float
    weight_decay: float
    imb_type: Literal["exp", "step", "as_is"] = "exp"
    split_seed: int = fields.worded(0, "run")
    momentum: float = 0.9
    warmup: float = 0.025
    milestones: tuple[float, ...] = (0.6, 0.8)
    lr_decay: float = 0.1
    epoch_images: Literal["set", "balanced"] = "set"
    normalise: Literal["shared", "own"] = "shared"
    crop: int = 4
    flip: bool = True
    seed: int = 0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    schedule: Literal["steps", "cosine"] = fields.added_later("steps")
    epoch_steps: int = fields.added_later(0)
    nesterov: bool = fields.added_later(False)
    crop_pad: Literal["zero", "reflect"] = fields.added_later("zero")
    rotation: float = fields.added_later(0.0)
    meta_images: int = fields.added_later(0)
    bn_parts: int = fields.added_later(1)
    parents: Mapping[str, "Recipe"] = fields.added_later({})

    def __post_init__(self) -> None:
        fields.check(self)
        fields.check_bounds(self, self.bounds)
        if list(self.milestones) != sorted(self.milestones) or not all(
            0 < fraction < 1 for fraction in self.milestones
        ):
            raise RequestError(f"milestones = {self.milestones}", "allowed: rising fractions of training in (0, 1)")
        if self.nesterov and not self.momentum:
            raise RequestError("nesterov = True with momentum = 0", "allowed: Nesterov's momentum above 0")
        object.__setattr__(self, "method", self.method.spelled())
        self._level()
        if self.bn_parts > 1:
            self._check_bn_parts()
        self._check_parents()

    def _check_bn_parts(self) -> None:
        parts, batch = self.bn_parts, self.batch
        if batch % parts or batch < 2 * parts:
            raise RequestError(
                f"bn_parts = {parts} with batch = {batch}",
                "allowed: parts of equal size, of 2 images or more",
                f"use batch = {parts * max(2, -(-batch // parts))}, or other parts",
            )
        if getattr(self.method, "bn", "") == "joint" and "bn" not in self.method.inactive_fields():
            raise RequestError(
                f"bn = joint with bn_parts = {parts}",
                "allowed: bn = joint with bn_parts = 1",
                "use bn = per_branch: on several cards each branch's batch is divided on its own",
            )

    def _level(self) -> None:
        """Sets every inactive field to its default, so that one training is one recipe."""
        inactive = self.inactive_fields()
        of_method = {f.name: f.default for f in dataclasses.fields(self.method) if f.name in inactive}
        if any(getattr(self.method, name) != value for name, value in of_method.items()):
            object.__setattr__(self, "method", dataclasses.replace(self.method, **of_method))
        for field in dataclasses.fields(self):
            if field.name in inactive:
                object.__setattr__(self, field.name, _UNTRAINED.get(field.name, field.default))

    def _check_parents(self) -> None:
        name, roles = self.method.name(), self.method.parents
        if missing := [role for role in roles if role not in self.parents]:
            raise RequestError(
                f"method {name} without a parent", f"allowed: a run in the role {missing[0]!r}", kind="no parent"
            )
        if unexpected := self.parents.keys() - set(roles):
            raise RequestError(
                f"a parent with method {name}",
                f"allowed: {', '.join(roles) or 'no parent'}, not {sorted(unexpected)[0]}",
            )
        for parent in self.parents.values():
            for shared in SHARED:
                value, parent_value = getattr(self, shared), getattr(parent, shared)
                if value != parent_value:
                    raise RequestError(
                        f"{shared}={value}, but the parent has {shared}={parent_value}", "allowed: the parent's"
                    )
        if "features" in self.parents:
            count, parent_count = len(self.spec.branches), len(self.parents["features"].spec.branches)
            if parent_count not in (1, count):
                raise RequestError(
                    f"{count} branches, but the parent has {parent_count}",
                    "allowed: a parent with as many, or with one",
                )
        for role in ("weights", "teacher"):
            if role in self.parents and "weights" in (parent := self.parents[role]).method.parents:
                raise RequestError(
                    f"a parent of method {parent.method.name()} for {name}",
                    "allowed: a parent that does not change its logits (no scales, gates or adjustments)",
                    f"use its own parent, {parent.parents['weights'].key()}",
                )
        if "weights" in self.parents and self.spec != (parent_spec := self.parents["weights"].spec):
            raise RequestError(
                f"network {self.spec}, but the parent has {parent_spec}", "allowed: the parent's network"
            )

    def learning_rate(self, progress: float) -> float:
        """Returns the learning rate at a fraction of training; see `schedules.learning_rate`."""
        return learning_rate(
            progress,
            base=self.lr,
            warmup=self.warmup,
            milestones=self.milestones,
            factor=self.lr_decay,
            schedule=self.schedule,
        )

    def images_per_epoch(self, counts: Sequence[int]) -> int:
        """Returns how many images of the training set an epoch draws with each sampler.

        N, or K x N_max, or `epoch_steps` batches if that is less. Where BatchNorm sees parts of a batch, whole batches
        alone: the loader of DBN-Mix's code drops the last short one with several cards.

        Args:
            counts: (K,) training images of each class.
        """
        total = max(counts) * len(counts) if self.epoch_images == "balanced" else sum(counts)
        if self.epoch_steps:
            total = min(total, self.epoch_steps * self.batch)
        return total - total % self.batch if self.bn_parts > 1 else total

    @property
    def subset(self) -> tuple[str, float, str, int, int]:
        """Returns what names the split: data set, ratio, imb_type, split seed and meta images of a class."""
        return self.dataset, self.ratio, self.imb_type, self.split_seed, self.meta_images

    @property
    def spec(self) -> NetSpec:
        """Returns what network is trained."""
        parent = self.parents.get("features") or self.parents.get("weights")
        return self.method.net_spec(parent.spec if parent else None)

    def inactive_fields(self) -> frozenset[str]:
        """Returns the names of the fields that have no effect with the values of the others."""
        inactive = self.method.inactive_fields() | ({"milestones", "lr_decay"} if self.schedule == "cosine" else set())
        inactive |= set() if self.crop else {"crop_pad"}
        return inactive if self.method.param_groups else inactive | TRAINING

    @classmethod
    def create(cls, method: type[Method], **values: Any) -> Self:
        """Returns the recipe of a method with the given values; a method's field is found by its own name.

        Raises:
            RequestError: No field has that name, or a value is not allowed.
        """
        recipe_values, method_values = _by_owner(method, values)
        return cls(method=method(**method_values), **recipe_values)

    def replace(self, **changes: Any) -> Self:
        """Returns the recipe with some fields changed; a method's field is found by its own name.

        Raises:
            RequestError: No field has that name, or a value is not allowed.
        """
        recipe_values, method_values = _by_owner(type(self.method), changes)
        if method_values:
            recipe_values["method"] = dataclasses.replace(self.method, **method_values)
        return dataclasses.replace(self, **recipe_values)

    def to_json(self) -> dict[str, Any]:
        """Returns what decides the number as JSON values, whose digest is in the key.

        The method is {"name": ..., field: value, ...}, infinity is "inf", parents are recipes within the recipe. An
        inactive field, a precision left to the machine, and a field at its legacy value (`fields.added_later`) are left
        out.
        """
        inactive = self.inactive_fields() | ({"precision"} if self.precision == "auto" else set())
        values, method_values = (
            {name: getattr(x, name) for name in fields.types(type(x)) if name not in inactive}
            for x in (self, self.method)
        )
        values["method"] = {"name": self.method.name()} | _without_legacy(self.method, method_values)
        values["parents"] = {role: parent.to_json() for role, parent in self.parents.items()}
        return {name: _json_value(value) for name, value in _without_legacy(self, values).items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Returns the recipe that `to_json` wrote.

        Raises:
            RequestError: A field is missing, unknown or not allowed, or the method is unknown.
        """
        made = cls.from_legacy_json(values)
        if missing := _names(made.to_json()) - _names(values):
            raise RequestError(f"the recipe lacks {', '.join(sorted(missing))}", "allowed: all fields that decide it")
        return made

    @classmethod
    def from_legacy_json(cls, values: Mapping[str, Any]) -> Self:
        """Returns the recipe of JSON values that may have inactive fields too, as run files before schema 6 have.

        Raises:
            RequestError: As `from_json`, except for a missing field, which has its default.
        """
        if not isinstance(values, Mapping):
            raise RequestError(f"a recipe of {values!r}", "allowed: a JSON object")
        inner = dict(values.get("method", {}))
        method = find(str(inner.pop("name", "")))
        recipe_values = _checked(cls, {name: value for name, value in values.items() if name != "method"})
        if isinstance(recipe_values.get("parents"), Mapping):
            recipe_values["parents"] = {
                role: cls.from_legacy_json(parent) for role, parent in recipe_values["parents"].items()
            }
        made = method(**_checked(method, inner))
        values = ({} if made.param_groups else dict(_UNTRAINED)) | recipe_values
        required = {f.name for f in dataclasses.fields(cls) if f.default is f.default_factory}  # both are missing
        if missing := required - {"method"} - values.keys():
            raise RequestError(
                f"the recipe has missing fields: {', '.join(sorted(missing))}", "allowed: a whole recipe"
            )
        return cls(method=made, **values)

    def lineage(self) -> list["Recipe"]:
        """Returns the recipe, then its parents, each followed by its own."""
        return [self, *(ancestor for parent in self.parents.values() for ancestor in parent.lineage())]

    def key(self) -> str:
        """Returns the name of the run: a readable slug and 8 hex digits of the SHA-256 of the canonical JSON."""
        return self._key

    def __hash__(self) -> int:
        return hash(self._key)

    @functools.cached_property
    def _key(self) -> str:
        length = [f"e{self.epochs}"] if self.method.param_groups else []
        slug = [self.dataset, f"r{self.ratio:g}", self.method.name(), *length, f"s{self.seed}"]
        return "-".join([*slug, digest(self.to_json())[:8]])

    @functools.cached_property  # a plan looks half a million times
    def values(self) -> Mapping[str, Any]:
        """Returns the value of everything that can be set, by name: the recipe's fields and its method's."""
        method_fields = fields.types(type(self.method))
        return {
            name: getattr(self.method if name in method_fields else self, name)
            for name in field_types(type(self.method))
        }


SHARED = ("dataset", "ratio", "imb_type", "split_seed", "meta_images", "net", "normalise")
"""What a run shares with its parents: the images, and the network that the weights belong to."""


TRAINING = frozenset(
    {"epochs", "batch", "lr", "weight_decay", "momentum", "warmup", "milestones", "lr_decay", "schedule", "nesterov"}
    | {"epoch_images", "epoch_steps", "crop", "crop_pad", "flip", "bn_parts"}
)
"""What decides nothing where nothing is trained."""
_UNTRAINED: Mapping[str, Any] = {"epochs": 1, "batch": 128, "lr": 0.1, "weight_decay": 0.0}
"""What the fields among them that have no default are then."""


def find(name: str) -> type[Method]:
    """Returns the method registered under `name`.

    Raises:
        RequestError: There is none.
    """
    known = ALIASES.get(name, (name, {}))[0]
    if known not in METHODS:
        raise unknown("method", name, METHODS, kind="unknown method")
    return METHODS[known]


@functools.cache  # a plan asks a hundred thousand times
def field_types(method: type[Method]) -> Mapping[str, Any]:
    """Returns the type of everything that can be set: the recipe's fields and the method's, by name."""
    recipe_types = {name: kind for name, kind in fields.types(Recipe).items() if name != "method"}
    return MappingProxyType(recipe_types | fields.types(method))


def role_fields(method: Method) -> dict[str, Any]:
    """Returns the fields that decide which parents a method has, by name: those whose default would change them."""
    changed = {
        field.name: field.default
        for field in dataclasses.fields(method)
        if field.default is not dataclasses.MISSING and getattr(method, field.name) != field.default
    }
    result = {}
    for name, default in changed.items():
        with contextlib.suppress(RequestError):  # the default does not go with the other fields
            if dataclasses.replace(method, **{name: default}).parents != method.parents:
                result[name] = getattr(method, name)
    return result


def _json_value(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _json_value(inner) for name, inner in value.items()}
    if isinstance(value, tuple):
        return [_json_value(inner) for inner in value]
    return "inf" if value == math.inf else value


def _checked(owner: type, values: Mapping[str, Any]) -> dict[str, Any]:
    kinds = fields.types(owner)
    known = kinds.keys() - {"method"}
    if unexpected := values.keys() - known:
        raise RequestError(
            f"the recipe has unknown fields: {', '.join(sorted(unexpected))}", f"allowed: {', '.join(sorted(known))}"
        )
    return {name: math.inf if value == "inf" and kinds[name] is float else value for name, value in values.items()}


def _names(values: Mapping[str, Any]) -> set[str]:
    """Returns the names of the fields that a recipe's JSON values have, those of the method after "method."."""
    inner = values.get("method")
    return {*values, *(f"method.{name}" for name in (inner if isinstance(inner, Mapping) else ()))}


def _without_legacy(owner: Recipe | Method, values: Mapping[str, Any]) -> dict[str, Any]:
    before = fields.legacy_values(type(owner))
    return {name: value for name, value in values.items() if name not in before or value != before[name]}


def _by_owner(method: type[Method], values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the values of the recipe's own fields and those of the method's."""
    for name in values:
        if name not in field_types(method):
            raise unknown("setting", name, field_types(method))
    recipe_values = {name: value for name, value in values.items() if name in fields.types(Recipe)}
    return recipe_values, {name: value for name, value in values.items() if name not in recipe_values}
