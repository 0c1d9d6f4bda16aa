"""What is read, what is refused and what a download leaves behind. All data is made up, but for the digits."""

import hashlib
import http.server
import io
import pickle
import struct
import tarfile
import threading
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lt_repro.data import cifar, sets
from lt_repro.data.images import Pool, select
from lt_repro.data.load import data_root, known_split, load_pool
from lt_repro.data.split import class_sizes, make_split, natural_ratio
from lt_repro.errors import DamagedError, RequestError

SIZES = (12, 9, 15, 10)


def refused(call, *words, kind=RequestError):
    with pytest.raises(kind) as caught:
        call()
    message = str(caught.value)
    assert len(message.splitlines()) <= 3, message
    for word in words:
        assert str(word) in message


# --- select ---------------------------------------------------------------------------------------------------------


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def made_up_pool(hold_out=0):
    """A pool sorted by class, and the same in file order: shuffled, but with each class's own order kept."""
    labels, tests = np.repeat(np.arange(4), SIZES), np.repeat(np.arange(4), 3)
    images, test_images = noise(len(labels), 5, 4, 3), noise(len(tests), 5, 4, 3, seed=1)
    if hold_out:
        tests, test_images = tests[:0], test_images[:0]
    pool = Pool("toy", images, labels, test_images, tests, tuple("abcd"), hold_out, Path("toy.npz"))
    mixed, mixed_tests = np.random.default_rng(2).permutation(labels), np.random.default_rng(3).permutation(tests)
    scattered, scattered_tests = np.empty_like(images), np.empty_like(test_images)
    scattered[np.argsort(mixed, kind="stable")] = images
    scattered_tests[np.argsort(mixed_tests, kind="stable")] = test_images
    return pool, replace(
        pool, train_images=scattered, train_labels=mixed, test_images=scattered_tests, test_labels=mixed_tests
    )


def split_of(pool, **options):
    return make_split(pool.train_labels, ratio=3, hold_out=pool.hold_out, name=pool.name, **options)


@pytest.mark.parametrize("hold_out", [0, 2])
def test_sorted_and_file_order_are_the_same_data(hold_out):
    by_class, by_file = made_up_pool(hold_out)
    assert not np.array_equal(by_class.train_labels, by_file.train_labels)
    first, second = select(by_class, split_of(by_class)), select(by_file, split_of(by_file))
    assert first.split == second.split
    assert first.split.digest == second.split.digest
    assert first.digest == second.digest
    for field in ("train_images", "train_labels", "test_images", "test_labels"):
        assert getattr(first, field).tobytes() == getattr(second, field).tobytes()
        assert getattr(first, field).dtype == getattr(by_class, field).dtype


def test_select_takes_the_drawn_images_in_the_drawn_order():
    pool, _ = made_up_pool()
    images = select(pool, split_of(pool))
    starts = np.cumsum((0, *SIZES))
    expected = [
        pool.train_images[starts[k] + place] for k, drawn in enumerate(images.split.positions) for place in drawn
    ]
    assert np.array_equal(images.train_images, expected)
    assert images.train_labels.tolist() == np.repeat(np.arange(4), images.split.counts).tolist()
    assert np.array_equal(images.test_images, pool.test_images)
    assert images.test_labels.tolist() == pool.test_labels.tolist()
    assert images.class_names == ("a", "b", "c", "d")


def test_select_tests_on_what_was_held_out():
    pool, _ = made_up_pool(hold_out=2)
    images = select(pool, split_of(pool))
    starts = np.cumsum((0, *SIZES))
    expected = [pool.train_images[starts[k] + place] for k, kept in enumerate(images.split.held_out) for place in kept]
    assert np.array_equal(images.test_images, expected)
    assert images.test_labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    train = {image.tobytes() for image in images.train_images}
    assert train.isdisjoint(image.tobytes() for image in images.test_images)


def test_data_digest_covers_the_chosen_images_and_nothing_else():
    pool, _ = made_up_pool()
    split = split_of(pool)
    before = select(pool, split).digest

    def after(field, at):
        changed = getattr(pool, field).copy()
        changed[at, 0, 0, 0] ^= 1
        return select(replace(pool, **{field: changed}), split).digest

    starts = np.cumsum((0, *SIZES))
    unused = next(iter(set(range(SIZES[1])) - set(split.positions[1])))
    assert after("train_images", starts[1] + split.positions[1][-1]) != before
    assert after("test_images", 0) != before
    assert after("train_images", starts[1] + unused) == before
    assert select(pool, split_of(pool, seed=1)).digest != before


def test_data_digest_covers_shapes():
    pool, _ = made_up_pool()
    turned = replace(
        pool, train_images=pool.train_images.reshape(-1, 4, 5, 3), test_images=pool.test_images.reshape(-1, 4, 5, 3)
    )
    assert select(pool, split_of(pool)).digest != select(turned, split_of(turned)).digest


