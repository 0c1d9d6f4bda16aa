"""imbalanced-DL (MAMix): Cheng et al. 2023; numbers from the README of its code."""

from lt_repro.papers.claim import Paper
from lt_repro.papers.columns import images
from lt_repro.papers.shared import SHARED, tables
from lt_repro.papers.table import Variant

_OTHER_SETS = {"cinic10": "CINIC-10", "svhn": "SVHN", "tiny_imagenet": "Tiny-ImageNet"}  # there is no reader for them
_COLUMNS = (
    *(images("cifar10", 100) + images("cifar100", 100)),
    *(
        Variant(name, f"{title} (100)", {"dataset": name, "ratio": 100.0, "method": None})
        for name, title in _OTHER_SETS.items()
    ),
)
_NUMBERS = """
ce        71.23 38.46 61.08 79.91 32.86
drw       75.08 40.4  63.75 80.68 33.81
m2m       76.15 41.92 64.2  77.68 34.33
deepsmote 76.66 38.87 -     81.11 -
ldam-drw  77.75 41.28 68.15 83.48 31.9
mixup-drw 82.11 46.91 71.4  85.19 37.97
remix-drw 81.82 46.0  71.15 84.52 36.89
mamix-drw 82.29 46.93 71.76 85.41 37.73"""

PAPER = Paper(
    name="imbalanced_dl",
    title="imbalanced-DL",
    citation="Cheng, Mai, Lin: From SMOTE to Mixup for Deep Imbalanced Classification. TAAI 2023",
    settings=SHARED,
    exhibits={
        "table1": tables(
            "imbalanced_dl",
            "table1",
            "Mixup and MAMix beside other methods on five long-tailed sets.",
            _COLUMNS,
            _NUMBERS,
            "example/README.md in github.com/ntucllab/imbalanced-DL at commit caa43d9",
            "LDAM's split, seed 0; ResNet-32 (CIFAR, SVHN) or ResNet-18, 200 epochs, on CIFAR-100 and Tiny-ImageNet "
            "300; the best epoch on the test images; one seed (1126); augmentation not said there",
            {"deepsmote": "DeepSMOTE", "mamix-drw": "MAMix-DRW"},
            tier="authors_code",
        )
    },
)
