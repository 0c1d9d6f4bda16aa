"""The settings of a paper: what it prints for each data set, how it can be read, and the recipes that this gives."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lt_repro import fields
from lt_repro.errors import unknown
from lt_repro.methods.base import Method
from lt_repro.paper.reading import Reading
from lt_repro.recipe import SHARED, Recipe, find, role_fields, settings

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
        readings: The ways in which the paper can be read, by name; the first is the default.
    """

    datasets: Mapping[str, Mapping[str, Any]]
    others: Mapping[str, Any]
    ratio: float = 100.0
    chosen: Sequence[str] = ()
    readings: Mapping[str, Reading] = field(default_factory=lambda: {"paper": Reading("paper", "the paper's text", "")})
    _made: dict[tuple[Any, ...], Recipe] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def default(self) -> str:
        """Returns the name of the reading that holds where none is given."""
        return next(iter(self.readings))

    def recipe(
        self, dataset: str, method: str = "dbn_mix", reading: str | None = None, preset: str = "", **given: Any
    ) -> Recipe:
        """Returns a recipe: what is given wins, the paper's settings for the data set fill in the rest.

        Args:
            dataset: Any name.
            method: A registered method.
            reading: One of `readings`; None for the first. What it sets is dropped where it is inactive.
            preset: One of the method's `presets`, in place of the paper's settings; "" for none.
            given: Any field of the recipe or of the method, by name. A name like "crt.bn" is a field of one method, and
                dropped for every other.

        Raises:
            RequestError: A name is unknown or a value not allowed.
        """
        cls, given, reading = find(method), _plain(method, given), self.default if reading is None else reading
        parents = {role: parent.key() for role, parent in given.get("parents", {}).items()}
        asked = cls, dataset, reading, preset, repr(given | {"parents": parents})  # as text 1, 1.0 and True are three
        if asked not in self._made:  # a plan asks three times for each
            self._made[asked] = self._fitted(cls, dataset, reading, preset, given)
        return self._made[asked]

    def active(self, dataset: str, method: str = "dbn_mix", **given: Any) -> Recipe:
        """Returns a recipe as `recipe` does, without the given settings that are inactive in it.

        So a setting for a whole table does not change the rows that do not use it.

        Raises:
            RequestError: As `recipe`.
        """
        given = _plain(method, given)
        whole = self.recipe(dataset, method, **given)
        idle = whole.inactive_fields() & given.keys()
        if not idle:
            return whole
        return self.recipe(dataset, method, **{name: value for name, value in given.items() if name not in idle})

    def departures(
        self, actual: Recipe, reading: str | None = None, preset: str = "", sets: Mapping[str, Any] = {}
    ) -> dict[str, tuple[Any, Any]]:
        """Returns every setting that differs from the paper's under one of its readings: name -> (actual, default).

        With a preset of the method, or with `sets`, those that differ from these. What an experiment chooses is no
        departure: data set, ratio, seed, parents, what decides them and the `chosen` fields. Where a parent departs, so
        does the run, under "parent NAME".
        """
        method = type(actual.method)
        free = {name: getattr(actual.method, name) for name in self.chosen if name in settings(method)}
        free |= role_fields(actual.method)
        if actual.parents:
            free["parents"] = actual.parents
        whose = actual.dataset, method.name(), reading, preset
        default = self.recipe(*whose, ratio=actual.ratio, seed=actual.seed, **free | dict(sets))
        pairs = {name: (actual.values[name], default.values[name]) for name in settings(method)}
        pairs = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
        chosen = method.presets[preset].parent if preset else {}
        for parent in actual.parents.values():
            known = {name: value for name, value in chosen.items() if name in settings(type(parent.method))}
            inner = self.departures(parent, reading, sets=known)
            pairs |= {f"parent {name}": pair for name, pair in inner.items()}
        return pairs

    def _fitted(self, cls: type[Method], dataset: str, reading: str, preset: str, given: Mapping[str, Any]) -> Recipe:
        method = cls.name()
        if reading not in self.readings:
            raise unknown("reading", reading, self.readings)
        if preset and preset not in cls.presets:
            raise unknown(f"preset of {method}", preset, cls.presets)
        chosen = cls.presets[preset].sets if preset else {}
        points = [point for point in self.readings[reading].points if point.method in (None, method)]
        read = {name: value for point in points for name, value in point.sets.items()}
        whole = self._filled(cls, dataset, read, chosen, given)
        idle = set(whole.inactive_fields())
        for point in points:
            if point.unless and point.unless.items() <= whole.values.items():
                idle |= point.sets.keys()
        if not idle & read.keys():
            return whole
        return self._filled(
            cls, dataset, {name: value for name, value in read.items() if name not in idle}, chosen, given
        )

    def _filled(
        self,
        method: type[Method],
        dataset: str,
        read: Mapping[str, Any],
        preset: Mapping[str, Any],
        given: Mapping[str, Any],
    ) -> Recipe:
        known, row = settings(method), dict(self.datasets.get(dataset, self.others))
        usual = {"ratio": self.ratio} | row | dict(row.get(method.name(), {})) | dict(read)
        parents = given.get("parents", {})
        for parent in parents.values():
            usual |= {name: getattr(parent, name) for name in INHERITED}
        ratio = given.get("ratio", usual["ratio"])
        usual |= dict(method.tuned.get((dataset, ratio), {})) | dict(preset)
        first = parents.get("features") or parents.get("weights")
        if first:
            usual |= {"branches": len(first.spec.branches), "frozen": True}
        if "teacher" in parents:
            usual |= {"distill": 1.0}
        method_fields = {name: value for name, value in (usual | dict(given)).items() if name in fields.types(method)}
        usual |= dict(method(**method_fields).defaults)
        if first:  # a second stage is never longer than the first
            usual |= dict(row.get("second stage", {}))
            usual["epochs"] = min(usual["epochs"], first.epochs)
        usual |= dict(preset)
        return Recipe.create(
            method, **{n: v for n, v in usual.items() if n in known} | dict(given) | {"dataset": dataset}
        )


def _plain(method: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what is given for a method under the fields' own names; `split_seed` "run" is the run's seed."""
    parts = [(name.rpartition("."), value) for name, value in given.items()]
    plain = {name: value for (owner, _, name), value in parts if owner in ("", method)}
    if plain.get("split_seed") == "run":
        plain["split_seed"] = plain.get("seed", 0)
    return plain