def test_select_refuses_the_split_of_another_pool():
    pool, _ = made_up_pool()
    other = make_split(np.repeat(np.arange(5), 9), ratio=2, name="other")
    refused(lambda: select(pool, other), "'other'", "'toy'")
    refused(lambda: select(pool, make_split(np.repeat(np.arange(4), 40), ratio=2)), "does not fit")
    refused(lambda: select(pool, make_split(pool.train_labels, ratio=2, hold_out=1)), "does not fit")


# --- digits, places, names ------------------------------------------------------------------------------------------


def test_digits():
    pool = load_pool("digits", Path("nowhere"))
    assert pool.train_images.shape == (1797, 8, 8, 1)
    assert pool.test_images.shape == (0, 8, 8, 1)
    assert pool.test_labels.shape == (0,)
    assert (pool.train_images.dtype, pool.train_labels.dtype) == (np.uint8, np.int64)
    assert pool.hold_out == 50
    assert pool.class_names == tuple("0123456789")
    assert class_sizes(pool.train_labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert set(np.unique(pool.train_images)) == {round(value * 255 / 16) for value in range(17)}
    assert pool.source.stat().st_size < 100_000
    images = select(pool, make_split(pool.train_labels, ratio=60, hold_out=50, name="digits"))
    assert images.train_images.shape == (332, 8, 8, 1)
    assert images.test_images.shape == (500, 8, 8, 1)
    assert images.digest == "6a0c0fe3fbbfe58ae7d68790c3c8e850b4801379a2f994da70867573596a7962"


def test_data_root(monkeypatch, tmp_path):
    monkeypatch.setenv("LTREPRO_DATA", str(tmp_path / "named"))
    assert data_root(tmp_path) == tmp_path
    assert data_root() == tmp_path / "named"
    monkeypatch.setenv("LTREPRO_DATA", "")
    monkeypatch.setattr("platformdirs.user_data_path", lambda name: tmp_path / name)
    assert data_root() == tmp_path / "ltrepro"


def test_unknown_names(tmp_path):
    refused(
        lambda: load_pool("cifar1000", tmp_path),
        "did you mean 'cifar100'",
        "cifar10, cifar100, digits, folder:DIR, npz:FILE",
    )
    refused(lambda: load_pool("imagenet", tmp_path), "unknown data set 'imagenet'")


def test_missing_cifar_names_the_places_and_the_ways_on(tmp_path):
    refused(
        lambda: load_pool("cifar100", tmp_path),
        *(tmp_path, "cifar100.npz", "cifar-100-python.tar.gz"),
        *("allowed:", "download it", "folder:DIR", "npz:FILE"),
    )
    assert list(tmp_path.iterdir()) == []


# --- npz ------------------------------------------------------------------------------------------------------------


def medmnist(**changes):
    arrays = {
        "train_images": noise(12, 6, 5),
        "train_labels": np.arange(12, dtype=np.uint8)[:, None] % 3,
        "val_images": np.zeros((1, 2), np.float32),
        "val_labels": np.zeros(7),
        "test_images": noise(6, 6, 5, seed=1),
        "test_labels": np.arange(6, dtype=np.uint8)[:, None] % 3,
    }
    arrays.update(changes)
    return {key: array for key, array in arrays.items() if array is not None}


def saved(path, **changes):
    np.savez(path, **medmnist(**changes))
    return path


def load(path):
    return load_pool(f"npz:{path}", Path("nowhere"))


def test_npz_of_grey_images(tmp_path):
    path = saved(tmp_path / "Blood MNIST-28.npz")
    pool = load(path)
    assert pool.name == f"blood_mnist_28-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}"
    assert np.array_equal(pool.train_images, noise(12, 6, 5)[..., None])
    assert np.array_equal(pool.test_images, noise(6, 6, 5, seed=1)[..., None])
    assert pool.train_labels.tolist() == [0, 1, 2] * 4
    assert pool.test_labels.tolist() == [0, 1, 2] * 2
    assert pool.train_labels.dtype == pool.test_labels.dtype == np.int64
    assert pool.class_names == ("0", "1", "2")
    assert (pool.hold_out, pool.source) == (0, path)


@pytest.mark.parametrize("channels", [1, 3])
def test_npz_with_channels_and_names(tmp_path, channels):
    images, tests = noise(12, 6, 5, channels), noise(6, 6, 5, channels, seed=1)
    pool = load(
        saved(
            tmp_path / "x.npz",
            train_images=np.asfortranarray(images),
            test_images=tests,
            train_labels=np.arange(12) % 3,
            class_names=np.array(["ant", "bee", "cat"]),
        )
    )
    assert np.array_equal(pool.train_images, images)
    assert np.array_equal(pool.test_images, tests)
    assert pool.train_images.flags.c_contiguous
    assert pool.class_names == ("ant", "bee", "cat")
    assert select(pool, make_split(pool.train_labels, ratio=2)).train_images.shape[1:] == (6, 5, channels)


def test_npz_is_named_by_content_not_by_path(tmp_path):
    (tmp_path / "b").mkdir()
    path, same_content = saved(tmp_path / "x.npz"), saved(tmp_path / "b" / "x.npz")
    other_content = saved(tmp_path / "x2.npz", train_images=noise(12, 6, 5, seed=9))
    assert load(path).name == load(same_content).name
    assert load(path).name.split("-")[1] != load(other_content).name.split("-")[1]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"test_images": None}, ["no test_images"]),
        ({"train_labels": None}, ["no train_labels"]),
        ({"train_images": noise(12, 6, 5).astype(np.float32)}, ["train_images", "float32", "uint8"]),
        ({"train_images": noise(12, 30)}, ["(12, 30)"]),
        ({"train_images": noise(12, 6, 5, 2)}, ["(12, 6, 5, 2)"]),
        ({"train_images": noise(12, 6, 5, 3, 1)}, ["(12, 6, 5, 3, 1)"]),
        ({"train_images": noise(12, 0, 5)}, ["(12, 0, 5)"]),
        ({"test_images": noise(6, 5, 6)}, ["(6, 5, 1)", "(5, 6, 1)", "same shape"]),
        ({"test_images": noise(6, 6, 5, 3)}, ["(6, 5, 1)", "(6, 5, 3)"]),
        ({"train_labels": np.arange(12.0) % 3}, ["float64", "integer"]),
        ({"train_labels": np.zeros((12, 2), int)}, ["(12, 2)", "(N, 1)"]),
        ({"train_labels": np.arange(11) % 3}, ["(11,)", "12 images"]),
        ({"test_labels": np.arange(7) % 3}, ["(7,)", "6 images"]),
        ({"train_labels": np.arange(12) % 3 + 1}, ["train_labels from 1 to 3: no image of class 0\n", "0..K-1"]),
        ({"train_labels": np.arange(12) % 3 - 1}, ["-1 to 1", "0..K-1"]),
        ({"train_labels": np.arange(12) % 2 * 2}, ["train_labels from 0 to 2: no image of class 1\n"]),
        ({"train_labels": np.zeros(12, int)}, ["train_labels from 0 to 0: no image of class 1 and 1 more\n"]),
        ({"train_labels": np.zeros(12, int), "test_labels": np.zeros(6, int)}, ["labels of 1 class", "at least two"]),
        ({"train_images": noise(0, 6, 5), "train_labels": np.zeros(0, int)}, ["no images"]),
        ({"test_labels": np.arange(6) % 2}, ["test_labels from 0 to 1: no image of class 2\n"]),
        ({"test_labels": np.arange(6) % 4}, ["train_labels from 0 to 2: no image of class 3\n"]),
        ({"test_labels": np.arange(6) % 2 * 2}, ["test_labels from 0 to 2: no image of class 1\n"]),
        (
            {"test_labels": np.arange(6) % 2 * 2, "class_names": np.array(["ant", "bee", "cat"])},
            ["test_labels from 0 to 2: no image of class 1 ('bee')\n"],
        ),
        ({"test_labels": np.array([0, 1, 2, 0, 1, 10**15])}, ["no image of class 3 and 999999999999997 more\n"]),
        ({"test_images": noise(0, 6, 5), "test_labels": np.zeros(0, int)}, ["no images"]),
        ({"class_names": np.array(["a", "b"])}, ["class_names", "(2,)", "3 strings"]),
        ({"class_names": np.arange(3)}, ["class_names", "int64"]),
    ],
)
def test_npz_with_wrong_content(tmp_path, changes, words):
    path = saved(tmp_path / "x.npz", **changes)
    refused(lambda: load(path), path, "allowed:", *words)


