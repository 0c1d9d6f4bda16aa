"""Whether the images of a known data set are the published ones, and what differs where they are not."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lt_repro.data.images import Pool


def differences(pool: Pool, table: Path) -> str:
    """Returns how images differ from the published ones, in words: "12 images with another label"; "" for no way.

    Args:
        pool: With the sizes of the published classes, which are all equal within a part.
        table: An `.npz` file: `hashes`, what `class_hashes` gives of the published images; and `copies`, the positions
            in it where the published image is not known but a JPEG copy of it is, whose hash stands there.
    """
    with np.load(table) as stored:
        published, copies = stored["hashes"], stored["copies"]
    number = len(pool.class_names)
    parts = np.repeat([0, 1], [len(pool.train_labels), len(pool.test_labels)])
    labels = np.concatenate([np.sort(pool.train_labels), np.sort(pool.test_labels)])
    hashes, words = class_hashes(pool), []
    if np.isin(hashes, published).mean() < 0.5:
        reversed_hashes = class_hashes(pool, reverse=True)
        if np.isin(reversed_hashes, published).mean() > 0.5:
            hashes = reversed_hashes
            words.append("channels in the order blue, green, red")
    by_hash = np.argsort(published)

    def origin(values: NDArray[Any]) -> NDArray[np.intp]:
        """Returns where the values are among the published ones; one that is not there is anywhere."""
        at = np.searchsorted(published, values, sorter=by_hash)
        return np.take(by_hash, at, mode="clip")

    known = np.isin(hashes, published)
    votes = np.zeros((number, number), int)  # of the images of each class, for the published class
    np.add.at(votes, (labels[known], labels[origin(hashes[known])]), 1)
    meant = votes.argmax(axis=1)
    if (moved := np.flatnonzero(meant != np.arange(number))).size and len(set(meant)) == number:
        named = ", ".join(f"{k} is the published {meant[k]}" for k in moved[:2]) + ", ..." * (len(moved) > 2)
        words.append(f"{len(moved)} classes with another number ({named})")
        hashes = hashes[np.argsort(parts * number + meant[labels], kind="stable")]
    rest = np.flatnonzero(hashes != published)
    place = (parts * number + labels).astype(np.uint64) << np.uint64(32)  # a picture may be published twice
    shuffled = np.isin((place + hashes)[rest], place + published)
    rest, unknown = rest[~shuffled], ~np.isin(hashes[rest[~shuffled]], published)
    other, source = rest[~unknown], origin(hashes[rest[~unknown]])
    crossed = parts[other] != parts[source]
    as_copies = np.isin(published[copies], hashes)
    words += _counted(
        (shuffled.sum(), "in another order within their class"),
        ((crossed & (parts[other] == 0)).sum(), "of the test part in the training part"),
        ((crossed & (parts[other] == 1)).sum(), "of the training part in the test part"),
        ((~crossed).sum(), "with another label"),
        (as_copies.sum(), "decoded from JPEG copies of published ones"),
        (max(0, unknown.sum() - (~as_copies).sum()), "not among the published ones"),
    )
    return "; ".join(words)


def _counted(*counts: tuple[int, str]) -> Iterable[str]:
    return [f"{count:,} image{'' if count == 1 else 's'} {what}" for count, what in counts if count]


def class_hashes(pool: Pool, reverse: bool = False) -> NDArray[np.uint32]:
    """Returns the first 32 bits of the SHA-256 of each image's pixels, training images first, each part class by class.

    Args:
        pool: Any images.
        reverse: Whether the channels are reversed first.
    """
    result = []
    for images, labels in ((pool.train_images, pool.train_labels), (pool.test_images, pool.test_labels)):
        for image in images[np.argsort(labels, kind="stable")]:
            result.append(hashlib.sha256(image[..., :: -1 if reverse else 1].tobytes()).digest()[:4])
    return np.frombuffer(b"".join(result), ">u4").astype(np.uint32)
