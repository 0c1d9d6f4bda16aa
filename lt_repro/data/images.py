"""Images in memory: a Pool to draw a split from, and the Images of a split."""

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lt_repro.canonical import canonical
from lt_repro.data.split import Split, Subset, make_split
from lt_repro.errors import RequestError

SIZE = 32
"""Height and width in pixels of the images that the networks here are made for."""
_LABELS = "0..K-1 for at least two classes, each with an image in train_labels and in test_labels"


@dataclass(frozen=True, eq=False)
class Pool:
    """Images to draw a split from.

    Attributes:
        name: Of a known data set, or `<stem>-<8 hex of the content>` for your own file or folder.
        train_images: (N, H, W, C) uint8, C 1 or 3.
        train_labels: (N,) int64, 0..K-1, each present.
        test_images: (M, H, W, C) uint8; M is 0 if the split holds out test images.
        test_labels: (M,) int64.
        class_names: The K names.
        hold_out: Images of each class that a split must hold out for testing.
        source: The file or folder that was read.
        notes: What a user should know about the images, a line for each.
        content: Of a known data set: "published", or how the images differ from the published ones; None for your own
            images, and where the published ones are not known.
    """

    name: str
    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    hold_out: int
    source: Path
    notes: tuple[str, ...] = ()
    content: str | None = None


@dataclass(frozen=True, eq=False)
class Images:
    """The training and test images, sorted by class.

    Attributes:
        train_images: (N, H, W, C) uint8; within a class in the split's order.
        train_labels: (N,) int64.
        test_images: (M, H, W, C) uint8; within a class in the pool's order, or in the order of `split.held_out`.
        test_labels: (M,) int64.
        class_names: The K names.
        split: The split that selected them.
        digest: SHA-256 over shapes, counts and bytes of the training, the test and the further images: two sources of
            a pool have the same digest exactly if they have the same images.
        extra: Further training images by source, images and labels as above: "meta" where the split has them.
        content: See `Pool`.
    """

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    split: Split
    digest: str
    extra: Mapping[str, tuple[NDArray[np.uint8], NDArray[np.int64]]] = field(default_factory=dict)
    content: str | None = None


def images_of(subset: Subset, pool: Pool) -> Images:
    """Returns the images that a recipe with this `subset` trains and tests on.

    Raises:
        RequestError: The ratio is too large for the pool, or another setting of the split is not allowed.
    """
    return select(pool, split_of(subset, pool))


def split_of(subset: Subset, pool: Pool) -> Split:
    """Returns the split of a pool that a subset names.

    Raises:
        RequestError: As `images_of`.
    """
    _, ratio, imb_type, seed, meta_images = subset
    shape: dict[str, Any] = {"ratio": ratio, "imb_type": imb_type, "seed": seed, "meta_images": meta_images}
    return make_split(pool.train_labels, **shape, hold_out=pool.hold_out, name=pool.name)


def select(pool: Pool, split: Split) -> Images:
    """Returns the split's images; a pool sorted by class and one in file order give the same bytes.

    Raises:
        RequestError: The split was made for another pool.
    """
    class_lists = _class_lists(pool.train_labels)
    fits = len(class_lists) == len(split.positions) and all(
        len(held_out) == pool.hold_out and max(drawn + held_out + meta) < len(listed)
        for listed, drawn, held_out, meta in zip(
            class_lists, split.positions, split.held_out, split.meta or [()] * len(class_lists), strict=True
        )
    )
    if not fits:
        raise RequestError(
            f"the split of {split.name!r} does not fit the images of {pool.name!r}",
            f"allowed: a split made from its labels with {pool.hold_out} images of each class held out",
        )
    train = _picked(class_lists, split.positions)
    train_images = pool.train_images[np.concatenate(train)]
    if pool.hold_out:
        test = _picked(class_lists, split.held_out)
        test_images = pool.train_images[np.concatenate(test)]
    else:
        test = _class_lists(pool.test_labels)
        test_images = pool.test_images[np.concatenate(test)]

    parts = [(train_images, train), (test_images, test)]
    if split.meta:
        meta = _picked(class_lists, split.meta)
        parts.append((pool.train_images[np.concatenate(meta)], meta))
    sha256 = hashlib.sha256()
    for images, lists in parts:
        # Shape and counts first: the same bytes with another shape or other classes are other data.
        sha256.update(canonical([images.shape, [len(listed) for listed in lists]]).encode())
        sha256.update(images.data)
    extra = {"meta": (parts[2][0], _labels(parts[2][1]))} if split.meta else {}
    pairs = train_images, _labels(train), test_images, _labels(test)
    return Images(*pairs, pool.class_names, split, sha256.hexdigest(), extra, pool.content)


def _class_lists(labels: NDArray[np.int64]) -> list[NDArray[np.intp]]:
    """Returns the positions of each class's images, in the pool's order."""
    return np.split(np.argsort(labels, kind="stable"), np.cumsum(np.bincount(labels))[:-1])


def _picked(class_lists: list[NDArray[np.intp]], positions: tuple[tuple[int, ...], ...]) -> list[NDArray[np.intp]]:
    return [listed[list(chosen)] for listed, chosen in zip(class_lists, positions, strict=True)]


def _labels(lists: list[NDArray[np.intp]]) -> NDArray[np.int64]:
    return np.repeat(np.arange(len(lists), dtype=np.int64), [len(listed) for listed in lists])


def is_large(width: int, height: int) -> bool:
    """Returns whether images are large for the networks here: more than twice as wide and high as they should be."""
    return min(width, height) > 2 * SIZE