@pytest.mark.parametrize(("side", "slower"), [(64, None), (65, 4), (224, 49)])
def test_npz_of_large_images_is_noted(tmp_path, side, slower):
    images, tests = noise(6, side, side + 1), noise(3, side, side + 1, seed=1)
    labels = {"train_labels": np.arange(6) % 3, "test_labels": np.arange(3)}
    path = saved(tmp_path / "x.npz", train_images=images, test_images=tests, **labels)
    line = f"images are {side + 1}x{side}: a step takes about {slower} times as long as at 32x32"
    assert load(path).notes == ((f"{line}; `folder:DIR` brings images to 32x32",) if slower else ())
    assert np.array_equal(load(path).train_images[..., 0], images)


def test_test_images_that_are_trained_on_are_counted_and_named(tmp_path):
    images, tests = noise(12, 6, 5), noise(6, 6, 5, seed=1)
    assert load(saved(tmp_path / "x.npz")).notes == ()
    tests[4] = images[7]
    line = "test images are also training images, pixel by pixel: test_images[4] is train_images[7]"
    assert load(saved(tmp_path / "x.npz", test_images=tests)).notes == (f"1 of 6 {line}",)
    tests[5], tests[0] = images[8], images[7]
    line = line.replace("test_images[4] is train_images[7]", "test_images[0] is train_images[7], test_images[4] is ")
    notes = load(saved(tmp_path / "x.npz", test_images=tests)).notes
    twice = "test images are there under another label too, pixel by pixel: test_images[4] is test_images[0]"
    assert notes == (f"3 of 6 {line}train_images[7], ...", f"1 of 6 {twice}")
    tests[4:], tests[0] = 255 - tests[4:], images[7] ^ 1  # almost the same is not the same
    assert load(saved(tmp_path / "x.npz", test_images=tests)).notes == ()


