"""The tables and figures of DBN-Mix, the numbers they print, and exhibits of ours on the same runs."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import inf
from typing import Any

from lt_repro.papers.columns import CLASS_GROUPS
from lt_repro.papers.dbn_mix.settings import PROTOCOL, READINGS, SETTINGS, recipe
from lt_repro.papers.quoted import AS_QUOTED, published
from lt_repro.papers.table import STATISTICS, Published, Table, Variant, ratios

paper_table = partial(Table, settings=SETTINGS)
ROWS = (
    Variant("sbn", "Single branch, vanilla"),
    Variant("sbn+mixup", "Single branch + mixup", {"mix": "mixup"}),
    Variant("sbn+ts", "Single branch + temperature", {"tscale": True}),
    Variant("sbn+bm", "Single branch + bilateral mixup", {"mix": "bilateral"}),
    Variant("sbn+bm+ts", "Single branch + both (SBN-Mix)", {"mix": "bilateral", "tscale": True}),
    Variant("dbn", "Dual branch", {"branches": 2}),
    Variant("dbn+ts", "Dual branch + temperature", {"branches": 2, "tscale": True}),
    Variant("dbn+bm", "Dual branch + bilateral mixup", {"branches": 2, "mix": "bilateral"}),
    Variant("dbn+bm+ts", "Dual branch + both (DBN-Mix)", {"branches": 2, "mix": "bilateral", "tscale": True}),
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
    "sbn": "as in the cross-entropy row of Jamal et al. 2020",
    "sbn+mixup": "as in the mixup row of Zhou et al. 2020 (BBN)",
}


_EPS = {"tscale": True, "eps": 0.05}  # what the released code has where no eps is given
_COMPLEMENT = {"branches": 2, "branch_loss": "ce_complement"}
RELEASED_ROWS = (
    ROWS[0],
    Variant("sbn+mixup", "Single branch + mixup (eps 0.05)", {"mix": "mixup"} | _EPS),
    Variant("sbn+mixup/eps0", "Single branch + mixup (eps 0 given)", {"mix": "mixup"}),
    ROWS[2],
    Variant("sbn+bm", "Single branch + bilateral mixup (eps 0.05)", {"mix": "bilateral"} | _EPS),
    Variant("sbn+bm/eps0", "Single branch + bilateral mixup (eps 0 given)", {"mix": "bilateral"}),
    *ROWS[4:6],
    Variant("dbn/mixup-loss", "Dual branch by loss type mixup (eps 0.05)", _COMPLEMENT | _EPS),
    Variant("dbn/mixup-loss-eps0", "Dual branch by loss type mixup (eps 0 given)", _COMPLEMENT),
    ROWS[6],
    Variant("dbn+bm", "Dual branch + bilateral mixup (eps 0.05)", {"branches": 2, "mix": "bilateral"} | _EPS),
    Variant("dbn+bm/eps0", "Dual branch + bilateral mixup (eps 0 given)", {"branches": 2, "mix": "bilateral"}),
    ROWS[8],
)
"""The rows as the flags of the released code run them; where the flags leave a row open, each way is a row."""

TABLE4 = paper_table(
    exhibit="table4",
    heading="Ablation of DBN-Mix (Table 4 of the paper): top-1 test accuracy in percent.",
    base={"dataset": "cifar100"},
    rows=ROWS,
    columns=ratios(100, 50, 10),
    ablation=True,
    published=published(
        ratios(100, 50, 10),
        {row.label: _PRINTED[row.label.partition("/")[0]] for row in RELEASED_ROWS},
        "DBN-Mix, Table 4",
        PROTOCOL,
        quoted={row.label: words for row in RELEASED_ROWS if (words := _QUOTED.get(row.label.partition("/")[0]))},
    ),
    rows_by_reading={"released": RELEASED_ROWS},
)

_DBN_MIX = ROWS[-1].edits
_FULL = {"dataset": "cifar100", "ratio": SETTINGS.ratio} | dict(_DBN_MIX)
_BEST = Published(0.5104, "DBN-Mix, Table 4 and Sec. 4.4; the other values of Fig. 3 are drawn, not printed", PROTOCOL)


def _over(name: str, *values: float) -> tuple[Variant, ...]:
    return tuple(Variant(f"{value:g}", f"{name} = {value:g}", {name: float(value)}) for value in values)


FIG3A = paper_table(
    exhibit="fig3a",
    heading="DBN-Mix against eta and eps of the temperature scaling (Fig. 3a of the paper, {place}; the grid is ours).",
    base=_FULL,
    rows=_over("eps", 0.2, 0.4, 0.6, 0.8),
    columns=_over("eta", 1, 3, 5, 7, 9, 11),
    published={("0.6", "7"): _BEST},
    seeds=(0,),
    form="lines",
    axis="eta",
    lines="eps",
)
FIG3B = paper_table(
    exhibit="fig3b",
    heading="DBN-Mix against alpha of bilateral mixup (Fig. 3b of the paper, {place}).",
    base=_FULL,
    rows=(Variant("dbn+bm+ts", "DBN-Mix"),),
    columns=_over("alpha", 0.2, 0.5, 0.7, 1.0, 1.2, 1.5),
    published={("dbn+bm+ts", "1"): _BEST},
    seeds=(0,),
    form="lines",
    axis="alpha",
)
FIG3C = paper_table(
    exhibit="fig3c",
    heading="DBN-Mix against gamma of the reverse sampler (Fig. 3c of the paper, {place}; the grid is ours).",
    base=_FULL,
    rows=(Variant("dbn+bm+ts", "DBN-Mix"),),
    columns=_over("gamma", 1, 2, 3, 5, 10, inf),
    published={("dbn+bm+ts", "inf"): _BEST},
    seeds=(0,),
    form="lines",
    axis="gamma",
)
FIG3 = (FIG3A, FIG3B, FIG3C)

_BRANCHES = {"rebalancing": "re-balancing branch", "conventional": "conventional branch", None: "final"}

TABLE5 = paper_table(
    exhibit="table5",
    heading="BBN and DBN-Mix by branch and class group (Table 5 of the paper, {place}).",
    base={"dataset": "cifar100", "ratio": SETTINGS.ratio},
    rows=tuple(
        Variant(f"{label}/{branch or 'final'}", f"{title}, {words}", edits, branch=branch)
        for label, title, edits in (("bbn", "BBN", {"method": "bbn"}), ("dbn+bm+ts", "DBN-Mix", _DBN_MIX))
        for branch, words in _BRANCHES.items()
    ),
    columns=CLASS_GROUPS,
    published=published(
        CLASS_GROUPS,
        {
            "bbn/rebalancing": (35.30, 40.41, 46.61, 16.13),
            "bbn/conventional": (38.52, 65.78, 37.10, 8.37),
            "bbn/final": (42.95, 65.86, 45.38, 13.40),
            "dbn+bm+ts/rebalancing": (47.16, 56.37, 54.18, 28.23),
            "dbn+bm+ts/conventional": (48.03, 66.55, 50.08, 24.06),
            "dbn+bm+ts/final": (51.04, 66.03, 55.49, 28.36),
        },
        "DBN-Mix, Table 5",
        PROTOCOL,
    ),
)


def _parent(edits: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the edits of a row whose parent is another row of the ablation."""
    ablated, base = SETTINGS.ablation
    return {f"parent.{name}": value for name, value in {"method": ablated, **base, **edits}.items()}


