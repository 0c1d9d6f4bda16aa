"""DBN-Mix's settings for every data set (Sec. 4.2 and 4.4), and its two readings."""

from math import inf
from typing import Any

from lt_repro.papers.reading import Point, Reading
from lt_repro.papers.settings import Settings
from lt_repro.recipe import Recipe

PROTOCOL = (
    "ResNet-32, 200 epochs, random crops and flips; which images are drawn, last or best epoch, and seeds are not said"
)
LARGE = "ResNet-50, random crops and flips; last or best epoch, and seeds are not said"

_ALWAYS: dict[str, Any] = {"net": "resnet32", "epochs": 200, "batch": 128, "lr": 0.1, "weight_decay": 2e-4}

_LT10: dict[str, Any] = {"alpha": 1.0, "gamma": inf, "eta": 3.0, "eps": 0.6}
_OTHERS: dict[str, Any] = _ALWAYS | {"normalise": "own", "dbn_mix": _LT10}
_DATASETS: dict[str, dict[str, Any]] = {  # the recipe's, and a method's under its name; Sec. 4.2 and 4.4
    "cifar10": _ALWAYS | {"dbn_mix": _LT10},
    "cifar100": _ALWAYS | {"dbn_mix": _LT10 | {"eta": 7.0}},
    "imagenet_lt": _OTHERS  # the standard schedule; the extended one has epochs 200
    | {"imb_type": "as_is", "net": "resnet50", "epochs": 100, "batch": 256, "lr": 0.2}
    | {"dbn_mix": {"alpha": 0.2, "gamma": inf, "eta": 9.0, "eps": 0.2}, "cross_entropy": {"alpha": 0.2}},
    "inat2018": _OTHERS
    | {"imb_type": "as_is", "net": "resnet50", "batch": 256, "weight_decay": 1e-4}
    | {"dbn_mix": {"alpha": 0.2, "gamma": inf, "eta": 10.0, "eps": 0.02}, "cross_entropy": {"alpha": 0.2}},
    "digits": _OTHERS  # chosen: a net, a crop and a length for 8x8 pixels; a flipped digit is another character
    | {"net": "resnet8", "epochs": 60, "crop": 1, "flip": False, "precision": "fp32"}
    | {"second stage": {"epochs": 60}},  # 10 would be 30 steps
}


def _tests_with(recipe: Recipe) -> str:
    """Returns which statistics of BatchNorm the released code tests with: one mixed branch has a clean pass."""
    return "blend" if len(recipe.spec.branches) == 1 and recipe.method.unmixed(1.0) else "running"