def duplicates(pool: Pool, names: Sequence[str] | None = None) -> list[str]:
    """Returns what is there twice, pixel by pixel, a line for each kind.

    Test images that are also training images, and images of one part that have two labels in it.

    Args:
        pool: Any images.
        names: Of each training image, then of each test image; their arrays' names and positions by default.
    """
    train, test = len(pool.train_images), len(pool.test_images)
    places = [f"train_images[{at}]" for at in range(train)] + [f"test_images[{at}]" for at in range(test)]
    named = [repr(name) for name in names] if names else places
    digests = [hashlib.sha256(image.data).digest() for image in chain(pool.train_images, pool.test_images)]
    labels = np.concatenate([pool.train_labels, pool.test_labels])

    def line(what: str, pairs: Iterable[tuple[int, int | None]]) -> list[str]:
        same = [f"{named[at]} is {named[first]}" for at, first in pairs if first is not None]
        more = ", ..." if len(same) > 2 else ""
        return [f"{len(same)} of {what}, pixel by pixel: {', '.join(same[:2])}{more}"] if same else []

    def first_of(part: range) -> dict[bytes, int]:
        return {digests[at]: at for at in reversed(part)}

    parts = {"training": range(train), "test": range(train, train + test)}
    known = first_of(parts["training"])
    lines = line(f"{test} test images are also training images", ((at, known.get(digests[at])) for at in parts["test"]))
    for part, places_of in parts.items():
        first = first_of(places_of)
        pairs = ((at, first[digests[at]]) for at in places_of)
        twins = [(at, same) for at, same in pairs if labels[at] != labels[same]]
        lines += line(f"{len(places_of)} {part} images are there under another label too", twins)
    return lines


def checked_pool(
    name: str, arrays: dict[str, NDArray[Any]], source: Path, hold_out: int, notes: Sequence[str] = ()
) -> Pool:
    """Returns the pool made of arrays in MedMNIST's layout, after checking them.

    Args:
        name: The pool's name.
        arrays: train_images, train_labels, test_images, test_labels and optionally class_names.
        source: The file or folder they were read from.
        hold_out: Images of each class that a split must hold out for testing.
        notes: See `Pool`.

    Raises:
        RequestError: An array is missing or has a wrong shape, dtype or content.
    """

    def require(good: object, result: str, allowed: str) -> None:
        if not good:
            raise RequestError(f"{source}: {result}", f"allowed: {allowed}")

    for key in ("train_images", "train_labels", "test_images", "test_labels"):
        require(key in arrays, f"no {key}", "train_images, train_labels, test_images and test_labels")
    images: dict[str, NDArray[np.uint8]] = {}
    labels: dict[str, NDArray[np.int64]] = {}
    for part in ("train", "test"):
        pixels, named = arrays[f"{part}_images"], arrays[f"{part}_labels"]
        colours = pixels.shape[3] if pixels.ndim == 4 else 1
        require(
            pixels.dtype == np.uint8 and pixels.ndim in (3, 4) and colours in (1, 3) and min(pixels.shape[1:]) > 0,
            f"{part}_images of shape {pixels.shape} and dtype {pixels.dtype}",
            "uint8 of shape (N, H, W), (N, H, W, 1) or (N, H, W, 3)",
        )
        require(
            np.issubdtype(named.dtype, np.integer) and named.shape in ((len(pixels),), (len(pixels), 1)),
            f"{part}_labels of shape {named.shape} and dtype {named.dtype} for {len(pixels)} images",
            "one integer per image, of shape (N,) or (N, 1)",
        )
        images[part] = np.ascontiguousarray(pixels.reshape(*pixels.shape[:3], colours))
        labels[part] = named.reshape(len(named))
    require(
        images["train"].shape[1:] == images["test"].shape[1:],
        f"training images {images['train'].shape[1:]}, test images {images['test'].shape[1:]}",
        "training and test images of the same shape",
    )
    result = {part: set(labels[part].tolist()) for part in (("train",) if hold_out else ("train", "test"))}
    classes = 1 + max(chain.from_iterable(result.values()), default=-1)
    names = arrays.get("class_names", np.arange(0))
    for part, members in result.items():
        require(members, f"no images in {part}_images", "at least one image of each class in each part")
        span = f"{part}_labels from {min(members)} to {max(members)}"
        require(min(members) >= 0, span, _LABELS)
        missing = next(number for number in count() if number not in members)
        word = f" ({str(names[missing])!r})" if names.ndim == 1 and missing < len(names) else ""
        more = f" and {classes - len(members) - 1} more" if classes - len(members) > 1 else ""
        require(len(members) == classes, f"{span}: no image of class {missing}{word}{more}", _LABELS)
    require(classes > 1, "labels of 1 class", _LABELS)
    names = arrays.get("class_names", np.arange(classes).astype(str))
    require(
        names.shape == (classes,) and names.dtype.kind == "U",
        f"class_names of shape {names.shape} and dtype {names.dtype}",
        f"{classes} strings, one per class",
    )
    unexpected = [word for word in names.tolist() if not (word.isprintable() and word)]
    listed = ", ".join(map(ascii, unexpected[:2]))
    require(not unexpected, f"class names that are empty or cannot be printed: {listed}", "printable names")
    looks = [unicodedata.normalize("NFC", word).strip() for word in names.tolist()]
    shared = Counter(looks).most_common(1)[0][0]
    twins = [ascii(word) for word, look in zip(names.tolist(), looks, strict=True) if look == shared]
    listed = ", ".join(twins[:3])
    require(len(twins) == 1, f"classes whose names look the same: {listed}", "a name of its own for each class")
    train, test = ((images[part], labels[part].astype(np.int64)) for part in ("train", "test"))
    return Pool(name, *train, *test, tuple(names.tolist()), hold_out, source, tuple(notes))
