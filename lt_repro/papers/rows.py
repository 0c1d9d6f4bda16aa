"""Methods under the names that papers share, each with this project's settings: the rows that a paper's file needs."""

from collections.abc import Iterator
from typing import Any

from lt_repro.methods import METHODS
from lt_repro.papers.settings import Settings
from lt_repro.papers.table import Cell, Table, Variant
from lt_repro.recipe import Recipe


def _known(name: str, title: str, method: str = "", **edits: Any) -> Variant:
    return Variant(name, title, ({"method": method} if method else {}) | edits)


_MIXED = {"parent.mix": "mixup"}
KNOWN: dict[str, Variant] = {
    row.label: row
    for row in (
        _known("ce", "Cross-entropy"),
        _known("mixup", "Mixup", mix="mixup"),
        _known("focal", "Focal loss", "focal"),
        _known("cb-focal", "Class-balanced focal loss", "cb_focal"),
        _known("drw", "CE-DRW", "drw"),
        _known("mixup-drw", "Mixup-DRW", "drw", mix="mixup"),
        _known("ldam", "LDAM", "ldam", rule="none"),
        _known("ldam-drw", "LDAM-DRW", "ldam"),
        _known("remix", "Remix", "remix", rule="none"),
        _known("remix-drw", "Remix-DRW", "remix"),
        _known("m2m", "M2m", "m2m"),
        _known("m2m-ldam", "M2m + LDAM", "m2m", base="ldam"),
        _known("balanced-softmax", "Balanced softmax", "balanced_softmax"),
        _known("logit-adjustment", "Logit adjustment, in the loss", "logit_adjustment"),
        _known(
            "logit-adjustment-post-hoc",
            "Logit adjustment, post-hoc",
            "logit_adjustment",
            frozen=True,
        ),
        _known("crt", "cRT", "crt"),
        _known("crt-mixup", "cRT + mixup", "crt", **_MIXED),
        _known("lws", "LWS", "lws"),
        _known("lws-mixup", "LWS + mixup", "lws", **_MIXED),
        _known("mislas", "MiSLAS", "mislas", **_MIXED),
        _known("bbn", "BBN", "bbn"),
        _known("meta-weight-net", "Meta-Weight-Net", "meta_weight_net"),
        _known("mcw-focal", "MCW + focal", "mcw"),
        _known("metasaug-ldam", "MetaSAug + LDAM", "metasaug"),
        _known("ride", "RIDE, four experts", "ride", experts=4),
        _known("sbn-mix", "SBN-Mix", "dbn_mix", branches=1, mix="bilateral", tscale=True),
        _known("dbn-mix", "DBN-Mix", "dbn_mix", branches=2, mix="bilateral", tscale=True),
    )
}
SYNONYMS = {"cross-entropy": "ce", "erm": "ce", "sbn": "ce", "sbn-mixup": "mixup", "ce-drw": "drw", "m2m-plain": "m2m"}
SYNONYMS |= {"sbn-bm-ts": "sbn-mix", "dbn-bm-ts": "dbn-mix", "remix-plain": "remix", "ldam-plain": "ldam"}


def row(name: str, title: str = "", *notes: str) -> Variant:
    """Returns a row: with this project's settings for a known method, else one of published numbers only.

    Args:
        name: One of `KNOWN`, or any other.
        title: As the paper prints it; by default that of `KNOWN`.
        notes: Where the published numbers' protocol is not ours.
    """
    known = KNOWN.get(name, Variant(name, name, {"method": None}))
    return known._replace(title=title or known.title, notes=notes)


def plain(name: str) -> str:
    """Returns a method's name as names are compared: lower case, with hyphens, and the usual one of its synonyms."""
    name = "-".join("".join(sign if sign.isalnum() else " " for sign in name.lower()).split())
    return SYNONYMS.get(name, name)


def names(table: Table) -> Iterator[tuple[Cell, str]]:
    """Yields every cell with the shared name of its method: that of the known row that trains the same."""
    known: dict[Any, dict[Any, str]] = {}
    for cell in table.cells():
        label = plain(cell.row.label.partition("/")[0])
        if cell.recipe is None:
            yield cell, label
            continue
        recipe, way = cell.recipe, (cell.reading, cell.preset)
        images = recipe.dataset, recipe.ratio, recipe.imb_type
        if (images, way) not in known:
            known[images, way] = _trained(table.settings, *images, *way)
        default = f"{label}-{recipe.method.name()}" if recipe.parents else label
        yield cell, known[images, way].get(_identity(recipe), default)


def _trained(
    paper: Settings, dataset: str, ratio: float, imb_type: str, reading: str, preset: str
) -> dict[tuple[Any, ...], str]:
    """Returns the names of the known rows on some images, by what they train under a reading or a preset."""
    result: dict[tuple[Any, ...], str] = {}
    for name, variant in KNOWN.items():
        method = METHODS.get(variant.edits.get("method", ""))
        if not preset or (method and preset in method.presets):
            given: dict[str, Any] = {"ratio": ratio, "imb_type": imb_type, "reading": reading, "preset": preset} | dict(
                variant.edits
            )
            result.setdefault(_identity(paper.recipe(dataset, **given)), name)
    return result


def _identity(recipe: Recipe) -> tuple[Any, ...]:
    """Returns a recipe's method with the fields that have an effect, and those of its parents."""
    inactive = recipe.inactive_fields()
    active = [(name, value) for name, value in vars(recipe.method).items() if name not in inactive]
    parents = [(role, *_identity(parent)) for role, parent in recipe.parents.items()]
    return (recipe.method.name(), *active, *parents)
