"""The tables and figures of DBN-Mix, the numbers they print, and exhibits of ours on the same runs."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import inf
from typing import Any

from lt_repro import fields
from lt_repro.paper.dbn_mix.settings import READINGS, SETTINGS, active, recipe
from lt_repro.paper.settings import INHERITED
from lt_repro.paper.table import Published, Table, Variant, ratios
from lt_repro.recipe import Recipe, find, get

_table = partial(Table, settings=SETTINGS)
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
    "sbn": "DBN-Mix, Table 4, as in the cross-entropy row of Jamal et al. 2020",
    "sbn+mixup": "DBN-Mix, Table 4, as in the mixup row of Zhou et al. 2020 (BBN)",
}


TABLE4 = _table(
    id="table4",
    caption="Ablation of DBN-Mix (Table 4 of the paper): top-1 test accuracy in percent.",
    build=active,
    base={"dataset": "cifar100"},
    rows=ROWS,
    columns=ratios(100, 50, 10),
    ablation=True,
    published={
        (row, column): Published(round(value / 100, 4), _QUOTED.get(row, "DBN-Mix, Table 4"), row not in _QUOTED)
        for row, values in _PRINTED.items()
        for column, value in zip(("100", "50", "10"), values, strict=True)
    },
)

_DBN_MIX = ROWS[-1].edits
_FULL = {"dataset": "cifar100", "ratio": SETTINGS.ratio} | dict(_DBN_MIX)
_BEST = Published(0.5104, "DBN-Mix, Table 4 and Sec. 4.4; the other values of Fig. 3 are drawn, not printed")


def _over(name: str, *values: float) -> tuple[Variant, ...]:
    return tuple(Variant(f"{value:g}", f"{name} = {value:g}", {name: float(value)}) for value in values)


FIG3A = _table(
    id="fig3a",
    caption="DBN-Mix against eta and eps of the temperature scaling (Fig. 3a of the paper; the grid is ours).",
    build=active,
    base=_FULL,
    rows=_over("eps", 0.2, 0.4, 0.6, 0.8),
    columns=_over("eta", 1, 3, 5, 7, 9, 11),
    published={("0.6", "7"): _BEST},
    seeds=(0,),
    form="lines",
    axis="eta",
    lines="eps",
)
FIG3B = _table(
    id="fig3b",
    caption="DBN-Mix against alpha of bilateral mixup (Fig. 3b of the paper).",
    build=active,
    base=_FULL,
    rows=(Variant("dbn+bm+ts", "DBN-Mix"),),
    columns=_over("alpha", 0.2, 0.5, 0.7, 1.0, 1.2, 1.5),
    published={("dbn+bm+ts", "1"): _BEST},
    seeds=(0,),
    form="lines",
    axis="alpha",
)
FIG3C = _table(
    id="fig3c",
    caption="DBN-Mix against gamma of the reverse sampler (Fig. 3c of the paper; the grid is ours).",
    build=active,
    base=_FULL,
    rows=(Variant("dbn+bm+ts", "DBN-Mix"),),
    columns=_over("gamma", 1, 2, 3, 5, 10, inf),
    published={("dbn+bm+ts", "inf"): _BEST},
    seeds=(0,),
    form="lines",
    axis="gamma",
)
FIG3 = (FIG3A, FIG3B, FIG3C)

_GROUPS = tuple(Variant(metric, metric.capitalize(), metric=metric) for metric in ("all", "many", "medium", "few"))
_BRANCHES = {"rebalancing": "re-balancing branch", "conventional": "conventional branch", None: "final"}

TABLE5 = _table(
    id="table5",
    caption="BBN and DBN-Mix by branch and class group (Table 5 of the paper, CIFAR-LT-100 (100)).",
    build=active,
    base={"dataset": "cifar100", "ratio": SETTINGS.ratio},
    rows=tuple(
        Variant(f"{label}/{branch or 'final'}", f"{title}, {words}", edits, branch=branch)
        for label, title, edits in (("bbn", "BBN", {"method": "bbn"}), ("dbn+bm+ts", "DBN-Mix", _DBN_MIX))
        for branch, words in _BRANCHES.items()
    ),
    columns=_GROUPS,
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


def _second(parent: Recipe, method: str = "dbn_mix", **given: Any) -> Recipe:
    """Returns a second stage: the given settings, except its length and what it takes from the parent."""
    kept = {name: value for name, value in given.items() if name not in ("epochs", *INHERITED)}
    return active(parent.dataset, method, parents={"features": parent}, **kept)


def _stage(given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what is given for a recipe, the reading with it, without what is given for its method."""
    kept = {"reading", *fields.types(Recipe)}
    return {name: value for name, value in given.items() if name in kept or "." in name}


