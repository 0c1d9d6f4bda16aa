"""Where a run came from: commit, command, versions, device."""

import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import torch

import lt_repro


def commit() -> str | None:
    """Returns the commit of this package's checkout, with "+" if the package has changes; None outside a checkout."""
    package = Path(lt_repro.__file__).parent

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(package), *words], capture_output=True, text=True, check=True, timeout=10
        )
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # fails for an installed copy in another project's checkout
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def command() -> str:
    """Returns the command line of this process."""
    return shlex.join(["ltrepro", *sys.argv[1:]])


def determinism(device: torch.device) -> Literal["A", "B", "C"]:
    """Returns how far a rerun is promised to be equal, as a level; see `runs.Run`."""
    if device.type == "cpu":
        return "A"
    return "B" if device.type == "cuda" and torch.are_deterministic_algorithms_enabled() else "C"


def versions() -> dict[str, str]:
    """Returns the versions that can change a number."""
    return {
        "lt_repro": lt_repro.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def device_words(device: torch.device) -> str:
    """Returns a device in words: "cpu (x86_64 AVX2, 2 threads)", "cuda (NVIDIA H100)".

    A CPU is named with the widest instructions that torch uses, since they decide how sums are rounded.
    """
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    if device.type == "cpu":
        threads = torch.get_num_threads()
        kind = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
        return f"cpu ({kind}, {threads} thread{'' if threads == 1 else 's'})"
    return device.type
