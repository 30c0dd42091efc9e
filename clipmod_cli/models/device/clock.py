"""For how long CUDA devices computed: what a host does meanwhile (stacking, copying) is no part of it.

A tower says when it computes (`computing`), which costs nothing unless somebody counts.
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
    """Counts while `counting`, one at a time in a process.

    Attributes:
        devices: that are counted; others compute unseen.
    """

    devices: Sequence[torch.device]
    new_event: Callable[[], Any] = field(default=_new_event, repr=False)
    _spans: list[tuple[Any, Any]] = field(default_factory=list, repr=False)

    @classmethod
    def of(cls, placement: Placement) -> DeviceClock:
        """Return a clock for the devices of a placement that keep time themselves; others have none."""
        return cls([device for device in placement.devices if device.type == "cuda"])

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count what is computed while the context lasts."""
        _running.append(self)
        try:
            yield
        finally:
            _running.remove(self)

    def note(self, device: torch.device) -> Callable[[], None]:
        """Note that a device is given work, and return what notes that it was given all of it."""
        if device not in self.devices:
            return lambda: None
        begin, end = self.new_event(), self.new_event()
        begin.record(torch.cuda.current_stream(device))

        def ended() -> None:
            end.record(torch.cuda.current_stream(device))
            self._spans.append((begin, end))

        return ended

    def seconds(self) -> float | None:
        """Return how long each device computed so far, of several the mean; None if none said anything."""
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
    """Have a forward pass counted, where somebody counts; without its copies to the device and back."""
    ended = [clock.note(device) for clock in _running]
    yield
    for one in ended:
        one()
