"""How images differ from the published ones: every kind of difference is named and counted, on made-up images."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lt_repro.data import sets
from lt_repro.data.images import Pool
from lt_repro.data.load import load_pool
from lt_repro.data.published import class_hashes, differences
from lt_repro.papers.dbn_mix.settings import SETTINGS
from lt_repro.store.runs import Run

K, TRAIN, TEST = 10, 50, 20
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (TRAIN + TEST, 32, 32, 3), dtype=np.uint8)
ARRAYS = {
    "train_images": IMAGES[:TRAIN],
    "train_labels": np.arange(TRAIN) % K,
    "test_images": IMAGES[TRAIN:],
    "test_labels": np.arange(TEST) % K,
}


def pool(**changes):
    names = tuple(map(str, range(K)))
    return Pool("cifar10", *(ARRAYS | changes).values(), names, 0, Path("cifar10.npz"))


def permuted(order):
    return {"train_images": ARRAYS["train_images"][order], "train_labels": ARRAYS["train_labels"][order]}


def with_images(part, changed):
    """The images of a part with others at some positions."""
    images = ARRAYS[f"{part}_images"].copy()
    for at, image in changed.items():
        images[at] = image
    return images


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("published") / "cifar10.npz"
    np.savez(path, hashes=class_hashes(pool()), copies=np.array([], np.int32))
    return path


def test_hashes_are_in_the_order_of_parts_and_classes():
    first = hashlib.sha256(IMAGES[10].tobytes()).digest()[:4]  # the second image of class 0
    assert class_hashes(pool())[1] == int.from_bytes(first, "big")
    by_class = np.argsort(ARRAYS["train_labels"], kind="stable")
    assert np.array_equal(class_hashes(pool()), class_hashes(pool(**permuted(by_class))))


def test_published_images_in_any_order_of_classes_are_no_difference(table):
    assert differences(pool(), table) == ""
    assert differences(pool(**permuted(np.argsort(ARRAYS["train_labels"], kind="stable"))), table) == ""


def test_an_order_within_a_class(table):
    order = np.arange(TRAIN)
    order[[3, 13]] = [13, 3]
    assert differences(pool(**permuted(order)), table) == "2 images in another order within their class"


def test_channels(table):
    changes = {f"{part}_images": ARRAYS[f"{part}_images"][..., ::-1] for part in ("train", "test")}
    assert differences(pool(**changes), table) == "channels in the order blue, green, red"


def test_class_numbers(table):
    meant = np.array([0, 4, 2, 3, 1, 5, 6, 7, 8, 9])
    changes = {f"{part}_labels": meant[ARRAYS[f"{part}_labels"]] for part in ("train", "test")}
    words = "2 classes with another number (1 is the published 4, 4 is the published 1)"
    assert differences(pool(**changes), table) == words
    turned = (np.arange(K) + 1) % K  # no permutation of two: which way it is read matters
    changes = {f"{part}_labels": turned[ARRAYS[f"{part}_labels"]] for part in ("train", "test")}
    words = "10 classes with another number (0 is the published 9, 1 is the published 0, ...)"
    assert differences(pool(**changes), table) == words


def test_images_of_the_other_part(table):
    planted = with_images("train", {0: ARRAYS["test_images"][0], 7: ARRAYS["test_images"][3]})
    assert differences(pool(train_images=planted), table) == "2 images of the test part in the training part"
    planted = with_images("test", {0: ARRAYS["train_images"][0]})
    assert differences(pool(test_images=planted), table) == "1 image of the training part in the test part"


def test_labels(table):
    labels = ARRAYS["train_labels"].copy()
    labels[[40, 41]] = labels[[41, 40]]  # the last of their classes, so no other image moves
    assert differences(pool(train_labels=labels), table) == "2 images with another label"


def test_other_images(table):
    assert differences(pool(train_images=with_images("train", {5: 0})), table) == "1 image not among the published ones"
    other = with_images("train", {5: 0, 6: 1})
    assert differences(pool(train_images=other), table) == "2 images not among the published ones"


def test_several_differences_are_all_named(table):
    changes = permuted(np.arange(TRAIN)[::-1])
    changes["train_images"] = with_images("train", {})[::-1][..., ::-1].copy()
    changes["train_images"][0] = 7
    changes["test_images"] = ARRAYS["test_images"][..., ::-1]
    words = differences(pool(**changes), table).split("; ")
    assert words == [
        "channels in the order blue, green, red",
        "39 images in another order within their class",  # 5 a class, of which the middle one stays; one is gone
        "1 image not among the published ones",
    ]


def test_a_picture_that_is_published_twice_is_no_difference(tmp_path):
    twice = with_images("test", {4: ARRAYS["train_images"][0]})
    np.savez(tmp_path / "table.npz", hashes=class_hashes(pool(test_images=twice)), copies=np.array([], np.int32))
    order = np.arange(TRAIN)
    order[[0, 10]] = [10, 0]
    words = differences(pool(test_images=twice, **permuted(order)), tmp_path / "table.npz")
    assert words == "2 images in another order within their class"


def test_a_known_copy_is_named_and_what_is_in_its_place_taken_for_the_published_image(tmp_path):
    path = tmp_path / "table.npz"
    np.savez(path, hashes=class_hashes(pool()), copies=np.array([0, 5], np.int32))  # the first of classes 0 and 1
    assert differences(pool(), path) == "2 images decoded from JPEG copies of published ones"
    right = with_images("train", {0: 1, 1: 2})
    assert differences(pool(train_images=right), path) == ""
    assert differences(pool(train_images=with_images("train", {0: 1, 1: 2, 9: 3})), path) == (
        "1 image not among the published ones"
    )


@pytest.mark.parametrize("name", [name for name in sets.names() if sets.find(name).published])
def test_the_tables_have_as_many_images_as_their_sets(name):
    dataset = sets.find(name)
    with np.load(dataset.published) as stored:
        assert len(stored["hashes"]) == sum(dataset.sizes) + dataset.n_test
        assert np.isin(stored["copies"], np.arange(len(stored["hashes"]))).all()


@pytest.fixture
def small(tmp_path, monkeypatch, table):
    """CIFAR-10 with the images above, as `<root>/cifar10.npz`; returns what to call with changes."""
    dataset = replace(sets.find("cifar10"), sizes=(TRAIN // K,) * K, n_test=TEST, published=table)
    monkeypatch.setattr("lt_repro.data.sets.cifar10.DATASET", dataset)

    def load(**changes):
        np.savez(tmp_path / "cifar10.npz", **(ARRAYS | changes))
        return load_pool("cifar10", tmp_path)

    return load


def test_published_images_are_silent_and_others_are_named_in_one_line(small, tmp_path):
    assert (small().content, small().notes) == ("published", ())
    result = small(train_images=with_images("train", {5: 0}))
    assert result.content == "1 image not among the published ones"
    assert result.notes == (f"{tmp_path / 'cifar10.npz'} is not the published CIFAR-10: {result.content}",)
    planted = small(train_images=with_images("train", {0: ARRAYS["test_images"][0]}))
    assert planted.notes[1].startswith("1 of 20 test images are also training images, pixel by pixel: test_images[0]")


def test_the_run_file_says_what_differs(small, tmp_path, run, elsewhere, monkeypatch):
    monkeypatch.setitem(SETTINGS.datasets, "cifar10", SETTINGS.datasets["cifar10"] | {"net": "resnet8", "epochs": 1})
    words = "1 image not among the published ones"
    for changed, images in (({}, "published"), ({"train_images": with_images("train", {5: 0})}, words)):
        small(**changed)
        typed = "train", "--dataset", "cifar10", "--ratio", 5, "--data-root", tmp_path, "--out", images[:4]
        code, out, err = run(*typed)
        assert code == 0, err
        assert Run.read(Path(out.strip().splitlines()[-1])).images == images
        assert (words in err) is bool(changed)


def test_digits_are_published_and_own_images_have_no_word(tmp_path):
    assert load_pool("digits", tmp_path).content == "published"
    np.savez(tmp_path / "mine.npz", **ARRAYS)
    assert load_pool(f"npz:{tmp_path / 'mine.npz'}", tmp_path).content is None
