"""CIFAR-10 and CIFAR-100: the published archives, checked, read without running anything, and downloaded."""

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
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from lt_repro.data.images import Pool, checked_pool
from lt_repro.data.npz import LARGEST_MEMBER, read_npz
from lt_repro.errors import DamagedError, RequestError, first_line, unknown

_ADDRESS = "https://www.cs.toronto.edu/~kriz/"
_TIMEOUT = 30  # seconds without a byte
_CHUNK = 1 << 20  # bytes


@dataclass(frozen=True)
class Cifar:
    """A published archive and what is in it."""

    archive: str
    sha256: str
    train: tuple[str, ...]
    test: str
    meta: str
    labels: str
    class_names: str
    classes: int
    n_train: int = 50_000
    n_test: int = 10_000


CIFAR = {
    "cifar10": Cifar(
        archive="cifar-10-python.tar.gz",
        sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
        train=tuple(f"cifar-10-batches-py/data_batch_{batch}" for batch in range(1, 6)),
        test="cifar-10-batches-py/test_batch",
        meta="cifar-10-batches-py/batches.meta",
        labels="labels",
        class_names="label_names",
        classes=10,
    ),
    "cifar100": Cifar(
        archive="cifar-100-python.tar.gz",
        sha256="85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
        train=("cifar-100-python/train",),
        test="cifar-100-python/test",
        meta="cifar-100-python/meta",
        labels="fine_labels",
        class_names="fine_label_names",
        classes=100,
    ),
}


class NotThere(RequestError):
    """A data set that could be downloaded is not on this machine."""


def read_cifar(name: str, root: Path) -> Pool:
    """Returns CIFAR-10 or CIFAR-100 from `<root>/<name>.npz`, else from the published archive in `root`.

    Raises:
        NotThere: Neither is in `root`.
        RequestError: The `.npz` is not the data set.
        DamagedError: The archive is not the published one, or cannot be read.
    """
    cifar = CIFAR[name]
    npz, archive = root / f"{name}.npz", root / cifar.archive
    if npz.exists():
        pool = read_npz(npz, name)
    elif archive.exists():
        pool = _load_archive(archive, name, cifar)
    else:
        raise _not_there(f"no {name} in {root}: neither {npz.name} nor {archive.name}", name)
    _check_cifar(pool, cifar)
    return pool


def _not_there(given: str, name: str) -> NotThere:
    return NotThere(
        given,
        f"`ltrepro make-dataset {name}` downloads it; or put {CIFAR[name].archive} or {name}.npz there yourself",
        "or point --data-root or LTREPRO_DATA at the folder that has it; "
        "`folder:DIR` or `npz:FILE` takes images of your own",
    )


