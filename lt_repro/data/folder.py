"""A folder of your own images, `train/<class>/` and `test/<class>/`, read into arrays in MedMNIST's layout."""

import hashlib
import io
import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from lt_repro.canonical import digest
from lt_repro.errors import RequestError, first_line

SIZE = 32
"""Height and width in pixels that every image is resized to: every network here takes small images."""

_MOST_PIXELS = 1 << 26  # in one image before resizing: a camera's 50 million fit
_MOST_BYTES = 8 * _MOST_PIXELS  # in one file: four channels of 16 bits, not compressed
_THREADS = min(8, os.cpu_count() or 1)  # each holds one whole image
_BLOCK = 64  # images per task, to keep the number of tasks small
_IGNORED = ("thumbs.db", "desktop.ini")
_LAYOUT = "allowed: DIR/train/<class>/ and DIR/test/<class>/ (or DIR/val/), the same classes in both, at least two"
_MEND = "fix it or move it away; files and folders whose name begins with a dot are skipped"


def read_folder(folder: Path) -> tuple[str, dict[str, NDArray[Any]]]:
    """Returns the SHA-256 of a folder of images, and the images as arrays.

    The classes are the sub-folders of `train/`, sorted by the code points of their names. A class's images are all
    files below its folder, sorted by path. The test images are in `test/`, or in `val/` if there is no `test/`. Hidden
    files and folders, `Thumbs.db` and `desktop.ini` are skipped; every other file must be a whole image.

    An image (the first frame of an animation) is rotated by its EXIF orientation, put on white where it is transparent,
    cropped to the square in its middle and resized with the Lanczos filter. 16-bit grey levels are divided by 256.
    Floating-point ones are refused, since their value for white is unknown. Colour profiles are not applied.

    Args:
        folder: The folder; only `train/` and `test/` or `val/` in it are read. Links are followed.

    Returns:
        The SHA-256 over the path inside the folder and the content of each image, the same wherever the folder is; and
        images (N, 32, 32, 3) uint8, labels (N,) int64 and the K names under the keys of MedMNIST's layout.

    Raises:
        RequestError: Another layout, a class without images or in one part only, a link to a folder that contains it,
            or files that are not whole images of at most 2^26 pixels (all are counted, two named).
    """
    test = folder / "test" if (folder / "test").is_dir() else folder / "val"
    for place, missing in ((folder, "no such folder"), (folder / "train", "no train/"), (test, "no test/ and no val/")):
        if not place.is_dir():
            raise RequestError(f"{folder}: {missing}", _LAYOUT)
    try:
        train, tests = _classes(folder, folder / "train"), _classes(folder, test)
    except OSError as error:
        raise RequestError(f"{error.filename!r} cannot be read: {first_line(error)}", _LAYOUT) from error
    if odd := sorted(train.keys() ^ tests.keys()):
        lacking = [f"{name!r} is not in {test.name if name in train else 'train'}/" for name in odd]
        raise RequestError(f"{folder}: {len(odd)} classes in one part only: {', '.join(lacking[:3])}", _LAYOUT)
    if len(train) < 2:
        raise RequestError(f"{folder}: {len(train)} classes in train/: {', '.join(map(repr, train))}", _LAYOUT)
    names = [name for part in (train, tests) for listed in part.values() for name in listed]
    sha256, images = _read(folder, names)
    labels = [np.repeat(np.arange(len(part)), [len(listed) for listed in part.values()]) for part in (train, tests)]
    return sha256, {
        "train_images": images[: len(labels[0])],
        "train_labels": labels[0],
        "test_images": images[len(labels[0]) :],
        "test_labels": labels[1],
        "class_names": np.array(list(train)),
    }


