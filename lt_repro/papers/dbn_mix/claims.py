"""What DBN-Mix claims in words, each as comparisons of cells."""

from lt_repro.papers.claim import Claim, Comparison, Place
from lt_repro.papers.dbn_mix.rivals import CIFARS, TABLE3
from lt_repro.papers.dbn_mix.tables import FIG3A, FIG3B, FIG3C, ROWS, TABLE4
from lt_repro.papers.table import Table


def _above(exhibit: str, column: str, more: str, *less: str) -> tuple[Comparison, ...]:
    """Returns that one row lies above each of the others in a column."""
    return tuple(Comparison((Place(exhibit, more, column),), (Place(exhibit, row, column),)) for row in less)


def _grows(row: str, base: str, column: str, other_column: str) -> Comparison:
    """Returns that the gain of a row over another is larger in one column of Table 4 than in a second."""
    return Comparison(
        (Place("table4", row, column), Place("table4", base, other_column)),
        (Place("table4", base, column), Place("table4", row, other_column)),
    )


def _peak(table: Table, row: str, column: str) -> tuple[Comparison, ...]:
    """Returns that one point of a figure lies above all others."""
    top = Place(table.exhibit, row, column)
    others = [Place(table.exhibit, r.label, c.label) for r in table.rows for c in table.columns]
    return tuple(Comparison((top,), (place,)) for place in others if place != top)


_RIVALS = {  # the best quoted row of each column of Table 1
    "cifar10-200": "metasaug",
    "cifar10-100": "mislas",
    "cifar10-50": "mislas",
    "cifar10-20": "metasaug",
    "cifar10-10": "mislas",
    "cifar100-200": "metasaug",
    "cifar100-100": "ride",
    "cifar100-50": "mislas",
    "cifar100-20": "metasaug",
    "cifar100-10": "mislas",
}

