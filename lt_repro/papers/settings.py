"""The settings of a paper: what it prints for each data set, how it can be read, and the recipes that this gives."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lt_repro import fields
from lt_repro.errors import RequestError, unknown
from lt_repro.methods import ALIASES
from lt_repro.methods.base import Method, ParentRole
from lt_repro.papers.reading import Reading
from lt_repro.recipe import SHARED, Recipe, field_types, find, role_fields

INHERITED = (*SHARED, "crop", "crop_pad", "flip", "rotation", "seed", "precision", "epoch_steps")
"""What a run takes from its parent by default."""


@dataclass(frozen=True)
class Settings:
    """What decides the recipes of a paper. A row holds fields of the recipe, and a method's fields under its name.

    Under "second stage" it holds the fields that differ in a run that starts from a parent's features or weights.

    Args:
        datasets: A row for each data set that the paper has.
        others: The row of any other data set.
        ratio: n_max / n_min where none is given.
        chosen: Fields of methods that experiments vary, which are no departure from the paper.
        ablation: The method that the paper takes apart, and its fields with nothing of it left: what fields that are
            given without a method are fields of, and what the others are then.
        readings: The ways in which the paper can be read, by name; the first is the default.
    """

    datasets: Mapping[str, Mapping[str, Any]]
    others: Mapping[str, Any]
    ratio: float = 100.0
    chosen: Sequence[str] = ()
    ablation: tuple[str, Mapping[str, Any]] = (Method.first_stage, {})
    readings: Mapping[str, Reading] = field(default_factory=lambda: {"paper": Reading("paper", "the paper's text", "")})
    _made: dict[tuple[Any, ...], Recipe] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def default(self) -> str:
        """Returns the name of the reading that holds where none is given."""
        return next(iter(self.readings))

    def recipe(
        self, dataset: str, method: str | None = None, reading: str | None = None, preset: str = "", **given: Any
    ) -> Recipe:
        """Returns a recipe: what is given wins, the paper's settings for the data set fill in the rest.

        Args:
            dataset: Any name.
            method: A registered method. None for the row of the paper's ablation that the given fields say
                (`ablation`), or a second stage of it with a parent; cross-entropy where they say nothing.
            reading: One of `readings`; None for the first.
            preset: One of the method's `presets`, in place of the paper's settings; "" for none.
            given: Fields by name. "mix" is the recipe's or its method's, "crt.bn" a field of one method, dropped where
                it is another, "parent.mix" the parent's. `parents` are recipes by role, `parent` is the only one;
                without them a method that needs a parent gets one with the same fields of the recipe, and
                `first_stage` as its method. What is inactive changes nothing.

        Raises:
            RequestError: A name is unknown or a value not allowed.
        """
        reading = self.default if reading is None else reading
        parents = {role: parent.key() for role, parent in given.get("parents", {}).items()}
        parents |= {"": given["parent"].key()} if "parent" in given else {}
        as_text = repr([(n, v) for n, v in given.items() if n not in ("parent", "parents")])  # 1, 1.0, True are three
        asked = dataset, method, reading, preset, as_text, repr(parents)
        if asked not in self._made:  # a plan asks three times for each
            self._made[asked] = self._resolved(dataset, method, reading, preset, given)
        return self._made[asked]

    def _resolved(
        self, dataset: str, method: str | None, reading: str, preset: str, given: Mapping[str, Any]
    ) -> Recipe:
        name, base, given = self.method_of(method, given)
        cls = find(name)
        own, inherited = _plain(name, given), {n: v for n, v in given.items() if n in _OF_RECIPE or "." in n}
        kept = {n: v for n, v in own.items() if n in fields.types(cls)}
        if parent := own.pop("parent", None):
            own["parents"] = {_role(cls, {**base, **cls.with_parent(parent.spec), **kept}): parent}
        elif "parents" not in own and (roles := cls(**{**base, **kept}).parents):
            own["parents"] = {roles[0]: self._parent(cls, dataset, reading, preset, inherited)}
            if roles[0] != "teacher":  # a second stage has its own length
                own = {n: v for n, v in own.items() if n not in ("epochs", *INHERITED)}
        return self._read(cls, dataset, reading, preset, base, own)

    def _parent(
        self, child: type[Method], dataset: str, reading: str, preset: str, inherited: Mapping[str, Any]
    ) -> Recipe:
        """Returns the parent of a run for which none is given; that of a preset has the preset's settings too."""
        given = {n: v for n, v in inherited.items() if not n.startswith("parent.")}
        given |= {n.removeprefix("parent."): v for n, v in inherited.items() if n.startswith("parent.")}
        given |= child.presets[preset].parent if preset in child.presets else {}
        return self.recipe(dataset, given.pop("method", child.first_stage), reading, **given)

    def method_of(self, method: str | None, given: Mapping[str, Any]) -> tuple[str, Mapping[str, Any], dict[str, Any]]:
        """Returns the method that is meant, its fields in place of its defaults, and what is given for it.

        Args:
            method: As in `recipe`; an alias sets fields.
            given: As in `recipe`.
        """
        if method is not None:
            name, sets = ALIASES.get(method, (method, {}))
            return name, {}, dict(sets) | dict(given)
        ablated, base = self.ablation
        if given.keys() & {"parent", "parents", *fields.types(find(ablated))}:
            return ablated, base, dict(given)
        return Method.first_stage, {}, dict(given)

    def departures(
        self, actual: Recipe, reading: str | None = None, preset: str = "", sets: Mapping[str, Any] = {}
    ) -> dict[str, tuple[Any, Any]]:
        """Returns every setting that differs from the paper's under one of its readings: name -> (actual, default).

        With a preset of the method, or with `sets`, those that differ from these. These never count as departures: data
        set, ratio, seed, parents, what decides them and the `chosen` fields. Where a parent departs, so does the run,
        under "parent NAME".
        """
        method = type(actual.method)
        free = {name: getattr(actual.method, name) for name in self.chosen if name in field_types(method)}
        free |= role_fields(actual.method)
        if actual.parents:
            free["parents"] = actual.parents
        whose = actual.dataset, method.name(), reading, preset
        default = self.recipe(*whose, ratio=actual.ratio, seed=actual.seed, **free | dict(sets))
        defaults = {f.name: f.default for f in dataclasses.fields(method)} | dict(
            default.values
        )  # it may be spelled simpler
        pairs = {name: (actual.values[name], defaults[name]) for name in field_types(method)}
        pairs = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
        chosen = method.presets[preset].parent if preset else {}
        for parent in actual.parents.values():
            known = {name: value for name, value in chosen.items() if name in field_types(type(parent.method))}
            inner = self.departures(parent, reading, sets=known)
            pairs |= {f"parent {name}": pair for name, pair in inner.items()}
        return pairs

    def _read(
        self,
        cls: type[Method],
        dataset: str,
        reading: str,
        preset: str,
        base: Mapping[str, Any],
        given: Mapping[str, Any],
    ) -> Recipe:
        if reading not in self.readings:
            raise unknown("reading", reading, self.readings)
        if preset and preset not in cls.presets:
            raise unknown(f"preset of {cls.name()}", preset, cls.presets)
        chosen = cls.presets[preset].sets if preset else {}
        points = [point for point in self.readings[reading].points if point.method in (None, cls.name())]
        read = {name: value for point in points for name, value in point.sets.items()}
        whole = self._filled(cls, dataset, base, read, chosen, given)
        without = [point for point in points if point.unless and point.unless.items() <= whole.values.items()]
        if not without:
            return whole
        read = {name: value for name, value in read.items() if not any(name in point.sets for point in without)}
        return self._filled(cls, dataset, base, read, chosen, given)

    def _filled(
        self,
        method: type[Method],
        dataset: str,
        base: Mapping[str, Any],
        read: Mapping[str, Any],
        preset: Mapping[str, Any],
        given: Mapping[str, Any],
    ) -> Recipe:
        row, parents = dict(self.datasets.get(dataset, self.others)), given.get("parents", {})
        first = parents.get("features") or parents.get("weights")
        layers = [{"ratio": self.ratio}, row, row.get(method.name(), {}), base, read]
        layers += [{name: getattr(parent, name) for name in INHERITED} for parent in parents.values()]
        ratio = _merged(*layers, given)["ratio"]
        layers += [method.tuned.get((dataset, ratio), {})]
        layers += [method.with_parent(parent.spec) for parent in parents.values()]
        own = {n: v for n, v in _merged(*layers, preset, given).items() if n in fields.types(method)}
        layers += [method(**own).defaults]
        if first:  # a second stage is never longer than the first
            layers += [row.get("second stage", {})]
            layers += [{"epochs": min(_merged(*layers)["epochs"], first.epochs)}]
        return resolve(method, *layers, preset, {**given, "dataset": dataset})