def _check_cifar(pool: Pool, cifar: Cifar) -> None:
    for part, images, labels, total in (
        ("training", pool.train_images, pool.train_labels, cifar.n_train),
        ("test", pool.test_images, pool.test_labels, cifar.n_test),
    ):
        sizes = np.bincount(labels)
        if images.shape != (total, 32, 32, 3) or sizes.tolist() != [total // cifar.classes] * cifar.classes:
            raise RequestError(
                f"{pool.source} is not {pool.name}: {part} images {images.shape}, "
                f"{len(sizes)} classes of {sizes.min()} to {sizes.max()}",
                f"allowed: {(total, 32, 32, 3)}, {cifar.classes} classes of {total // cifar.classes}",
                "move it away; `folder:DIR` or `npz:FILE` takes images of your own",
            )


def _load_archive(path: Path, name: str, cifar: Cifar) -> Pool:
    fix = f"move it away and run `ltrepro make-dataset {name}` again"
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != cifar.sha256:
            raise DamagedError(
                f"{path} is damaged or truncated: its SHA-256 is {found}",
                f"allowed: the published archive's, {cifar.sha256}",
                fix,
            )
        file.seek(0)
        try:
            arrays = _read_archive(file, cifar)
        # As for .npz: gzip, tarfile, pickle and NumPy each have errors of their own.
        except Exception as error:
            raise DamagedError(f"{path} cannot be read: {first_line(error)}", fix=fix) from error
    return checked_pool(name, arrays, path, hold_out=0)


def _read_archive(file: BinaryIO, cifar: Cifar) -> dict[str, NDArray[Any]]:
    """Returns the archive's arrays under MedMNIST's names. Nothing is extracted to disk."""
    wanted = {*cifar.train, cifar.test, cifar.meta}
    contents: dict[str, dict[str, Any]] = {}
    # As a stream ("r|gz"): the archive is decompressed once, front to back.
    with tarfile.open(fileobj=file, mode="r|gz") as tar:
        for member in tar:
            place = PurePosixPath(member.name)
            if place.is_absolute() or ".." in place.parts or not (member.isfile() or member.isdir()):
                raise ValueError(f"{member.name!r} is a link, a device or outside the archive's folder")
            if member.name in wanted:
                stream = tar.extractfile(member)
                if stream is None or member.size > LARGEST_MEMBER:
                    raise ValueError(f"{member.name!r} is no file of at most {LARGEST_MEMBER} bytes")
                contents[member.name] = _unpickle(stream.read())
    if missing := sorted(wanted - contents.keys()):
        raise ValueError(f"{missing[0]!r} is missing")
    return {
        "train_images": np.concatenate([_rgb(contents[batch]["data"]) for batch in cifar.train]),
        "train_labels": np.concatenate([contents[batch][cifar.labels] for batch in cifar.train]),
        "test_images": _rgb(contents[cifar.test]["data"]),
        "test_labels": np.array(contents[cifar.test][cifar.labels]),
        "class_names": np.array(contents[cifar.meta][cifar.class_names]),
    }


def _rgb(rows: NDArray[Any]) -> NDArray[Any]:
    """Returns (N, 32, 32, 3) images of (N, 3072) rows, each a red, a green and a blue plane."""
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
    """Builds arrays, lists and strings; a pickle that names anything else is refused before anything runs."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        try:
            return _UNPICKLED[module_name, global_name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module_name}.{global_name}") from None


def _unpickle(content: bytes) -> dict[str, Any]:
    # The archives were written by Python 2, whose byte strings latin1 maps one to one.
    stored = _Unpickler(io.BytesIO(content), encoding="latin1").load()
    return {key.decode() if isinstance(key, bytes) else key: value for key, value in stored.items()}


def download(name: str, root: Path, report: Callable[[int, int], None]) -> Path:
    """Returns the place of the published archive after fetching it into `root`.

    The final name appears only when the whole archive is on disk and its SHA-256 is right.

    Args:
        name: "cifar10" or "cifar100".
        root: The folder of the data sets; made if it is not there.
        report: Called with the bytes done and the bytes in all (0 if the server does not say), about once a MB.

    Raises:
        RequestError: Another name, no connection, no room, or a content that is not the published archive's.
    """
    if name not in CIFAR:
        raise unknown("data set to download", name, CIFAR)
    cifar = CIFAR[name]
    address, final = _ADDRESS + cifar.archive, root / cifar.archive
    part = root / f".{cifar.archive}.{os.getpid()}.part"
    try:
        new = not root.exists()
        root.mkdir(parents=True, exist_ok=True)
        try:
            found = _fetch(address, part, report)
            if found != cifar.sha256:
                raise _not_there(f"{address} gave something else than the published archive: SHA-256 {found}", name)
            part.replace(final)
        finally:
            part.unlink(missing_ok=True)
            if new:
                with contextlib.suppress(OSError):  # unless the archive is in it
                    root.rmdir()
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it is also the server's answer, still open
        raise _not_there(f"{address} could not be fetched into {root}: {first_line(error)}", name) from error
    return final


def _fetch(address: str, part: Path, report: Callable[[int, int], None]) -> str:
    """Returns the SHA-256 of what was written to `part`."""
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
