"""Devices and precisions: what "auto" becomes on this machine."""

import os
from typing import Any

import torch

from lt_repro.errors import RequestError


def pick_device(name: str) -> torch.device:
    """Returns the device that `name` names; "auto" is cuda, else mps, else the CPU.

    Raises:
        RequestError: The name is unknown, or there is no such device.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, present in available.items() if present))
    if not available.get(name):
        usable = ", ".join(["auto", *(kind for kind, present in available.items() if present)])
        raise RequestError(f"device = {name!r}", f"allowed on this machine: {usable}")
    return torch.device(name)


def pick_precision(name: str, device: torch.device) -> str:
    """Returns what `precision` means on a device: "auto" is bf16 where the hardware has instructions for it."""
    if name != "auto":
        return name
    if device.type == "cuda":
        gains = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        features: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # not in every torch we support
        gains = any(features.get(name) for name in ("avx512_bf16", "amx_bf16"))
    else:
        gains = False
    return "bf16" if gains else "fp32"


def make_deterministic() -> None:
    """Makes torch choose algorithms that give the same bits every time on one model of GPU."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
