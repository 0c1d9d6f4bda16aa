"""The recipe: the paper's settings by data set, its key, and what it refuses."""

import math

import pytest

from lt_repro import fields
from lt_repro.errors import RequestError
from lt_repro.papers.dbn_mix.settings import SETTINGS, departures, recipe
from lt_repro.recipe import Recipe

PRINTED = {  # Sec. 4.2 and 4.4 of the paper
    "cifar10": ("resnet32", 128, 200, 0.1, 2e-4, 1.0, math.inf, 3.0, 0.6),
    "cifar100": ("resnet32", 128, 200, 0.1, 2e-4, 1.0, math.inf, 7.0, 0.6),
    "imagenet_lt": ("resnet50", 256, 100, 0.2, 2e-4, 0.2, math.inf, 9.0, 0.2),
    "inat2018": ("resnet50", 256, 200, 0.1, 1e-4, 0.2, math.inf, 10.0, 0.02),
}


@pytest.mark.parametrize("dataset", PRINTED)
def test_settings_by_data_set(dataset):
    r = recipe(dataset, "dbn_mix")
    m = r.method
    assert (r.net, r.batch, r.epochs, r.lr, r.weight_decay, m.alpha, m.gamma, m.eta, m.eps) == PRINTED[dataset]
    assert (r.momentum, r.milestones, r.lr_decay, r.warmup) == (0.9, (0.6, 0.8), 0.1, 0.025)


def test_digits_has_cifar10s_hyper_parameters_and_a_net_of_its_size():
    digits, cifar = recipe("digits", "dbn_mix"), recipe("cifar10", "dbn_mix")
    assert digits.method == cifar.method
    assert (digits.lr, digits.batch, digits.weight_decay) == (cifar.lr, cifar.batch, cifar.weight_decay)
    assert digits.net == "resnet8"
    assert not digits.flip


def test_what_is_given_by_hand_wins():
    given = recipe("cifar10", "dbn_mix", eta=5.0, lr=0.05, seed=3)
    assert (given.method.eta, given.lr, given.seed, given.method.eps) == (5.0, 0.05, 3, 0.6)


def test_key_is_a_slug_and_eight_hex_digits_and_does_not_move():
    # Older run files depend on this key: a change here orphans every stored run.
    full = recipe("cifar100", branches=2, mix="bilateral", tscale=True)
    assert full.key() == "cifar100-r100-dbn_mix-e200-s0-7e1d389d"
    assert recipe("cifar100").key() == "cifar100-r100-cross_entropy-e200-s0-5b5ac761"


def test_one_training_has_one_key_however_it_is_said():
    plain = recipe("cifar100")
    assert plain.method.name() == "cross_entropy"
    same = [
        recipe("cifar100", "cross_entropy"),
        recipe("cifar100", "ce"),
        recipe("cifar100", mix="none"),
        recipe("cifar100", eta=3.0),  # without temperatures
        recipe("cifar100", alpha=0.2, lam_per="sample"),  # without mixing
        recipe("cifar100", branch_at="layer3", bn="joint"),  # with one branch
        recipe("cifar100", "dbn_mix", branches=1, mix="none", tscale=False),
        recipe("cifar100", tscale=True, eps=0.0),
        recipe("cifar100", tscale=True, eta=math.inf),
        recipe("cifar100", precision="auto"),
    ]
    assert {made.key() for made in same} == {plain.key()}
    assert set(same) == {plain}
    mixed = recipe("cifar100", "mixup")
    assert mixed == recipe("cifar100", mix="mixup") == recipe("cifar100", "ce", mix="mixup") != plain
    assert mixed == recipe("cifar100", "dbn_mix", branches=1, mix="mixup", tscale=False)
    full = recipe("cifar100", "dbn_mix")
    assert full == recipe("cifar100", branches=2, mix="bilateral", tscale=True)
    assert recipe("cifar100", "dbn_mix", eps=0.0) == recipe("cifar100", branches=2, mix="bilateral")
    other = [recipe("cifar100", head="cosine"), recipe("cifar100", mix="mixup", lam_per="sample"), full]
    assert {made.method.name() for made in other} == {"dbn_mix"}  # cross-entropy has no such fields
    assert recipe("cifar100", schedule="cosine") == recipe("cifar100", schedule="cosine", milestones=(0.1, 0.2))
    adjusted = [
        recipe("cifar100", "tau_norm", parents={"weights": plain}, **given) for given in ({}, {"lr": 0.5, "epochs": 7})
    ]
    assert adjusted[0] == adjusted[1]
    assert "-e" not in adjusted[0].key()


def test_a_precision_left_to_the_machine_is_not_in_the_key():
    assert "precision" not in recipe("cifar100").to_json()
    keys = {recipe("cifar100", precision=name).key() for name in ("auto", "fp32", "bf16")}
    assert len(keys) == 3
    assert Recipe.from_json(recipe("cifar100", precision="bf16").to_json()).precision == "bf16"


