"""What DBN-Mix leaves open, and how this project reads it."""

from lt_repro.papers.claim import Question
from lt_repro.recipe import Recipe


def _has_parent(recipe: Recipe) -> bool:
    return bool(recipe.parents)


QUESTIONS = (
    Question(
        "branch_at",
        "Where do the branches part?",
        "block: BBN's layout, its own last block, pooling and head.",
    ),
    Question("bn", "How does BatchNorm in the trunk see two batches?", "per_branch: BBN passes them one by one."),
    Question("lam_per", "One lambda per batch or per sample?", "batch: the code of the mixup paper."),
    Question(
        "mix",
        "What do two branches see without bilateral mixup?",
        "none: the uniform batch and the reverse batch, loss (19), as Sec. 3.1 has it.",
        lambda recipe: len(recipe.spec.branches) == 2 and getattr(recipe.method, "mix", None) == "none",
    ),
    Question(
        "epoch_images",
        "How many images is an epoch?",
        "set: N, as in BBN's code; codes that oversample take K x N_max.",
    ),
    Question(
        "gamma",
        "Does a larger gamma re-balance more, as the prose says, or less, as (2) says?",
        "The formula decides: infinity is class-balanced, 1 is BBN's reversed distribution.",
    ),
    Question("head", "What is the classifier?", "linear: nothing else is said; LDAM's and RIDE's codes have a cosine."),
    Question(
        "tscale",
        "Does the temperature act at test time?",
        "No: it divides the logits in the training loss only (Sec. 3.3, 3.4).",
        lambda recipe: getattr(recipe.method, "tscale", False),
    ),
    Question("warmup", "Is there a warm-up?", "2.5 % of training: the LDAM schedule that Sec. 4.2 cites has one."),
    Question(
        "milestones",
        "When does the rate drop, where the length of training is not said?",
        "At 0.6 and 0.8: epochs 120 and 160 of Sec. 4.2 are those of 200.",
    ),
    Question("lr_decay", "How far does the rate drop?", "x0.1: Sec. 4.2; the LDAM code that it cites has x0.01."),
    Question("weight_decay", "Is 2e-4 enough?", "2e-4: Sec. 4.2; many later long-tailed codes have 5e-4."),
    Question(
        "normalise",
        "Which mean and deviation are the CIFARs normalised with?",
        "shared: the codes of LDAM, BBN and MiSLAS use CIFAR-10's for both.",
    ),
    Question("split_seed", "Which images make up the long-tailed set?", "0: LDAM's draw, which the field shares."),
    Question(
        "parents",
        "What is re-trained for representation learning (Table 6a)?",
        "Both linear heads, by cRT on all below them, frozen: what Kang et al. mean by representation.",
        _has_parent,
    ),
    Question(
        "frozen",
        "What is trained for classifier learning (Table 6b)?",
        "The variant's heads, draws and loss on the frozen features of one branch trained with mixup (Sec. 4.5).",
        _has_parent,
    ),
    Question(
        "schedule",
        "How is a second stage trained?",
        "cosine: 10 epochs at rate 0.1, as MiSLAS' code has it.",
        _has_parent,
    ),
    Question(
        "epochs",
        "How long is training on ImageNet-LT and iNaturalist 2018?",
        "100 (extended: 200) and 200: the drops of Sec. 4.2 at 0.6 and 0.8.",
        lambda recipe: recipe.dataset in ("imagenet_lt", "inat2018"),
    ),
    Question(
        "batch",
        "How large is a batch on iNaturalist 2018?",
        "256, as on ImageNet-LT.",
        lambda recipe: recipe.dataset == "inat2018",
    ),
)
