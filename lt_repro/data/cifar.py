"""CIFAR-10 and CIFAR-100: downloads and checks the published archives, and reads them without running pickles."""

import codecs
import contextlib
import hashlib
import http.client
import io
import os
import pickle
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from lt_repro.data.dataset import DataSet, NotThere
from lt_repro.data.images import Pool, checked_pool
from lt_repro.data.npz import LARGEST_MEMBER, read_npz
from lt_repro.errors import DamagedError, RequestError, first_line

_ADDRESS = "https://www.cs.toronto.edu/~kriz/"
_TIMEOUT = 30  # seconds without data
_CHUNK = 1 << 20  # bytes


@dataclass(frozen=True, kw_only=True)
class Cifar(DataSet):
    """CIFAR-10 or CIFAR-100, as a published archive.

    Attributes:
        archive: Its file.
        sha256: Of the archive.
        md5: Of each file in it, by its path: training images, test images, names.
        labels: What its files call the labels.
        class_names: What they call the names.
        n_test: Test images.
    """

    side: int = 32
    archive: str
    sha256: str
    md5: Mapping[str, str]
    labels: str
    class_names: str
    n_test: int = 10_000

    def read(self, root: Path) -> Pool:
        """Returns the images of `<root>/<name>.npz`, else of the published archive or its folder in `root`.

        Raises:
            NotThere: None of them is in `root`.
            RequestError: The `.npz` or the folder is not the data set, or a file or folder may not be read.
            DamagedError: The archive is not the published one, or the archive or the folder cannot be read.
        """
        try:
            pool = _load(self, root)
        except OSError as error:
            raise RequestError(
                f"{error.filename or root} cannot be read: {first_line(error)}",
                f"allowed: files of {self.name} that can be read",
                "make it readable, or use a copy that is",
            ) from error
        _check(self, pool)
        return pool

    def download(self, root: Path, report: Callable[[int, int], None]) -> Path:
        """Returns the path of the published archive after downloading it into `root`.

        The file gets its final name only when the whole archive is on disk and its SHA-256 matches.
        """
        address, final = _ADDRESS + self.archive, root / self.archive
        part = root / f".{self.archive}.{os.getpid()}.part"
        try:
            new = not root.exists()
            root.mkdir(parents=True, exist_ok=True)
            try:
                result = _fetch(address, part, report)
                if result != self.sha256:
                    raise _not_there(self, f"{address} is not the published archive: its SHA-256 is {result}")
                part.replace(final)
            finally:
                part.unlink(missing_ok=True)
                if new:
                    with contextlib.suppress(OSError):  # not if the archive is in it
                        root.rmdir()
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()  # it is also the server's response, still open
            raise _not_there(self, f"{address} could not be downloaded into {root}: {first_line(error)}") from error
        return final


def _load(cifar: Cifar, root: Path) -> Pool:
    npz, archive, folder = root / f"{cifar.name}.npz", root / cifar.archive, root / _folder(cifar)
    if npz.exists():
        return read_npz(npz, cifar.name)
    if archive.exists():
        return _load_archive(cifar, archive)
    if folder.is_dir():
        return _load_folder(cifar, folder)
    raise _not_there(cifar, f"no {cifar.name} in {root}: no {npz.name}, {archive.name} or {folder.name}/")


def _not_there(cifar: Cifar, given: str) -> NotThere:
    error = NotThere(
        given,
        f"allowed: {cifar.archive}, {_folder(cifar)}/ or {cifar.name}.npz in that folder; "
        "`folder:DIR` or `npz:FILE` for your own images",
        "download it, or put one of the three into that folder",
    )
    error.name = cifar.name
    return error


def _folder(cifar: Cifar) -> str:
    """Returns the folder that the archive's files are in."""
    return PurePosixPath(next(iter(cifar.md5))).parts[0]