def test_images_with_two_labels_in_one_part_are_counted_and_named(tmp_path):
    images, tests = noise(12, 6, 5), noise(6, 6, 5, seed=1)
    labels, test_labels = np.arange(12) % 3, np.arange(6) % 3
    images[9] = images[0]  # both of class 0
    kwargs = {"train_labels": labels, "test_labels": test_labels}
    assert load(saved(tmp_path / "x.npz", train_images=images, test_images=tests, **kwargs)).notes == ()
    images[7], tests[5] = images[0], tests[3]
    assert load(saved(tmp_path / "x.npz", train_images=images, test_images=tests, **kwargs)).notes == (
        "1 of 12 training images are there under another label too, pixel by pixel: train_images[7] is train_images[0]",
        "1 of 6 test images are there under another label too, pixel by pixel: test_images[5] is test_images[3]",
    )


def test_npz_that_cannot_be_read(tmp_path):
    whole = saved(tmp_path / "whole.npz").read_bytes()
    refused(lambda: load(tmp_path / "missing.npz"), "missing.npz", "No such file")
    refused(lambda: load(tmp_path), tmp_path)
    refused(lambda: load_pool("npz:", tmp_path), "cannot be read")
    refused(lambda: load_pool("npz:~no-such-user/x.npz", tmp_path), "~no-such-user/x.npz", "No such file")

    def broken(content, *words):
        path = tmp_path / "broken.npz"
        path.write_bytes(content)
        refused(lambda: load(path), path, "allowed:", *words)

    broken(b"", "not an .npz")
    broken(b"train_images,train_labels\n" * 50, "not an .npz")
    broken(whole[: len(whole) // 2], "end is missing")
    at = whole.index(noise(12, 6, 5).tobytes())
    broken(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :], "CRC")
    single = io.BytesIO()
    np.save(single, noise(3, 4, 4))
    broken(single.getvalue(), "not an .npz")


class Gadget:
    """Runs a shell command when it is unpickled by anything careless."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        import os

        return os.system, (f"touch {self.canary}",)


def test_the_gadget_is_live(tmp_path):
    pickle.loads(pickle.dumps(Gadget(tmp_path / "canary")))
    assert (tmp_path / "canary").exists()


def test_npz_with_pickled_objects_runs_nothing(tmp_path):
    canary = tmp_path / "canary"
    for key in ("train_images", "class_names"):
        path = saved(tmp_path / "x.npz", **{key: np.array([Gadget(canary)] * 3, dtype=object)})
        refused(lambda path=path: load(path), path, "no pickled objects")
    assert not canary.exists()


# --- CIFAR ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch):
    """CIFAR-10 of 50 + 10 images and CIFAR-100 of 100 + 100; returns what to call with the archive's content."""
    sizes = {"cifar10": {"sizes": (5,) * 10, "n_test": 10}, "cifar100": {"sizes": (1,) * 100, "n_test": 100}}

    def accept(name, content=b""):
        changes = {**sizes[name], "published": None, "sha256": hashlib.sha256(content).hexdigest()}
        monkeypatch.setattr(f"lt_repro.data.sets.{name}.DATASET", replace(sets.find(name), **changes))

    return accept


def python2(rows, labels, labels_key):
    """The bytes that Python 2 and its NumPy wrote for {"data": rows, labels_key: labels}, as in the archives."""
    count = struct.pack("<i", len(rows))
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01J" + count + b"M\x00\x0c\x86"
        b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89T" + struct.pack("<i", rows.size) + rows.tobytes() + b"tb"
    )
    key = b"U" + bytes([len(labels_key)]) + labels_key.encode()
    return b"\x80\x02}(U\x04data" + array + key + b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"eu."


