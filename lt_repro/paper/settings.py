"""The settings of every data set, as DBN-Mix prints them (Sec. 4.2 and 4.4), and the recipes they give."""

from math import inf
from typing import Any

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
INHERITED = (*SHARED, "crop", "flip", "seed", "precision", "epoch_steps")
"""What a run takes from its parent unless told otherwise."""


def recipe(dataset: str, method: str = "dbn_mix", **given: Any) -> Recipe:
    """Returns a recipe: what is given by hand wins, the paper's settings for the data set fill in the rest.

    Args:
        dataset: One of `SETTINGS`; any other has CIFAR-LT-10's values and its own normalisation.
        method: A registered method.
        given: Any field of the recipe or of the method, by name.

    Raises:
        RequestError: A name is unknown or a value not allowed.
    """
    cls = find(method)
    row = SETTINGS.get(dataset, OTHERS)
    usual = {"ratio": RATIO} | row | row.get(method, {})
    if parent := given.get("parents", {}).get("features"):
        usual |= {name: getattr(parent, name) for name in INHERITED} | {"branches": len(parent.spec.branches)}
        usual |= SECOND_STAGE | row.get("second stage", {})
        usual["epochs"] = min(usual["epochs"], parent.epochs)
    known = settings(cls)
    return Recipe.of(cls, **{n: v for n, v in usual.items() if n in known} | given | {"dataset": dataset})


def apt(dataset: str, method: str = "dbn_mix", **given: Any) -> Recipe:
    """Returns a recipe as `recipe` does, without what is given and decides nothing there.

    So a setting that is given to a whole table leaves alone the rows that make no use of it.

    Raises:
        RequestError: As `recipe`.
    """
    idle = recipe(dataset, method, **given).unused()
    return recipe(dataset, method, **{name: value for name, value in given.items() if name not in idle})


def departures(actual: Recipe) -> dict[str, tuple[Any, Any]]:
    """Returns every setting that differs from the paper's, as this project reads it: name -> (actual, default).

    What an experiment chooses is no departure: data set, ratio, seed, parents and, of DBN-Mix, branches, mixing,
    temperature, frozen. Where a parent departs, so does the run, under "parent NAME".
    """
    method = type(actual.method)
    free = {name: getattr(actual.method, name) for name in CHOSEN if name in settings(method)}
    if actual.parents:
        free["parents"] = actual.parents
    default = recipe(actual.dataset, method.name(), ratio=actual.ratio, seed=actual.seed, **free)
    pairs = {}
    for name in settings(method):
        both = [getattr(r if hasattr(r, name) else r.method, name) for r in (actual, default)]
        if both[0] != both[1]:
            pairs[name] = (both[0], both[1])
    for parent in actual.parents.values():
        pairs |= {f"parent {name}": pair for name, pair in departures(parent).items()}
    return pairs
