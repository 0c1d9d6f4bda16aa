"""DDC: Wang et al. 2023, VS with ADRW and TLA on CIFAR with long tails and steps; mean and standard deviation."""

from typing import Any

from lt_repro.papers.claim import Paper
from lt_repro.papers.columns import images
from lt_repro.papers.shared import SHARED, tables
from lt_repro.papers.table import Table, Variant


def _columns(**edits: Any) -> list[Variant]:
    kinds: tuple[dict[str, str], ...] = {}, {"imb_type": "step"}
    sets = ("cifar100", "cifar10")
    return [c for name in sets for kind in kinds for c in images(name, 100, 10, **kind, **edits)]


_PROTOCOL = (
    "LDAM's split, seed 0; ResNet-32, {}; the best epoch on the test images (by the code); mean and standard "
    "deviation, number of runs not said"
)
_PLAIN = """
ce          38.06±1.03 56.73±0.12 38.74±0.13 54.5±0.22  71.25±0.1  86.74±0.19 64.81±1.22 85.43±0.09
ldam-drw    42.73±0.28 57.75±0.54 46.01±0.16 56.84±0.2  77.97±0.17 87.96±0.16 78.27±0.44 87.65±0.22
vs          42.67±0.48 58.5±0.21  46.74±0.47 59.97±0.06 80.29±0.23 88.74±0.24 80.19±0.09 89.13±0.0
vs-adrw-tla 43.2±0.05  58.9±0.3   47.6±0.27  60.12±0.22 80.81±0.05 88.86±0.13 80.78±0.15 89.24±0.1"""
_TUNED = """
ce          40.68±0.26 58.8±0.24  38.91±0.05 54.56±0.13 73.39±0.3  87.43±0.22 66.2±0.36  85.57±0.11
ldam-drw    45.44±0.06 58.31±0.32 46.41±0.28 57.14±0.23 79.81±0.35 87.96±0.16 78.71±0.14 87.67±0.23
vs          46.26±0.31 61.11±0.26 46.74±0.47 61.02±0.31 81.62±0.1  89.1±0.13  81.25±0.23 89.31±0.12
vs-adrw-tla 46.29±0.5  61.33±0.25 47.76±0.31 61.39±0.35 81.64±0.07 89.2±0.11  81.29±0.22 89.57±0.09"""
_SAM = """
ce          45.7±0.35  63.11±0.19 41.98±0.15 59.26±0.24 79.75±0.46 90.79±0.04 70.13±0.32 88.63±0.22
ldam-drw    50.67±0.25 61.55±0.05 50.62±0.24 60.08±0.14 86.15±0.16 91.17±0.1  84.48±0.38 91.2±0.04
vs          52.09±0.12 65.23±0.24 49.77±0.42 64.28±0.04 86.29±0.13 91.75±0.09 85.04±0.16 91.68±0.08
vs-adrw-tla 53.05±0.12 65.59±0.28 51.69±0.29 64.98±0.13 86.42±0.1  91.82±0.16 85.55±0.22 91.8±0.04"""


def _exhibit(name: str, words: str, columns: list[Variant], numbers: str) -> tuple[Table, ...]:
    return tables(
        *("ddc", name, f"DDC: VS with ADRW and TLA beside other methods on CIFAR, {words}.", columns, numbers),
        *("README.md in github.com/wang22ti/DDC at commit 4bd4fb3", _PROTOCOL.format(words)),
        tier="authors_code",
        titles={"vs": "VS", "vs-adrw-tla": "VS + ADRW + TLA"},
    )


PAPER = Paper(
    name="ddc",
    title="DDC",
    citation="Wang, Xu, Yang, He, Cao, Huang: A Unified Generalization Analysis of Re-Weighting and Logit-Adjustment "
    "for Imbalanced Learning. NeurIPS 2023",
    settings=SHARED,
    exhibits={  # no method here has the last two protocols: published only
        "table1": _exhibit("table1", "200 epochs, weight decay 2e-4", _columns(), _PLAIN),
        "table2": _exhibit("table2", "200 epochs, tuned weight decay", _columns(method=None), _TUNED),
        "table3": _exhibit("table3", "400 epochs, tuned weight decay, SAM, RandAug", _columns(method=None), _SAM),
    },
)