def _classes(folder: Path, part: Path) -> dict[str, list[str]]:
    """Returns the images of each class as paths inside `folder`, sorted, since file systems differ in their order."""
    classes = {}
    for place in sorted(_entries(part), key=lambda place: place.name):
        inside = place.relative_to(folder).as_posix()
        if not place.is_dir():
            raise RequestError(f"{folder}: {inside!r} is not in a class folder", _LAYOUT, _MEND)
        files = _files(place, frozenset({folder.resolve(), part.resolve()}))
        classes[place.name] = sorted(file.relative_to(folder).as_posix() for file in files)
        if not classes[place.name]:
            raise RequestError(f"{folder}: no images in {inside!r}", _LAYOUT)
    return classes


def _files(place: Path, around: frozenset[Path]) -> Iterator[Path]:
    real = place.resolve()
    if real in around:
        raise RequestError(
            f"{str(place)!r} is a link to a folder that contains it", "allowed: links without a cycle", _MEND
        )
    for entry in _entries(place):
        yield from _files(entry, around | {real}) if entry.is_dir() else (entry,)


def _entries(place: Path) -> list[Path]:
    return [entry for entry in place.iterdir() if entry.name[0] != "." and entry.name.lower() not in _IGNORED]


def _read(folder: Path, names: list[str]) -> tuple[str, NDArray[np.uint8]]:
    """Returns the SHA-256 over names and contents, and the images; each file is read once."""
    images, found = np.empty((len(names), SIZE, SIZE, 3), np.uint8), [""] * len(names)

    def block(start: int) -> list[str]:
        broken = []
        for at, name in enumerate(names[start : start + _BLOCK], start):
            try:
                content = _content(folder / name)
                images[at], found[at] = _pixels(content), hashlib.sha256(content).hexdigest()
            except UnidentifiedImageError:  # its message is an address in memory
                broken.append(f"{name!r} (not an image that Pillow can open)")
            except Exception as error:  # each of Pillow's formats raises its own errors
                broken.append(f"{name!r} ({first_line(error)})")
        return broken

    Image.init()  # loads every format before the threads start: a thread could miss formats that another is loading
    with warnings.catch_warnings(), ThreadPoolExecutor(_THREADS) as threads:
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        broken = list(chain.from_iterable(threads.map(block, range(0, len(names), _BLOCK))))
    if broken:
        raise RequestError(
            f"{folder}: {len(broken)} of {len(names)} files cannot be read as images: {', '.join(broken[:2])}",
            f"allowed: whole images that Pillow opens, of at most {_MOST_PIXELS} pixels and {_MOST_BYTES} bytes",
            _MEND,
        )
    return digest(dict(zip(names, found, strict=True))), images


def _content(path: Path) -> bytes:
    if not path.is_file():
        raise ValueError("not a file, or a broken link")  # opening a pipe would block
    if not 0 < path.stat().st_size <= _MOST_BYTES:
        raise ValueError(f"{path.stat().st_size} bytes")
    return path.read_bytes()


def _pixels(content: bytes) -> NDArray[np.uint8]:
    """Returns the image in a file's content, (32, 32, 3); a damaged image raises any error of its format's reader."""
    with Image.open(io.BytesIO(content)) as opened:
        image: Image.Image = opened
        if image.format == "EPS":
            raise ValueError("PostScript is a program, and is not run")
        if image.width * image.height > _MOST_PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels")
        if image.format == "PNG":
            Image.open(io.BytesIO(content)).verify()  # the checksums, which decoding skips
        image.draft(None, (2 * SIZE, 2 * SIZE))  # a JPEG is decoded at 1/2, 1/4 or 1/8, no smaller than this
        ImageOps.exif_transpose(image, in_place=True)
        if image.mode[0] in "IF":  # more than 8 bits of grey, which `convert` would clip at 255
            grey = np.asarray(image)
            if image.mode == "F" or not 0 <= grey.min() <= grey.max() < 1 << 16:
                raise ValueError("its grey levels are not 8 or 16 bits")
            image = Image.fromarray((grey >> 8).astype(np.uint8))
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
        image = ImageOps.fit(image, (SIZE, SIZE), Image.Resampling.LANCZOS)
        if image.mode == "RGBA":
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return np.asarray(image.convert("RGB"))
