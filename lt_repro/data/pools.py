"""Where images come from: CIFAR-10 and CIFAR-100, the digits inside the package, and anyone's own images."""

import codecs
import contextlib
import hashlib
import http.client
import io
import os
import pickle
import re
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np
import platformdirs
from numpy.typing import NDArray

from lt_repro.canonical import canonical
from lt_repro.data.folder import read_folder
from lt_repro.data.split import Split, class_sizes, make_split
from lt_repro.errors import DamagedError, RequestError, first_line, unknown

_ADDRESS = "https://www.cs.toronto.edu/~kriz/"
_TIMEOUT = 30  # seconds without a byte
_CHUNK = 1 << 20  # bytes
_LARGEST_MEMBER = 256 << 20  # bytes; CIFAR-100's training images are 155 MB


@dataclass(frozen=True)
class _Cifar:
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


_CIFAR = {
    "cifar10": _Cifar(
        archive="cifar-10-python.tar.gz",
        sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
        train=tuple(f"cifar-10-batches-py/data_batch_{batch}" for batch in range(1, 6)),
        test="cifar-10-batches-py/test_batch",
        meta="cifar-10-batches-py/batches.meta",
        labels="labels",
        class_names="label_names",
        classes=10,
    ),
    "cifar100": _Cifar(
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

NAMES = (*_CIFAR, "digits")
"""The data sets that are known by name."""


class NotThere(RequestError):
    """A data set that could be downloaded is not on this machine."""


@dataclass(frozen=True, eq=False)
class Pool:
    """Images to draw a split from.

    Attributes:
        name: "cifar10", "cifar100", "digits", or `<stem>-<8 hex>` of the content for somebody's own file or folder.
        train_images: (N, H, W, C) uint8, C 1 or 3.
        train_labels: (N,) int64, 0..K-1, each present.
        test_images: (M, H, W, C) uint8; M is 0 where a split holds test images out.
        test_labels: (M,) int64.
        class_names: The K names.
        hold_out: Images of each class that a split must keep back to test.
        source: The file or folder it was read from.
    """

    name: str
    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    hold_out: int
    source: Path


@dataclass(frozen=True, eq=False)
class Images:
    """What is trained and tested on, class by class.

    Attributes:
        train_images: (N, H, W, C) uint8, inside a class in the split's order.
        train_labels: (N,) int64.
        test_images: (M, H, W, C) uint8, inside a class in the pool's order, or in the order of `split.held_out`.
        test_labels: (M,) int64.
        class_names: The K names.
        split: Which images these are.
        digest: SHA-256 over shapes, counts and bytes of the training and the test images: equal exactly where two
            sources of a pool give the same images.
    """

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    split: Split
    digest: str


def select(pool: Pool, split: Split) -> Images:
    """Returns the split's images, the same bytes from a pool sorted by class and from one in file order.

    Raises:
        RequestError: The split was made for another pool.
    """
    own = _class_lists(pool.train_labels)
    fits = len(own) == len(split.positions) and all(
        len(held_out) == pool.hold_out and max(drawn + held_out) < len(listed)
        for listed, drawn, held_out in zip(own, split.positions, split.held_out, strict=True)
    )
    if not fits:
        raise RequestError(
            f"the split of {split.name!r} does not fit the images of {pool.name!r}",
            f"allowed: a split made from its labels with {pool.hold_out} images of each class held out",
        )
    train = _picked(own, split.positions)
    train_images = pool.train_images[np.concatenate(train)]
    if pool.hold_out:
        test = _picked(own, split.held_out)
        test_images = pool.train_images[np.concatenate(test)]
    else:
        test = _class_lists(pool.test_labels)
        test_images = pool.test_images[np.concatenate(test)]

    sha256 = hashlib.sha256()
    for images, lists in ((train_images, train), (test_images, test)):
        # Shape and counts first: the same bytes cut into other images or classes are other data.
        sha256.update(canonical([images.shape, [len(listed) for listed in lists]]).encode())
        sha256.update(images.data)
    return Images(train_images, _labels(train), test_images, _labels(test), pool.class_names, split, sha256.hexdigest())


def _class_lists(labels: NDArray[np.int64]) -> list[NDArray[np.intp]]:
    """Returns for each class where its images are, in the pool's order."""
    return np.split(np.argsort(labels, kind="stable"), np.cumsum(np.bincount(labels))[:-1])


def _picked(own: list[NDArray[np.intp]], positions: tuple[tuple[int, ...], ...]) -> list[NDArray[np.intp]]:
    return [listed[list(chosen)] for listed, chosen in zip(own, positions, strict=True)]


def _labels(lists: list[NDArray[np.intp]]) -> NDArray[np.int64]:
    return np.repeat(np.arange(len(lists), dtype=np.int64), [len(listed) for listed in lists])


def data_root(given: Path | None = None) -> Path:
    """Returns the folder that holds the data sets: `given`, else `LTREPRO_DATA`, else the user's data folder."""
    if given is not None:
        return given
    if named := os.environ.get("LTREPRO_DATA"):
        return Path(named).expanduser()
    return platformdirs.user_data_path("ltrepro")


def load_pool(name: str, root: Path) -> Pool:
    """Returns the named images, read and checked. Nothing is downloaded and nothing is written.

    CIFAR is read from `<root>/<name>.npz` (MedMNIST's layout), else from the published archive in `root`, whose
    SHA-256 is checked before it is opened.

    Args:
        name: "cifar10", "cifar100", "digits", "npz:FILE" or "folder:DIR" (see `read_folder`).
        root: The folder of the data sets; only the CIFAR ones are looked for there.

    Raises:
        NotThere: A CIFAR data set that is not in `root`.
        RequestError: An unknown name, or a file or folder that is missing or whose content is not what it must be.
        DamagedError: An archive that is not the published one, or cannot be read.
    """
    if name.startswith("npz:"):
        return _load_npz(_typed_path(name))
    if name.startswith("folder:"):
        folder = _typed_path(name)
        sha256, arrays = read_folder(folder)
        return _pool(_own_name(folder.resolve().name, sha256), arrays, folder, hold_out=0)
    if name == "digits":
        return _load_npz(Path(__file__).with_name("digits.npz"), name, hold_out=50)
    if name not in _CIFAR:
        raise unknown("data set", name, [*NAMES, "npz:FILE", "folder:DIR"])
    cifar = _CIFAR[name]
    npz, archive = root / f"{name}.npz", root / cifar.archive
    if npz.exists():
        pool = _load_npz(npz, name)
    elif archive.exists():
        pool = _load_archive(archive, name, cifar)
    else:
        raise _ways_on(f"no {name} in {root}: neither {npz.name} nor {archive.name}", name)
    _check_cifar(pool, cifar)
    return pool


def known_split(name: str, ratio: float, imb_type: str, seed: int) -> Split | None:
    """Returns the split of a known data set, made without its images; None of an unknown one."""
    if name not in NAMES:
        return None
    if name == "digits":
        labels, hold_out = load_pool(name, Path()).train_labels, 50
    else:
        cifar = _CIFAR[name]
        labels, hold_out = np.repeat(np.arange(cifar.classes), cifar.n_train // cifar.classes), 0
    return make_split(labels, ratio=ratio, imb_type=imb_type, seed=seed, hold_out=hold_out, name=name)


def _ways_on(given: str, name: str) -> NotThere:
    return NotThere(
        given,
        f"`ltrepro make-dataset {name}` downloads it; or put {_CIFAR[name].archive} or {name}.npz there yourself",
        "or point --data-root or LTREPRO_DATA at the folder that has it; "
        "`folder:DIR` or `npz:FILE` takes images of your own",
    )


def _check_cifar(pool: Pool, cifar: _Cifar) -> None:
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


def _typed_path(name: str) -> Path:
    path = Path(name.partition(":")[2])
    try:
        return path.expanduser()
    except RuntimeError:  # no such user: the path is then looked for as it was typed
        return path


def _own_name(stem: str, sha256: str) -> str:
    return f"{re.sub(r'[^a-z0-9_]+', '_', stem.lower())[:40]}-{sha256[:8]}"


def _load_npz(path: Path, name: str = "", hold_out: int = 0) -> Pool:
    """Returns the pool of a file in MedMNIST's layout; without a name, the content gives it one."""
    try:
        with path.open("rb") as file:
            if not name:
                name = _own_name(path.stem, hashlib.file_digest(file, "sha256").hexdigest())
            arrays = _read_npz(file)
    # A broken zip file raises a dozen kinds of error in zipfile, zlib and NumPy.
    except Exception as error:
        raise RequestError(
            f"{path} cannot be read: {first_line(error)}",
            "allowed: a whole .npz file of plain arrays (no pickled objects) in MedMNIST's layout",
        ) from error
    return _pool(name, arrays, path, hold_out)


def _read_npz(file: BinaryIO) -> dict[str, NDArray[Any]]:
    if not zipfile.is_zipfile(file):
        raise ValueError("it is not an .npz file, or its end is missing")
    file.seek(0)
    wanted = ("train_images", "train_labels", "test_images", "test_labels", "class_names")
    with zipfile.ZipFile(file) as members:
        size, packed = (sum(getattr(m, f) for m in members.infolist()) for f in ("file_size", "compress_size"))
        if size > max(_LARGEST_MEMBER, 100 * packed):
            raise ValueError(f"{packed} bytes that would become {size}")
    file.seek(0)
    with np.load(file, allow_pickle=False) as stored:
        return {key: np.asarray(stored[key]) for key in wanted if key in stored}


def _pool(name: str, arrays: dict[str, NDArray[Any]], source: Path, hold_out: int) -> Pool:
    """Returns the pool of these arrays, after checking all that can be wrong with them."""

    def require(good: object, found: str, allowed: str) -> None:
        if not good:
            raise RequestError(f"{source}: {found}", f"allowed: {allowed}")

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
            "one integer an image, of shape (N,) or (N, 1)",
        )
        images[part] = np.ascontiguousarray(pixels.reshape(*pixels.shape[:3], colours))
        labels[part] = named.reshape(len(named))
    require(
        images["train"].shape[1:] == images["test"].shape[1:],
        f"training images {images['train'].shape[1:]}, test images {images['test'].shape[1:]}",
        "training and test images of one shape",
    )
    try:
        classes = len(class_sizes(labels["train"]))
        if not hold_out and len(class_sizes(labels["test"])) != classes:
            raise RequestError(f"{classes} classes to train on, others in test", "allowed: each of them in both parts")
    except RequestError as error:
        raise RequestError(f"{source}: {error}") from error
    names = arrays.get("class_names", np.arange(classes).astype(str))
    require(
        names.shape == (classes,) and names.dtype.kind == "U",
        f"class_names of shape {names.shape} and dtype {names.dtype}",
        f"{classes} strings, one a class",
    )
    odd = [word for word in names.tolist() if not (word.isprintable() and word)]
    listed = ", ".join(map(ascii, odd[:2]))
    require(not odd, f"class names that are empty or cannot be printed: {listed}", "printable names")
    return Pool(
        name,
        images["train"],
        labels["train"].astype(np.int64),
        images["test"],
        labels["test"].astype(np.int64),
        tuple(names.tolist()),
        hold_out,
        source,
    )


def _load_archive(path: Path, name: str, cifar: _Cifar) -> Pool:
    mend = f"move it away and run `ltrepro make-dataset {name}` again"
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != cifar.sha256:
            raise DamagedError(
                f"{path} is damaged or truncated: its SHA-256 is {found}",
                f"allowed: the published archive's, {cifar.sha256}",
                mend,
            )
        file.seek(0)
        try:
            arrays = _read_archive(file, cifar)
        # As for .npz: gzip, tarfile, pickle and NumPy each have errors of their own.
        except Exception as error:
            raise DamagedError(f"{path} cannot be read: {first_line(error)}", mend=mend) from error
    return _pool(name, arrays, path, hold_out=0)


def _read_archive(file: BinaryIO, cifar: _Cifar) -> dict[str, NDArray[Any]]:
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
                if stream is None or member.size > _LARGEST_MEMBER:
                    raise ValueError(f"{member.name!r} is no file of at most {_LARGEST_MEMBER} bytes")
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
    if name not in _CIFAR:
        raise unknown("data set to download", name, _CIFAR)
    cifar = _CIFAR[name]
    address, final = _ADDRESS + cifar.archive, root / cifar.archive
    part = root / f".{cifar.archive}.{os.getpid()}.part"
    try:
        new = not root.exists()
        root.mkdir(parents=True, exist_ok=True)
        try:
            found = _fetch(address, part, report)
            if found != cifar.sha256:
                raise _ways_on(f"{address} gave something else than the published archive: SHA-256 {found}", name)
            part.replace(final)
        finally:
            part.unlink(missing_ok=True)
            if new:
                with contextlib.suppress(OSError):  # unless the archive is in it
                    root.rmdir()
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it is also the server's answer, still open
        raise _ways_on(f"{address} could not be fetched into {root}: {first_line(error)}", name) from error
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
