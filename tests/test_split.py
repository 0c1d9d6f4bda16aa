"""The splits against the numbers that the field's public code gives, and against its rule written out slowly."""

# ruff: noqa: NPY002  (the field's rule is written for NumPy's old global generator)

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lt_repro.canonical import canonical, digest
from lt_repro.data.load import load_pool
from lt_repro.data.split import Split, class_groups, class_sizes, make_split, natural_ratio
from lt_repro.errors import RequestError

RATIOS = (10, 20, 50, 100, 200)
SIZES = {10: 5000, 100: 500}


def cifar(classes, ratio=100, **options):
    return make_split(np.repeat(np.arange(classes), SIZES[classes]), ratio=ratio, name=f"cifar{classes}", **options)


@pytest.fixture(scope="module")
def digits():
    return load_pool("digits", Path()).train_labels


def ldam(sizes, ratio, seed, hold_out=0):
    """Training and held-out positions by LDAM-DRW's class, on the global generator and in its own variable names."""
    img_max, cls_num, imb_factor = min(sizes) - hold_out, len(sizes), 1 / ratio
    before = np.random.get_state()
    np.random.seed(seed)
    train, held = [], []
    for cls_idx in range(cls_num):
        the_img_num = int(img_max * (imb_factor ** (cls_idx / (cls_num - 1.0))))
        idx = np.array(list(range(sizes[cls_idx])))
        np.random.shuffle(idx)
        held.append(tuple(int(i) for i in idx[:hold_out]))
        train.append(tuple(int(i) for i in idx[hold_out : hold_out + the_img_num]))
    np.random.set_state(before)
    return tuple(train), tuple(held)


@pytest.mark.parametrize(
    ("classes", "totals"), [(10, (20431, 17023, 13996, 12406, 11203)), (100, (19573, 15907, 12608, 10847, 9502))]
)
def test_totals(classes, totals):
    assert tuple(cifar(classes, ratio).counts.sum() for ratio in RATIOS) == totals


@pytest.mark.parametrize(
    ("ratio", "counts"),
    [
        (10, "5000 3871 2997 2320 1796 1391 1077 834 645 500"),
        (20, "5000 3584 2569 1842 1320 946 678 486 348 250"),
        (50, "5000 3237 2096 1357 878 568 368 238 154 100"),
        (100, "5000 2997 1796 1077 645 387 232 139 83 50"),
        (200, "5000 2775 1540 854 474 263 146 81 45 25"),
    ],
)
def test_counts_of_cifar10(ratio, counts):
    split = cifar(10, ratio)
    assert split.counts.tolist() == [int(count) for count in counts.split()]
    assert split.counts.dtype == np.int64


@pytest.mark.parametrize(("ratio", "smallest"), [(10, 50), (20, 25), (50, 10), (100, 5), (200, 2)])
def test_smallest_class_of_cifar100_is_truncated_not_rounded(ratio, smallest):
    assert cifar(100, ratio).counts[-1] == smallest


@pytest.mark.parametrize(
    ("classes", "k", "first"),
    [
        (10, 0, (398, 3833, 4836, 4572, 636)),
        (10, 1, (597, 332, 521, 3935, 4800)),
        (10, 2, (3488, 1136, 3494, 2945, 4518)),
        (10, 9, (2204, 3816, 2206, 2507, 1926)),
        (100, 0, (90, 254, 283, 445, 461)),
        (100, 1, (277, 307, 436, 88, 261)),
        (100, 2, (52, 34, 347, 492, 196)),
        (100, 99, (348, 153, 363, 361, 299)),
    ],
)
def test_first_positions(classes, k, first):
    assert cifar(classes).positions[k][:5] == first


@pytest.mark.parametrize(
    ("classes", "ratio", "sizes"),
    [
        (100, 10, {"many": 69, "medium": 31}),
        (100, 20, {"many": 53, "medium": 47}),
        (100, 50, {"many": 41, "medium": 41, "few": 18}),
        (100, 100, {"many": 35, "medium": 35, "few": 30}),
        (100, 200, {"many": 30, "medium": 31, "few": 39}),
        (10, 10, {"many": 10}),
        (10, 20, {"many": 10}),
        (10, 50, {"many": 9, "medium": 1}),
        (10, 100, {"many": 8, "medium": 2}),
        (10, 200, {"many": 7, "medium": 3}),
    ],
)
def test_groups(classes, ratio, sizes):
    groups = class_groups(cifar(classes, ratio).counts)
    assert {group: len(members) for group, members in groups.items()} == sizes
    assert np.concatenate(list(groups.values())).tolist() == list(range(classes))


