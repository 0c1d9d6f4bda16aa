"""A folder of your own images, `train/<class>/` and `test/<class>/`, read into arrays in MedMNIST's layout."""

import hashlib
import io
import os
import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from lt_repro.canonical import digest
from lt_repro.data.images import SIZE, is_large
from lt_repro.errors import RequestError, first_line

_MOST_PIXELS = 1 << 26  # in one image before resizing: a camera's 50 million fit
_MOST_BYTES = 8 * _MOST_PIXELS  # in one file: four channels of 16 bits, not compressed
_THREADS = min(8, os.cpu_count() or 1)  # each holds one whole image
_BLOCK = 64  # images per task, to keep the number of tasks small
_DEPTHS = (8, 10, 12, 14, 16)  # bits that cameras and scanners use
_DECLARED = ("PPM", "JPEG2000")  # formats that state their white, which Pillow brings to 65535
_WIDE_COLOUR = re.compile(r"(?<![A-Za-z])(?!I;|F;|BGR;)[A-Za-z]+;16")  # Pillow's name for 16 bits a colour, read as 8
_SYSTEM = ("thumbs.db", "desktop.ini", "icon\r", "@eadir", "__macosx")  # in lower case
_DOWNLOADED = ":zone.identifier"  # the end of the name of what Windows stores beside a download
_FORMATS = ("AVIF", "BMP", "GIF", "ICO", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TGA", "TIFF", "WEBP")
_SAMPLES = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3}  # of a TIFF's pixel, by how they are to be read: grey, RGB, ...
_TEST = (("test",), ("val", "valid", "validation"))  # the first that there is, in capitals or not
_LAYOUT = "allowed: DIR/train/<class>/ and DIR/test/<class>/ (or DIR/val/), the same classes in both, at least two"
_READABLE = "make it readable, or use a copy that is"
_MEND = "fix it or move it away; files and folders whose name begins with a dot are skipped"
_SAVE = "save them as 8-bit PNG or move them away; files and folders whose name begins with a dot are skipped"


class Folder(NamedTuple):
    """A folder that has been read.

    Attributes:
        sha256: Over the path inside the folder and the content of each image: the same wherever the folder is. Where
            fewer than 16 bits of 16 are used, their number is in it too.
        arrays: Images (N, 32, 32, 3) uint8, labels (N,) int64 and the K names under the keys of MedMNIST's layout.
        names: The path of each image inside the folder, those to train on first.
        notes: What was lost in reading, a line for each kind.
    """

    sha256: str
    arrays: dict[str, NDArray[Any]]
    names: list[str]
    notes: list[str]


class _Decoded(NamedTuple):
    """An image as it was read.

    Attributes:
        pixels: (32, 32, 3) uint8.
        size: Width and height in the file.
        level: The largest value of an image of more than 8 bits; None for the others.
        losses: What is lost, and what was done instead.
    """

    pixels: NDArray[np.uint8]
    size: tuple[int, int]
    level: int | None
    losses: tuple[tuple[str, str], ...]