def packed(members):
    """A .tar.gz of {name: content}, or of TarInfo where it is more than a file."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for name, member in members.items():
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(member)
                tar.addfile(info, io.BytesIO(member))
    return content.getvalue()


def planar(images):
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(len(images), 3072)


def cifar10(**changes):
    """A made-up CIFAR-10: its images and labels, and the members of its archive."""
    images, labels = noise(60, 32, 32, 3), np.arange(60)[::-1] % 10
    members = {}
    for batch in range(6):
        part = slice(10 * batch, 10 * batch + 10)
        name = f"data_batch_{batch + 1}" if batch < 5 else "test_batch"
        members[f"cifar-10-batches-py/{name}"] = python2(planar(images[part]), labels[part], "labels")
    members["cifar-10-batches-py/readme.html"] = b"<a>"
    members["cifar-10-batches-py/batches.meta"] = pickle.dumps({"label_names": list("abcdefghij")}, protocol=2)
    return images, labels, {**members, **changes}


def placed(root, small, members, name="cifar10"):
    content = packed(members)
    path = root / sets.find(name).archive
    path.write_bytes(content)
    small(name, content)
    return path


def listing(root):
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*"))


def test_cifar10_archive(tmp_path, small):
    images, labels, members = cifar10()
    folder = tarfile.TarInfo("cifar-10-batches-py")
    folder.type = tarfile.DIRTYPE
    path = placed(tmp_path, small, {"folder": folder, **members})
    pool = load_pool("cifar10", tmp_path)
    assert np.array_equal(pool.train_images, images[:50])
    assert np.array_equal(pool.test_images, images[50:])
    assert pool.train_labels.tolist() == labels[:50].tolist()
    assert pool.test_labels.tolist() == labels[50:].tolist()
    assert pool.class_names == tuple("abcdefghij")
    assert (pool.name, pool.hold_out, pool.source) == ("cifar10", 0, path)
    assert pool.train_images.flags.c_contiguous
    assert listing(tmp_path) == [path.name]


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("as_key", [str, str.encode])
def test_cifar100_archive_of_any_pickle(tmp_path, small, protocol, as_key):
    images, labels = noise(200, 32, 32, 3), np.arange(200) % 100

    def part(chosen):
        content = {"data": planar(images[chosen]), "fine_labels": labels[chosen].tolist(), "coarse_labels": [0] * 100}
        return pickle.dumps({as_key(key): value for key, value in content.items()}, protocol=protocol)

    meta = {as_key("fine_label_names"): [f"fine {k}" for k in range(100)], as_key("coarse_label_names"): ["c"]}
    members = {"train": part(slice(0, 100)), "test": part(slice(100, 200)), "meta": pickle.dumps(meta, protocol)}
    placed(tmp_path, small, {f"cifar-100-python/{name}": data for name, data in members.items()}, "cifar100")
    pool = load_pool("cifar100", tmp_path)
    assert np.array_equal(pool.train_images, images[:100])
    assert np.array_equal(pool.test_images, images[100:])
    assert pool.train_labels.tolist() == list(range(100))
    assert pool.class_names[7] == "fine 7"


def test_archive_and_npz_give_the_same_data(tmp_path, small):
    images, labels, members = cifar10()
    placed(tmp_path, small, members)
    archive = load_pool("cifar10", tmp_path)
    by_class = np.argsort(labels[:50], kind="stable")
    npz = tmp_path / "cifar10.npz"
    np.savez(
        npz,
        train_images=images[:50][by_class],
        train_labels=labels[:50][by_class],
        test_images=images[50:],
        test_labels=labels[50:],
    )
    stored = load_pool("cifar10", tmp_path)
    assert (stored.source, stored.name, stored.class_names) == (npz, "cifar10", tuple("0123456789"))
    from_archive, from_npz = select(archive, split_of(archive)), select(stored, split_of(stored))
    assert (from_archive.split.digest, from_archive.digest) == (from_npz.split.digest, from_npz.digest)


def extracted(root, members):
    for name, content in members.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root / "cifar-10-batches-py"


def test_an_extracted_archive_gives_the_same_data(tmp_path, small, monkeypatch):
    _, _, members = cifar10()
    path = placed(tmp_path, small, members)
    packed_pool = load_pool("cifar10", tmp_path)
    path.unlink()
    folder = extracted(tmp_path, members)
    pool = load_pool("cifar10", tmp_path)
    assert (pool.source, pool.name, pool.class_names) == (folder, "cifar10", packed_pool.class_names)
    images, packed_images = (select(each, split_of(each)) for each in (pool, packed_pool))
    assert (images.split.digest, images.digest) == (packed_images.split.digest, packed_images.digest)
    files = ", ".join([*(f"data_batch_{batch}" for batch in range(1, 6)), "test_batch", "batches.meta"])
    assert pool.notes == (f"{folder}: not the published files, by their MD5: {files}",)
    known = {name: hashlib.md5(content).hexdigest() for name, content in members.items() if "html" not in name}
    monkeypatch.setattr("lt_repro.data.sets.cifar10.DATASET", replace(sets.find("cifar10"), md5=known))
    assert load_pool("cifar10", tmp_path).notes == ()
    path.write_bytes(b"half an archive")  # what is packed comes first, and a damaged file is never passed over
    refused(lambda: load_pool("cifar10", tmp_path), path, "damaged or truncated", kind=DamagedError)


@pytest.mark.parametrize(
    ("member", "content", "words"),
    [
        ("test_batch", None, ["cifar-10-batches-py/test_batch cannot be read: it is missing"]),
        ("data_batch_3", b"", ["cifar-10-batches-py/data_batch_3 cannot be read", "download cifar10 again"]),
        ("data_batch_1", python2(noise(10, 3072), range(10), "labels")[:9000], ["data_batch_1 cannot be read"]),
        ("batches.meta", pickle.dumps({}), ["cifar-10-batches-py cannot be read", "label_names"]),
        ("test_batch", python2(noise(10, 3072), range(10), "names"), ["cifar-10-batches-py cannot be read: 'labels'"]),
    ],
)
def test_a_damaged_file_of_an_extracted_archive(tmp_path, small, member, content, words):
    small("cifar10")
    folder = extracted(tmp_path, cifar10()[2])
    (folder / member).unlink()
    if content is not None:
        (folder / member).write_bytes(content)
    refused(lambda: load_pool("cifar10", tmp_path), *words, kind=DamagedError)


def test_an_extracted_archive_of_something_else(tmp_path, small):
    small("cifar10")
    extracted(
        tmp_path, cifar10(**{"cifar-10-batches-py/data_batch_2": python2(noise(10, 3072), [0] * 10, "labels")})[2]
    )
    refused(lambda: load_pool("cifar10", tmp_path), "is not cifar10", "10 classes of 4 to 14")


@pytest.mark.parametrize("fault", [("exists", ""), ("is_file", "data_batch_2"), ("read_bytes", "test_batch")])
def test_cifar_that_may_not_be_read_is_a_wrong_request(tmp_path, small, monkeypatch, fault):
    small("cifar10")
    name, file = fault
    real = getattr(Path, name)

    def fails(path, *args):
        if path.name.endswith(file):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *args)

    extracted(tmp_path, cifar10()[2])
    monkeypatch.setattr(Path, name, fails)
    refused(lambda: load_pool("cifar10", tmp_path), f"{file or 'cifar10.npz'} cannot be read: Permission denied")


def test_cifar_whose_archive_is_a_folder_is_a_wrong_request(tmp_path):
    (tmp_path / "cifar-10-python.tar.gz").mkdir()
    refused(lambda: load_pool("cifar10", tmp_path), "cifar-10-python.tar.gz cannot be read: Is a directory")


def test_a_gadget_in_an_extracted_archive_runs_nothing(tmp_path, small):
    small("cifar10")
    canary = tmp_path / "canary"
    gadget = pickle.dumps({"data": Gadget(canary), "labels": [0] * 10})
    extracted(tmp_path, cifar10(**{"cifar-10-batches-py/test_batch": gadget})[2])
    refused(lambda: load_pool("cifar10", tmp_path), "it uses", "system", kind=DamagedError)
    assert not canary.exists()


def test_an_archives_files_are_in_the_order_of_training_images_test_images_names():
    ten, hundred = ([Path(path).name for path in known.md5] for known in map(sets.find, ("cifar10", "cifar100")))
    assert ten == [*(f"data_batch_{batch}" for batch in range(1, 6)), "test_batch", "batches.meta"]
    assert hundred == ["train", "test", "meta"]


def test_npz_that_is_not_cifar(tmp_path, small):
    small("cifar10")
    good = {"train_images": noise(50, 32, 32, 3), "train_labels": np.arange(50) % 10}
    good |= {"test_images": noise(10, 32, 32, 3), "test_labels": np.arange(10)}
    uneven, eleven = good["train_labels"].copy(), np.arange(50) % 11
    uneven[0] = 1

    def refuse(*words, **changes):
        np.savez(tmp_path / "cifar10.npz", **(good | changes))
        refused(lambda: load_pool("cifar10", tmp_path), "cifar10.npz is not cifar10", "`folder:DIR`", *words)

    np.savez(tmp_path / "cifar10.npz", **good)
    assert load_pool("cifar10", tmp_path).train_images.shape == (50, 32, 32, 3)
    refuse("(50, 28, 28, 3)", train_images=noise(50, 28, 28, 3), test_images=noise(10, 28, 28, 3))
    refuse("(50, 32, 32, 1)", train_images=noise(50, 32, 32), test_images=noise(10, 32, 32))
    refuse("10 classes of 4 to 6", train_labels=uneven)
    refuse("11 classes", train_labels=eleven, test_labels=np.arange(11), test_images=noise(11, 32, 32, 3))
    refuse("test images (20,", test_images=noise(20, 32, 32, 3), test_labels=np.arange(20) % 10)
    refuse("training images (40,", train_images=noise(40, 32, 32, 3), train_labels=np.arange(40) % 10)


def test_the_pinned_digests_and_sizes_are_the_published_ones():
    ten, hundred = sets.find("cifar10"), sets.find("cifar100")
    assert ten.sha256 == "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
    assert hundred.sha256 == "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7"
    for known, classes in ((ten, 10), (hundred, 100)):
        assert (sum(known.sizes), known.n_test, len(known.sizes)) == (50_000, 10_000, classes)
    assert cifar._ADDRESS.startswith("https://")


def test_archive_with_a_wrong_digest_is_not_even_opened(tmp_path, monkeypatch):
    def opened(*args, **kwargs):
        raise AssertionError("opened before the digest was checked")

    monkeypatch.setattr(tarfile, "open", opened)
    path = tmp_path / "cifar-10-python.tar.gz"
    for content in (b"", b"not an archive", b"\x1f\x8b" + bytes(100)):
        path.write_bytes(content)
        refused(
            lambda: load_pool("cifar10", tmp_path),
            *(path, "damaged or truncated", "move it away and download cifar10 again"),
            kind=DamagedError,
        )
        assert path.read_bytes() == content


def test_truncated_archive_with_the_digest_of_what_is_left(tmp_path, small):
    _, _, members = cifar10()
    content = packed(members)
    path = tmp_path / "cifar-10-python.tar.gz"
    for kept in (0, 5, 100, len(content) // 2, len(content) - 4000):
        path.write_bytes(content[:kept])
        small("cifar10", content[:kept])
        refused(lambda: load_pool("cifar10", tmp_path), path, "move it away", kind=DamagedError)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("member", ["data_batch_3", "test_batch", "batches.meta"])
def test_a_gadget_in_the_archive_runs_nothing(tmp_path, small, member, protocol):
    canary = tmp_path / "canary"
    gadget = pickle.dumps({"data": Gadget(canary), "labels": [0] * 10}, protocol=protocol)
    _, _, members = cifar10(**{f"cifar-10-batches-py/{member}": gadget})
    path = placed(tmp_path, small, members)
    refused(lambda: load_pool("cifar10", tmp_path), path, "it uses", "system", kind=DamagedError)
    assert listing(tmp_path) == [path.name]


@pytest.mark.parametrize(
    "asked", ["builtins\neval", "numpy\nload", "numpy.core.multiarray\nfromfile", "numpy\nndarray.tofile", "io\nopen"]
)
def test_the_unpickler_knows_five_names(tmp_path, small, asked):
    path = placed(tmp_path, small, cifar10(**{"cifar-10-batches-py/test_batch": f"c{asked}\n.".encode()})[2])
    refused(lambda: load_pool("cifar10", tmp_path), path, asked.replace("\n", "."), kind=DamagedError)


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    "member",
    [
        special("cifar-10-batches-py/extra", tarfile.SYMTYPE, "/etc/passwd"),
        special("cifar-10-batches-py/test_batch", tarfile.SYMTYPE, "data_batch_1"),
        special("cifar-10-batches-py/test_batch", tarfile.LNKTYPE, "cifar-10-batches-py/data_batch_1"),
        special("cifar-10-batches-py/pipe", tarfile.FIFOTYPE),
        special("cifar-10-batches-py/disk", tarfile.BLKTYPE),
        special("../outside", tarfile.REGTYPE),
        special("cifar-10-batches-py/../../outside", tarfile.REGTYPE),
        special("/tmp/outside", tarfile.REGTYPE),
    ],
    ids=lambda member: f"{member.type.decode()}-{member.name}",
)
def test_links_devices_and_names_outside_are_refused(tmp_path, small, member):
    _, _, members = cifar10()
    members.pop(member.name, None)
    (tmp_path / "root").mkdir()
    path = placed(tmp_path / "root", small, {**members, "special": member})
    refused(lambda: load_pool("cifar10", tmp_path / "root"), path, member.name, kind=DamagedError)
    assert listing(tmp_path) == ["root", "root/cifar-10-python.tar.gz"]


@pytest.mark.parametrize(
    ("member", "content", "words"),
    [
        ("test_batch", None, "'cifar-10-batches-py/test_batch' is missing"),
        ("batches.meta", pickle.dumps({}), "label_names"),
        ("test_batch", pickle.dumps([1, 2]), "cannot be read"),
        ("test_batch", b"", "cannot be read"),
        ("test_batch", python2(noise(20, 1536), [0] * 10, "labels").replace(b"M\x00\x0c", b"M\x00\x06"), "(20, 1536)"),
        ("test_batch", python2(noise(10, 3072), range(10), "names"), "labels"),
        ("test_batch", special("cifar-10-batches-py/test_batch", tarfile.DIRTYPE), "not a file"),
    ],
)
def test_archive_with_wrong_content(tmp_path, small, member, content, words):
    _, _, members = cifar10(**{f"cifar-10-batches-py/{member}": content})
    path = placed(tmp_path, small, {name: data for name, data in members.items() if data is not None})
    refused(lambda: load_pool("cifar10", tmp_path), path, words, "move it away", kind=DamagedError)


def test_archive_with_a_member_that_is_too_large(tmp_path, small, monkeypatch):
    path = placed(tmp_path, small, cifar10()[2])
    monkeypatch.setattr(cifar, "LARGEST_MEMBER", 30_000)
    refused(lambda: load_pool("cifar10", tmp_path), path, "at most 30000 bytes", kind=DamagedError)


# --- download -------------------------------------------------------------------------------------------------------


@contextmanager
def serving(monkeypatch, answer):
    """A server on this machine in the place of the publisher's."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            answer(self)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setattr(cifar, "_ADDRESS", f"http://127.0.0.1:{server.server_port}/~kriz/")
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def sending(content, length=None):
    def answer(request):
        assert request.path == "/~kriz/cifar-10-python.tar.gz"
        request.send_response(200)
        if length != 0:
            request.send_header("Content-Length", str(length or len(content)))
        request.end_headers()
        request.wfile.write(content)

    return answer