def test_edges_of_the_groups():
    groups = class_groups([101, 100, 20, 19, 5000, 1])
    assert {group: members.tolist() for group, members in groups.items()} == {
        "many": [0, 4],
        "medium": [1, 2],
        "few": [3, 5],
    }
    assert groups["few"].dtype == np.int64
    assert list(class_groups([3, 2])) == ["few"]


def test_digits(digits):
    split = make_split(digits, ratio=60, hold_out=50)
    assert split.counts.tolist() == [124, 78, 49, 31, 20, 12, 8, 5, 3, 2]
    assert [len(kept) for kept in split.held_out] == [50] * 10
    for drawn, kept, size in zip(split.positions, split.held_out, class_sizes(digits), strict=True):
        assert len({*drawn, *kept}) == len(drawn) + len(kept)
        assert 0 <= min(drawn + kept) <= max(drawn + kept) < size


@pytest.mark.parametrize(
    ("sizes", "ratio", "seed", "hold_out"),
    [
        ([5000] * 10, 100, 0, 0),
        ([500] * 100, 200, 0, 0),
        ([500] * 100, 33.3, 7, 0),
        ([178, 182, 177, 183, 181, 182, 181, 179, 174, 180], 60, 0, 50),
        ([30, 12, 40], 2.5, 2**32 - 1, 3),
        ([4, 4], 1, 1, 1),
    ],
)
def test_same_as_the_rule_written_slowly(sizes, ratio, seed, hold_out):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    split = make_split(labels, ratio=ratio, seed=seed, hold_out=hold_out)
    assert (split.positions, split.held_out) == ldam(sizes, ratio, seed, hold_out)


@pytest.mark.parametrize("classes", [10, 100])
def test_nested_over_ratios(classes):
    splits = [cifar(classes, ratio).positions for ratio in (1, *RATIOS)]
    for wider, narrower in itertools.pairwise(splits):
        assert all(large[: len(small)] == small for large, small in zip(wider, narrower, strict=True))


def test_held_out_images_are_the_same_at_every_ratio(digits):
    assert len({make_split(digits, ratio=ratio, hold_out=50).held_out for ratio in (1, 10, 60)}) == 1


def test_another_seed_draws_other_images():
    first, second = cifar(10), cifar(10, seed=1)
    assert first.counts.tolist() == second.counts.tolist()
    assert all(a != b for a, b in zip(first.positions, second.positions, strict=True))


def test_numpys_generator_is_left_alone():
    np.random.seed(3)
    expected = np.random.rand()
    np.random.seed(3)
    cifar(100)
    assert np.random.rand() == expected


def test_the_order_of_the_labels_does_not_matter():
    labels = np.repeat(np.arange(4), (20, 30, 25, 20))
    shuffled = np.random.RandomState(5).permutation(labels)
    assert make_split(labels, ratio=4, hold_out=2) == make_split(shuffled.astype(np.uint8), ratio=4, hold_out=2)


@pytest.mark.parametrize(("classes", "counts"), [(4, [20, 20, 5, 5]), (5, [20, 20, 5, 5, 5])])
def test_step_profile(classes, counts):
    labels = np.repeat(np.arange(classes), 20)
    split = make_split(labels, ratio=4, imb_type="step")
    assert split.counts.tolist() == counts
    assert split.imb_type == "step"
    exponential = make_split(labels, ratio=4)
    assert split.positions[0] == exponential.positions[0]


@pytest.mark.parametrize(
    ("sizes", "hold_out", "ratio", "counts"),
    [
        ((7, 20, 3, 9), 0, 20 / 3, [7, 20, 3, 9]),
        ((7, 20, 3, 9), 2, 18.0, [5, 18, 1, 7]),
        ((500, 4), 0, 125.0, [500, 4]),
        ((6, 6, 6), 1, 1.0, [5, 5, 5]),
    ],
)
def test_as_is_keeps_every_image(sizes, hold_out, ratio, counts):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    assert natural_ratio(labels, hold_out) == ratio
    split = make_split(labels, ratio=ratio, imb_type="as_is", seed=3, hold_out=hold_out)
    assert split.counts.tolist() == counts
    assert (split.imb_type, split.ratio) == ("as_is", ratio)
    for drawn, kept, size in zip(split.positions, split.held_out, sizes, strict=True):
        assert len(kept) == hold_out
        assert sorted(drawn + kept) == list(range(size))


