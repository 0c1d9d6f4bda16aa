"""Tables 1 to 3 of DBN-Mix: its rivals, whose numbers it quotes; and rivals under one recipe, not in the paper."""

from math import inf
from typing import Any

from lt_repro.papers.columns import CLASS_GROUPS, images
from lt_repro.papers.dbn_mix.settings import LARGE, PROTOCOL, SETTINGS
from lt_repro.papers.dbn_mix.tables import ROWS, paper_table
from lt_repro.papers.quoted import published, under_own_recipes
from lt_repro.papers.table import Variant

_MIXED = {"parent.mix": "mixup"}
_SBN_MIX, _DBN_MIX = ROWS[4].edits, ROWS[-1].edits

_META = "another subset of CIFAR, with a balanced meta set beside it"
_JAMAL = f"quoted from Jamal et al. 2020 ({_META})"
_RERUN = "quoted from Jamal et al. 2020, their rerun (traced, not re-checked)"
_ZHOU = "quoted from BBN (Zhou et al. 2020)"
_MISLAS = "quoted from MiSLAS (Zhong et al. 2021)"
_ACCURACY = (Variant("accuracy", "accuracy"),)
_BEST = "published: the best epoch on the test set; ours: the last"
_DROPS = "published: the rate x0.01 at epochs 160 and 180; ours: x0.1 at 120 and 160"
_BBN_DROPS = "published: the rate x0.01 at epochs 120 and 160, Nesterov's momentum; ours: x0.1, plain momentum"
_HELD_OUT = (
    "published: ten images of each class moved out of the training set into a balanced meta set, batches of 100, "
    "weight decay 5e-4, crops from reflected borders"
)


