"""Meta-Weight-Net: Shu et al. 2019; numbers from the poster in its repository."""

from lt_repro.papers.claim import Paper
from lt_repro.papers.columns import images
from lt_repro.papers.shared import SHARED, tables

_RATIOS = (200, 100, 50, 20, 10, 1)
_NUMBERS = """
ce              65.68 70.36 74.81 82.23 86.39 92.89 34.84 38.32 43.85 51.14 55.71 70.5
focal           65.29 70.38 76.71 82.76 86.66 93.03 35.62 38.41 44.32 51.95 55.78 70.52
class-balanced  68.89 74.57 79.27 84.36 87.49 92.89 36.23 39.6  45.32 52.59 57.99 70.5
fine-tuning     66.08 71.33 77.42 83.37 86.42 93.23 38.22 41.83 46.4  52.11 57.44 70.72
l2rw            66.51 74.16 78.93 82.12 85.19 89.25 33.38 40.23 44.44 51.64 53.73 64.11
meta-weight-net 68.91 75.21 80.06 84.94 87.84 92.66 37.91 42.09 46.74 54.37 58.46 70.37"""
_TITLES = {"class-balanced": "Class-balanced loss", "fine-tuning": "Fine-tuning", "l2rw": "L2RW"}

PAPER = Paper(
    name="meta_weight_net",
    title="Meta-Weight-Net",
    citation="Shu, Xie, Yi, Zhao, Zhou, Xu, Meng: Meta-Weight-Net: Learning an Explicit Mapping For Sample Weighting. "
    "NeurIPS 2019",
    settings=SHARED,
    exhibits={
        "table1": tables(
            "meta_weight_net",
            "table1",
            "Meta-Weight-Net beside other methods on CIFAR-LT (the poster).",
            images("cifar10", *_RATIOS) + images("cifar100", *_RATIOS),
            _NUMBERS,
            "NeurIPS2019.pdf in github.com/xjtushujun/meta-weight-net at commit 3f1800f",
            "the split of Cui et al.; ResNet-32; epochs, best or last, augmentation and seeds not said on the poster",
            _TITLES,
            quoted=dict.fromkeys(("ce", "focal", "class-balanced"), "there of Cui et al. 2019"),
            picture=True,
        )
    },
)
