"""What the device can do at best: copy bandwidth and matrix rate, measured; and what a training step needs of it."""

import time
from collections.abc import Callable

import torch

from lt_repro.bench.turn import synchronise
from lt_repro.nets.resnet_cifar import ResNet

MATRIX_SIZE = {"cpu": 2048}
LARGE_MATRIX_SIZE = 8192  # on other devices
COPIED = 256 << 20  # bytes: more than any cache holds


def copy_rate(device: torch.device) -> float:
    """Returns GB/s of a copy, reading and writing counted, the best of several."""
    source = torch.zeros(COPIED, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() / _best(lambda: target.copy_(source), device) / 1e9


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Returns TFLOP/s of a product of two square matrices, the best of several."""
    n = MATRIX_SIZE.get(device.type, LARGE_MATRIX_SIZE)
    a, b = (torch.rand(n, n, device=device).to(dtype) for _ in range(2))
    return 2 * n**3 / _best(lambda: a @ b, device) / 1e12


def training_flops(net: ResNet, images: torch.Tensor) -> float:
    """Returns the floating-point operations of a forward and backward pass, per image passed.

    Args:
        net: A network in training mode.
        images: (B, C, H, W), one batch for every branch.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        loss = torch.stack(net.forward([images] * len(net.branches))).sum()
        loss.backward()  # type: ignore[no-untyped-call]
    net.zero_grad()
    return float(counter.get_total_flops() / (len(images) * len(net.branches)))


def _best(call: Callable[[], object], device: torch.device, times: int = 7) -> float:
    """Returns the fewest seconds that a call took; the first one does not count."""
    seconds = []
    for _ in range(times + 1):
        synchronise(device)
        start = time.perf_counter()
        call()
        synchronise(device)
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])