@pytest.fixture
def archive(small):
    content = packed(cifar10()[2])
    small("cifar10", content)
    return content


WAYS_ON = (
    "download it",
    "cifar-10-python.tar.gz, cifar-10-batches-py/ or cifar10.npz in that folder",
    "folder:DIR",
    "npz:FILE",
)


def test_download(tmp_path, monkeypatch, archive):
    reports, root = [], tmp_path / "made" / "here"
    monkeypatch.setattr(cifar, "_CHUNK", 10_000)

    def report(done, total):
        assert not (root / "cifar-10-python.tar.gz").exists()
        reports.append((done, total))

    with serving(monkeypatch, sending(archive)):
        path = sets.find("cifar10").download(root, report)
    assert path == root / "cifar-10-python.tar.gz"
    assert path.read_bytes() == archive
    assert listing(root) == [path.name]
    assert len(reports) == -(-len(archive) // 10_000)
    assert reports[-1] == (len(archive), len(archive))
    assert reports == sorted(set(reports))
    assert load_pool("cifar10", root).train_images.shape == (50, 32, 32, 3)


def test_download_of_unknown_length(tmp_path, monkeypatch, archive):
    reports = []
    with serving(monkeypatch, sending(archive, length=0)):
        sets.find("cifar10").download(tmp_path, lambda done, total: reports.append((done, total)))
    assert reports[-1] == (len(archive), 0)


def test_download_of_something_else(tmp_path, monkeypatch, archive):
    with serving(monkeypatch, sending(archive + b"x")):
        refused(
            lambda: sets.find("cifar10").download(tmp_path, lambda *_: None), "is not the published archive", *WAYS_ON
        )
    assert listing(tmp_path) == []


def test_download_that_ends_early(tmp_path, monkeypatch, archive):
    with serving(monkeypatch, sending(archive[:-100], length=len(archive))):
        refused(lambda: sets.find("cifar10").download(tmp_path, lambda *_: None), *WAYS_ON)
    assert listing(tmp_path) == []


def test_download_from_a_server_that_has_it_not(tmp_path, monkeypatch, archive):
    with serving(monkeypatch, lambda request: request.send_error(404)):
        refused(lambda: sets.find("cifar10").download(tmp_path, lambda *_: None), "404", *WAYS_ON)
    assert listing(tmp_path) == []


def test_download_without_a_connection(tmp_path, monkeypatch, archive):
    with serving(monkeypatch, sending(archive)):
        pass
    refused(lambda: sets.find("cifar10").download(tmp_path, lambda *_: None), "127.0.0.1", "refused", *WAYS_ON)
    assert listing(tmp_path) == []


def test_download_that_is_interrupted(tmp_path, monkeypatch, archive):
    def stop(done, total):
        assert len(listing(tmp_path)) == 1
        raise KeyboardInterrupt

    with serving(monkeypatch, sending(archive)), pytest.raises(KeyboardInterrupt):
        sets.find("cifar10").download(tmp_path, stop)
    assert listing(tmp_path) == []


def test_download_that_fails_leaves_the_older_file(tmp_path, monkeypatch, archive):
    path = tmp_path / "cifar-10-python.tar.gz"
    path.write_bytes(b"older")
    with serving(monkeypatch, sending(b"other")):
        refused(lambda: sets.find("cifar10").download(tmp_path, lambda *_: None), *WAYS_ON)
    assert path.read_bytes() == b"older"
    assert listing(tmp_path) == [path.name]


def test_download_into_what_is_no_folder(tmp_path, monkeypatch, archive):
    (tmp_path / "file").write_bytes(b"")
    with serving(monkeypatch, sending(archive)):
        refused(lambda: sets.find("cifar10").download(tmp_path / "file", lambda *_: None), tmp_path / "file")


# --- known_split ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "begins"), [("cifar100", "4c49b2a036c7"), ("cifar10", "4c47d475d414")])
def test_the_digest_of_a_known_split_needs_no_images(name, begins):
    assert known_split(name, 100.0, "exp", 0).digest.startswith(begins)
    assert known_split(name, 100.0, "exp", 1) != known_split(name, 100.0, "exp", 0)


def test_the_known_split_of_digits_is_that_of_its_images():
    pool = load_pool("digits", Path())
    split = make_split(pool.train_labels, ratio=60, hold_out=pool.hold_out, name=pool.name)
    assert known_split("digits", 60.0, "exp", 0).digest == split.digest
    assert known_split("bloodmnist-01234567", 60.0, "exp", 0) is None
    ratio = natural_ratio(pool.train_labels, pool.hold_out)
    split = make_split(pool.train_labels, ratio=ratio, imb_type="as_is", hold_out=pool.hold_out, name=pool.name)
    assert known_split("digits", ratio, "as_is", 0).digest == split.digest