def test_every_field_decides_the_key():
    first = recipe("cifar100", "dbn_mix")
    changes = {"ratio": 50.0, "net": "resnet20", "epochs": 10, "batch": 64, "lr": 0.2, "weight_decay": 5e-4}
    changes |= {"imb_type": "step", "split_seed": 1, "momentum": 0.8, "warmup": 0.0, "milestones": (0.8, 0.9)}
    changes |= {"lr_decay": 0.01, "epoch_images": "balanced", "normalise": "own", "crop": 0, "flip": False}
    changes |= {"seed": 1, "precision": "fp32", "branches": 1, "mix": "none", "tscale": False, "alpha": 0.2}
    changes |= {
        "gamma": 1.0,
        "eta": 3.0,
        "eps": 0.2,
        "branch_at": "layer3",
        "bn": "joint",
        "lam_per": "sample",
        "head": "cosine",
    }
    changes |= {"dataset": "cifar10"}
    decided = set(first.to_json()) | set(first.to_json()["method"]) - {"name"}
    assert set(changes) | {"method"} == decided | {"precision"}
    changes |= {"schedule": "cosine"}
    keys = {first.replace(**{name: value}).key() for name, value in changes.items()}
    assert len(keys | {first.key()}) == len(changes) + 1


def test_the_parent_decides_the_key_down_to_its_seed():
    first = recipe("cifar100", "crt", parents={"features": recipe("cifar100")})
    others = [
        first.replace(parents={"features": first.parents["features"].replace(**edits)})
        for edits in ({"seed": 1}, {"mix": "mixup"})
    ]
    frozen = recipe("cifar100", parents={"features": first.parents["features"]}, frozen=True)
    assert len({made.key() for made in (first, *others, frozen)}) == 4
    assert first.key().startswith("cifar100-r100-crt-e10-s0-")


def test_fields_added_later_are_left_out_at_the_value_that_means_as_before():
    first = recipe("cifar100", "dbn_mix")
    assert not {"schedule", "parents"} & set(first.to_json())
    assert "frozen" not in first.to_json()["method"]
    full = first.to_json() | {"schedule": "steps", "parents": {}}
    assert Recipe.from_json(full).key() == first.key()
    document = recipe("cifar100", parents={"features": first}, frozen=True).to_json()
    assert (document["schedule"], document["parents"], document["method"]["frozen"]) == (
        "cosine",
        {"features": first.to_json()},
        True,
    )
    assert Recipe.from_json(document).parents == {"features": first}


def test_a_run_takes_from_its_parent_what_it_is_not_told():
    parent = recipe("digits", ratio=20.0, seed=4, split_seed=1, net="resnet14", crop=0, precision="bf16")
    made = recipe("digits", "crt", parents={"features": parent})
    assert (made.ratio, made.seed, made.split_seed, made.net, made.crop) == (20.0, 4, 1, "resnet14", 0)
    assert (made.flip, made.precision, made.normalise) == (False, "bf16", "own")
    assert recipe("cifar10", "crt", parents={"features": recipe("cifar10", flip=False)}).flip is False
    assert recipe("cifar10", parents={"features": recipe("cifar10", branches=2)}).method.branches == 2
    assert (made.epochs, made.schedule, made.warmup, made.lr) == (60, "cosine", 0.0, 0.1)
    assert recipe("cifar10", "crt", parents={"features": recipe("cifar10")}).epochs == 10
    assert recipe("digits", "crt", parents={"features": parent}, seed=5, crop=1).seed == 5


@pytest.mark.parametrize(
    ("method", "settings", "expected_message"),
    [
        ("crt", {"parents": {}}, "without a parent"),
        ("bbn", {}, "a parent with method bbn"),
        ("dbn_mix", {"frozen": False}, "a parent with method dbn_mix"),
        ("dbn_mix", {"frozen": True, "parents": {}}, "without a parent"),
        ("crt", {"ratio": 50.0}, "ratio=50.0, but the parent has ratio=100.0"),
        ("crt", {"split_seed": 1}, "split_seed=1"),
        ("crt", {"net": "resnet20"}, "net=resnet20"),
        ("crt", {"normalise": "own"}, "normalise=own"),
        ("crt", {"imb_type": "step"}, "imb_type=step"),
        ("dbn_mix", {"frozen": True, "branches": 1}, "1 branches, but the parent has 2"),
    ],
    ids=str,
)
def test_a_parent_that_does_not_fit_is_refused(method, settings, expected_message):
    with pytest.raises(RequestError, match=expected_message) as caught:
        recipe("cifar100", method, **{"parents": {"features": recipe("cifar100", branches=2)}} | settings)
    assert len(str(caught.value).splitlines()) <= 3


