"""A Table is data: labelled rows and columns as edits on one base recipe. A Figure is a Table with a numeric axis."""

import dataclasses
import functools
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Self

from lt_repro import fields
from lt_repro.data import sets
from lt_repro.errors import RequestError, unknown
from lt_repro.methods import METHODS
from lt_repro.papers.settings import Settings
from lt_repro.recipe import Recipe, field_types

PROFILES: dict[str, dict[str, Any]] = {
    "paper": {},
    "short": {"epochs": 20},
    "smoke": {"epochs": 10, "epoch_steps": 3},
}
"""How long runs are: the paper's length, or what shows that it runs. One table never mixes them."""
STATISTICS = {
    "running": "running, as training left them",
    "mixed": "mixed, a plain mean over an epoch of training batches",
    "clean": "clean, a plain mean over an epoch of training images without mixing",
    "blend": "blend, running with a clean batch after each training batch",
}
"""Statistics of BatchNorm that a run can be tested with, and what captions say of them (`train.bn_statistics`)."""
PROTOCOLS = {
    "last": "the pinned split, the last epoch",
    "released": "each seed draws its own split; tested after every epoch, the best beside the last",
}
"""How the number is read off, and on which split."""
DEFAULT = "dbn_mix"
"""The paper whose exhibits have short ids: "table4", where those of others are "mislas/table1"."""
Tier = Literal["measured", "authors_code", "quoted", "secondary"]
"""Where a published number was read: in the paper, which measured it; beside the authors' code; in a paper that quotes
another one; or in a third party's transcription of the paper."""


class Variant(NamedTuple):
    """A row or a column: its label in files, its title for readers, the settings that make it, and what it shows.

    `metric` is "all", "many", "medium", "few" or "ece", `branch` the name of a branch, `bn` statistics of BatchNorm;
    None leaves it to the other variant of the cell, then "all", the combined output and the table's. `notes` say where
    a published number's protocol is not ours. With the edit `{"method": None}` nothing is trained: published only.
    """

    label: str
    title: str
    edits: Mapping[str, Any] = {}
    metric: str | None = None
    branch: str | None = None
    notes: tuple[str, ...] = ()
    bn: str | None = None


def ratios(*values: float) -> tuple[Variant, ...]:
    """Returns the columns of the given imbalance ratios."""
    texts = [fields.text(float(value)) for value in values]
    return tuple(Variant(text, f"ratio {text}", {"ratio": float(text)}) for text in texts)


class Published(NamedTuple):
    """A number that a paper prints, and where it comes from.

    Args:
        value: A fraction.
        source: Where it was read: the table of a paper, or a file of a repository at a commit.
        protocol: How it was measured, in one line: split, epochs, best or last epoch, augmentation, seeds.
        tier: See `Tier`.
        sd: The standard deviation printed with it, a fraction; None without one.
        n: Over how many runs; None where that is not said.
        picture: Whether it was read from a picture.
    """

    value: float
    source: str
    protocol: str
    tier: Tier = "measured"
    sd: float | None = None
    n: int | None = None
    picture: bool = False

    @property
    def measured(self) -> bool:
        """Returns whether the paper's authors measured it, and it was read in what they wrote."""
        return self.tier in ("measured", "authors_code")


class Missing(NamedTuple):
    """What a cell lacks to be trained: a method, images, or anything but a published number; and its name."""

    status: Literal["no method", "needs data", "published only"]
    name: str = ""

    def __str__(self) -> str:
        return f"{self.status} {self.name} yet" if self.status == "no method" else f"{self.status} {self.name}".strip()


@dataclass(frozen=True)
class Cell:
    """One place of a table: what would have to be trained (one recipe a seed), and what the paper prints there.

    `missing` is None where it can be trained; without a method there are no recipes. `reading` is the paper's reading
    that its recipes follow, `preset` the method's or "". `bn` is the requested statistics of BatchNorm, None for those
    of `code_bn`: what the reading tests with.
    """

    row: Variant
    column: Variant
    recipes: tuple[Recipe, ...]
    published: Published | None
    missing: Missing | None = None
    reading: str = ""
    preset: str = ""
    bn: str | None = None
    code_bn: str = "running"

    @property
    def recipe(self) -> Recipe | None:
        """Returns the recipe of the first seed, which represents the cell; None where its method does not exist yet."""
        return self.recipes[0] if self.recipes else None

    @property
    def metric(self) -> str:
        """Returns what is shown: the accuracy "all", "many", "medium" or "few", or "ece"."""
        return self.row.metric or self.column.metric or "all"

    @property
    def branch(self) -> str | None:
        """Returns which branch's accuracy is shown; None for the combined output."""
        return self.row.branch or self.column.branch