def test_as_is_draws_in_the_order_of_the_other_profiles():
    labels = np.repeat(np.arange(3), (20, 30, 25))
    options = {"seed": 5, "hold_out": 2}
    whole = make_split(labels, ratio=natural_ratio(labels, 2), imb_type="as_is", **options)
    for imb_type in ("exp", "step"):
        part = make_split(labels, ratio=4, imb_type=imb_type, **options)
        assert part.held_out == whole.held_out
        assert all(large[: len(small)] == small for large, small in zip(whole.positions, part.positions, strict=True))
    assert whole.positions[0] != tuple(sorted(whole.positions[0]))


def test_as_is_takes_the_images_own_ratio_to_nine_digits():
    labels = np.repeat(np.arange(2), (10, 3))
    split = make_split(labels, ratio=10 / 3, imb_type="as_is")
    assert make_split(labels, ratio=3.3333333333, imb_type="as_is") == split
    assert split.ratio == 10 / 3
    for ratio in (3.33333333, 3.3333334, 3, 1):
        with pytest.raises(RequestError) as caught:
            make_split(labels, ratio=ratio, imb_type="as_is")
        message = str(caught.value)
        assert f"ratio {ratio} " in message
        assert "the images have ratio 3.3333333333333335\n" in message
        assert "allowed: ratio 3.3333333333333335 with imb_type as_is" in message
        assert len(message.splitlines()) == 2
    with pytest.raises(RequestError, match="the images have ratio 8"):
        make_split(labels, ratio=10 / 3, imb_type="as_is", hold_out=2)


def test_the_ratio_that_images_have_needs_images():
    with pytest.raises(RequestError, match="0 to 2, since the smallest class has 3"):
        natural_ratio(np.repeat(np.arange(2), (10, 3)), 3)
    with pytest.raises(RequestError, match=r"^labels of"):
        natural_ratio([0, 2])


def test_ratio_one_takes_everything():
    split = make_split(np.repeat(np.arange(3), 7), ratio=1)
    assert [sorted(drawn) for drawn in split.positions] == [list(range(7))] * 3


# The names under which results are filed: a change here orphans every stored run.
GOLDEN = {
    (10, 10): "b1810e554bd35cd879f031be360f01c17d81603bee06777b6af033a62244e9d6",
    (10, 20): "3816d616ca9c8da7d611037cdb112240775d5ef082ec73c0f495363813b8892a",
    (10, 50): "22d3b4a328879c65c4a59d5888e855ce9617ac40415e95ea75a19a8f63849412",
    (10, 100): "4c47d475d4140ca17b0ffeb01a83061272b4b1c40ea2645dae2a2c9761bf0fe5",
    (10, 200): "d86b21eb85e57341222c0bf77d986c06790ccf8982288946b7fac4e987c96175",
    (100, 10): "4f7252b9159b790d8bed88a9e23a7a37bc787c8d77fd6883d1a8f88a094f51ba",
    (100, 20): "559d2d34abdfa3ddc38c939edad0d8bf86283ef315778c124269a6cdb3f359db",
    (100, 50): "4b9166797ba55d35a0d9482b9c3293d49f168e8a2118af7cbe72df6d46ed304f",
    (100, 100): "4c49b2a036c7bcc603a50592247c0bd78e7651baff45ec0f1214132a4efcb1fb",
    (100, 200): "a1f5fc2f5b87928d8bf26ab3feb0e1594b1030edbf94f1a35235a10d39a2fb57",
}


@pytest.mark.parametrize(("classes", "ratio"), GOLDEN)
def test_digest_is_pinned(classes, ratio):
    assert cifar(classes, ratio).digest == GOLDEN[classes, ratio]


def test_digest_of_digits_is_pinned(digits):
    split = make_split(digits, ratio=60, hold_out=50, name="digits")
    assert split.digest == "4dfc506adb705ded221f60a3a53b67630214d942eb5ee89802c55f938b38ad06"


def test_digests_of_the_other_profiles_are_pinned(digits):
    step = make_split(digits, ratio=60, imb_type="step", hold_out=50, name="digits")
    assert step.digest == "200c2cfa9b4ae0ed80f6a2c4b448f33c4734babc4beb0ae024d4c2c3a810b9d3"
    as_is = make_split(digits, ratio=natural_ratio(digits, 50), imb_type="as_is", hold_out=50, name="digits")
    assert as_is.digest == "491f12550d78f514cbc68d3cfc423c13fdadfda2b32610957b5c0929c94dfad0"


