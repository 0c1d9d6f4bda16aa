"""The recipe: the paper's settings by data set, its key, and what it refuses."""

import math

import pytest

from lt_repro.errors import RequestError
from lt_repro.paper.settings import SETTINGS, departures, recipe
from lt_repro.recipe import Recipe

PRINTED = {  # Sec. 4.2 and 4.4 of the paper
    "cifar10": ("resnet32", 128, 200, 0.1, 2e-4, 1.0, math.inf, 3.0, 0.6),
    "cifar100": ("resnet32", 128, 200, 0.1, 2e-4, 1.0, math.inf, 7.0, 0.6),
    "imagenet_lt": ("resnet50", 256, 100, 0.2, 2e-4, 0.2, math.inf, 9.0, 0.2),
    "inat2018": ("resnet50", 256, 200, 0.1, 1e-4, 0.2, math.inf, 10.0, 0.02),
}


@pytest.mark.parametrize("dataset", PRINTED)
def test_settings_by_data_set(dataset):
    r = recipe(dataset)
    m = r.method
    assert (r.net, r.batch, r.epochs, r.lr, r.weight_decay, m.alpha, m.gamma, m.eta, m.eps) == PRINTED[dataset]
    assert (r.momentum, r.drops, r.drop_factor, r.warmup) == (0.9, (0.6, 0.8), 0.1, 0.025)


def test_digits_has_cifar10s_hyper_parameters_and_a_net_of_its_size():
    digits, cifar = recipe("digits"), recipe("cifar10")
    assert digits.method == cifar.method
    assert (digits.lr, digits.batch, digits.weight_decay) == (cifar.lr, cifar.batch, cifar.weight_decay)
    assert digits.net == "resnet8"
    assert not digits.flip


def test_what_is_given_by_hand_wins():
    given = recipe("cifar10", eta=5.0, lr=0.05, seed=3)
    assert (given.method.eta, given.lr, given.seed, given.method.eps) == (5.0, 0.05, 3, 0.6)


def test_key_is_a_slug_and_eight_hex_digits_and_does_not_move():
    # Older run files depend on this key: a change here orphans every stored run.
    full = recipe("cifar100", branches=2, mix="bilateral", tscale=True)
    assert full.key() == "cifar100-r100-dbn_mix-e200-s0-ffed9c22"
    assert recipe("cifar100").key() == "cifar100-r100-dbn_mix-e200-s0-99488f22"


def test_every_field_decides_the_key():
    first = recipe("cifar100")
    changes = {"ratio": 50.0, "net": "resnet20", "epochs": 10, "batch": 64, "lr": 0.2, "weight_decay": 5e-4}
    changes |= {"profile": "step", "split_seed": 1, "momentum": 0.8, "warmup": 0.0, "drops": (0.8, 0.9)}
    changes |= {"drop_factor": 0.01, "epoch_images": "balanced", "normalise": "own", "crop": 0, "flip": False}
    changes |= {"seed": 1, "precision": "fp32", "branches": 2, "mix": "mixup", "tscale": True, "alpha": 0.2}
    changes |= {
        "gamma": 1.0,
        "eta": 3.0,
        "eps": 0.2,
        "part": "layer3",
        "bn": "joint",
        "lam_per": "sample",
        "head": "cosine",
    }
    changes |= {"dataset": "cifar10"}
    assert set(changes) | {"method"} == set(first.to_json()) | set(first.to_json()["method"]) - {"name"}
    keys = {first.replace(**{name: value}).key() for name, value in changes.items()}
    assert len(keys | {first.key()}) == len(changes) + 1


def test_infinity_is_a_word_in_json():
    assert recipe("cifar100").to_json()["method"]["gamma"] == "inf"
    assert Recipe.from_json(recipe("cifar100").to_json()).method.gamma == math.inf


@pytest.mark.parametrize(
    "change",
    [
        {"ratio": 0.5},
        {"ratio": math.inf},
        {"ratio": math.nan},
        {"epochs": 0},
        {"epochs": 1.5},
        {"batch": 0},
        {"lr": 0.0},
        {"lr": math.inf},
        {"seed": -1},
        {"split_seed": -1},
        {"momentum": 1.0},
        {"weight_decay": -1e-4},
        {"warmup": 2.0},
        {"drops": (0.8, 0.6)},
        {"drops": (0.0, 0.6)},
        {"drop_factor": 2.0},
        {"profile": "linear"},
        {"epoch_images": "all"},
        {"normalise": "none"},
        {"precision": "fp16"},
        {"crop": -1},
        {"flip": 1},
        {"colour": 1},
    ],
    ids=str,
)
def test_what_is_not_allowed_is_said_in_three_lines(change):
    with pytest.raises(RequestError) as caught:
        recipe("cifar100", **change)
    lines = str(caught.value).splitlines()
    assert len(lines) <= 3
    assert next(iter(change)) in lines[0]


def test_from_json_refuses_missing_and_unknown_fields():
    whole = recipe("cifar100").to_json()
    for broken in (
        {k: v for k, v in whole.items() if k != "lr"},
        whole | {"colour": 1},
        whole | {"method": {"name": "dbn_mix"}},
        whole | {"method": {"name": "bnb"}},
        whole | {"method": whole["method"] | {"beta": 1}},
    ):
        with pytest.raises(RequestError):
            Recipe.from_json(broken)


def test_departures_name_what_differs_from_the_papers_settings():
    full = {"branches": 2, "mix": "bilateral", "tscale": True}
    assert departures(recipe("cifar100", ratio=50.0, seed=4, **full)) == {}
    found = departures(recipe("cifar10", part="layer3", epochs=10, eta=7.0, split_seed=1, **full))
    assert found == {"part": ("layer3", "block"), "epochs": (10, 200), "eta": (7.0, 3.0), "split_seed": (1, 0)}


def test_every_data_set_of_the_settings_builds():
    assert all(recipe(dataset).key() for dataset in SETTINGS)