CLAIMS = (
    Claim(
        "dbn-above-sbn",
        "Two branches are better than one: DBN-Mix beats SBN-Mix on either CIFAR-LT at every ratio.",
        "Table 1, Sec. 4.3",
        tuple(c for column in CIFARS for c in _above("table1", column.label, "dbn+bm+ts", "sbn+bm+ts")),
    ),
    Claim(
        "best-of-cifar",
        "DBN-Mix beats the strongest earlier method on either CIFAR-LT at every ratio.",
        "Table 1, Sec. 4.3",
        tuple(c for column, rival in _RIVALS.items() for c in _above("table1", column, "dbn+bm+ts", rival)),
    ),
    Claim(
        "best-of-imagenet",
        "On ImageNet-LT, DBN-Mix beats RIDE on the standard schedule, and MiSLAS and LWS on the extended one.",
        "Table 2, Sec. 4.3",
        _above("table2", "accuracy", "dbn+bm+ts", "ride")
        + _above("table2", "accuracy", "dbn+bm+ts/extended", "mislas/extended", "lws/extended"),
    ),
    Claim(
        "best-of-inat",
        "On iNaturalist 2018, DBN-Mix beats every other method of the table.",
        "Table 3, Sec. 4.3",
        _above("table3", "accuracy", "dbn+bm+ts", *(row.label for row in TABLE3.rows[:-1])),
    ),
    Claim(
        "sbn-bm",
        "Bilateral mixup lifts a single branch (by 5.64 points).",
        "Sec. 4.4",
        _above("table4", "100", "sbn+bm", "sbn"),
    ),
    Claim(
        "sbn-bm-over-mixup",
        "On a single branch, bilateral mixup gains more than conventional mixup does (5.64 against 1.08 points).",
        "Sec. 4.4",
        _above("table4", "100", "sbn+bm", "sbn+mixup"),
    ),
    Claim(
        "sbn-ts",
        "Temperature scaling alone lifts a single branch slightly (2.79 points).",
        "Sec. 4.4",
        _above("table4", "100", "sbn+ts", "sbn"),
    ),
    Claim(
        "sbn-both",
        "On a single branch, both ideas together (6.61 points) gain more than either alone.",
        "Sec. 4.4",
        _above("table4", "100", "sbn+bm+ts", "sbn+bm", "sbn+ts"),
    ),
    Claim(
        "dbn-bm",
        "Bilateral mixup lifts the dual branch (by 5.62 points).",
        "Sec. 4.4",
        _above("table4", "100", "dbn+bm", "dbn"),
    ),
    Claim(
        "dbn-ts",
        "Temperature scaling lifts the dual branch (by 3.09 points).",
        "Sec. 4.4",
        _above("table4", "100", "dbn+ts", "dbn"),
    ),
    Claim(
        "dbn-both",
        "On the dual branch, both ideas together (10.05 points) gain more than either alone.",
        "Sec. 4.4",
        _above("table4", "100", "dbn+bm+ts", "dbn+bm", "dbn+ts"),
    ),
    Claim(
        "best-of-ablation",
        "DBN-Mix is the best variant at every ratio.",
        "Table 4",
        tuple(
            c
            for column in TABLE4.columns
            for c in _above("table4", column.label, "dbn+bm+ts", *(row.label for row in ROWS[:-1]))
        ),
    ),
    Claim(
        "gain-grows",
        "The more imbalanced the data, the more DBN-Mix gains over the dual branch: 10.05 points at ratio 100, 8.00 at "
        "50, 4.16 at 10.",
        "Sec. 4.4",
        (_grows("dbn+bm+ts", "dbn", "100", "50"), _grows("dbn+bm+ts", "dbn", "50", "10")),
    ),
    Claim(
        "eta-eps",
        "The temperatures work best at eta 7 and eps 0.6.",
        "Fig. 3a, Sec. 4.4",
        _peak(FIG3A, "0.6", "7"),
    ),
    Claim("alpha", "Bilateral mixup works best at alpha 1.", "Fig. 3b, Sec. 4.4", _peak(FIG3B, "dbn+bm+ts", "1")),
    Claim(
        "gamma",
        "Class-balanced draws, gamma infinite, work best.",
        "Fig. 3c, Sec. 4.4",
        _peak(FIG3C, "dbn+bm+ts", "inf"),
    ),
    Claim(
        "branches-above-bbn",
        "Each branch of DBN-Mix alone beats that of BBN (re-balancing by 11.86 points, conventional by 9.51).",
        "Table 5, Sec. 4.5",
        _above("table5", "all", "dbn+bm+ts/rebalancing", "bbn/rebalancing")
        + _above("table5", "all", "dbn+bm+ts/conventional", "bbn/conventional"),
    ),
    Claim(
        "final-above-bbn",
        "DBN-Mix as a whole beats BBN.",
        "Table 5, Sec. 4.5",
        _above("table5", "all", "dbn+bm+ts/final", "bbn/final"),
    ),
    Claim(
        "medium-few-gain",
        "DBN-Mix beats BBN on the medium and on the few classes.",
        "Table 5, Sec. 4.5",
        _above("table5", "medium", "dbn+bm+ts/final", "bbn/final")
        + _above("table5", "few", "dbn+bm+ts/final", "bbn/final"),
    ),
    Claim(
        "many-kept",
        "DBN-Mix loses nothing on the many classes: it stays level with BBN there.",
        "Table 5, Sec. 4.5",
        _above("table5", "many", "dbn+bm+ts/final", "bbn/final"),
        equivalence_margin=0.01,
    ),
    Claim(
        "final-above-branches",
        "The mean of the two branches of DBN-Mix beats either branch.",
        "Table 5",
        _above("table5", "all", "dbn+bm+ts/final", "dbn+bm+ts/rebalancing", "dbn+bm+ts/conventional"),
    ),
    Claim(
        "bm-representation",
        "Bilateral mixup makes better features (by 6.79 points after cRT).",
        "Table 6a, Sec. 4.5",
        _above("table6a", "accuracy", "dbn+bm", "dbn"),
    ),
    Claim(
        "ts-representation",
        "Temperature scaling makes better features (by 1.64 points after cRT).",
        "Table 6a, Sec. 4.5",
        _above("table6a", "accuracy", "dbn+ts", "dbn"),
    ),
    Claim(
        "ts-classifier",
        "Temperature scaling makes a better classifier of the same features (by 2.63 points).",
        "Table 6b, Sec. 4.5",
        _above("table6b", "accuracy", "dbn+ts", "dbn"),
    ),
    Claim(
        "bm-classifier",
        "Bilateral mixup changes little in a classifier of the same features.",
        "Table 6b, Sec. 4.5",
        _above("table6b", "accuracy", "dbn+bm", "dbn"),
        equivalence_margin=0.01,
    ),
)
