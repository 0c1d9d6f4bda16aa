"""Files made to do harm: none may run anything, none may write elsewhere, each is refused in three lines."""

import builtins
import contextlib
import dataclasses
import gzip
import hashlib
import io
import itertools
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path
from unittest.mock import patch

import numpy as np

from chaos import processes

BOMB = 1 << 30  # bytes that a few MB become
MOST = 1 << 29  # bytes of memory that reading one may take before it is refused


def round(count, seed, folder):
    """Returns what `count` files did: what ran, what was written outside of their folder, how many were refused."""
    return processes.run_module("chaos.malice", 120 + 5 * count, count=count, seed=seed, folder=str(folder))


class Gadget:
    """Calls a function when it is unpickled by anything careless."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def gadgets(canary):
    """Returns, by name, gadgets that leave a canary file behind."""
    line = f"__import__('pathlib').Path({str(canary)!r}).touch()"
    return {
        "os.system": Gadget(os.system, f"touch {canary}"),
        "subprocess": Gadget(subprocess.check_call, ["touch", str(canary)]),
        "exec": Gadget(builtins.exec, line),
        "eval": Gadget(builtins.eval, line),
        "open": Gadget(builtins.open, str(canary), "w"),
        "touch": Gadget(Path.touch, canary),
    }


# --- one maker a kind: it writes the file into an empty folder and returns how it is opened ---------------------------


def checkpoint_with(gadget, folder):
    from lt_repro.store import checkpoint

    path = folder / "digits-r60.ckpt"
    content = torch_file(gadget, folder) + b'\n{"key":"digits-r60"}\n'
    path.write_bytes(content + hashlib.sha256(content).hexdigest().encode())

    def opened():
        state, damaged = checkpoint.load(path)
        return state is None and damaged == [path.name]

    return opened


def weights_with(gadget, folder):
    from lt_repro.errors import DamagedError
    from lt_repro.store import checkpoint

    path = folder / "digits-r60.pt"
    path.write_bytes(torch_file(gadget, folder))

    def opened():
        try:
            checkpoint.load_weights(path, "")
        except DamagedError as error:
            return len(str(error).splitlines()) <= 3
        return False

    return opened


def torch_file(gadget, folder):
    """Returns what torch would have written of a gadget; a bomb for the gadget `BOMB`."""
    import torch

    stream = io.BytesIO()
    if gadget is not BOMB:
        torch.save({"net": gadget}, stream)
        return stream.getvalue()
    torch.save({"net": torch.zeros(1)}, stream)
    with zipfile.ZipFile(stream) as small:
        parts = {info.filename: small.read(info) for info in small.infolist()}
    (data,) = (name for name in parts if name.endswith("/data/0"))
    pickled = next(name for name in parts if name.endswith("data.pkl"))
    parts[pickled] = parts[pickled].replace(b"K\x01tq", b"J" + struct.pack("<i", BOMB // 4) + b"tq")
    return zipped(parts | {data: BOMB})


def npz_with(gadget, folder):
    arrays = {"train_images": np.zeros((6, 8, 8), np.uint8), "train_labels": np.array([0, 0, 0, 1, 1, 1])}
    arrays |= {"test_images": np.zeros((2, 8, 8), np.uint8), "test_labels": np.array([0, 1])}
    parts = {}
    for name, array in arrays.items():
        np.save(stream := io.BytesIO(), array)
        parts[f"{name}.npy"] = stream.getvalue()
    header = io.BytesIO()
    if gadget == "lie":  # of a size that the file does not have
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (1 << 40, 8, 8)})
        parts["train_images.npy"] = header.getvalue() + bytes(99)
    elif gadget == "outside":
        parts = {f"../../{name}": content for name, content in parts.items()}
    elif gadget is BOMB:
        parts["train_images.npy"] = BOMB
    else:
        np.save(header, np.array([gadget] * 6, dtype=object), allow_pickle=True)
        parts["train_labels.npy"] = header.getvalue()
    (folder / "mine.npz").write_bytes(zipped(parts))
    return typed("make-dataset", "npz:mine.npz", "--ratio", "2")


def zipped(parts):
    """Returns a zip file, made by hand, of contents by name; a number is so many zeros, deflated."""
    body, directory = b"", b""
    for name, content in parts.items():
        data, method, size = (content, 0, len(content)) if isinstance(content, bytes) else (*_zeros(name, content),)
        info = struct.pack("<HHHHHIIIHH", 20, 0, method, 0, 0, zlib.crc32(data), len(data), size, len(name), 0)
        directory += b"PK\x01\x02\x14\x00" + info + struct.pack("<HHHII", 0, 0, 0, 0, len(body)) + name.encode()
        body += b"PK\x03\x04" + info + name.encode() + data
    end = struct.pack("<HHHHIIH", 0, 0, len(parts), len(parts), len(directory), len(body), 0)
    return body + directory + b"PK\x05\x06" + end


def _zeros(name, size):
    """Returns deflated zeros, behind NumPy's header where the name wants one, the method's number and their size."""
    head = io.BytesIO()
    if name.endswith(".npy"):
        shape = {"descr": "|u1", "fortran_order": False, "shape": (size // 64, 8, 8)}
        np.lib.format.write_array_header_1_0(head, shape)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = packer.compress(head.getvalue()) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(1 << 24)) + packer.flush(zlib.Z_FULL_FLUSH)  # after a full flush it can be repeated
    return data + block * (size >> 24) + packer.flush(), 8, size + len(head.getvalue())


def archive_with(gadget, folder):
    from lt_repro.data.sets import cifar10

    root, known = "cifar-10-batches-py", cifar10.DATASET
    whole = {"data": np.zeros((2, 3072), np.uint8), "labels": [0, 1], "label_names": ["a", "b"]}
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name in known.md5:
            inner = {"labels": gadget} if isinstance(gadget, Gadget) else {}
            content = pickle.dumps(whole | inner, protocol=2)
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
            if isinstance(gadget, tarfile.TarInfo):
                tar.addfile(gadget, io.BytesIO(b"evil"))
    content = gzip.compress(stream.getvalue(), mtime=0)
    if gadget is BOMB:  # a member of so many zeros, and then the real content
        info = tarfile.TarInfo(f"{root}/data_batch_1")
        info.size = BOMB
        block = gzip.compress(bytes(1 << 24), mtime=0)
        content = gzip.compress(info.tobuf(), mtime=0) + block * (BOMB >> 24) + content
    (folder / known.archive).write_bytes(content)
    right = dataclasses.replace(known, sha256=hashlib.sha256(content).hexdigest())  # as if it had been published so
    return typed("make-dataset", "cifar10", "--data-root", str(folder), patched=(vars(cifar10), {"DATASET": right}))


def member(name, kind=tarfile.REGTYPE, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, 4 if kind == tarfile.REGTYPE else 0
    return info


def image_with(content, folder):
    for part, label in (("train", "a"), ("train", "b"), ("test", "a"), ("test", "b")):
        place = folder / "mine" / part / label
        place.mkdir(parents=True)
        (place / "x.png").write_bytes(png(8, 8))
    unexpected = folder / "mine" / "train" / "a" / "y.png"
    if callable(content):
        content(unexpected)
    else:
        unexpected.write_bytes(content)
    return typed("make-dataset", "folder:mine", "--ratio", "1")


def png(width, height, *chunks):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(bytes((width + 1) * height) if width < 100 else bytes(1 << 20))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + head
        + b"".join(chunk(*parts) for parts in chunks)
        + chunk(b"IDAT", rows)
        + chunk(b"IEND", b"")
    )


def run_file_with(content, folder):
    path = folder / "digits-r60-x.json"
    path.write_bytes(content)
    return typed("show", str(path))


def sealed(**values):
    from lt_repro.store.run_file import sealed

    return json.dumps(sealed({"schema": 1, "key": "digits-r60-x"} | values)).encode()


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(CANARY) (w) file closefile showpage\n%%EOF\n"


def kinds(canary):
    """Returns how each kind of file is made, by name."""
    made = {}
    for name, gadget in gadgets(canary).items():
        for maker in (checkpoint_with, weights_with, npz_with, archive_with):
            made[f"{maker.__name__} {name}"] = (maker, gadget)
    made |= {
        f"{maker.__name__} bomb": (maker, BOMB) for maker in (checkpoint_with, weights_with, npz_with, archive_with)
    }
    outside = canary.name
    made |= {
        "archive ..": (archive_with, member(f"cifar-10-batches-py/../../{outside}")),
        "archive absolute": (archive_with, member(str(canary))),
        "archive link": (archive_with, member("cifar-10-batches-py/data_batch_1", tarfile.SYMTYPE, "/etc/passwd")),
        "archive hard link": (archive_with, member("cifar-10-batches-py/test_batch", tarfile.LNKTYPE, f"../{outside}")),
        "archive device": (archive_with, member("cifar-10-batches-py/test_batch", tarfile.CHRTYPE)),
        "archive pipe": (archive_with, member("cifar-10-batches-py/test_batch", tarfile.FIFOTYPE)),
        "npz that lies": (npz_with, "lie"),
        "npz with names outside": (npz_with, "outside"),
        "image of 2 ** 32 pixels": (image_with, png(1 << 16, 1 << 16)),
        "image of 2 ** 27 pixels": (image_with, png(1 << 14, 1 << 13)),
        "image with a text bomb": (image_with, png(8, 8, (b"zTXt", b"x\x00\x00" + zlib.compress(bytes(1 << 28), 9)))),
        "image PostScript": (image_with, EPS.replace(b"CANARY", str(canary).encode())),
        "image link to zeros": (image_with, lambda path: path.symlink_to("/dev/zero")),
        "image pipe": (image_with, os.mkfifo),
        "run file of 11 MB": (run_file_with, b'{"schema": 1, "x": "' + b"x" * (11 << 20) + b'"}'),
        "run file, deep": (run_file_with, b'{"schema": ' + b"[" * 10**6),
        "run file, a long number": (run_file_with, b'{"schema": ' + b"9" * 10**6 + b"}"),
        "run file with another place": (run_file_with, sealed(key=f"../{outside}", recipe={})),
        "run file of another method": (run_file_with, sealed(recipe={"method": {"name": "os.system"}})),
    }
    return made


# --- in a process of its own ------------------------------------------------------------------------------------------


def typed(*words, patched=None):
    """Returns how a command is typed that must be refused, in three lines at most."""
    from lt_repro import cli

    def opened():
        out, err = io.StringIO(), io.StringIO()
        with (
            patch.dict(*patched) if patched else contextlib.nullcontext(),
            patch.object(sys, "argv", ["ltrepro", *words]),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            try:
                cli.main()
            except SystemExit as left:
                lines = err.getvalue().splitlines()
                is_refused = left.code in (1, 2) and 1 <= len(lines) <= 3 and lines[0].startswith("error: ")
                return is_refused and "bug in ltrepro" not in err.getvalue()

    return opened


class Heard:
    """What this process starts, and what it writes outside of a folder, as Python's audit events report it."""

    STARTS = ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "socket.connect")
    CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod")

    def __init__(self, folder):
        self.folder, self.started, self.outside, self.on = str(folder), [], [], False
        sys.addaudithook(self)

    def __call__(self, event, args):
        if not self.on:
            return
        if event in self.STARTS:
            self.started.append(f"{event} {args}")
        writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if (writes or event in self.CHANGES) and isinstance(args[0], str | bytes | os.PathLike):
            place = os.path.realpath(os.fsdecode(args[0]))
            if not place.startswith(self.folder) and place != os.devnull:
                self.outside.append(f"{event} {place}")


