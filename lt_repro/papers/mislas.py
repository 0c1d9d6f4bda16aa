"""MiSLAS: Zhong et al. 2021, accuracy and calibration; numbers from the slides and the README of its repository."""

from functools import partial

from lt_repro.papers.claim import Paper
from lt_repro.papers.columns import images
from lt_repro.papers.shared import SHARED, tables
from lt_repro.papers.table import Variant

_CODE = "github.com/dvlab-research/MiSLAS at commit 0fc381e"
_CIFAR = (
    "LDAM's split; ResNet-32, 200 epochs, second stages 10 more, weight decay 2e-4; the best epoch on the test images "
    "(by the code); augmentation and seeds not said"
)
_LARGE = "ResNet-50; epochs, best or last, augmentation and seeds not said where it was read"
_CIFARS = images("cifar10", 100, 50, 10) + images("cifar100", 100, 50, 10)
_ERRORS = images("cifar10", 100, 50, 10, metric="ece") + images("cifar100", 100, 50, 10, metric="ece")
_SETS = (
    Variant("imagenet_lt", "ImageNet-LT", {"dataset": "imagenet_lt", "ratio": 256.0}),
    Variant("inat2018", "iNaturalist 2018", {"dataset": "inat2018", "ratio": 500.0}),
)
_TABLE1 = """
ce        70.4 74.8 86.4 38.4 43.9 55.8
mixup     73.1 77.8 87.1 39.6 45.0 58.2
ldam-drw  77.1 81.1 88.4 42.1 46.7 58.8
bbn       79.9 82.2 88.4 42.6 47.1 59.2
remix-drw 79.8 -    89.1 46.8 -    61.3
crt-mixup 79.1 84.2 89.8 45.1 50.9 62.1
lws-mixup 76.3 82.6 89.6 44.2 50.7 62.3
mislas    82.1 85.7 90.0 47.0 52.3 63.2"""
_TABLE2 = """
ce        44.6 -
drw       48.5 -
focal-drw 47.9 -
cb-focal  -    61.1
ldam-drw  48.8 68.0
bbn       -    69.6
remix-drw -    70.5
crt-mixup 51.7 70.2
lws-mixup 52.0 70.9
mislas    52.7 71.6"""
_ECE = """
crt-mixup 10.6 6.89 3.92 13.8 10.8 6.83
lws-mixup 15.6 11.0 5.41 22.5 19.2 13.4
mislas    3.7  2.17 1.2  4.83 2.25 1.73"""
_RELEASED = """
mixup     72.8 78.1 87.6 39.5 45.4 59.1 2.14 2.49 11.9 8.82 4.33 5.24
mislas    82.5 85.7 90.0 47.0 52.3 63.2 3.66 2.01 1.2  4.83 2.47 1.73"""

_OTHERS = ("ce", "mixup", "drw", "focal-drw", "cb-focal", "ldam-drw", "bbn", "remix-drw")
_NOTES = {"remix-drw": "published: 300 epochs"}
_slide = partial(tables, "mislas", quoted=_OTHERS, picture=True, titles={"focal-drw": "Focal-DRW"}, notes=_NOTES)
_IN = f"of assets/MiSLAS.pdf in {_CODE}"

PAPER = Paper(
    name="mislas",
    title="MiSLAS",
    citation="Zhong, Cui, Liu, Jia: Improving Calibration for Long-Tailed Recognition. CVPR 2021",
    settings=SHARED,
    exhibits={
        "table1": _slide("table1", "MiSLAS on CIFAR-LT (slide 11).", _CIFARS, _TABLE1, f"slide 11 {_IN}", _CIFAR),
        "table2": _slide("table2", "MiSLAS on large sets (slide 12).", _SETS, _TABLE2, f"slide 12 {_IN}", _LARGE),
        "ece": _slide("ece", "MiSLAS: calibration (slide 11).", _ERRORS, _ECE, f"slide 11 {_IN}", _CIFAR, second=False),
        "released": tables(
            *("mislas", "released", "MiSLAS: the released models.", _CIFARS + _ERRORS, _RELEASED),
            *(f"README.md in {_CODE}", _CIFAR),
            second=False,
            tier="authors_code",
        ),
    },
)
