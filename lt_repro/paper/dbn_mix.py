"""DBN-Mix as data: Baik, Yoon, Choi, "DBN-Mix: Training Dual Branch Network Using Bilateral Mixup Augmentation"."""

from collections.abc import Callable, Sequence
from math import inf
from typing import Any

from lt_repro.paper.claim import Paper
from lt_repro.paper.settings import RATIO, recipe
from lt_repro.paper.table import Line, Published, Table
from lt_repro.recipe import Recipe

_ROWS = (
    Line("sbn", "Single branch, vanilla"),
    Line("sbn+mixup", "Single branch + mixup", {"mix": "mixup"}),
    Line("sbn+ts", "Single branch + temperature", {"tscale": True}),
    Line("sbn+bm", "Single branch + bilateral mixup", {"mix": "bilateral"}),
    Line("sbn+bm+ts", "Single branch + both (SBN-Mix)", {"mix": "bilateral", "tscale": True}),
    Line("dbn", "Dual branch", {"branches": 2}),
    Line("dbn+ts", "Dual branch + temperature", {"branches": 2, "tscale": True}),
    Line("dbn+bm", "Dual branch + bilateral mixup", {"branches": 2, "mix": "bilateral"}),
    Line("dbn+bm+ts", "Dual branch + both (DBN-Mix)", {"branches": 2, "mix": "bilateral", "tscale": True}),
)
_PRINTED = {  # percent, Table 4, columns 100, 50, 10; the dual-branch check marks as the prose of Sec. 4.4 fixes them
    "sbn": (38.46, 44.02, 55.73),
    "sbn+mixup": (39.54, 44.99, 58.02),
    "sbn+ts": (41.25, 45.64, 58.36),
    "sbn+bm": (44.10, 49.73, 61.98),
    "sbn+bm+ts": (45.07, 50.39, 62.37),
    "dbn": (40.99, 46.93, 60.82),
    "dbn+ts": (44.08, 50.64, 62.98),
    "dbn+bm": (46.61, 51.42, 63.59),
    "dbn+bm+ts": (51.04, 54.93, 64.98),
}
_QUOTED = {  # rows that the paper did not measure itself, and where its numbers first stood
    "sbn": "DBN-Mix, Table 4, as in the cross-entropy row of Jamal et al. 2020",
    "sbn+mixup": "DBN-Mix, Table 4, as in the mixup row of Zhou et al. 2020 (BBN)",
}


def ratios(*values: float) -> tuple[Line, ...]:
    """Returns the columns of the given imbalance ratios."""
    return tuple(Line(f"{value:g}", f"ratio {value:g}", {"ratio": float(value)}) for value in values)


TABLE4 = Table(
    id="table4",
    caption="Ablation of DBN-Mix (Table 4 of the paper): top-1 test accuracy in percent.",
    build=recipe,
    base={"dataset": "cifar100"},
    rows=_ROWS,
    columns=ratios(100, 50, 10),
    ablation=True,
    published={
        (row, column): Published(round(value / 100, 4), _QUOTED.get(row, "DBN-Mix, Table 4"), row not in _QUOTED)
        for row, values in _PRINTED.items()
        for column, value in zip(("100", "50", "10"), values, strict=True)
    },
)

_DBN_MIX = _ROWS[-1].edits
_FULL = {"dataset": "cifar100", "ratio": RATIO} | dict(_DBN_MIX)
_BEST = Published(0.5104, "DBN-Mix, Table 4 and Sec. 4.4; the other values of Fig. 3 are drawn, not printed")


def _over(name: str, *values: float) -> tuple[Line, ...]:
    return tuple(Line(f"{value:g}", f"{name} = {value:g}", {name: float(value)}) for value in values)


FIG3A = Table(
    id="fig3a",
    caption="DBN-Mix against eta and eps of the temperature scaling (Fig. 3a of the paper; the grid is ours).",
    build=recipe,
    base=_FULL,
    rows=_over("eps", 0.2, 0.4, 0.6, 0.8),
    columns=_over("eta", 1, 3, 5, 7, 9, 11),
    published={("0.6", "7"): _BEST},
    seeds=(0,),
    axis="eta",
    lines="eps",
)
FIG3B = Table(
    id="fig3b",
    caption="DBN-Mix against alpha of bilateral mixup (Fig. 3b of the paper).",
    build=recipe,
    base=_FULL,
    rows=(Line("dbn+bm+ts", "DBN-Mix"),),
    columns=_over("alpha", 0.2, 0.5, 0.7, 1.0, 1.2, 1.5),
    published={("dbn+bm+ts", "1"): _BEST},
    seeds=(0,),
    axis="alpha",
)
FIG3C = Table(
    id="fig3c",
    caption="DBN-Mix against gamma of the reverse sampler (Fig. 3c of the paper; the grid is ours).",
    build=recipe,
    base=_FULL,
    rows=(Line("dbn+bm+ts", "DBN-Mix"),),
    columns=_over("gamma", 1, 2, 3, 5, 10, inf),
    published={("dbn+bm+ts", "inf"): _BEST},
    seeds=(0,),
    axis="gamma",
)
FIG3 = (FIG3A, FIG3B, FIG3C)