def _table6(half: str, title: str, edits: Callable[[Variant], Mapping[str, Any]], printed: Sequence[float]) -> Table:
    rows = [Variant(row.label, row.title, edits(row)) for row in ROWS[5:]]  # the dual-branch ones
    columns = (Variant("accuracy", "accuracy"),)
    return paper_table(
        exhibit=f"table6{half}",
        heading=f"{title} (Table 6{half} of the paper, {{place}}).",
        base={"dataset": "cifar100", "ratio": SETTINGS.ratio},
        rows=rows,
        columns=columns,
        ablation=True,
        published=published(  # columns as the prose of Sec. 4.5 fixes them
            columns,
            {row.label: (value,) for row, value in zip(rows, printed, strict=True)},
            "DBN-Mix, Table 6",
            PROTOCOL,
        ),
    )


TABLE6A = _table6(
    "a",
    "Representation learning: cRT on the frozen features of each variant",
    lambda row: {"method": "crt"} | _parent(row.edits),
    (38.78, 40.42, 45.57, 46.25),
)
TABLE6B = _table6(
    "b",
    "Classifier learning: the heads of each variant on the frozen features of one branch trained with mixup",
    lambda row: dict(row.edits) | {"frozen": True} | _parent({"mix": "mixup"}),
    (43.23, 45.86, 42.67, 46.52),
)
TABLE6 = (TABLE6A, TABLE6B)

FIG1 = paper_table(
    exhibit="fig1",
    heading="Training images and accuracy by class (Fig. 1 of the paper, {place}).",
    base={"dataset": "cifar10", "ratio": 200.0},
    rows=(
        Variant("sbn", "Vanilla"),
        Variant("bbn", "BBN", {"method": "bbn"}),
        Variant("dbn+bm+ts", "DBN-Mix", _DBN_MIX),
    ),
    columns=(Variant("accuracy", "accuracy"),),
    form="classes",
    published={
        ("sbn", "accuracy"): Published(
            0.6587, "DBN-Mix, Table 1, cross-entropy, as in Jamal et al. 2020", AS_QUOTED, "quoted"
        ),
        ("dbn+bm+ts", "accuracy"): Published(0.7958, "DBN-Mix, Table 1; Fig. 1 is drawn, not printed", PROTOCOL),
    },
)
"""The columns of the figure are classes; its one cell a series is the accuracy over all of them."""