CIFARS = images("cifar10", 200, 100, 50, 20, 10) + images("cifar100", 200, 100, 50, 20, 10)
_ROWS1 = (
    Variant("sbn", "Cross-entropy"),
    Variant("focal", "Focal loss", {"method": "focal"}, notes=(_DROPS,)),
    Variant(
        "sbn+mixup",
        "Mixup",
        {"mix": "mixup"},
        notes=(_BBN_DROPS,),
    ),
    Variant("ldam", "LDAM-DRW", {"method": "ldam"}, notes=(_DROPS, _BEST)),
    Variant(
        "m2m",
        "M2m + LDAM",
        {"method": "m2m", "base": "ldam"},
        notes=(_DROPS, "published: tested on 9,000 images, the other 1,000 chose the epoch"),
    ),
    Variant("remix", "Remix", {"method": "remix"}, notes=("published: Remix-DRW, 300 epochs",)),
    Variant("bbn", "BBN", {"method": "bbn"}, notes=(_BBN_DROPS, _BEST)),
    Variant("meta_weight_net", "Meta-weight net", {"method": "meta_weight_net"}, notes=(_HELD_OUT, _BEST)),
    Variant("mcw", "MCW + Focal", {"method": "mcw"}, notes=(_HELD_OUT, _DROPS, _BEST)),
    Variant("metasaug", "MetaSAug + LDAM", {"method": "metasaug"}, notes=(_HELD_OUT, _DROPS, _BEST)),
    Variant(
        "mislas",
        "MiSLAS",
        {"method": "mislas", "parent.mix": "mixup"},
        notes=("published: the rate x0.1 at epochs 160 and 180 of the first stage", _BEST),
    ),
    Variant(
        "ride",
        "RIDE",
        {"method": "ride", "experts": 4},
        notes=(
            _DROPS,
            "published: four experts, by reports of its users distilled from six; images rotated by up to "
            "15 degrees, weight decay 5e-4, Nesterov's momentum",
            _BEST,
        ),
    ),
    Variant("sbn+bm+ts", "SBN-Mix", _SBN_MIX),
    Variant("dbn+bm+ts", "DBN-Mix", _DBN_MIX),
)
_PRINTED1 = published(
    CIFARS,
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
    "DBN-Mix, Table 1",
    PROTOCOL,
    quoted={
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
)
TABLE1 = paper_table(
    exhibit="table1",
    heading="DBN-Mix beside other methods on CIFAR-LT (Table 1 of the paper), all under one recipe here: top-1 test "
    "accuracy in percent. The paper quotes the other methods, each from training of its own kind.",
    base={"dataset": "cifar10"},
    rows=_ROWS1,
    columns=CIFARS,
    published=_PRINTED1,
)
_OWN1 = tuple(under_own_recipes(_ROWS1))
TABLE1_OWN = paper_table(
    exhibit="table1_own",
    heading="The other methods of the paper's Table 1 under their authors' own recipes: top-1 test accuracy in "
    "percent.",
    base={"dataset": "cifar10"},
    rows=_OWN1,
    columns=CIFARS,
    published={place: printed for place, printed in _PRINTED1.items() if place[0] in {row.label for row in _OWN1}},
)
"""A table of its own, as protocols must not share a column: some recipes hold images out, or train longer."""


_LONGER = {"epochs": 200}  # the extended schedule of ImageNet-LT
TABLE2 = paper_table(
    exhibit="table2",
    heading="DBN-Mix beside other methods on ImageNet-LT (Table 2 of the paper): top-1 test accuracy in percent. "
    "The standard schedule has 100 epochs, the extended one 200 (as the paper's drops imply).",
    base={"dataset": "imagenet_lt", "ratio": 256.0},
    rows=(
        Variant("sbn", "CE"),
        Variant("sbn/extended", "CE, extended schedule", _LONGER),
        Variant("ldam/extended", "LDAM-DRW, extended schedule", {"method": "ldam"} | _LONGER),
        Variant("lws", "LWS", {"method": "lws"}),
        Variant("lws/extended", "LWS, extended schedule", {"method": "lws", "parent.mix": "mixup"} | _LONGER),
        Variant("mislas/extended", "MiSLAS, extended schedule", {"method": "mislas", "parent.mix": "mixup"} | _LONGER),
        Variant("ride", "RIDE", {"method": "ride", "experts": 4}),
        Variant("dbn+bm+ts", "DBN-Mix", _DBN_MIX),
        Variant("dbn+bm+ts/extended", "DBN-Mix, extended schedule", dict(_DBN_MIX) | _LONGER),
    ),
    columns=_ACCURACY,
    published=published(
        _ACCURACY,
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
        "DBN-Mix, Table 2",
        LARGE,
        quoted={
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
TABLE3 = paper_table(
    exhibit="table3",
    heading="DBN-Mix beside other methods on iNaturalist 2018 (Table 3 of the paper): top-1 test accuracy in percent.",
    base={"dataset": "inat2018", "ratio": 500.0},
    rows=(
        Variant("cb_focal", "CB-Focal (printed CE-Focal)", {"method": "cb_focal"}),
        Variant("ldam", "LDAM-DRW", {"method": "ldam"}),
        Variant("bbn", "BBN", {"method": "bbn"}),
        Variant("remix", "Remix", {"method": "remix"}),
        Variant("crt", "cRT (printed cRW)", {"method": "crt", "parent.mix": "mixup"}),
        Variant("lws", "LWS", {"method": "lws", "parent.mix": "mixup"}),
        Variant("mislas", "MiSLAS", {"method": "mislas", "parent.mix": "mixup"}),
        Variant("ride", "RIDE", {"method": "ride", "experts": 4}),
        Variant("dbn+bm+ts", "DBN-Mix", _DBN_MIX),
    ),
    columns=_ACCURACY,
    published=published(
        _ACCURACY,
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
        "DBN-Mix, Table 3",
        LARGE,
        quoted={
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


def _rival(label: str, title: str, method: str, **edits: Any) -> Variant:
    return Variant(label, title, {"method": method} | edits)


RIVALS = paper_table(
    exhibit="rivals",
    heading="Every method under one recipe ({place}; not in the paper): top-1 test accuracy in percent.",
    base={"dataset": "cifar100", "ratio": SETTINGS.ratio},
    rows=(
        Variant("sbn", "Cross-entropy"),
        _rival("focal", "Focal loss (sigmoid)", "focal"),
        _rival("focal-softmax", "Focal loss (softmax)", "focal", form="softmax"),
        _rival("cb_focal", "Class-balanced focal loss", "cb_focal"),
        _rival("drw", "CE-DRW", "drw"),
        _rival("drs", "CE-DRS", "drw", rule="resample"),
        _rival("ldam-plain", "LDAM", "ldam", rule="none"),
        _rival("ldam", "LDAM-DRW", "ldam"),
        _rival("balanced_softmax", "Balanced softmax", "balanced_softmax"),
        _rival("logit_adjustment", "Logit adjustment, post-hoc", "logit_adjustment", frozen=True),
        _rival("crt", "cRT", "crt"),
        _rival("lws", "LWS", "lws"),
        _rival("tau_norm", "tau-normalisation", "tau_norm"),
        Variant("sbn+mixup", "Mixup", {"mix": "mixup"}),
        _rival("remix-plain", "Remix", "remix", rule="none"),
        _rival("drw+mixup", "Mixup-DRW", "drw", mix="mixup"),
        _rival("remix", "Remix-DRW", "remix"),
        _rival("balanced_softmax+mixup", "Balanced softmax + mixup", "balanced_softmax", mix="mixup"),
        _rival(
            "logit_adjustment+mixup",
            "Mixup + logit adjustment, post-hoc",
            "logit_adjustment",
            frozen=True,
            **_MIXED,
        ),
        _rival("crt+mixup", "Mixup + cRT", "crt", **_MIXED),
        _rival("lws+mixup", "Mixup + LWS", "lws", **_MIXED),
        _rival("mislas", "MiSLAS", "mislas", **_MIXED),
        _rival("m2m-plain", "M2m", "m2m"),
        _rival("m2m", "M2m + LDAM", "m2m", base="ldam"),
        _rival("meta_weight_net", "Meta-Weight-Net", "meta_weight_net"),
        _rival("mcw", "MCW + focal", "mcw"),
        _rival("metasaug-ce", "MetaSAug + CE", "metasaug", base="ce"),
        _rival("metasaug", "MetaSAug + LDAM", "metasaug"),
        _rival("ride-2", "RIDE, two experts", "ride", experts=2),
        _rival("ride-3", "RIDE, three experts", "ride"),
        _rival("ride-3-routed", "RIDE, three experts, routed", "ride_routing"),
        _rival("ride", "RIDE, four experts", "ride", experts=4),
        _rival(
            "ride-distilled",
            "RIDE, four experts, distilled from six",
            "ride",
            experts=4,
            distill=1.0,
            **{"parent.experts": 6, "parent.distill": 0.0},
        ),
        Variant("bbn", "BBN", {"method": "bbn"}),
        Variant("sbn+bm+ts", "SBN-Mix", _SBN_MIX),
        Variant("dbn+bm+ts", "DBN-Mix", _DBN_MIX),
    ),
    columns=CLASS_GROUPS,
    published={
        (row, "all"): printed for (row, column), printed in TABLE1.published.items() if column == "cifar100-100"
    },
)
"""The first row is plain cross-entropy; second stages start from the row "Cross-entropy" or "Mixup"."""

PARTS = paper_table(
    exhibit="parts",
    heading="Methods without their key component ({place}; not in the paper): top-1 test accuracy in percent.",
    base={"dataset": "cifar100", "ratio": SETTINGS.ratio},
    rows=(
        Variant("sbn", "Cross-entropy"),
        _rival("meta_weight_net", "Meta-Weight-Net", "meta_weight_net"),
        _rival("meta_weight_net-frozen", "Meta-Weight-Net, frozen", "meta_weight_net", learned=False),
        _rival("mcw", "MCW + focal", "mcw"),
        _rival("mcw-step", "MCW + focal, without its meta step", "mcw", step=0.0),
        _rival("metasaug", "MetaSAug + LDAM", "metasaug"),
        _rival("metasaug-step", "MetaSAug + LDAM, without its meta step", "metasaug", meta_lr=0.0),
        _rival("ride-3", "RIDE, three experts", "ride"),
        _rival("ride-3-diversity", "RIDE, without diversity", "ride", diversity=0.0),
        _rival("m2m-plain", "M2m", "m2m"),
        _rival("m2m-accepted", "M2m, nothing accepted", "m2m", gamma=inf),
    ),
    columns=CLASS_GROUPS,
)
"""Every second row from the third on is the row above it with one setting changed."""