def read_folder(folder: Path) -> Folder:
    """Returns a folder of images as arrays.

    The classes are the sub-folders of `train/`, sorted by the code points of their names. A class's images are all
    files below its folder, sorted by path. The test images are in `test/`, or in `val/`, `valid/` or `validation/` if
    there is no `test/`; `Train/` is `train/`. Hidden files and folders and those that a system leaves (`_SYSTEM`) are
    skipped and noted; every other file must be a whole image.

    An image (the first frame of an animation) is rotated by its EXIF orientation, put on white where it is transparent,
    cropped to the square in its middle and resized with the Lanczos filter. Colour profiles are not applied. White in
    files of more than 8 bits is 2^b - 1, for the smallest b of 8, 10, 12, 14 and 16 that holds the largest value in all
    of them. Of 16 bits a colour Pillow reads the upper 8, so such files are refused where b is less than 16.
    So is every file whose pixels Pillow is not known to read right (`_doubt`).

    Args:
        folder: The folder; only the training and the test images in it are read. Links are followed.

    Raises:
        RequestError: Another layout, two folders for one part, a folder that cannot be listed, a class without images
            or in one part only, a link to a folder that contains it, or files that are not whole images of at most
            2^26 pixels (all are counted, two named).
    """
    skipped: list[Path] = []
    try:
        if not folder.is_dir():
            raise RequestError(f"{folder}: no such folder", _LAYOUT)
        parts = _part(folder, (("train",),), "no train/"), _part(folder, _TEST, "no test/ and no val/")
        train, tests = (_classes(folder, part, skipped) for part in parts)
    except OSError as error:
        raise RequestError(f"{error.filename!r} cannot be read: {first_line(error)}", _LAYOUT, _READABLE) from error
    if unexpected := sorted(train.keys() ^ tests.keys()):
        missing = [f"{name!r} is not in {parts[name in train].name}/" for name in unexpected]
        given = f"{folder}: {len(unexpected)} classes in one part only: {', '.join(missing[:3])}"
        raise RequestError(given + _same_letters(unexpected), _LAYOUT)
    if len(train) < 2:
        raise RequestError(
            f"{folder}: {len(train)} classes in {parts[0].name}/: {', '.join(map(repr, train))}", _LAYOUT
        )
    names = [name for part in (train, tests) for listed in part.values() for name in listed]
    sha256, images, notes = _read(folder, names)
    if skipped:
        listed = ", ".join(repr(path.relative_to(folder).as_posix()) for path in sorted(skipped)[:2])
        more = ", ..." if len(skipped) > 2 else ""
        notes.append(f"skipped {len(skipped)} hidden or system files or folders: {listed}{more}")
    labels = [np.repeat(np.arange(len(part)), [len(listed) for listed in part.values()]) for part in (train, tests)]
    arrays: dict[str, NDArray[Any]] = {
        "train_images": images[: len(labels[0])],
        "train_labels": labels[0],
        "test_images": images[len(labels[0]) :],
        "test_labels": labels[1],
        "class_names": np.array(list(train)),
    }
    return Folder(sha256, arrays, names, notes)


def _part(folder: Path, choices: Sequence[Sequence[str]], missing: str) -> Path:
    """Returns the sub-folder with the first name that there is, in capitals or not; equal names are ambiguous."""
    for names in choices:
        result = sorted(place for place in folder.iterdir() if place.name.lower() in names and place.is_dir())
        if len(result) > 1:
            listed = " and ".join(f"{place.name}/" for place in result)
            raise RequestError(f"{folder}: {listed} could both be meant", _LAYOUT, "rename or move all but one")
        if result:
            return result[0]
    raise RequestError(f"{folder}: {missing}", _LAYOUT)


def _same_letters(names: list[str]) -> str:
    """Returns what tells names apart that look the same, or nothing."""
    spelled: dict[str, list[str]] = {}
    for name in names:
        spelled.setdefault(unicodedata.normalize("NFC", name), []).append(name)
    twins = next((same for same in spelled.values() if len(same) > 1), [])
    codes = " and ".join(map(ascii, twins))
    return f"; {codes} look the same and differ in Unicode normalisation (NFC, NFD)" if twins else ""


def _classes(folder: Path, part: Path, skipped: list[Path]) -> dict[str, list[str]]:
    """Returns the images of each class as paths inside `folder`, sorted, since file systems differ in their order."""
    classes = {}
    for place in sorted(_entries(part, skipped), key=lambda place: place.name):
        inside = place.relative_to(folder).as_posix()
        if not place.is_dir():
            raise RequestError(f"{folder}: {inside!r} is not in a class folder", _LAYOUT, _MEND)
        files = _files(place, frozenset({folder.resolve(), part.resolve()}), skipped)
        classes[place.name] = sorted(file.relative_to(folder).as_posix() for file in files)
        if not classes[place.name]:
            raise RequestError(f"{folder}: no images in {inside!r}", _LAYOUT)
    return classes


def _files(place: Path, around: frozenset[Path], skipped: list[Path]) -> Iterator[Path]:
    real = place.resolve()
    if real in around:
        raise RequestError(
            f"{str(place)!r} is a link to a folder that contains it", "allowed: links without a cycle", _MEND
        )
    for entry in _entries(place, skipped):
        yield from _files(entry, around | {real}, skipped) if entry.is_dir() else (entry,)


def _entries(place: Path, skipped: list[Path]) -> list[Path]:
    """Returns what is in a folder, without what is hidden or a system's own: that is added to `skipped`."""
    entries: list[Path] = []
    for entry in place.iterdir():
        name = entry.name.lower()
        other = name.startswith(".") or name in _SYSTEM or name.endswith(_DOWNLOADED)
        (skipped if other else entries).append(entry)
    return entries


