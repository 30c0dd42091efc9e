"""Measures how long CUDA devices computed, by events; stacking and copies are not included.

Forward passes are marked by `computing`, which costs nothing unless a `DeviceClock` runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from clipmod_cli.models.device.device import Placement


def _new_event() -> Any:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


@dataclass
class DeviceClock:
    """Measures while `counting`.

    Attributes:
        devices: the measured ones.
    """

    devices: Sequence[torch.device]
    new_event: Callable[[], Any] = field(default=_new_event, repr=False)
    _spans: list[tuple[Any, Any]] = field(default_factory=list, repr=False)

    @classmethod
    def of(cls, placement: Placement) -> DeviceClock:
        """Return a clock for the CUDA devices of a placement."""
        return cls([device for device in placement.devices if device.type == "cuda"])

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Measure forward passes while the context lasts."""
        _running.append(self)
        try:
            yield
        finally:
            _running.remove(self)

    def start(self, device: torch.device) -> Callable[[], None]:
        """Record the start event of a forward pass, and return a function that records its end event."""
        if device not in self.devices:
            return lambda: None
        begin, end = self.new_event(), self.new_event()
        begin.record(torch.cuda.current_stream(device))

        def stop() -> None:
            end.record(torch.cuda.current_stream(device))
            self._spans.append((begin, end))

        return stop

    def seconds(self) -> float | None:
        """Return the seconds that a device computed, the mean of several; None without a forward pass."""
        if not self._spans:
            return None
        spent_ms = 0.0
        for begin, end in self._spans:
            end.synchronize()
            spent_ms += begin.elapsed_time(end)
        return spent_ms / 1000 / len(self.devices)


_running: list[DeviceClock] = []


@contextmanager
def computing(device: torch.device) -> Iterator[None]:
    """Mark a forward pass, without its copies to the device and back, for the running clocks."""
    stops = [clock.start(device) for clock in _running]
    yield
    for stop in stops:
        stop()
