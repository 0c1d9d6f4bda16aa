"""What DBN-Mix leaves open, and how this project reads it."""

from lt_repro.papers.claim import Question
from lt_repro.recipe import Recipe

_DBN = ("dbn_mix",)
_ABLATION = ("cross_entropy", "dbn_mix")  # the rows of Table 4: one plain branch is cross-entropy
_STAGES = ("crt", "dbn_mix")  # the second stages of Table 6
_CIFAR = ("cifar10", "cifar100")
_LARGE = ("imagenet_lt", "inat2018")


def _of_variant(recipe: Recipe) -> bool:
    """Returns whether a recipe starts from a run of the ablation, as those of Table 6 do."""
    return any(parent.method.name() in _ABLATION for parent in recipe.parents.values())


QUESTIONS = (
    Question(
        "branch_at",
        "Where do the branches part?",
        "block: BBN's layout, its own last block, pooling and head.",
        _DBN,
        when=lambda recipe: len(recipe.spec.branches) == 2,
    ),
    Question("bn", "How does BatchNorm in the trunk see two batches?", "per_branch: BBN passes them one by one.", _DBN),
    Question("lam_per", "One lambda per batch or per sample?", "batch: the code of the mixup paper.", _DBN),
    Question(
        "mix",
        "What do two branches see without bilateral mixup?",
        "none: the uniform batch and the reverse batch, loss (19), as Sec. 3.1 has it.",
        _DBN,
        when=lambda recipe: len(recipe.spec.branches) == 2 and recipe.values["mix"] == "none",
    ),
    Question(
        "epoch_images",
        "How many images is an epoch?",
        "set: N, as in BBN's code; codes that oversample take K x N_max.",
        _ABLATION,
        _CIFAR + _LARGE,
    ),
    Question(
        "gamma",
        "Does a larger gamma re-balance more, as the prose says, or less, as (2) says?",
        "The formula decides: infinity is class-balanced, 1 is BBN's reversed distribution.",
        _DBN,
    ),
    Question(
        "head", "What is the classifier?", "linear: nothing else is said; LDAM's and RIDE's codes have a cosine.", _DBN
    ),
    Question(
        "tscale",
        "Does the temperature act at test time?",
        "No: it divides the logits in the training loss only (Sec. 3.3, 3.4).",
        _DBN,
        when=lambda recipe: recipe.values["tscale"] is True,
    ),
    Question(
        "warmup",
        "Is there a warm-up?",
        "2.5 % of training: the LDAM schedule that Sec. 4.2 cites has one.",
        _ABLATION,
        _CIFAR + _LARGE,
    ),
    Question(
        "milestones",
        "When does the rate drop, where the length of training is not said?",
        "At 0.6 and 0.8: epochs 120 and 160 of Sec. 4.2 are those of 200.",
        _ABLATION,
        _LARGE,
    ),
    Question(
        "lr_decay",
        "How far does the rate drop?",
        "x0.1: Sec. 4.2; the LDAM code that it cites has x0.01.",
        _ABLATION,
        _CIFAR + _LARGE,
    ),
    Question(
        "weight_decay", "Is 2e-4 enough?", "2e-4: Sec. 4.2; many later long-tailed codes have 5e-4.", _ABLATION, _CIFAR
    ),
    Question(
        "normalise",
        "Which mean and deviation are the CIFARs normalised with?",
        "shared: the codes of LDAM, BBN and MiSLAS use CIFAR-10's for both.",
        _ABLATION,
        _CIFAR,
    ),
    Question(
        "split_seed",
        "Which images make up the long-tailed set?",
        "0: LDAM's draw, which the field shares.",
        _ABLATION,
        _CIFAR,
    ),
    Question(
        "parents",
        "What is re-trained for representation learning (Table 6a)?",
        "Both linear heads, by cRT on all below them, frozen: what Kang et al. mean by representation.",
        ("crt",),
        when=_of_variant,
    ),
    Question(
        "frozen",
        "What is trained for classifier learning (Table 6b)?",
        "The variant's heads, draws and loss on the frozen features of one branch trained with mixup (Sec. 4.5).",
        _DBN,
        when=_of_variant,
    ),
    Question(
        "schedule",
        "How is a second stage trained?",
        "cosine: 10 epochs at rate 0.1, as MiSLAS' code has it.",
        _STAGES,
        when=_of_variant,
    ),
    Question(
        "epochs",
        "How long is training on ImageNet-LT and iNaturalist 2018?",
        "100 (extended: 200) and 200: the drops of Sec. 4.2 at 0.6 and 0.8.",
        _ABLATION,
        _LARGE,
    ),
    Question(
        "batch",
        "How large is a batch on iNaturalist 2018?",
        "256, as on ImageNet-LT.",
        _ABLATION,
        ("inat2018",),
    ),
)
