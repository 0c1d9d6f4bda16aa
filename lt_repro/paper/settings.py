"""The settings of every data set, as DBN-Mix prints them (Sec. 4.2 and 4.4), and the recipes they give."""

from math import inf
from typing import Any

from lt_repro.recipe import Recipe, find, settings

RATIO = 100.0
ALWAYS: dict[str, Any] = {"net": "resnet32", "epochs": 200, "batch": 128, "lr": 0.1, "weight_decay": 2e-4}
CHOSEN = ("branches", "mix", "tscale")  # what the ablation varies

_LT10: dict[str, Any] = ALWAYS | {"alpha": 1.0, "gamma": inf, "eta": 3.0, "eps": 0.6}
OTHERS: dict[str, Any] = _LT10 | {"normalise": "own"}
SETTINGS: dict[str, dict[str, Any]] = {  # Sec. 4.2 and 4.4
    "cifar10": _LT10,
    "cifar100": _LT10 | {"eta": 7.0},
    "imagenet_lt": ALWAYS  # the standard schedule; the extended one has epochs 200
    | {"net": "resnet50", "epochs": 100, "batch": 256, "lr": 0.2}
    | {"alpha": 0.2, "gamma": inf, "eta": 9.0, "eps": 0.2, "normalise": "own"},
    "inat2018": ALWAYS
    | {"net": "resnet50", "batch": 256, "weight_decay": 1e-4}
    | {"alpha": 0.2, "gamma": inf, "eta": 10.0, "eps": 0.02, "normalise": "own"},
    "digits": OTHERS  # chosen: a net, a crop and a length for 8x8 pixels; a flipped digit is another character
    | {"net": "resnet8", "epochs": 60, "crop": 1, "flip": False, "precision": "fp32"},
}


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
    known = settings(cls)
    table = SETTINGS.get(dataset, OTHERS)
    chosen = {name: value for name, value in table.items() if name in known and name not in given}
    return Recipe(dataset, RATIO, cls(), **ALWAYS).replace(**chosen, **given)


def departures(actual: Recipe) -> dict[str, tuple[Any, Any]]:
    """Returns every setting that differs from the paper's, as this project reads it: name -> (actual, default).

    What an experiment chooses is no departure: data set, ratio, seed and, of DBN-Mix, branches, mixing, temperature.
    """
    method = type(actual.method)
    free = {name: getattr(actual.method, name) for name in CHOSEN if name in settings(method)}
    default = recipe(actual.dataset, method.name(), ratio=actual.ratio, seed=actual.seed, **free)
    pairs = {}
    for name in settings(method):
        both = [getattr(r if hasattr(r, name) else r.method, name) for r in (actual, default)]
        if both[0] != both[1]:
            pairs[name] = (both[0], both[1])
    return pairs