def _read(folder: Path, names: list[str]) -> tuple[str, NDArray[np.uint8], list[str]]:
    """Returns the SHA-256 over names and contents, the images, and what was lost; a file is read once if it can be."""
    images, result = np.empty((len(names), SIZE, SIZE, 3), np.uint8), [""] * len(names)
    decoded: dict[int, _Decoded] = {}
    depth = _DEPTHS[-1]

    def block(positions: Sequence[int]) -> list[str]:
        broken = []
        for at in positions:
            name = names[at]
            try:
                content = _content(folder / name)
                image, result[at] = _pixels(content, depth), hashlib.sha256(content).hexdigest()
                images[at], decoded[at] = image.pixels, image._replace(pixels=images[at])
            except UnidentifiedImageError:  # its message is an address in memory
                broken.append(f"{name!r} (not an image that Pillow can open)")
            except Exception as error:  # each of Pillow's formats raises its own errors
                broken.append(f"{name!r} ({first_line(error)})")
        return broken

    def read(positions: Sequence[int]) -> list[str]:
        blocks = [positions[start : start + _BLOCK] for start in range(0, len(positions), _BLOCK)]
        return list(chain.from_iterable(threads.map(block, blocks)))

    Image.init()  # loads every format before the threads start: a thread could miss formats that another is loading
    with warnings.catch_warnings(), ThreadPoolExecutor(_THREADS) as threads:
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        broken = read(range(len(names)))
        levels = {at: image.level for at, image in decoded.items() if image.level is not None}
        depth = next(bits for bits in _DEPTHS if max(levels.values(), default=(1 << 16) - 1) < 1 << bits)
        if depth < _DEPTHS[-1] and not broken:
            broken = read(list(levels))
    if broken:
        raise RequestError(
            f"{folder}: {len(broken)} of {len(names)} files cannot be read as images: {', '.join(broken[:2])}",
            f"allowed: whole images of at most {_MOST_PIXELS} pixels and {_MOST_BYTES} bytes in {', '.join(_FORMATS)}",
            _SAVE,
        )
    parts = (name.partition("/") for name in names)  # Train/ and train/ are one part
    named: dict[str, Any] = {
        part.lower() + "/" + inside: content for (part, _, inside), content in zip(parts, result, strict=True)
    }
    notes = _notes(list(decoded.values()))
    if levels and depth < _DEPTHS[-1]:
        named["bits"] = depth  # no path: those have a slash
        notes.insert(0, f"{depth} of 16 bits used in {_images(len(levels))}: {(1 << depth) - 1} is read as white")
    return digest(named), images, notes


def _notes(decoded: list[_Decoded]) -> list[str]:
    """Returns what was lost, a line for each kind."""
    losses = Counter(chain.from_iterable(image.losses for image in decoded))
    notes = [f"{what} in {_images(count)}: {done}" for (what, done), count in losses.items()]
    sizes = {image.size for image in decoded}
    width, height = max(sizes, key=lambda size: (size[0] * size[1], size))
    if is_large(width, height):
        most = "" if len(sizes) == 1 else "up to "
        notes.append(f"images are {most}{width}x{height}, brought to {SIZE}x{SIZE}")
    return notes


def _images(count: int) -> str:
    return f"{count} image{'' if count == 1 else 's'}"


def _content(path: Path) -> bytes:
    if not path.is_file():
        raise ValueError("not a file, or a broken link")  # opening a pipe would block
    if not 0 < path.stat().st_size <= _MOST_BYTES:
        raise ValueError(f"{path.stat().st_size} bytes")
    return path.read_bytes()


def _has_several_frames(content: bytes) -> bool:
    """Returns whether more than one frame is in a file, opened again: later frames may be damaged."""
    with Image.open(io.BytesIO(content)) as image:
        try:
            return bool(getattr(image, "is_animated", False))
        except Exception:  # of looking for a second frame
            return True


def _doubt(image: ImageFile.ImageFile) -> str:
    """Returns what an opened image is whose pixels Pillow is not known to read right, or nothing."""
    form = str(image.format)
    if form not in _FORMATS:
        return form
    if form == "JPEG" and image.mode == "CMYK" and "adobe" not in image.info:
        return "CMYK JPEG without Adobe's marker"  # with inks that may be inverted
    if form == "PNG" and "transparency" in image.info and re.search("'(L;[24]|RGB;16)", str(image.tile)):
        return "PNG of 2, 4 or 16 bits with a transparent colour"
    return _tiff_doubt(image.tag_v2) if isinstance(image, TiffImageFile) else ""