@pytest.mark.parametrize("value", [1 / 3, 0.1, 100.0, 1e-5, 33.333333333333336, math.inf, (1 / 3, 2 / 3), True, 3, "a"])
def test_a_value_is_read_back_as_it_is_shown(value):
    kind = {float: "lr", tuple: "milestones", bool: "flip", int: "epochs", str: "dataset"}[type(value)]
    assert fields.parse(Recipe, kind, fields.text(value)) == value


BN_PARTS = {"branches": 2, "mix": "bilateral", "bn_parts": 4}


def test_parts_of_batchnorm_are_another_recipe_and_not_taken_from_a_parent():
    default, parts = recipe("cifar100", "dbn_mix"), recipe("cifar100", "dbn_mix", bn_parts=4)
    assert "bn_parts" not in default.to_json()
    assert Recipe.from_json(default.to_json() | {"bn_parts": 1}).key() == default.key() != parts.key()
    assert Recipe.from_json(parts.to_json()) == parts
    assert recipe("cifar100", "crt", parents={"features": parts}).bn_parts == 1
    assert "bn_parts" in recipe("cifar100", "tau_norm", parents={"weights": parts}).inactive_fields()
    assert recipe("cifar100", bn="joint", bn_parts=4).bn_parts == 4  # one branch: `bn` is inactive


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"batch": 6},
            "bn_parts = 4 with batch = 6\nallowed: parts of equal size, of 2 images or more\nuse batch = 8",
        ),
        (
            {"batch": 4},
            "bn_parts = 4 with batch = 4\nallowed: parts of equal size, of 2 images or more\nuse batch = 8",
        ),
        ({"batch": 130}, "use batch = 132, or other parts"),
        (
            {"bn": "joint"},
            "bn = joint with bn_parts = 4\nallowed: bn = joint with bn_parts = 1\nuse bn = per_branch",
        ),
        ({"method": "bbn", "branches": None, "mix": None, "bn": "joint"}, "bn = joint with bn_parts = 4"),
        ({"bn_parts": 0}, "bn_parts = 0\nallowed: bn_parts >= 1"),
        ({"bn_parts": 1.5}, "bn_parts = 1.5\nallowed: a whole number"),
    ],
    ids=str,
)
def test_parts_of_batchnorm_that_cannot_be_are_refused(change, message):
    recipe("cifar100", **BN_PARTS)
    recipe("cifar100", **BN_PARTS | {"batch": 8})
    with pytest.raises(RequestError) as caught:
        recipe("cifar100", **{name: value for name, value in (BN_PARTS | change).items() if value is not None})
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 3


def test_drops_decide_nothing_under_a_cosine():
    assert {"milestones", "lr_decay"} <= recipe("cifar100", schedule="cosine").inactive_fields()
    assert not {"milestones", "lr_decay"} & recipe("cifar100").inactive_fields()


def test_infinity_is_a_word_in_json():
    assert recipe("cifar100", "dbn_mix").to_json()["method"]["gamma"] == "inf"
    assert Recipe.from_json(recipe("cifar100", "dbn_mix").to_json()).method.gamma == math.inf


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
        {"milestones": (0.8, 0.6)},
        {"milestones": (0.0, 0.6)},
        {"lr_decay": 2.0},
        {"imb_type": "linear"},
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
        whole | {"parents": "abc"},
        whole | {"parents": 3},
        whole | {"parents": {"features": "abc"}},
        whole | {"parents": {"features": 3}},
        whole | {"method": {"name": "bnb"}},
        whole | {"method": whole["method"] | {"beta": 1}},
    ):
        with pytest.raises(RequestError):
            Recipe.from_json(broken)


def test_departures_name_what_differs_from_the_papers_settings():
    full = {"branches": 2, "mix": "bilateral", "tscale": True}
    assert departures(recipe("cifar100", ratio=50.0, seed=4, **full)) == {}
    result = departures(recipe("cifar10", branch_at="layer3", epochs=10, eta=7.0, split_seed=1, **full))
    assert result == {"branch_at": ("layer3", "block"), "epochs": (10, 200), "eta": (7.0, 3.0), "split_seed": (1, 0)}
    assert departures(recipe("cifar10", "bbn", ratio=200.0, seed=1)) == {}
    parent = recipe("cifar10", epochs=10, seed=2)
    assert departures(recipe("cifar10", "crt", parents={"features": parent}, lr=0.2)) == {
        "lr": (0.2, 0.1),
        "parent epochs": (10, 200),
    }
    assert departures(recipe("cifar10", parents={"features": parent}, frozen=True)) == {"parent epochs": (10, 200)}


def test_every_data_set_of_the_settings_builds():
    assert all(recipe(dataset).key() for dataset in SETTINGS.datasets)
