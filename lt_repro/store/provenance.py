"""Where a run came from: commit, command, versions, device."""

import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

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


def origin(device: torch.device) -> dict[str, Any]:
    """Returns where an attempt at a run is made: versions, commit, device, threads and determinism of `runs.Run`."""
    return {
        "versions": versions(),
        "commit": commit(),
        "device": device_words(device),
        "threads": torch.get_num_threads() if device.type == "cpu" else None,
        "determinism": determinism(device),
    }


def changes(attempts: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Returns what differs between the attempts at a run: name -> the value in each, None where it is not known.

    Names are "commit", "device" (whose words have the threads), "determinism", and those of the versions.
    """
    flat = [
        attempt.get("versions", {}) | {name: attempt.get(name) for name in ("commit", "device", "determinism")}
        for attempt in attempts
    ]
    names = dict.fromkeys(name for values in flat for name in values)
    result = {name: [values.get(name) for values in flat] for name in names}
    return {name: values for name, values in result.items() if len(set(values)) > 1}


def changes_words(attempts: Iterable[Mapping[str, Any]]) -> str:
    """Returns `changes` in words: "torch 2.10 then 2.11, commit unknown then 1e63c09a"; "" where nothing differs."""
    words: dict[str, list[str]] = {}
    for name, values in changes(attempts).items():
        words[name] = [short(value) if name == "commit" else "unknown" if value is None else value for value in values]
    return ", ".join(f"{name} {' then '.join(dict.fromkeys(values))}" for name, values in words.items())


def short(commit: str | None) -> str:
    """Returns a commit for reading: its first 8 digits and its "+", or "unknown"."""
    return "unknown" if commit is None else commit[:8] + ("+" if commit.endswith("+") else "")


def command() -> str:
    """Returns the command line of this process, absolute paths shortened to their last name.

    Where a folder lies on one machine tells nobody else anything, and run files are published.
    """
    return shlex.join(["ltrepro", *(_ABOVE.sub("", word) for word in sys.argv[1:])])


_ABOVE = re.compile(r"(?:^|(?<=[=:,]))/(?:[^/,]+/)*(?=[^/])")
"""The folders of an absolute path: in "/a/b", "npz:/a/b.npz" and "parent=/a/b.json" all before the b."""


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
        "torch": str(torch.__version__),  # a class of its own, which a checkpoint would refuse to load
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
