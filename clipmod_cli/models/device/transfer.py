"""Pixels to a device and results back, while host and device go on with other things.

A CUDA device is given its work and computes on its own. Whoever waits for each result before giving it the
next leaves it idle meanwhile; so work is begun here, and waited for later.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from clipmod_cli.models.device.clock import computing


@dataclass(frozen=True, slots=True)
class DeviceResult:
    """What a device computed.

    Attributes:
        result: on the CPU.
        seconds: for how long the device computed, without its copies.
    """

    result: torch.Tensor
    seconds: float


def send(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return a tensor on the device; to CUDA it goes while other work is done."""
    if device.type != "cuda" or tensor.device == device:
        return tensor.to(device)
    # torch keeps pinned buffers for the next batch, and gives none away before its copy is done.
    pinned = tensor if tensor.is_cuda or tensor.is_pinned() else tensor.pin_memory()
    return pinned.to(device, non_blocking=True)


def begin(device: torch.device, work: Callable[[], torch.Tensor]) -> Callable[[], DeviceResult]:
    """Do the work on the device, and return what waits for its result; CUDA computes meanwhile."""
    return _begin_on_cuda(device, work) if device.type == "cuda" else _compute(device, work)


def _compute(device: torch.device, work: Callable[[], torch.Tensor]) -> Callable[[], DeviceResult]:
    begun = time.perf_counter()
    with computing(device):
        result = work()
    here = result if result.is_meta else result.cpu()
    computed = DeviceResult(here, time.perf_counter() - begun)
    return lambda: computed


def _begin_on_cuda(device: torch.device, work: Callable[[], torch.Tensor]) -> Callable[[], DeviceResult]:
    stream = torch.cuda.current_stream(device)
    begun, ended, arrived = _event(), _event(), _event()
    begun.record(stream)
    with computing(device):
        result = work()
    ended.record(stream)
    pinned = torch.empty(result.shape, dtype=result.dtype, pin_memory=True)
    pinned.copy_(result, non_blocking=True)
    arrived.record(stream)

    def wait() -> DeviceResult:
        arrived.synchronize()
        # evidence lives long, and memory that a device can reach is scarce
        return DeviceResult(pinned.clone(), begun.elapsed_time(ended) / 1000)

    return wait


def _event() -> torch.cuda.Event:
    # Blocking: a wait would spin otherwise, on a core that decoders want.
    return torch.cuda.Event(enable_timing=True, blocking=True)  # type: ignore[no-untyped-call]
