"""DBN-Mix as data: Baik, Yoon, Choi, "DBN-Mix: Training Dual Branch Network Using Bilateral Mixup Augmentation"."""

from lt_repro.papers.claim import Paper
from lt_repro.papers.dbn_mix.claims import CLAIMS
from lt_repro.papers.dbn_mix.questions import QUESTIONS
from lt_repro.papers.dbn_mix.rivals import PARTS, RIVALS, TABLE1, TABLE1_OWN, TABLE2, TABLE3
from lt_repro.papers.dbn_mix.settings import SETTINGS
from lt_repro.papers.dbn_mix.tables import (
    FIG1,
    FIG3,
    GROUPS,
    LAMBDAS,
    READINGS_DBN,
    READINGS_SBN,
    RELIABILITY,
    TABLE4,
    TABLE5,
    TABLE6,
    TESTED,
)

PAPER = Paper(
    name="dbn_mix",
    title="DBN-Mix",
    citation="Baik, Yoon, Choi: DBN-Mix: Training Dual Branch Network Using Bilateral Mixup Augmentation for "
    "Long-Tailed Visual Recognition. arXiv:2207.02173; Pattern Recognition 147 (2024) 110107",
    exhibits={
        "fig1": (FIG1,),
        "table1": (TABLE1, TABLE1_OWN),
        "table2": (TABLE2,),
        "table3": (TABLE3,),
        "table4": (TABLE4,),
        "table5": (TABLE5,),
        "table6": TABLE6,
        "fig3": FIG3,
        "rivals": (RIVALS,),
        "parts": (PARTS,),
        "groups": (GROUPS,),
        "reliability": (RELIABILITY,),
        "lambdas": (LAMBDAS,),
        "statistics": (TESTED,),
        "readings": (READINGS_DBN, READINGS_SBN),
    },
    claims=CLAIMS,
    questions=QUESTIONS,
    settings=SETTINGS,
)
