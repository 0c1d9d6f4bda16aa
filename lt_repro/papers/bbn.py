"""BBN: Zhou et al. 2020; its numbers are those of a third party's transcription, not read in the paper."""

from lt_repro.papers.claim import Paper
from lt_repro.papers.columns import images
from lt_repro.papers.shared import SHARED, tables

PAPER = Paper(
    name="bbn",
    title="BBN",
    citation="Zhou, Cui, Wei, Chen: BBN: Bilateral-Branch Network with Cumulative Learning for Long-Tailed Visual "
    "Recognition. CVPR 2020",
    settings=SHARED,
    exhibits={
        "table1": tables(
            "bbn",
            "table1",
            "BBN on CIFAR-LT (from a leaderboard that transcribes the paper).",
            images("cifar10", 100, 50, 10) + images("cifar100", 100, 50, 10),
            "bbn 20.18 17.82 11.68 57.44 52.98 40.88",  # errors, as transcribed
            "README.md in github.com/yanyanSann/Long-Tailed-Classification-Leaderboard at commit 298eb72",
            "not said in the transcription: split, epochs, best or last, augmentation and seeds",
            tier="secondary",
            errors=True,
        )
    },
)
