"""Logit adjustment: Menon et al. 2021; numbers from the README of its code."""

from lt_repro.papers.claim import Paper
from lt_repro.papers.columns import images
from lt_repro.papers.shared import SHARED, tables

PAPER = Paper(
    name="logit_adjustment",
    title="Logit adjustment",
    citation="Menon, Jayasumana, Rawat, Jain, Veit, Kumar: Long-Tail Learning via Logit Adjustment. ICLR 2021",
    settings=SHARED,
    exhibits={
        "table1": tables(
            "logit_adjustment",
            "table1",
            "Logit adjustment on CIFAR-LT (the README of its code).",
            images("cifar10", 100) + images("cifar100", 100),
            """
            ce                        71.36 39.87
            logit-adjustment-post-hoc 77.32 44.07
            logit-adjustment          77.89 44.06""",
            "logit_adjustment/README.md in github.com/google-research/google-research at commit 21efedb",
            "ResNet-32, the last epoch; epochs, split, augmentation and seeds not said there",
            tier="authors_code",
        )
    },
)
