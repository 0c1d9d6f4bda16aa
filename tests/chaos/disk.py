"""A disk that is full, broken or read-only, at every call that changes it: nothing is lost and the error says so."""

import contextlib
import errno
import io
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np

from chaos import processes, small
from lt_repro import cli
from lt_repro.errors import DamagedError, LtReproError
from lt_repro.store import checkpoint, status
from lt_repro.store.runs import Run
from lt_repro.sweep import runner
from lt_repro.train.loop import fit

FAULTS = (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO)
REMOVING = {
    "unlink": FAULTS[1:],
    "unlink nothing": (errno.EROFS,),
}  # a full disk, and a missing file, refuse no removal


def round(count, seed, folder):
    """Returns what became of `count` faults or more: every call of two small runs, as often as it takes.

    From a hundred on there are real file systems among them.
    """
    rng, faults, lost, unclear = np.random.default_rng([seed, 2]), 0, [], []
    folder.mkdir(parents=True, exist_ok=True)
    with small.quick():
        scenes = [Scene(folder / "fresh", damaged=False), Scene(folder / "resumed", damaged=True)]
        points = [(scene, n) for scene in scenes for n in range(len(scene.calls))]
        for turn in range(-(-count // len(points))):
            for scene, n in points:
                allowed = REMOVING.get(scene.calls[n], FAULTS)
                code = allowed[(n + turn + int(rng.integers(2))) % len(allowed)]
                gone, unexpected = scene.trial(n, code, lasting=bool((n + turn) % 2))
                faults, lost, unclear = faults + 1, lost + gone, unclear + unexpected
    if count >= 100:
        result = real(count // 50, seed, folder / "real")
        faults, lost, unclear = faults + result["faults"], lost + result["lost"], unclear + result["unclear"]
    return {"points": len(points), "faults": faults, "lost": lost, "unclear": unclear}


class Disk:
    """Counts every call that changes something below a folder, and lets one of them, or all from it on, fail.

    Args:
        folder: Where.
        at: Which call fails, from 0.
        code: With which error number.
        lasting: Whether those after it fail too.
        on_fault: Called when the first one fails.
    """

    def __init__(self, folder, at=None, code=errno.ENOSPC, lasting=False, on_fault=lambda: None):
        self.folder, self.at, self.code, self.lasting, self.on_fault = str(folder), at, code, lasting, on_fault
        self.calls = []

    def touch(self, call, path):
        if isinstance(path, int):
            path = Path(f"/proc/self/fd/{path}").readlink()
        if not str(path).startswith(self.folder) or (call == "mkdir" and os.path.isdir(path)):  # noqa: PTH112
            return
        self.calls.append(call if call != "unlink" or os.path.lexists(path) else "unlink nothing")
        n = len(self.calls) - 1
        if self.at is not None and (n == self.at or (self.lasting and n > self.at)):
            if self.code not in REMOVING.get(self.calls[n], FAULTS):
                return
            if n == self.at:
                self.on_fault()
            raise OSError(self.code, os.strerror(self.code), str(path))

    @contextlib.contextmanager
    def patched(self):
        with contextlib.ExitStack() as stack:
            for name in ("fsync", "replace", "link", "mkdir", "unlink", "rmdir", "open"):
                stack.enter_context(patch.object(os, name, self._wrapped(getattr(os, name), name)))
            stack.enter_context(patch.object(io, "open", self._opener(io.open)))
            yield self

    def _wrapped(self, original, name):
        def call(*args, **kwargs):
            self.touch(name, args[1] if name == "link" else args[0])
            return original(*args, **kwargs)

        return call

    def _opener(self, original):
        def opened(path, mode="r", *args, **kwargs):
            if not set(mode) & set("wax+"):
                return original(path, mode, *args, **kwargs)
            self.touch("open", path)
            return Stream(original(path, mode, *args, **kwargs), lambda: self.touch("write", path))

        return opened


class Stream:
    """A file of which half of what was to be written is there when the disk fails."""

    def __init__(self, stream, touch):
        self.stream, self.touch = stream, touch

    def write(self, data):
        try:
            self.touch()
        except OSError:
            self.stream.write(data[: len(data) // 2])
            raise
        return self.stream.write(data)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stream.close()

    def __getattr__(self, name):
        return getattr(self.stream, name)


class Scene:
    """A folder with an older run, where a run is trained from the start or resumed behind a damaged checkpoint.

    Args:
        folder: Where this takes place.
        damaged: Whether there are checkpoints.
    """

    def __init__(self, folder, damaged):
        self.recipe, self.origin, self.workdir = small.made(epochs=3, batch=64), folder / "origin", folder / "here"
        fit(small.made(seed=9, epochs=1), small.images(), out=self.origin, device="cpu")
        if damaged:
            lane = small.lane(self.origin, self.recipe)
            lane.path.write_bytes(lane.path.read_bytes()[:-9])
        self.key, self.before = self.recipe.key(), _files(self.origin)
        self.old = {name: content for name, content in self.before.items() if not name.startswith(self.key)}
        self._reset()
        with Disk(self.workdir).patched() as disk:
            self._run()
        self.calls, self.expected = disk.calls, small.content(self.workdir / f"{self.key}.json")

    def _reset(self):
        shutil.rmtree(self.workdir, ignore_errors=True)
        shutil.copytree(self.origin, self.workdir)

    def _run(self):
        def wait(line):
            raise TimeoutError(line)  # nobody else is here: a claim was not given back

        (ended,) = runner.run_all([self.recipe], small.pool(), self.workdir, device="cpu", note=wait)
        return ended

    def _saved_epoch(self):
        """Returns the epoch of the best whole checkpoint, 9 once the run is published."""
        if (self.workdir / f"{self.key}.json").exists():
            return 9
        try:
            return checkpoint.where(self.workdir / f"{self.key}.ckpt")["epoch"]
        except DamagedError:
            return 0

    def trial(self, at, code, lasting):
        """Returns what was lost, and what was reported or done wrong, when the call `at` fails."""
        self._reset()
        epochs_before, lost, unclear = [], [], []
        name = f"{self.workdir.parent.name} {at} ({self.calls[at]}): {errno.errorcode[code]}{' lasting' * lasting}"
        with Disk(self.workdir, at, code, lasting, lambda: epochs_before.append(self._saved_epoch())).patched():
            try:
                ended = self._run()
                if isinstance(ended, runner.Failed):
                    unclear.append(f"{name}: an error of the disk was taken for one of the run: {ended.error}")
                elif not ended.path.exists():
                    lost.append(f"{name}: reported as done, but no {ended.path.name}")
            except LtReproError as error:
                unclear += [f"{name}: {wrong}" for wrong in self._wrong(error)]
            except Exception as error:
                unclear.append(f"{name}: {type(error).__name__}: {error}")
        if not epochs_before:
            unclear.append(f"{name}: the fault did not happen")
        elif self._saved_epoch() < epochs_before[0]:
            lost.append(f"{name}: the checkpoint of epoch {epochs_before[0]}, {self._saved_epoch()} is left")
        current = _files(self.workdir)
        lost += [f"{name}: {old} was changed" for old in self.old if current.get(old) != self.old[old]]
        removable = code == errno.ENOSPC or not (lasting or self.calls[at] in REMOVING)
        return lost, unclear + [f"{name}, then with room: {wrong}" for wrong in self._rerun(removable)]

    def _wrong(self, error):
        """Yields what is wrong with an error and what it says."""
        lines = str(error).splitlines()
        if not 1 <= len(lines) <= 3:
            yield f"{len(lines)} lines"
        if error.exit_code == 2 and _kept(_files(self.workdir)) != _kept(self.before):
            yield "exit code 2, but files were changed"
        if "nothing was saved" in str(error) and self._saved_epoch():
            yield "it says that nothing was saved, but there is a checkpoint"

    def _rerun(self, removable):
        """Yields what is wrong when the same is run on a disk that works.

        What could not be removed when it was to be is left to `ltrepro verify --clean`.
        """
        try:
            ended = self._run()
        except Exception as error:
            yield f"{type(error).__name__}: {error}"
            return
        if isinstance(ended, runner.Failed) or small.content(ended.path) != self.expected:
            yield "it differs from the undisturbed run"
            return
        try:
            checkpoint.load_weights(ended.path.with_suffix(".pt"), Run.read(ended.path).weights["sha256"])
        except DamagedError as error:
            yield str(error)
        with patch.object(status, "_alive", return_value=False):  # when somebody cleans up, this process has ended
            for path in [] if removable else status.strays(self.workdir):
                if not status.clean(path):
                    yield f"not cleaned: {path.name}"
        stray = _files(self.workdir).keys() - self.old.keys() - {f"{self.key}.json", f"{self.key}.pt"}
        if stray:
            yield f"left behind: {', '.join(sorted(stray))}"


def _kept(names):
    """Returns the names of what is of worth; that a damaged checkpoint was put aside is no change."""
    return {whole for name in names if (whole := name.removesuffix(".damaged")).endswith((".ckpt", ".json", ".pt"))}


def _files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def real(count, seed, folder):
    """Returns what `main` does."""
    return processes.run_module("chaos.disk", 120 * count, count=count, seed=seed, folder=str(folder))


def main(count, seed, folder):
    """Returns what the command line did on `count` small file systems that fill up, and on a read-only one.

    Where nothing may be mounted, a limit on the size of files takes the place of the full disk.
    """
    from lt_repro.sweep import runner  # noqa: F401  once, for all that are forked

    rng, unclear, lost = np.random.default_rng([seed, 3]), [], []
    folder = Path(folder)
    place = folder / "disk"
    place.mkdir(parents=True)
    words = ["train", "--dataset", "digits", "--ratio", "60", "--epochs", "1", "--json"]
    code, out, err = _typed(*words, "--out", str(folder / "calm"))
    assert code == 0, err
    expected = json.loads(out)
    size = sum(path.stat().st_size for path in (folder / "calm").iterdir())
    arguments = [*words, "--out", str(place)]
    mounted = _mount("size=2m", place)
    try:
        for _ in range(count):
            room, block = int(rng.uniform(0, size)), place / "block"
            if mounted:
                block.write_bytes(bytes((shutil.disk_usage(place).free - room) // 4096 * 4096))
            full = _typed(*arguments, limit=None if mounted else room)
            block.unlink(missing_ok=True)
            unclear += [f"{room} bytes of room: {wrong}" for wrong in _bad_errors(full)]
            code, out, err = _typed(*arguments)
            if code or json.loads(out)["weights"] != expected["weights"] or len(list(place.iterdir())) != 2:
                lost.append(f"{room} bytes of room, then more: exit {code}, {err}, {sorted(place.iterdir())}")
            if mounted:
                _mount("remount,ro", place)
                code, out, err = _typed(*arguments)  # it is done and only has to be shown
                unclear += [] if code == 0 else [f"a run that is done in a read-only folder: exit {code}, {err}"]
                other = _typed("make-dataset", "digits", "--out", str(place / "x"))
                unclear += [f"make-dataset into a read-only folder: {wrong}" for wrong in _bad_errors(other)]
                _mount("remount,rw", place)
            for path in place.iterdir():
                path.unlink()
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(place)], check=True)
    return {"mounted": mounted, "faults": count * (3 if mounted else 1), "lost": lost, "unclear": unclear}


def _mount(options, place):
    words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    try:
        return subprocess.run(words, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _typed(*words, limit=None):
    """Returns exit code, stdout and stderr of a command; no file grows beyond `limit` bytes."""
    readers, writers = zip(*(os.pipe() for _ in range(2)), strict=True)
    pid = processes.fork(_command, words, writers, limit)
    for descriptor in writers:
        os.close(descriptor)
    code = processes.ended(pid, 120)  # what it prints fits into a pipe
    if code is None:
        processes.kill(pid)
    printed = []
    for descriptor in readers:
        with os.fdopen(descriptor) as stream:
            printed.append(stream.read())
    return code, *printed


def _command(words, descriptors, limit):
    """Is the command line in this process."""
    sys.stdout, sys.stderr = (os.fdopen(descriptor, "w") for descriptor in descriptors)
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    sys.argv = ["ltrepro", *words]
    try:
        cli.main()
    except SystemExit as left:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(left.code or 0)


def _bad_errors(done):
    """Yields what is wrong with how a command failed."""
    code, out, err = done
    lines = err.strip().splitlines()
    if code not in (1, 2) or out or not 1 <= len(lines) <= 3 or not lines[0].startswith("error: cannot write"):
        yield f"exit {code}, {out}{err}"


if __name__ == "__main__":
    processes.answer(main)