def _check(cifar: Cifar, pool: Pool) -> None:
    for part, images, labels, total in (
        ("training", pool.train_images, pool.train_labels, sum(cifar.sizes)),
        ("test", pool.test_images, pool.test_labels, cifar.n_test),
    ):
        sizes, classes = np.bincount(labels), len(cifar.sizes)
        if images.shape != (total, 32, 32, 3) or sizes.tolist() != [total // classes] * classes:
            raise RequestError(
                f"{pool.source} is not {pool.name}: {part} images {images.shape}, "
                f"{len(sizes)} classes of {sizes.min()} to {sizes.max()}",
                f"allowed: {(total, 32, 32, 3)}, {classes} classes of {total // classes}",
                "move it away; use `folder:DIR` or `npz:FILE` for your own images",
            )


def _load_archive(cifar: Cifar, path: Path) -> Pool:
    fix = f"move it away and download {cifar.name} again"
    with path.open("rb") as file:
        result = hashlib.file_digest(file, "sha256").hexdigest()
        if result != cifar.sha256:
            raise DamagedError(
                f"{path} is damaged or truncated: its SHA-256 is {result}",
                f"allowed: the SHA-256 of the published archive, {cifar.sha256}",
                fix,
            )
        file.seek(0)
        try:
            arrays = _read_archive(file, cifar)
        # As for .npz: gzip, tarfile, pickle and NumPy each raise their own errors.
        except Exception as error:
            raise DamagedError(f"{path} cannot be read: {first_line(error)}", fix=fix) from error
    return replace(checked_pool(cifar.name, arrays, path, hold_out=0), content="published")


def _load_folder(cifar: Cifar, folder: Path) -> Pool:
    """Returns the pool of an extracted archive; a note names the files that are not the published ones."""
    contents, changed = {}, []
    fix = f"move {folder} away and download {cifar.name} again"
    for inside, published in cifar.md5.items():
        path = folder.parent / inside
        try:
            if not path.is_file() or path.stat().st_size > LARGEST_MEMBER:
                raise ValueError(f"it is missing, or not a file of at most {LARGEST_MEMBER} bytes")
            content = path.read_bytes()
            contents[inside] = _unpickle(content)
        except OSError:
            raise
        # As for the archive.
        except Exception as error:
            raise DamagedError(f"{path} cannot be read: {first_line(error)}", fix=fix) from error
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != published:
            changed.append(path.name)
    try:
        arrays = _arrays(contents, cifar)
    except Exception as error:
        raise DamagedError(f"{folder} cannot be read: {first_line(error)}", fix=fix) from error
    notes = [f"{folder}: not the published files, by their MD5: {', '.join(changed)}"] if changed else []
    pool = checked_pool(cifar.name, arrays, folder, 0, notes)
    return pool if changed else replace(pool, content="published")


def _read_archive(file: BinaryIO, cifar: Cifar) -> dict[str, NDArray[Any]]:
    """Returns the archive's arrays. Nothing is extracted to disk."""
    contents: dict[str, dict[str, Any]] = {}
    # "r|gz" is a stream: the archive is decompressed once, from start to end.
    with tarfile.open(fileobj=file, mode="r|gz") as tar:
        for member in tar:
            place = PurePosixPath(member.name)
            if place.is_absolute() or ".." in place.parts or not (member.isfile() or member.isdir()):
                raise ValueError(f"{member.name!r} is a link, a device or outside the archive's folder")
            if member.name in cifar.md5:
                stream = tar.extractfile(member)
                if stream is None or member.size > LARGEST_MEMBER:
                    raise ValueError(f"{member.name!r} is not a file of at most {LARGEST_MEMBER} bytes")
                contents[member.name] = _unpickle(stream.read())
    if missing := sorted(cifar.md5.keys() - contents.keys()):
        raise ValueError(f"{missing[0]!r} is missing")
    return _arrays(contents, cifar)


def _arrays(contents: dict[str, dict[str, Any]], cifar: Cifar) -> dict[str, NDArray[Any]]:
    """Returns the arrays of the archive's files under MedMNIST's names."""
    *train, test, names = (contents[path] for path in cifar.md5)
    return {
        "train_images": np.concatenate([_rgb(batch["data"]) for batch in train]),
        "train_labels": np.concatenate([batch[cifar.labels] for batch in train]),
        "test_images": _rgb(test["data"]),
        "test_labels": np.array(test[cifar.labels]),
        "class_names": np.array(names[cifar.class_names]),
    }


def _rgb(rows: NDArray[Any]) -> NDArray[Any]:
    """Returns (N, 32, 32, 3) images from (N, 3072) rows, each a red, a green and a blue plane."""
    if rows.shape[1:] != (3072,):
        raise ValueError(f"image rows of shape {rows.shape}")
    return rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


_RECONSTRUCT = np.empty(0).__reduce__()[0]  # NumPy has no public name for it
_UNPICKLED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): codecs.encode,
}


class _Unpickler(pickle.Unpickler):
    """Builds arrays, lists and strings; a pickle that names anything else is refused before it runs."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        try:
            return _UNPICKLED[module_name, global_name]
        except KeyError:
            raise pickle.UnpicklingError(f"it uses {module_name}.{global_name}, which is not allowed") from None


def _unpickle(content: bytes) -> dict[str, Any]:
    # The archives were written by Python 2, whose byte strings latin1 maps one to one.
    stored = _Unpickler(io.BytesIO(content), encoding="latin1").load()
    return {key.decode() if isinstance(key, bytes) else key: value for key, value in stored.items()}


def _fetch(address: str, part: Path, report: Callable[[int, int], None]) -> str:
    """Returns the SHA-256 of the bytes written to `part`."""
    sha256, done = hashlib.sha256(), 0
    with urllib.request.urlopen(address, timeout=_TIMEOUT) as answer, part.open("wb") as file:
        total = answer.length or 0
        while chunk := answer.read(_CHUNK):
            file.write(chunk)
            sha256.update(chunk)
            done += len(chunk)
            report(done, total)
        file.flush()
        os.fsync(file.fileno())
    return sha256.hexdigest()