_BRANCHES = {"rebalancing": "re-balancing branch", "conventional": "conventional branch", None: "final"}

TABLE5 = Table(
    id="table5",
    caption="BBN and DBN-Mix by branch and class group (Table 5 of the paper, CIFAR-LT-100 (100)).",
    build=recipe,
    base={"dataset": "cifar100", "ratio": RATIO},
    rows=tuple(
        Line(f"{label}/{branch or 'final'}", f"{title}, {words}", edits, branch=branch)
        for label, title, edits in (("bbn", "BBN", {"method": "bbn"}), ("dbn+bm+ts", "DBN-Mix", _DBN_MIX))
        for branch, words in _BRANCHES.items()
    ),
    columns=tuple(Line(metric, metric.capitalize(), metric=metric) for metric in ("all", "many", "medium", "few")),
    published={
        (row, column): Published(round(value / 100, 4), "DBN-Mix, Table 5")
        for row, values in {  # percent
            "bbn/rebalancing": (35.30, 40.41, 46.61, 16.13),
            "bbn/conventional": (38.52, 65.78, 37.10, 8.37),
            "bbn/final": (42.95, 65.86, 45.38, 13.40),
            "dbn+bm+ts/rebalancing": (47.16, 56.37, 54.18, 28.23),
            "dbn+bm+ts/conventional": (48.03, 66.55, 50.08, 24.06),
            "dbn+bm+ts/final": (51.04, 66.03, 55.49, 28.36),
        }.items()
        for column, value in zip(("all", "many", "medium", "few"), values, strict=True)
    },
)


def _representation(dataset: str, ratio: float, seed: int = 0, **variant: Any) -> Recipe:
    return recipe(dataset, "crt", parent=recipe(dataset, ratio=ratio, seed=seed, **variant))


def _classifier(
    dataset: str, ratio: float, branches: int, seed: int = 0, mix: str = "none", tscale: bool = False, **shared: Any
) -> Recipe:
    parent = recipe(dataset, ratio=ratio, seed=seed, mix="mixup", **shared)
    return recipe(dataset, parent=parent, branches=branches, mix=mix, tscale=tscale)


def _table6(half: str, title: str, build: Callable[..., Recipe], printed: Sequence[float]) -> Table:
    rows = _ROWS[5:]  # the dual-branch ones
    return Table(
        id=f"table6{half}",
        caption=f"{title} (Table 6{half} of the paper, CIFAR-LT-100 (100)).",
        build=build,
        base={"dataset": "cifar100", "ratio": RATIO} | dict(rows[0].edits),
        rows=rows,
        columns=(Line("accuracy", "accuracy"),),
        ablation=True,
        published={
            (row.label, "accuracy"): Published(round(value / 100, 4), "DBN-Mix, Table 6")
            for row, value in zip(rows, printed, strict=True)  # percent, columns as the prose of Sec. 4.5 fixes them
        },
    )


TABLE6A = _table6(
    "a",
    "Representation learning: cRT on the frozen features of each variant",
    _representation,
    (38.78, 40.42, 45.57, 46.25),
)
TABLE6B = _table6(
    "b",
    "Classifier learning: the heads of each variant on the frozen features of one branch trained with mixup",
    _classifier,
    (43.23, 45.86, 42.67, 46.52),
)
TABLE6 = (TABLE6A, TABLE6B)

FIG1 = Table(
    id="fig1",
    caption="Training images and accuracy by class (Fig. 1 of the paper, CIFAR-LT-10 (200)).",
    build=recipe,
    base={"dataset": "cifar10", "ratio": 200.0},
    rows=(Line("sbn", "Vanilla"), Line("bbn", "BBN", {"method": "bbn"}), Line("dbn+bm+ts", "DBN-Mix", _DBN_MIX)),
    columns=(Line("accuracy", "accuracy"),),
    by_class=True,
    published={
        ("sbn", "accuracy"): Published(
            0.6587, "DBN-Mix, Table 1, cross-entropy, as in Jamal et al. 2020", measured=False
        ),
        ("dbn+bm+ts", "accuracy"): Published(0.7958, "DBN-Mix, Table 1; Fig. 1 is drawn, not printed"),
    },
)
"""The columns of the figure are classes; its one cell a series is the accuracy over all of them."""

PAPER = Paper(
    name="dbn_mix",
    title="DBN-Mix",
    citation="Baik, Yoon, Choi: DBN-Mix: Training Dual Branch Network Using Bilateral Mixup Augmentation for "
    "Long-Tailed Visual Recognition",
    exhibits={"table4": (TABLE4,), "table5": (TABLE5,), "table6": TABLE6, "fig1": (FIG1,), "fig3": FIG3},
)
