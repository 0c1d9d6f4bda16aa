"""The settings of every data set, as DBN-Mix prints them (Sec. 4.2, 4.4), its readings, and the recipes they give."""

from math import inf
from typing import Any

from lt_repro.errors import unknown
from lt_repro.paper.reading import Point, Reading
from lt_repro.recipe import SHARED, Recipe, find, settings

RATIO = 100.0
ALWAYS: dict[str, Any] = {"net": "resnet32", "epochs": 200, "batch": 128, "lr": 0.1, "weight_decay": 2e-4}
CHOSEN = ("branches", "mix", "tscale", "frozen")  # what the ablation and Table 6 vary

_LT10: dict[str, Any] = {"alpha": 1.0, "gamma": inf, "eta": 3.0, "eps": 0.6}
UNREAD = ("imagenet_lt", "inat2018")
"""Data sets whose settings are known and whose images nothing here reads yet."""
OTHERS: dict[str, Any] = ALWAYS | {"normalise": "own", "dbn_mix": _LT10}
SETTINGS: dict[str, dict[str, Any]] = {  # the recipe's, and a method's under its name; Sec. 4.2 and 4.4
    "cifar10": ALWAYS | {"dbn_mix": _LT10},
    "cifar100": ALWAYS | {"dbn_mix": _LT10 | {"eta": 7.0}},
    "imagenet_lt": OTHERS  # the standard schedule; the extended one has epochs 200
    | {"imb_type": "as_is", "net": "resnet50", "epochs": 100, "batch": 256, "lr": 0.2}
    | {"dbn_mix": {"alpha": 0.2, "gamma": inf, "eta": 9.0, "eps": 0.2}},
    "inat2018": OTHERS
    | {"imb_type": "as_is", "net": "resnet50", "batch": 256, "weight_decay": 1e-4}
    | {"dbn_mix": {"alpha": 0.2, "gamma": inf, "eta": 10.0, "eps": 0.02}},
    "digits": OTHERS  # chosen: a net, a crop and a length for 8x8 pixels; a flipped digit is another character
    | {"net": "resnet8", "epochs": 60, "crop": 1, "flip": False, "precision": "fp32"}
    | {"second stage": {"epochs": 60}},  # 10 would be 30 steps
}
PROFILES: dict[str, dict[str, Any]] = {
    "paper": {},
    "short": {"epochs": 20},
    "smoke": {"epochs": 10, "epoch_steps": 3},
}
"""How long runs are: the paper's length, or what shows that it runs. One table never mixes them."""
SECOND_STAGE: dict[str, Any] = {"frozen": True, "epochs": 10, "schedule": "cosine", "warmup": 0.0}
"""How heads are trained on a parent's features, though never longer than the parent was. The paper does not say; the
code of MiSLAS has such a second stage."""
INHERITED = (*SHARED, "crop", "crop_pad", "flip", "seed", "precision", "epoch_steps")
"""What a run takes from its parent unless told otherwise."""


_VANILLA = {"branches": 1, "mix": "none", "tscale": False}
READINGS: dict[str, Reading] = {
    reading.name: reading
    for reading in (
        Reading("paper", "the paper's text", "Sec. 3, 4.2 and 4.4; what it leaves open as `PAPER.questions` says"),
        Reading(
            "released",
            "the authors' released code",
            "github.com/soony1213/DBN-Mix at commit 4359585 (2024-02-06), read, not run",
            (
                Point(
                    "temperature",
                    "the factor K in the temperatures",
                    "(15): B_k = eps N_k / N_max + 1 - eps",
                    "B_k = eps K N_k / N_max + 1 - eps, K the number of classes",
                    {"temperature": "released"},
                    "dbn_mix",
                ),
                Point(
                    "branch_loss",
                    "a second sum in the loss",
                    "(18): the cross-entropy, -sum_k y_k log p_k",
                    "-sum_k [y_k log p_k + (1 - y_k) log(1 - p_k)]; the vanilla row alone has the cross-entropy",
                    {"branch_loss": "ce_complement"},
                    "dbn_mix",
                    _VANILLA,
                ),
                Point(
                    "branch_at",
                    "branches of a whole stage",
                    '"the DBN structure used in BBN": read as an own last residual block for each branch',
                    "each branch has its own third stage, pooling and linear layer",
                    {"branch_at": "layer3"},
                    "dbn_mix",
                ),
                Point(
                    "milestones",
                    "later drops of the rate",
                    "the rate x0.1 at epochs 120 and 160 of 200",
                    "the rate x0.1 at epochs 160 and 180 of 200",
                    {"milestones": (0.8, 0.9)},
                ),
                Point(
                    "nesterov",
                    "Nesterov's momentum",
                    "momentum 0.9",
                    "Nesterov's momentum of 0.9",
                    {"nesterov": True},
                ),
                Point(
                    "crop_pad",
                    "reflected borders",
                    '"random cropping": read as zero padding of 4 pixels',
                    "crops from an image reflected at its borders",
                    {"crop_pad": "reflect"},
                ),
                Point(
                    "normalise",
                    "each set's own mean and deviation",
                    "not said: read as CIFAR-10's for both, as LDAM's and BBN's codes have it",
                    "those of the data set",
                    {"normalise": "own"},
                ),
                Point(
                    "best epoch",
                    "the best epoch on test",
                    "not said: read as the last epoch",
                    "the epoch with the best test accuracy is kept and printed; no setting here: shown beside the last",
                ),
                Point(
                    "default eps",
                    "some temperature without temperature scaling",
                    "T = 1",
                    "eps is 0.05 where not given, so that T of the rarest class is 1.29 on CIFAR-LT-100 (100); the "
                    "published rows without temperature may have it; no setting here: T = 1",
                ),
                Point(
                    "subset",
                    "another subset in every run",
                    "not said: read as the field's subset, seed 0",
                    "the subset's seed is the run's, and the shipped scripts give none; no setting here: seed 0",
                ),
                Point(
                    "clean batch",
                    "a second pass in training mode",
                    "not said",
                    "with one branch, a clean batch passes in training mode at every step and moves the running "
                    "statistics of BatchNorm; no setting here",
                ),
            ),
        ),
    )
}
"""The ways in which DBN-Mix can be read. `recipe` takes the paper's text unless told otherwise."""