@dataclass(frozen=True)
class Table:
    """An exhibit of a paper, able to list the recipes it needs before any has run.

    Args:
        exhibit: Its name in the paper: "table4".
        heading: The text above it; "{place}" is where it names its images.
        settings: The paper's: they make the recipes.
        base: The settings every cell shares.
        rows: From top to bottom.
        columns: From left to right.
        published: What the paper prints, by (row label, column label).
        seeds: Trained for each cell.
        ablation: Whether every row changes the first, so that gains over it make sense.
        axis: For a figure, the setting that the columns vary, whose values are numbers; None for a table.
        lines: For a figure, the setting that the rows vary, or None when there is one row.
        form: How it is shown: "table"; "lines" along `axis`; "classes", accuracies class by class, "groups", bars by
            column, "reliability", accuracy by confidence, or "lambdas", the last change of a run's test accuracy by
            the change of its last lambdas, each row a series.
        profile: How long its runs are: one of `PROFILES`, or "set by hand".
        best: Whether the best accuracy along the curve is shown by default.
        changed: Whether a setting is not the paper's, in any of its readings; then nothing published stays.
        bn: Statistics of BatchNorm that runs are tested with (`Run.outcome`); None for those of the reading.
        rows_by_reading: Other rows under a reading, by its name.
        paper: The name of its paper.
        marks: What differs from the paper's exhibit, as its id and file name say it: ("@released", "-digits", "-r60").
    """

    exhibit: str
    heading: str
    settings: Settings
    base: Mapping[str, Any]
    rows: Sequence[Variant]
    columns: Sequence[Variant]
    published: Mapping[tuple[str, str], Published] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0, 1, 2)
    ablation: bool = False
    axis: str | None = None
    lines: str | None = None
    form: Literal["table", "lines", "classes", "groups", "reliability", "lambdas"] = "table"
    profile: str = "paper"
    best: bool = False
    changed: bool = False
    bn: str | None = None
    rows_by_reading: Mapping[str, Sequence[Variant]] = field(default_factory=dict)
    paper: str = DEFAULT
    marks: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Returns its id as shown and typed: "table4@released-digits-r60", "mislas/table1"."""
        return f"{'' if self.paper == DEFAULT else self.paper + '/'}{self.exhibit}{''.join(self.marks)}"

    @property
    def caption(self) -> str:
        """Returns the text above it: "Accuracy by class group (CIFAR-LT-100 (100); not in the paper)."."""
        return self.heading.replace("{place}", _place_name(self.base)) if "{place}" in self.heading else self.heading

    @property
    def file_name(self) -> str:
        """Returns the name of its files, without a suffix."""
        return self.id.replace("/", "-")

    @property
    def notes(self) -> list[str]:
        """Returns the notes of the rows, each once, in the order in which they are numbered from 1."""
        return list(dict.fromkeys(note for row in self.rows for note in row.notes)) if self.published else []

    def titles(self) -> list[str]:
        """Returns the rows' titles with the numbers of their notes: "LDAM-DRW [1, 2]"."""
        numbers = {note: f"{number}" for number, note in enumerate(self.notes, 1)}
        marks = [", ".join(mark for note, mark in numbers.items() if note in row.notes) for row in self.rows]
        return [row.title + (f" [{mark}]" if mark else "") for row, mark in zip(self.rows, marks, strict=True)]

    @property
    def compared_bn(self) -> set[str]:
        """Returns the statistics of BatchNorm that its rows or columns compare, on the same runs; none for most."""
        return {variant.bn for variant in (*self.rows, *self.columns) if variant.bn}

    def cells(self) -> Iterator[Cell]:
        """Yields every cell, row by row."""
        yield from self._cells

    @functools.cached_property
    def _cells(self) -> list[Cell]:
        built: dict[tuple[Any, ...], tuple[Recipe, ...]] = {}  # columns may be views of one run
        cells = []
        for row in self.rows:
            for column in self.columns:
                edits = dict(column.edits) | dict(row.edits)
                method = edits.get("method") or self.base.get("method")
                recipes: tuple[Recipe, ...] = ()
                missing = None
                if any(variant.edits.get("method", "") is None for variant in (row, column)):
                    missing = Missing("published only")
                elif method and method not in METHODS:
                    missing = Missing("no method", method)
                else:
                    edits = {n: v for n, v in self.base.items() if _takes(method, n)} | edits
                    same = tuple(edits.items())
                    if same not in built:
                        built[same] = tuple(self.settings.recipe(**edits, seed=seed) for seed in self.seeds)
                    recipes = built[same]
                    if sets.is_unread(images := recipes[0].dataset):
                        missing = Missing("needs data", images)
                published = self.published.get((row.label, column.label))
                reading, bn = edits.get("reading", self.settings.default), row.bn or column.bn or self.bn
                code_bn = self.settings.readings[reading].bn(recipes[0]) if recipes else "running"
                way = reading, edits.get("preset", ""), bn, code_bn
                cells.append(Cell(row, column, recipes, published, missing, *way))
        return cells

    def recipes(self) -> list[Recipe]:
        """Returns every recipe that the table needs and that can be trained, each once, seed by seed."""
        cells = [cell for cell in self.cells() if cell.missing is None]
        every = [cell.recipes[i] for i in range(len(self.seeds)) for cell in cells]
        return list({recipe.key(): recipe for recipe in every}.values())

    def with_settings(self, columns: Sequence[Variant] | None = None, **settings: Any) -> Self:
        """Returns the same exhibit with other columns or under other settings; None leaves a setting alone.

        The id says what differs, so that the paper's exhibit is never written over; so does the caption. What the paper
        prints stays only where every setting is the paper's. A row whose method has no such setting stays as it is, and
        a setting that changes no recipe of the exhibit is ignored.

        Args:
            columns: In place of the paper's.
            settings: Fields of the recipe or the method; those at the paper's value change nothing.

        Raises:
            RequestError: A name is unknown, a value not allowed, or a row or column decides that setting.
        """
        asked = {name: value for name, value in settings.items() if value is not None}
        if not asked and columns is None:
            return self
        decided = {name for variant in (*self.rows, *self.columns) for name in variant.edits}
        of_ablation = {name for row in self.rows if "method" not in row.edits for name in row.edits}
        clash = [name for name in asked if name in decided or name.rpartition(".")[2] in of_ablation]
        if clash := sorted(set(clash) - set(_FIRST)):
            raise RequestError(
                f"{', '.join(clash)} set for {self.id}",
                "allowed: what its rows and columns do not decide",
                "choose some of its rows and columns instead",
                kind="decided by rows",
            )
        across = self.columns if columns is None else columns

        def recipes(edits: Mapping[str, Any]) -> list[Recipe]:
            edited = dataclasses.replace(self, base={**self.base, **edits}, columns=across, seeds=self.seeds[:1])
            return [each for cell in edited.cells() for recipe in cell.recipes for each in recipe.lineage()]

        images = {name: value for name, value in asked.items() if name in ("dataset", "ratio", "imb_type")}
        moved_to = {name: value for name, value in images.items() if name == "dataset"}
        own, there, elsewhere, whole = recipes({}), recipes(moved_to), recipes(images), recipes(asked)
        before = {"dataset": own, "ratio": there, "imb_type": there}  # the data set decides an imb_type too
        other = {
            name: value
            for name, value in asked.items()
            if _values(name, whole) != _values(name, before.get(name, elsewhere))
        }
        moved = [variant.label for variant in across] != [variant.label for variant in self.columns]
        named = {name: other[name] for name in sorted(other, key=_place)}
        if other.get("imb_type") == "as_is":
            named = {name: value for name, value in named.items() if name != "ratio"}
        marks = [_mark(name, value) for name, value in named.items()] + [
            _mark("ratio", variant.label) for variant in across if moved
        ]
        rest = {name: value for name, value in other.items() if name not in ("dataset", "ratio", "imb_type")}
        base, heading = dict(self.base) | other, self.heading
        if {"dataset", "ratio"} & other.keys() and "{place}" not in heading:
            heading += f" On {_place_name(base, moved)}."
        if rest:
            words = ", ".join(f"{name} {fields.text(value)}" for name, value in rest.items())
            heading += f" Not the paper's settings: {words}."
        return dataclasses.replace(
            self,
            marks=(*self.marks, *(f"-{mark}" for mark in marks)),
            heading=heading,
            base=base,
            columns=across,
            published={} if other else self.published,
            profile="set by hand" if {"epochs", "epoch_steps"} & other.keys() else self.profile,
            changed=self.changed or bool(other),
        )

    def on_images(self, images: str | None, across: Sequence[Variant], **settings: Any) -> Self:
        """Returns the exhibit on other images, at other ratios and under other settings, as `with_settings`.

        Where the columns are ratios, `across` takes their place; else it is one ratio and a setting like the others.

        Args:
            images: A data set in place of every one of the exhibit's, or None.
            across: Ratios as columns; empty to leave them alone.
            settings: See `with_settings`.

        Raises:
            RequestError: Several ratios for an exhibit of one; see `with_settings`.
        """
        columns = None
        if any("ratio" in variant.edits for variant in self.columns):
            columns = list(across) or None
            if any("dataset" in variant.edits for variant in self.columns) and (images or across):
                raise RequestError(
                    f"another data set or ratio for {self.id}, whose columns are data sets",
                    "allowed: its own columns",
                    "choose some of its columns instead",
                    kind="decided by columns",
                )
        elif len(across) > 1:
            raise RequestError(f"{len(across)} ratios for {self.id}", "allowed: one, as its columns are no ratios")
        elif across:
            settings |= across[0].edits
        return self.with_settings(columns, dataset=images, **settings)

    def read_as(self, reading: str | None) -> Self:
        """Returns the exhibit under another reading of the paper, whose name is in id and caption; None for the first.

        Raises:
            RequestError: There is no such reading, or the exhibit compares readings itself.
        """
        readings = self.settings.readings
        if reading in (None, self.settings.default):
            return self
        if reading not in readings:
            raise unknown("reading", reading, readings)
        if any("reading" in row.edits for row in self.rows):
            raise RequestError(f"reading {reading} for {self.id}", "allowed: exhibits whose rows share one reading")
        heading = f"{self.heading} Reading: {readings[reading].title}."
        base = dict(self.base) | {"reading": reading}
        rows = self.rows_by_reading.get(reading, self.rows)
        marks = (*self.marks, f"@{reading}")
        return dataclasses.replace(self, marks=marks, heading=heading, base=base, rows=rows)

    def tested_with(self, bn: str | None) -> Self:
        """Returns the exhibit with other statistics of BatchNorm, whose name is in id and caption; None for its own.

        Raises:
            RequestError: There are none of that name, or its rows or columns compare them.
        """
        if bn is None:
            return self
        if bn not in STATISTICS:
            raise unknown("statistics", bn, STATISTICS)
        if self.compared_bn:
            raise RequestError(f"statistics {bn} for {self.id}", "allowed: exhibits that do not compare statistics")
        heading = f"{self.heading} Tested with BatchNorm statistics: {STATISTICS[bn]}."
        return dataclasses.replace(self, marks=(*self.marks, f"-bn-{bn}"), heading=heading, bn=bn)

    def protocol(self, name: str) -> Self:
        """Returns the exhibit under another protocol, whose name is in id and caption.

        Args:
            name: "last" for the project's: the pinned split, the last epoch. "released" for that of the released code
                of DBN-Mix: each seed draws its own split, and the best epoch on test is shown beside the last.

        Raises:
            RequestError: There is no such protocol.
        """
        if name not in PROTOCOLS:
            raise unknown("protocol", name, PROTOCOLS)
        if name == "last":
            return self
        heading = f"{self.heading} Protocol {name}: {PROTOCOLS[name]}."
        base = dict(self.base) | {"split_seed": "run"}
        marks = (*self.marks, f"-protocol-{name}")
        return dataclasses.replace(self, marks=marks, heading=heading, base=base, best=True)

    def profiled(self, profile: str) -> Self:
        """Returns the exhibit with runs of another length: its name is in id and caption, and nothing published stays.

        Longer rows keep their ratio.

        Args:
            profile: One of `PROFILES`.

        Raises:
            RequestError: There is no such profile.
        """
        if profile not in PROFILES:
            raise unknown("profile", profile, PROFILES)
        if not (given := PROFILES[profile]):
            return self
        words = ", ".join(f"{name} {value}" for name, value in given.items())
        default = next((cell.recipe.epochs for cell in self.cells() if cell.recipe), 1)

        def scaled(variant: Variant) -> Variant:
            if "epochs" not in variant.edits:
                return variant
            return variant._replace(
                edits=dict(variant.edits) | {"epochs": variant.edits["epochs"] * given["epochs"] // default}
            )

        return dataclasses.replace(
            self,
            marks=(*self.marks, f"-{profile}"),
            rows=[scaled(row) for row in self.rows],
            heading=f"{self.heading} Profile {profile}, not the paper's length: {words}.",
            base=dict(self.base) | given,
            published={},
            profile=profile,
            changed=True,
        )

    def only(self, rows: Sequence[str] | None, columns: Sequence[str] | None) -> Self:
        """Returns the exhibit with some of its rows and columns, by label; None for all. Its id says which.

        Gains are over the first row, so without it there are none.

        Raises:
            RequestError: It has no such row or column.
        """
        kept, marks = [], []
        for word, labels, variants in (("row", rows, self.rows), ("column", columns, self.columns)):
            known = [variant.label for variant in variants]
            for label in labels or ():
                if label not in known:
                    raise unknown(f"{word} of {self.id}", label, known)
            kept.append([variant for variant in variants if labels is None or variant.label in labels])
            if len(kept[-1]) < len(variants):
                marks.append(_part_mark(word, [variant.label for variant in kept[-1]]))
        first = self.ablation and self.rows[0] in kept[0]
        return dataclasses.replace(self, rows=kept[0], columns=kept[1], ablation=first, marks=(*self.marks, *marks))

    def adding(self, rows: Sequence[Variant]) -> Self:
        """Returns the exhibit with further rows at its end, whose labels are in its id.

        Raises:
            RequestError: It has such a row.
        """
        if not rows:
            return self
        every = [*self.rows, *rows]
        if twice := [row.label for i, row in enumerate(every) if row.label in [other.label for other in every[:i]]]:
            raise RequestError(f"{twice[0]} is a row of {self.id} twice", "allowed: each row once", "leave one out")
        marks = (*self.marks, _part_mark("add", [row.label for row in rows]))
        return dataclasses.replace(self, rows=every, marks=marks)


def _part_mark(word: str, labels: Sequence[str]) -> str:
    """Returns "-row-sbn-ldam"; of many labels their digest, so that it stays short enough for the name of a file."""
    mark = re.sub(r"[^\w.+]+", "-", f"-{word}-{'-'.join(labels)}")
    return mark if len(mark) <= 60 else f"-{word}-{hashlib.sha256(mark.encode()).hexdigest()[:8]}"


def _takes(method: str | None, name: str) -> bool:
    """Returns whether a setting applies to a row: not if its method lacks what another has."""
    if method is None or "." in name or name in field_types(METHODS[method]):
        return True
    return not any(name in field_types(other) for other in METHODS.values())


def _values(name: str, recipes: Iterable[Recipe]) -> list[Any]:
    """Returns the values of a setting in recipes, of "crt.bn" in those of one method."""
    owner, _, plain = name.rpartition(".")
    return [recipe.values.get(plain) for recipe in recipes if owner in ("", recipe.method.name())]


def _place_name(base: Mapping[str, Any], moved: bool = False) -> str:
    """Returns what a caption calls the images: "Digits-LT (60)".

    Args:
        base: The settings every cell shares.
        moved: Whether the columns are ratios, so that the name has none.
    """
    name = base["dataset"]
    name = sets.find(name).long_tailed if name in sets.names() else name
    if base.get("imb_type") == "as_is":
        return f"{name} as it is"
    return name if moved or "ratio" not in base else f"{name} ({base['ratio']:g})"


_FIRST = ("dataset", "epochs", "ratio", "imb_type")
_SHORT = {"dataset": "", "epochs": "e", "ratio": "r", "imb_type": ""}


def _place(name: str) -> int:
    return _FIRST.index(name) if name in _FIRST else len(_FIRST)


def _mark(name: str, value: Any) -> str:
    if value in ("as_is", "as-is"):
        return "as-is"
    return _SHORT.get(name, name) + fields.text(value).replace(",", "-")