def _tiff_doubt(tags: Mapping[Any, Any]) -> str:
    """Returns what a TIFF is whose pixels Pillow is not known to read right, or nothing."""
    tag = ExifTags.Base
    photometric, planar = tags.get(tag.PhotometricInterpretation), tags.get(tag.PlanarConfiguration, 1)
    compression, bits = tags.get(tag.Compression, 1), max(tags.get(tag.BitsPerSample, (1,)))
    whole_bytes = bits == 8 and tags.get(tag.FillOrder, 1) == 1
    samples, extra = tags.get(tag.SamplesPerPixel, 1), len(tags.get(tag.ExtraSamples, ()))
    if photometric not in _SAMPLES:
        return f"TIFF of photometric interpretation {photometric}"
    if {*tags.get(tag.SampleFormat, (1,))} != {1} or bits > 16:
        return "TIFF of values other than unsigned ones of at most 16 bits"
    doubts = {
        f"TIFF of {bits} bits with white as 0": photometric == 0 and bits > 8,
        f"TIFF of {samples} channels, {extra} of them named as extra": samples != _SAMPLES[photometric] + extra,
        "TIFF of separate planes": planar != 1 and (photometric != 2 or (compression == 1 and not whole_bytes)),
        "TIFF of 8-bit palette colours": photometric == 3 and max(tags.get(tag.ColorMap, (0,))) < 256,
        "TIFF of inks other than CMYK": photometric == 5 and tags.get(tag.InkSet, 1) != 1,
        "TIFF in YCbCr without JPEG compression": photometric == 6 and compression != 7,
        "TIFF in the old JPEG compression": compression == 6,
    }
    return next((words for words, doubtful in doubts.items() if doubtful), "")


def _pixels(content: bytes, depth: int) -> _Decoded:
    """Returns the image in a file's content; a damaged image raises any error of its format's reader.

    Args:
        content: Of the whole file.
        depth: Bits of a value, in files of more than 8.
    """
    with Image.open(io.BytesIO(content)) as opened:
        image: Image.Image = opened
        if doubt := _doubt(opened):
            raise ValueError(f"{doubt}, which is not read")
        if image.width * image.height > _MOST_PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels")
        if image.format == "PNG":
            Image.open(io.BytesIO(content)).verify()  # the checksums, which decoding skips
        size, losses, level = image.size, [], None
        if _has_several_frames(content):
            losses.append(("several frames", "the first is used"))
        if image.mode == "CMYK":
            losses.append(("CMYK", "brought to RGB without a colour profile"))
        wide_colour = bool(_WIDE_COLOUR.search(str(opened.tile)))
        twelve = "I;12" in str(opened.tile)  # a TIFF of 12 bits, whose white is 4095
        declared = twelve or image.format in _DECLARED
        image.draft(None, (2 * SIZE, 2 * SIZE))  # a JPEG is decoded at 1/2, 1/4 or 1/8, no smaller than this
        ImageOps.exif_transpose(image, in_place=True)
        if wide_colour:
            colours = [image.getchannel(band) for band in image.getbands() if band not in "Aa"]
            level = max(int(np.asarray(channel).max()) for channel in colours) << 8
            if depth < _DEPTHS[-1]:
                raise ValueError(f"it uses {depth} of 16 bits a colour, and Pillow reads the upper 8")
        if image.mode[0] in "IF":  # more than 8 bits of grey, which `convert` would clip at 255
            grey = np.asarray(image) * (16 if twelve else 1)
            if image.mode == "F" or not 0 <= grey.min() <= grey.max() < 1 << 16:
                raise ValueError("its grey levels are not 8 or 16 bits")
            level = (1 << 16) - 1 if declared else int(grey.max())
            clear = grey == image.info.get("transparency", -1)
            image = Image.fromarray((grey >> (depth - 8)).astype(np.uint8))
            if clear.any():
                image.putalpha(Image.fromarray(np.where(clear, 0, 255).astype(np.uint8)))
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
        if image.mode == "RGBA" and np.asarray(image.getchannel("A")).min() < 255:
            losses.append(("transparency", "put on white"))
        image = ImageOps.fit(image, (SIZE, SIZE), Image.Resampling.LANCZOS)
        if image.mode == "RGBA":
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return _Decoded(np.asarray(image.convert("RGB")), size, level, tuple(losses))