def _representation(dataset: str, **variant: Any) -> Recipe:
    return _second(active(dataset, **variant), "crt", **_stage(variant))


def _classifier(dataset: str, branches: int, mix: str = "none", tscale: bool = False, **shared: Any) -> Recipe:
    parent = active(dataset, mix="mixup", **shared)
    return _second(parent, branches=branches, mix=mix, tscale=tscale, **shared)


def _table6(half: str, title: str, build: Callable[..., Recipe], printed: Sequence[float]) -> Table:
    rows = ROWS[5:]  # the dual-branch ones
    return _table(
        id=f"table6{half}",
        caption=f"{title} (Table 6{half} of the paper, CIFAR-LT-100 (100)).",
        build=build,
        base={"dataset": "cifar100", "ratio": SETTINGS.ratio} | dict(rows[0].edits),
        rows=rows,
        columns=(Variant("accuracy", "accuracy"),),
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

FIG1 = _table(
    id="fig1",
    caption="Training images and accuracy by class (Fig. 1 of the paper, CIFAR-LT-10 (200)).",
    build=active,
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
            0.6587, "DBN-Mix, Table 1, cross-entropy, as in Jamal et al. 2020", measured=False
        ),
        ("dbn+bm+ts", "accuracy"): Published(0.7958, "DBN-Mix, Table 1; Fig. 1 is drawn, not printed"),
    },
)
"""The columns of the figure are classes; its one cell a series is the accuracy over all of them."""