def recipe(dataset: str, method: str = "dbn_mix", reading: str = "paper", **given: Any) -> Recipe:
    """Returns a recipe: what is given by hand wins, the paper's settings for the data set fill in the rest.

    Args:
        dataset: One of `SETTINGS`; any other has CIFAR-LT-10's values and its own normalisation.
        method: A registered method.
        reading: One of `READINGS`. What it sets is left out where it would decide nothing.
        given: Any field of the recipe or of the method, by name.

    Raises:
        RequestError: A name is unknown or a value not allowed.
    """
    cls = find(method)
    if reading not in READINGS:
        raise unknown("reading", reading, READINGS)
    row, known = SETTINGS.get(dataset, OTHERS), settings(cls)

    def made(read: dict[str, Any]) -> Recipe:
        usual = {"ratio": RATIO} | row | row.get(method, {}) | read
        if parent := given.get("parents", {}).get("features"):
            usual |= {name: getattr(parent, name) for name in INHERITED} | {"branches": len(parent.spec.branches)}
            usual |= SECOND_STAGE | row.get("second stage", {})
            usual["epochs"] = min(usual["epochs"], parent.epochs)
        return Recipe.of(cls, **{n: v for n, v in usual.items() if n in known} | given | {"dataset": dataset})

    points = [point for point in READINGS[reading].points if point.method in (None, method)]
    read = {name: value for point in points for name, value in point.sets.items()}
    whole = made(read)
    idle = set(whole.unused())
    for point in points:
        if point.unless and all(getattr(whole.method, name) == value for name, value in point.unless.items()):
            idle |= point.sets.keys()
    return made({name: value for name, value in read.items() if name not in idle}) if idle & read.keys() else whole


def apt(dataset: str, method: str = "dbn_mix", **given: Any) -> Recipe:
    """Returns a recipe as `recipe` does, without what is given and decides nothing there.

    So a setting that is given to a whole table leaves alone the rows that make no use of it.

    Raises:
        RequestError: As `recipe`.
    """
    idle = recipe(dataset, method, **given).unused()
    return recipe(dataset, method, **{name: value for name, value in given.items() if name not in idle})


def departures(actual: Recipe, reading: str = "paper") -> dict[str, tuple[Any, Any]]:
    """Returns every setting that differs from the paper's under one of its readings: name -> (actual, default).

    What an experiment chooses is no departure: data set, ratio, seed, parents and, of DBN-Mix, branches, mixing,
    temperature, frozen. Where a parent departs, so does the run, under "parent NAME".
    """
    method = type(actual.method)
    free = {name: getattr(actual.method, name) for name in CHOSEN if name in settings(method)}
    if actual.parents:
        free["parents"] = actual.parents
    default = recipe(actual.dataset, method.name(), reading, ratio=actual.ratio, seed=actual.seed, **free)
    pairs = {}
    for name in settings(method):
        both = [getattr(r if hasattr(r, name) else r.method, name) for r in (actual, default)]
        if both[0] != both[1]:
            pairs[name] = (both[0], both[1])
    for parent in actual.parents.values():
        pairs |= {f"parent {name}": pair for name, pair in departures(parent, reading).items()}
    return pairs
