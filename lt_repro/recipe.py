"""The Recipe: everything that decides a number, and nothing else."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from lt_repro import fields
from lt_repro.canonical import digest
from lt_repro.errors import RequestError, unknown
from lt_repro.methods import METHODS
from lt_repro.methods.base import Method


@dataclass(frozen=True)
class Recipe:
    """What is trained, on which images, how, and with which seed. Changed only by `replace`.

    Device, paths and verbosity are not in it. Where a default depends on the data set there is none here:
    `paper.settings.recipe` fills it in.

    Args:
        dataset: "cifar10", "cifar100", "digits", or what `npz:FILE` is called after it was read.
        ratio: n_max / n_min of the training set, >= 1.
        method: How batches become a loss.
        net: One of `nets.resnet.BLOCKS`.
        epochs: Passes over the training set, >= 1.
        batch: Images per step and draw, >= 1.
        lr: Learning rate between warm-up and the first drop, > 0.
        weight_decay: Of SGD, on every parameter, >= 0.
        profile: How class sizes fall from the first class to the last.
        split_seed: Which draw of the long-tailed split; 0 is the field's.
        momentum: Of SGD, in [0, 1).
        warmup: Fraction of training with a linearly rising rate.
        drops: Fractions of training at which the rate drops.
        drop_factor: What each drop multiplies the rate by.
        epoch_images: An epoch is as many images as the set has, or K x N_max ("balanced").
        normalise: "shared" has CIFAR-10's constants; "own" the data set's own mean and deviation.
        crop: Pixels of black frame from which random crops are taken; 0 for none.
        flip: Whether half of the images are flipped left to right.
        seed: Of the initial weights and of every draw.
        precision: "auto" is bf16 where the hardware gains by it; hashed as the word.

    Raises:
        RequestError: A value is not allowed.
    """

    dataset: str
    ratio: float
    method: Method
    net: str
    epochs: int
    batch: int
    lr: float
    weight_decay: float
    profile: Literal["exp", "step"] = "exp"
    split_seed: int = 0
    momentum: float = 0.9
    warmup: float = 0.025
    drops: tuple[float, ...] = (0.6, 0.8)
    drop_factor: float = 0.1
    epoch_images: Literal["set", "balanced"] = "set"
    normalise: Literal["shared", "own"] = "shared"
    crop: int = 4
    flip: bool = True
    seed: int = 0
    precision: Literal["auto", "fp32", "bf16"] = "auto"

    def __post_init__(self) -> None:
        fields.check(self)
        least = {"ratio": 1.0, "epochs": 1, "batch": 1, "split_seed": 0, "seed": 0, "crop": 0, "lr": 0.0}
        most = {"ratio": 1e9, "split_seed": 2**32 - 1, "seed": 2**63, "epochs": 10**6, "batch": 10**6, "lr": 1e3}
        bounds = {name: (low, most.get(name, math.inf)) for name, low in least.items()}
        bounds |= {
            "momentum": (0.0, 0.999),
            "weight_decay": (0.0, 1.0),
            "warmup": (0.0, 1.0),
            "drop_factor": (0.0, 1.0),
        }
        fields.within(self, bounds, open_below=frozenset({"lr"}))
        if list(self.drops) != sorted(self.drops) or not all(0 < drop < 1 for drop in self.drops):
            raise RequestError(f"drops = {self.drops}", "allowed: rising fractions of training between 0 and 1")

    def replace(self, **changes: Any) -> Self:
        """Returns the recipe with some fields changed; a method's field is found by its own name.

        Raises:
            RequestError: No field has that name, or a value is not allowed.
        """
        own = {name: value for name, value in changes.items() if name in fields.types(type(self))}
        rest = {name: value for name, value in changes.items() if name not in own}
        for name in rest:
            if name not in fields.types(type(self.method)):
                raise unknown("setting", name, settings(type(self.method)))
        if rest:
            own["method"] = dataclasses.replace(self.method, **rest)
        return dataclasses.replace(self, **own)

    def to_json(self) -> dict[str, Any]:
        """Returns the recipe as JSON values; the method is {"name": ..., field: value, ...}; infinity is "inf"."""
        values = {name: getattr(self, name) for name in fields.types(type(self))}
        values["method"] = {"name": self.method.name()} | dataclasses.asdict(self.method)
        return {name: _words(value) for name, value in values.items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Returns the recipe that `to_json` wrote.

        Raises:
            RequestError: A field is missing, unknown or not allowed, or the method is unknown.
        """
        inner = dict(values.get("method", {}))
        method = find(str(inner.pop("name", "")))
        return cls(method=_build(method, inner), **_checked(cls, {k: v for k, v in values.items() if k != "method"}))

    def key(self) -> str:
        """Returns the name of the run: a readable slug and 8 hex digits of the SHA-256 of the canonical JSON."""
        slug = f"{self.dataset}-r{self.ratio:g}-{self.method.name()}-e{self.epochs}-s{self.seed}"
        return f"{slug}-{digest(self.to_json())[:8]}"


def find(name: str) -> type[Method]:
    """Returns the method registered under `name`.

    Raises:
        RequestError: There is none.
    """
    if name not in METHODS:
        raise unknown("method", name, METHODS, "`ltrepro methods` lists them")
    return METHODS[name]


def settings(method: type[Method]) -> dict[str, Any]:
    """Returns the type of everything that can be set: the recipe's fields and the method's, by name."""
    own = {name: kind for name, kind in fields.types(Recipe).items() if name != "method"}
    return own | fields.types(method)


def _words(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _words(inner) for name, inner in value.items()}
    if isinstance(value, tuple):
        return [_words(inner) for inner in value]
    return "inf" if value == math.inf else value


def _checked(owner: type, values: Mapping[str, Any]) -> dict[str, Any]:
    kinds = fields.types(owner)
    needed = {field.name for field in dataclasses.fields(owner)} - {"method"}
    if set(values) != needed:
        odd = ", ".join(sorted(set(values) ^ needed))
        raise RequestError(f"the recipe has missing or unknown fields: {odd}", f"allowed: {', '.join(sorted(needed))}")
    return {name: math.inf if value == "inf" and kinds[name] is float else value for name, value in values.items()}


def _build(method: type[Method], values: Mapping[str, Any]) -> Method:
    return method(**_checked(method, values))
