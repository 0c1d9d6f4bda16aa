"""LDAM: Cao et al. 2019; its numbers are those of a third party's transcription, not read in the paper."""

from lt_repro.papers.claim import Paper
from lt_repro.papers.columns import images
from lt_repro.papers.shared import SHARED, tables

PAPER = Paper(
    name="ldam",
    title="LDAM",
    citation="Cao, Wei, Gaidon, Arechiga, Ma: Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss. "
    "NeurIPS 2019",
    settings=SHARED,
    exhibits={
        "table1": tables(
            "ldam",
            "table1",
            "LDAM-DRW on CIFAR-LT (from a leaderboard that transcribes the paper).",
            images("cifar10", 100, 10) + images("cifar100", 100, 10),
            "ldam-drw 22.97 11.84 57.96 41.29",  # errors, as transcribed
            "README.md in github.com/yanyanSann/Long-Tailed-Classification-Leaderboard at commit 298eb72",
            "not said in the transcription: split, epochs, best or last, augmentation and seeds",
            tier="secondary",
            errors=True,
        )
    },
)