def test_digest_covers_each_field():
    split = Split("toy", 2.0, "exp", 0, ((1, 0), (0,)), ((), ()))
    others = [
        replace(split, name="toys"),
        replace(split, ratio=2.5),
        replace(split, imb_type="step"),
        replace(split, seed=1),
        replace(split, positions=((0, 1), (0,))),
        replace(split, positions=((1,), (0, 0))),
    ]
    assert len({split.digest, *(other.digest for other in others)}) == 7
    assert replace(split, ratio=2).digest == split.digest


def test_digest_is_that_of_the_published_json():
    split = Split("toy", 2.0, "exp", 0, ((1, 0), (0,)), ((), ()))
    text = '{"imb_type":"exp","name":"toy","positions":[[1,0],[0]],"ratio":2,"split_seed":0}'
    assert split.digest == digest(json.loads(text))
    assert canonical(json.loads(text)) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": [True, None]}, '{"a":[true,null],"b":1}'),
        ({"b": {"d": (1, 2.0), "c": -0.0}}, '{"b":{"c":0,"d":[1,2]}}'),
        (100.0, "100"),
        (0.1, "0.1"),
        (np.float64(2.5), "2.5"),
        (math.inf, '"inf"'),
        (-math.inf, '"-inf"'),
        ("é", '"\\u00e9"'),
    ],
)
def test_canonical(value, text):
    assert canonical(value) == text


def test_digest_is_sha256():
    assert digest({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


@pytest.mark.parametrize("value", [math.nan, [1, {"a": math.nan}]])
def test_canonical_refuses_nan(value):
    with pytest.raises(ValueError):
        canonical(value)


@pytest.mark.parametrize("value", [np.int64(1), np.arange(2), {1: 2}, {"a", "b"}])
def test_canonical_refuses_what_json_has_not(value):
    with pytest.raises(TypeError):
        canonical(value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ratio": 0.5}, ["0.5", "from 1 up"]),
        ({"ratio": 0}, ["ratio 0"]),
        ({"ratio": -10}, ["-10"]),
        ({"ratio": math.inf}, ["inf", "from 1 up"]),
        ({"ratio": math.nan}, ["nan"]),
        ({"ratio": 21}, ["ratio 21", "up to 20"]),
        ({"ratio": 17, "hold_out": 4}, ["ratio 17", "up to 16"]),
        ({"ratio": 21, "imb_type": "step"}, ["ratio 21", "up to 20"]),
        ({"ratio": 2, "imb_type": "stp"}, ["'stp'", "did you mean 'step'", "as_is, exp, step"]),
        ({"ratio": 2, "seed": -1}, ["-1", "4294967295"]),
        ({"ratio": 2, "seed": 2**32}, ["4294967296"]),
        ({"ratio": 2, "seed": 0.5}, ["0.5"]),
        ({"ratio": 2, "seed": True}, ["True"]),
        ({"ratio": 2, "hold_out": 20}, ["20", "0 to 19"]),
        ({"ratio": 2, "hold_out": -1}, ["-1", "0 to 19"]),
        ({"ratio": 2, "hold_out": 1.5}, ["1.5"]),
    ],
)
def test_wrong_requests(options, words):
    with pytest.raises(RequestError) as caught:
        make_split(np.repeat(np.arange(3), (20, 25, 30)), **options)
    message = str(caught.value)
    assert all(word in message for word in words)
    assert len(message.splitlines()) <= 3


@pytest.mark.parametrize(("n_max", "largest"), [(20, 20), (49, 48)])
def test_the_largest_ratio_named_works(n_max, largest):
    labels = np.repeat(np.arange(3), n_max)
    with pytest.raises(RequestError, match=f"up to {largest}$"):
        make_split(labels, ratio=largest + 1)
    assert make_split(labels, ratio=largest).counts[-1] == 1


@pytest.mark.parametrize(
    "labels",
    [[], [0, 0, 0], [1, 2, 1], [0, 2, 2], [-1, 0, 1], [0.0, 1.0], ["a", "b"], [[0, 1], [1, 0]], [True, False]],
)
def test_wrong_labels(labels):
    with pytest.raises(RequestError, match=r"^labels of") as caught:
        make_split(np.array(labels), ratio=1)
    assert len(str(caught.value).splitlines()) <= 3