def main(count, seed, folder):
    """Returns what `round` does."""
    import torch

    torch.set_num_threads(1)
    folder = Path(folder).resolve()
    workdir, canary, rng = folder / "here", folder / "canary", np.random.default_rng([seed, 5])
    workdir.mkdir(parents=True)
    heard = Heard(workdir)
    os.chdir(workdir)
    made = kinds(canary)
    for name, gadget in gadgets(canary).items():
        with contextlib.suppress(AttributeError):
            pickle.loads(pickle.dumps(gadget)).close()
        assert canary.exists(), f"the gadget {name} is not live"
        canary.unlink()
    names, executed, refused, unlike = list(made), 0, 0, []
    order = itertools.chain.from_iterable(rng.permutation(len(names)) for _ in itertools.count())
    for number, at in zip(range(count), order, strict=False):
        name, place = names[at], workdir / str(number)
        maker, content = made[name]
        place.mkdir()
        os.chdir(place)
        open_it = maker(content, place)
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak of memory
        before = memory("VmRSS")
        heard.on = True
        right = open_it()
        heard.on = False
        taken = memory("VmHWM") - before
        right = right and taken < MOST
        if canary.exists():
            executed += 1
            canary.unlink()
        refused += right
        if not right:
            unlike.append(f"{name}: took {taken >> 20} MB")
    executed += len(heard.started)
    counts = {"executed": executed, "outside": len(heard.outside), "refused": refused}
    return {"files": count} | counts | {"wrong": [*unlike, *heard.started, *heard.outside]}


def memory(line):
    """Returns bytes of memory as Linux reports them: "VmRSS" now, "VmHWM" the most since the last reset."""
    (kilobytes,) = re.findall(rf"{line}:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return int(kilobytes) << 10


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