def resolve(method: type[Method], *layers: Mapping[str, Any]) -> Recipe:
    """Returns the recipe of a method that layers of settings make: of two values of a field, the later layer's.

    A name that neither the recipe nor the method has is ignored, except in the last layer: what was typed.

    Raises:
        RequestError: A name in the last layer is unknown, or a value not allowed.
    """
    *below, given = layers
    known = field_types(method)
    return Recipe.create(method, **{n: v for n, v in _merged(*below).items() if n in known} | dict(given))


def _merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for layer in layers for name, value in layer.items()}


_OF_RECIPE = frozenset(fields.types(Recipe)) - {"method", "parents"}


def _role(method: type[Method], values: Mapping[str, Any]) -> ParentRole:
    """Returns the role in which a method takes its only parent.

    Raises:
        RequestError: With these fields it takes none.
    """
    if not (roles := method(**values).parents):
        raise RequestError(
            f"a parent with method {method.name()}", "allowed: this method takes no parent, with these settings"
        )
    return roles[0]


def _plain(method: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what is given for a method under the fields' own names; `split_seed` "run" is the run's seed."""
    parts = [(name.rpartition("."), value) for name, value in given.items()]
    plain = {name: value for (owner, _, name), value in parts if owner in ("", method)}
    if plain.get("split_seed") == "run":
        plain["split_seed"] = plain.get("seed", 0)
    return plain
