"""Facts about torch's devices: their name, and the peak rate of a large matrix product."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from clipmod_cli.models.device.device import Placement
from clipmod_cli.models.device.processor import name_cpu

SIDE = {"cuda": 8192, "mps": 4096, "cpu": 2048}
"""Of the matrices: large enough for the best rate, small enough for a slow device (0.1 s on two cores)."""

ROUNDS = 5
"""The best one counts: others may have shared the device with other work."""

WARM_UP_S = {"cuda": 0.3}
"""Seconds of warm-up: an idle GPU runs at a low clock."""


def measure_peak(placement: Placement, dtype: str) -> float:
    """Return the floating-point operations a second that a large matrix product reaches on all devices.

    Of several precisions, as `bfloat16+float32`, the first counts.
    """
    precision = getattr(torch, dtype.partition("+")[0])
    rates = [_peak_of(device, precision) for device in placement.devices]
    return sum(rates)


def _peak_of(device: torch.device, dtype: torch.dtype) -> float:
    side = SIDE.get(device.type, SIDE["cpu"])
    left = torch.rand((side, side), device=device).to(dtype)
    right = torch.rand((side, side), device=device).to(dtype)

    def multiply() -> float:
        begun = time.perf_counter()
        left @ right
        wait_for(device)
        return time.perf_counter() - begun

    with torch.inference_mode():
        wait_for(device)
        multiply()  # the first one also loads kernels
        ready = time.perf_counter() + WARM_UP_S.get(device.type, 0.0)
        while time.perf_counter() < ready:
            multiply()
        best = min(multiply() for _ in range(ROUNDS))
    return 2 * side**3 / best


def wait_for(device: torch.device) -> None:
    """Wait until a device has finished its queue."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit torch to one thread while the context lasts, as in a decode worker."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def name_device(placement: Placement) -> str:
    """Return the devices' name, as `2 x NVIDIA H200`."""
    if placement.device.type != "cuda":
        return name_cpu() if placement.device.type == "cpu" else f"{platform.machine()} with Metal"
    count = len(placement.devices)
    name = torch.cuda.get_device_name(placement.device)
    return f"{count} x {name}" if count > 1 else name


def torch_version() -> str:
    """Return torch's version, and CUDA's if it is built with it."""
    cuda = torch.version.cuda
    return f"{torch.__version__} (CUDA {cuda})" if cuda else str(torch.__version__)