_BBN = Variant("bbn", "BBN", {"method": "bbn"})
GROUPS = _table(
    id="groups",
    caption="Accuracy by class group (CIFAR-LT-100 (100); a figure of ours).",
    build=active,
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
        (row.partition("/")[0], column): published
        for (row, column), published in TABLE5.published.items()
        if row.endswith("/final")
    },
)
RELIABILITY = _table(
    id="reliability",
    caption="Accuracy by confidence, all seeds together (CIFAR-LT-100 (100); a figure of ours).",
    build=active,
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

_SBN_MIX = ROWS[4].edits


def _readings(name: str, title: str, variant: Mapping[str, Any], columns: Sequence[Variant], printed: Any) -> Table:
    """Returns both readings of one variant, the text's plus each point of the code, and the code's minus each."""
    text = recipe("cifar100", **variant)
    points = [
        point for point in READINGS["released"].points if point.sets and not point.sets.keys() & text.inactive_fields()
    ]
    rows = [Variant("paper", "the paper's text")]
    rows += [Variant(f"paper+{point.label}", f"text + {point.title}", point.sets) for point in points]
    rows += [Variant("released", "the released code", {"reading": "released"})]
    for point in points:
        edits = {"reading": "released"} | {name: get(text, name) for name in point.sets}
        rows.append(Variant(f"released-{point.label}", f"code − {point.title}", edits))
    return _table(
        id=f"readings_{name}",
        caption=f"Two readings of {title} on CIFAR-LT-100 (100), and each point between them (a table of ours).",
        build=active,
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
    (*_GROUPS, *(Variant(name, words, branch=name) for name, words in _BRANCHES.items() if name)),
    {column: TABLE5.published["dbn+bm+ts/final", column] for column in ("all", "many", "medium", "few")}
    | {name: TABLE5.published[f"dbn+bm+ts/{name}", "all"] for name in ("rebalancing", "conventional")},
)
READINGS_SBN = _readings("sbn", "SBN-Mix", _SBN_MIX, _GROUPS, {"all": TABLE4.published["sbn+bm+ts", "100"]})

_META = "another subset of CIFAR, with a balanced meta set beside it"
_JAMAL = f"quoted from Jamal et al. 2020 ({_META})"
_RERUN = "quoted from Jamal et al. 2020, their rerun (traced, not re-checked)"
_ZHOU = "quoted from BBN (Zhou et al. 2020)"
_MISLAS = "quoted from MiSLAS (Zhong et al. 2021)"
_OWN = ("sbn+bm+ts", "dbn+bm+ts", "dbn+bm+ts/extended")  # the rows of Tables 1 to 3 that the paper measured


def _quoting(
    number: int, columns: Sequence[str], values: Mapping[str, Sequence[float | None]], origins: Mapping[str, str]
) -> dict[tuple[str, str], Published]:
    """Returns what a table prints, given in percent; None is a dash. An origin is a row's, or a cell's "row/column"."""
    table = f"DBN-Mix, Table {number}"
    printed = {}
    for row, numbers in values.items():
        for column, value in zip(columns, numbers, strict=True):
            if value is not None:
                source = table if row in _OWN else f"{table}, {origins.get(f'{row}/{column}') or origins[row]}"
                printed[row, column] = Published(round(value / 100, 4), source, row in _OWN)
    return printed


def _staged(dataset: str, method: str = "dbn_mix", **variant: Any) -> Recipe:
    """Returns the recipe; a method that needs a parent gets one branch trained as the row says."""
    if find(method)().parents:
        return _second(active(dataset, **variant), method, **_stage(variant))
    return active(dataset, method, **variant)


CIFARS = tuple(
    Variant(f"{dataset}-{ratio}", f"CIFAR-LT-{dataset[5:]} ({ratio})", {"dataset": dataset, "ratio": float(ratio)})
    for dataset in ("cifar10", "cifar100")
    for ratio in (200, 100, 50, 20, 10)
)
TABLE1 = _table(
    id="table1",
    caption="DBN-Mix beside other methods on CIFAR-LT (Table 1 of the paper): top-1 test accuracy in percent. The "
    "paper quotes the other methods, each from training of its own kind.",
    build=_staged,
    base={"dataset": "cifar10"},
    rows=(
        Variant("sbn", "Cross-entropy"),
        Variant("focal", "Focal loss", {"method": "focal"}),
        Variant("sbn+mixup", "Mixup", {"mix": "mixup"}),
        Variant("ldam", "LDAM-DRW", {"method": "ldam"}),
        Variant("m2m", "M2m + LDAM", {"method": "m2m"}),
        Variant("remix", "Remix", {"method": "remix"}),
        Variant("bbn", "BBN", {"method": "bbn"}),
        Variant("meta_weight_net", "Meta-weight net", {"method": "meta_weight_net"}),
        Variant("mcw", "MCW + Focal", {"method": "mcw"}),
        Variant("metasaug", "MetaSAug + LDAM", {"method": "metasaug"}),
        Variant("mislas", "MiSLAS", {"method": "mislas"}),
        Variant("ride", "RIDE", {"method": "ride"}),
        Variant("sbn+bm+ts", "SBN-Mix", _SBN_MIX),
        Variant("dbn+bm+ts", "DBN-Mix", _DBN_MIX),
    ),
    columns=CIFARS,
    published=_quoting(
        1,
        [column.label for column in CIFARS],
        {
            "sbn": (65.87, 70.14, 74.94, 82.44, 86.18, 34.70, 38.46, 44.02, 51.06, 55.73),
            "focal": (65.29, 70.38, 76.71, 82.76, 86.66, 35.62, 38.41, 44.32, 51.95, 55.78),
            "sbn+mixup": (None, 73.06, 77.82, None, 87.10, None, 39.54, 44.99, None, 58.02),
            "ldam": (None, 77.03, None, None, 88.16, 38.45, 42.89, 47.97, 52.99, 58.78),
            "m2m": (None, 79.10, None, None, 87.50, None, 43.50, None, None, 57.60),
            "remix": (None, 79.76, None, None, 89.02, None, 46.77, None, None, 61.23),
            "bbn": (None, 79.82, 82.18, None, 88.32, None, 42.56, 47.02, None, 59.12),
            "meta_weight_net": (67.20, 73.57, 79.10, 84.45, 87.55, 36.62, 41.61, 45.66, 53.04, 58.91),
            "mcw": (74.43, 78.90, 82.88, 86.10, 88.37, 39.34, 44.70, 50.08, 55.73, 59.59),
            "metasaug": (77.35, 80.66, 84.34, 88.10, 89.68, 43.09, 48.01, 52.27, 57.53, 61.28),
            "mislas": (None, 82.10, 85.70, None, 90.00, None, 47.00, 52.30, None, 63.20),
            "ride": (None, None, None, None, None, None, 49.10, None, None, None),
            "sbn+bm+ts": (69.87, 76.33, 81.04, 86.91, 89.84, 40.30, 45.07, 50.39, 57.28, 62.37),
            "dbn+bm+ts": (79.58, 83.47, 86.82, 89.11, 90.87, 46.21, 51.04, 54.93, 61.07, 64.98),
        },
        {
            "sbn": _RERUN,
            "focal": "quoted from Cui et al. 2019 (sigmoid focal loss)",
            "sbn+mixup": _ZHOU,
            "ldam": "quoted from LDAM (Cao et al. 2019)",
            "m2m": "quoted from M2m (Kim et al. 2020)",
            "remix": "quoted from Remix (Chou et al. 2020: Remix-DRW, 300 epochs)",
            "bbn": _ZHOU,
            "meta_weight_net": _JAMAL,
            "mcw": _JAMAL,
            "metasaug": f"quoted from MetaSAug (Li et al. 2021; {_META})",
            "mislas": _MISLAS,
            "ride": "quoted from RIDE (Wang et al. 2021, four experts)",
        }
        | {f"ldam/{column.label}": _RERUN for column in CIFARS[5:]},
    ),
)
"""Names without a method file here are rows to come."""


_LONGER = {"epochs": 200}  # the extended schedule of ImageNet-LT
TABLE2 = _table(
    id="table2",
    caption="DBN-Mix beside other methods on ImageNet-LT (Table 2 of the paper): top-1 test accuracy in percent. "
    "The standard schedule has 100 epochs, the extended one 200 (as the paper's drops imply).",
    build=_staged,
    base={"dataset": "imagenet_lt", "ratio": 256.0},
    rows=(
        Variant("sbn", "CE"),
        Variant("sbn/extended", "CE, extended schedule", _LONGER),
        Variant("ldam/extended", "LDAM-DRW, extended schedule", {"method": "ldam"} | _LONGER),
        Variant("lws", "LWS", {"method": "lws"}),
        Variant("lws/extended", "LWS, extended schedule", {"method": "lws", "mix": "mixup"} | _LONGER),  # of the parent
        Variant("mislas/extended", "MiSLAS, extended schedule", {"method": "mislas"} | _LONGER),
        Variant("ride", "RIDE", {"method": "ride"}),
        Variant("dbn+bm+ts", "DBN-Mix", _DBN_MIX),
        Variant("dbn+bm+ts/extended", "DBN-Mix, extended schedule", dict(_DBN_MIX) | _LONGER),
    ),
    columns=(Variant("accuracy", "accuracy"),),
    published=_quoting(
        2,
        ["accuracy"],
        {
            "sbn": (41.6,),
            "sbn/extended": (44.6,),
            "ldam/extended": (48.8,),
            "lws": (47.7,),
            "lws/extended": (52.0,),
            "mislas/extended": (52.7,),
            "ride": (55.4,),
            "dbn+bm+ts": (55.9,),
            "dbn+bm+ts/extended": (56.6,),
        },
        {
            "sbn": "quoted from Kang et al. 2020 (90 epochs)",
            "sbn/extended": "quoted, under the settings of MiSLAS (Zhong et al. 2021)",
            "ldam/extended": "quoted, under the settings of MiSLAS (Zhong et al. 2021)",
            "lws": "quoted from Kang et al. 2020 (90 epochs)",
            "lws/extended": f"{_MISLAS}, with mixup, 180 epochs",
            "mislas/extended": f"{_MISLAS}, 180 epochs",
            "ride": "quoted from RIDE (Wang et al. 2021, four experts)",
        },
    ),
)
TABLE3 = _table(
    id="table3",
    caption="DBN-Mix beside other methods on iNaturalist 2018 (Table 3 of the paper): top-1 test accuracy in percent.",
    build=_staged,
    base={"dataset": "inat2018", "ratio": 500.0},
    rows=(
        Variant("cb_focal", "CB-Focal (printed CE-Focal)", {"method": "cb_focal"}),
        Variant("ldam", "LDAM-DRW", {"method": "ldam"}),
        Variant("bbn", "BBN", {"method": "bbn"}),
        Variant("remix", "Remix", {"method": "remix"}),
        Variant("crt", "cRT (printed cRW)", {"method": "crt"}),
        Variant("lws", "LWS", {"method": "lws"}),
        Variant("mislas", "MiSLAS", {"method": "mislas"}),
        Variant("ride", "RIDE", {"method": "ride"}),
        Variant("dbn+bm+ts", "DBN-Mix", _DBN_MIX),
    ),
    columns=(Variant("accuracy", "accuracy"),),
    published=_quoting(
        3,
        ["accuracy"],
        {
            "cb_focal": (61.1,),
            "ldam": (68.0,),
            "bbn": (69.6,),
            "remix": (70.5,),
            "crt": (70.2,),
            "lws": (70.9,),
            "mislas": (71.6,),
            "ride": (72.6,),
            "dbn+bm+ts": (74.7,),
        },
        {
            "cb_focal": f"{_MISLAS}, there of Cui et al. 2019",
            "ldam": f"{_MISLAS}, there of Cao et al. 2019",
            "bbn": f"{_MISLAS}, there of Zhou et al. 2020, twice the schedule",
            "remix": f"{_MISLAS}, there of Chou et al. 2020: Remix-DRW, 200 epochs",
            "crt": f"{_MISLAS}: cRT with mixup (traced, not re-checked)",
            "lws": f"{_MISLAS}: LWS with mixup (traced, not re-checked)",
            "mislas": _MISLAS,
            "ride": f"{_MISLAS} by the caption; RIDE's own release (Wang et al. 2021) has it too",
        },
    ),
)