_STEPS = "4 whole steps in float64, weights equal to 1.8e-8 of the distance moved"
_IMAGES = "run: 40,000 augmented images, equal"
READINGS: dict[str, Reading] = {
    reading.name: reading
    for reading in (
        Reading(
            "paper",
            "the paper's text",
            "Sec. 3, 4.2 and 4.4; what it leaves open is decided in lt_repro/papers/dbn_mix/questions.py",
        ),
        Reading(
            "released",
            "the authors' released code",
            "github.com/soony1213/DBN-Mix at commit 4359585 (2024-02-06), read, and run beside ours on 2026-11-30",
            (
                Point(
                    "temperature",
                    "the factor K in the temperatures",
                    "(15): B_k = eps N_k / N_max + 1 - eps",
                    "B_k = eps K N_k / N_max + 1 - eps, K the number of classes",
                    {"temperature": "released"},
                    "dbn_mix",
                    checked=f"run: the loss, and in {_STEPS}",
                ),
                Point(
                    "branch_loss",
                    "a second sum in the loss",
                    "(18): the cross-entropy, -sum_k y_k log p_k",
                    "-sum_k [y_k log p_k + (1 - y_k) log(1 - p_k)]; without mixing and temperatures the cross-entropy",
                    {"branch_loss": "ce_complement"},
                    "dbn_mix",
                    {"mix": "none", "tscale": False},
                    checked=f"run: the loss in 18 combinations of settings, equal, and in {_STEPS}",
                ),
                Point(
                    "branch_at",
                    "branches of a whole stage",
                    '"the DBN structure used in BBN": read as: each branch has its own last block',
                    "each branch has its own third stage, pooling and linear layer",
                    {"branch_at": "layer3"},
                    "dbn_mix",
                    checked=f"run: the network, equal, and in {_STEPS}",
                ),
                Point(
                    "milestones",
                    "later drops of the rate",
                    "the rate x0.1 at epochs 120 and 160 of 200",
                    "the rate x0.1 at epochs 160 and 180 of 200",
                    {"milestones": (0.8, 0.9)},
                    checked="run: the schedule, equal",
                ),
                Point(
                    "nesterov",
                    "Nesterov's momentum",
                    "momentum 0.9",
                    "Nesterov's momentum of 0.9",
                    {"nesterov": True},
                    checked=f"run: in {_STEPS}",
                ),
                Point(
                    "crop_pad",
                    "reflected borders",
                    '"random cropping": read as zero padding of 4 pixels',
                    "crops from an image reflected at its borders",
                    {"crop_pad": "reflect"},
                    checked=_IMAGES,
                ),
                Point(
                    "normalise",
                    "each set's own mean and deviation",
                    "not said: read as CIFAR-10's for both, as LDAM's and BBN's codes have it",
                    "those of the data set",
                    {"normalise": "own"},
                    checked=_IMAGES,
                ),
                Point(
                    "best epoch",
                    "the best epoch on test",
                    "not said: read as the last epoch",
                    "the epoch with the best test accuracy is kept and printed; protocol released tests after "
                    "every epoch and shows the best beside the last, which stays the result",
                    checked="not run: no whole training was, only steps",
                ),
                Point(
                    "default eps",
                    "T is not 1 when temperature scaling is off",
                    "T = 1",
                    "eps is 0.05 where not given, so that T of the rarest class is 1.29 on CIFAR-LT-100 (100); the "
                    "published rows without temperature may have it; Table 4 of this reading has both as rows",
                    checked="run: without eps given the loss is that of tscale with eps 0.05, equal to 3e-8",
                ),
                Point(
                    "subset",
                    "another subset in every run",
                    "not said: read as the field's subset, seed 0",
                    "the subset's seed is the run's, and the shipped scripts give none; protocol released draws so",
                    checked="not run: without a seed every run draws another subset",
                ),
                Point(
                    "clean batch",
                    "a second pass in training mode",
                    "not said",
                    "with one branch, a clean batch passes in training mode at every step and moves the running "
                    "statistics of BatchNorm; a choice of the test (blend), which this reading has for one mixed "
                    "branch",
                    checked="not run: read in the code; the steps that were run had two branches",
                ),
            ),
            (
                "The authors' own training function, loss, samplers and schedule were run beside ours in float64: the "
                "network, the loss in 18 combinations of settings, 4 whole steps of DBN-Mix, 40,000 augmented images "
                "and 200,000 draws of each sampler are equal; after the steps the weights differ by 1.8e-8 of the "
                "distance that they moved. No whole training of theirs was run.",
                "The code's raw log(1 - p) is infinite in fp32 from a logit gap of about 16.6 on (to a single rival; "
                "with more, from a larger one): there p rounds to 1. Ours is computed without cancellation, and the "
                "raw form is never run.",
            ),
            _tests_with,
        ),
    )
}

SETTINGS = Settings(
    datasets=_DATASETS,
    others=_OTHERS,
    chosen=("branches", "mix", "tscale", "frozen"),
    ablation=("dbn_mix", {"branches": 1, "mix": "none", "tscale": False}),
    readings=READINGS,
)
recipe, departures = SETTINGS.recipe, SETTINGS.departures