_BBN = Variant("bbn", "BBN", {"method": "bbn"})
GROUPS = paper_table(
    exhibit="groups",
    heading="Accuracy by class group ({place}; not in the paper).",
    base={"dataset": "cifar100", "ratio": SETTINGS.ratio},
    rows=(ROWS[0], ROWS[4], ROWS[5], _BBN, ROWS[8]),
    columns=(
        Variant("all", "all classes", metric="all"),
        Variant("many", "many (> 100 images)", metric="many"),
        Variant("medium", "medium (20 to 100)", metric="medium"),
        Variant("few", "few (< 20)", metric="few"),
    ),
    form="groups",
    published={(row, "all"): TABLE4.published[row, "100"] for row in ("sbn", "sbn+bm+ts", "dbn", "dbn+bm+ts")}
    | {
        (row.partition("/")[0], column): printed
        for (row, column), printed in TABLE5.published.items()
        if row.endswith("/final")
    },
)
TESTED = paper_table(
    exhibit="statistics",
    heading="The same weights, tested with four statistics of BatchNorm ({place}; not in the paper).",
    base={"dataset": "cifar100", "ratio": SETTINGS.ratio},
    rows=tuple(ROWS[i] for i in (1, 3, 4, 7, 8)),
    columns=tuple(Variant(bn, bn, bn=bn) for bn in STATISTICS),
    form="groups",
)
RELIABILITY = paper_table(
    exhibit="reliability",
    heading="Accuracy by confidence, all seeds together ({place}; not in the paper).",
    base={"dataset": "cifar100", "ratio": SETTINGS.ratio},
    rows=(ROWS[0], ROWS[1], _BBN, ROWS[8]),
    columns=(Variant("accuracy", "accuracy"),),
    form="reliability",
    published={
        ("sbn", "accuracy"): TABLE4.published["sbn", "100"],
        ("sbn+mixup", "accuracy"): TABLE4.published["sbn+mixup", "100"],
        ("bbn", "accuracy"): TABLE5.published["bbn/final", "all"],
        ("dbn+bm+ts", "accuracy"): TABLE4.published["dbn+bm+ts", "100"],
    },
)

LAMBDAS = paper_table(
    exhibit="lambdas",
    heading="Change of test accuracy between the last two tests of a run, by the change of its last lambdas "
    "({place}; not in the paper).",
    base={"dataset": "cifar100", "ratio": SETTINGS.ratio},
    rows=(*(row for row in ROWS if "mix" in row.edits), *(row for row in ROWS if "mix" not in row.edits)),
    columns=(Variant("accuracy", "accuracy"),),
    form="lambdas",
    published={(row.label, "accuracy"): TABLE4.published[row.label, "100"] for row in ROWS},
)
"""The rows that mix nothing are a control."""

_SBN_MIX = ROWS[4].edits
_NEITHER: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("ride", "code, temperatures by RIDE's prior", {"temperature": "ride"}),
    ("eps1", "code, eps 1", {"eps": 1.0}),
    ("bn_parts2", "code, BatchNorm over 2 parts of a batch", {"bn_parts": 2}),
    ("bn_parts4", "code, BatchNorm over 4 parts of a batch", {"bn_parts": 4}),
)
"""What neither reading has and could have made the published numbers: label, title, edits on the released code."""


def _readings(name: str, title: str, variant: Mapping[str, Any], columns: Sequence[Variant], printed: Any) -> Table:
    """Returns both readings of one variant, each point between them, and the code with settings that neither has."""
    text = recipe("cifar100", **variant)
    points = [
        point for point in READINGS["released"].points if point.sets and not point.sets.keys() & text.inactive_fields()
    ]
    rows = [Variant("paper", "the paper's text")]
    rows += [Variant(f"paper+{point.label}", f"text + {point.title}", point.sets) for point in points]
    rows += [Variant("released", "the released code", {"reading": "released"})]
    for point in points:
        edits = {"reading": "released"} | {name: text.values[name] for name in point.sets}
        rows.append(Variant(f"released-{point.label}", f"code − {point.title}", edits))
    rows += [Variant(f"released/{label}", title, {"reading": "released"} | edits) for label, title, edits in _NEITHER]
    return paper_table(
        exhibit=f"readings_{name}",
        heading=f"Two readings of {title} on {{place}}, each point between them, and settings of neither "
        "(not in the paper).",
        base={"dataset": "cifar100", "ratio": SETTINGS.ratio} | dict(variant),
        rows=rows,
        columns=columns,
        published={(row, column): value for row in ("paper", "released") for column, value in printed.items()},
        best=True,
    )


READINGS_DBN = _readings(
    "dbn",
    "DBN-Mix",
    _DBN_MIX,
    (*CLASS_GROUPS, *(Variant(name, words, branch=name) for name, words in _BRANCHES.items() if name)),
    {column: TABLE5.published["dbn+bm+ts/final", column] for column in ("all", "many", "medium", "few")}
    | {name: TABLE5.published[f"dbn+bm+ts/{name}", "all"] for name in ("rebalancing", "conventional")},
)
READINGS_SBN = _readings("sbn", "SBN-Mix", _SBN_MIX, CLASS_GROUPS, {"all": TABLE4.published["sbn+bm+ts", "100"]})
