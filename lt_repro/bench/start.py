"""Start-up and memory: a process of its own that begins a run as `train` does, takes a few steps and says when."""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lt_repro.data.images import Pool
from lt_repro.errors import FailedError

_BEGIN = "import sys, lt_repro.cli; from lt_repro.bench import start; start.begin(*sys.argv[1:])"


class Start(NamedTuple):
    """What a fresh process needs.

    Args:
        help: Seconds of `ltrepro --help`, the median of three.
        first_step: Seconds from the start of the process to the end of the first training step.
        peak_bytes: The most memory it held, without the images, after a few steps.
    """

    help: float
    first_step: float
    peak_bytes: int


def measure(pool: Pool, device: str, steps: int = 5) -> Start:
    """Returns how long a process takes to start and how much memory it takes to train.

    Raises:
        FailedError: The process failed.
    """

    def ran(*words: str) -> str:
        done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
        if done.returncode:
            raise FailedError(f"{' '.join(words)} failed", *done.stderr.splitlines()[-1:])
        return done.stdout

    helps = []
    for _ in range(3):
        start = time.time()
        ran("-m", "lt_repro", "--help")
        helps.append(time.time() - start)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pool.npz"
        arrays = {name: getattr(pool, name) for name in ("train_images", "train_labels", "test_images", "test_labels")}
        np.savez(file, **arrays)
        start = time.time()
        result = json.loads(ran("-c", _BEGIN, str(file), device, str(steps)))
    return Start(sorted(helps)[1], result["first_step_at"] - start, result["peak_bytes"] - result["image_bytes"])


def begin(file: str, device: str, steps: str) -> None:
    """Trains for a step, then some more; prints {first_step_at, peak_bytes, image_bytes} as JSON.

    Args:
        file: Images in the layout of `npz:`.
        device: "auto", "cpu", "cuda" or "mps".
        steps: How many more, in digits.
    """
    from lt_repro.bench import compare
    from lt_repro.data import load
    from lt_repro.data.images import images_of
    from lt_repro.train.device import pick_device
    from lt_repro.train.loop import train_step
    from lt_repro.train.state import TrainState

    pool = load.load_pool(f"npz:{file}", load.data_root(None))
    requested = compare.recipe().replace(dataset=pool.name)
    state = TrainState(requested, images_of(requested.subset, pool), Path("unwritten"), pick_device(device))
    state.start_epoch()
    train_step(state)
    state.loss_sum.item()
    first = time.time()
    for _ in range(int(steps)):
        train_step(state)
    images = pool.train_images.nbytes + pool.test_images.nbytes
    json.dump({"first_step_at": first, "peak_bytes": _peak_bytes(), "image_bytes": images}, sys.stdout)


def _peak_bytes() -> int:
    status = Path("/proc/self/status")
    if status.exists():  # on Linux getrusage also counts the process that started this one
        line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
