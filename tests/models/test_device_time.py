"""How long a device computed is counted by its own clock: of forward passes, while somebody counts."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch

from clipmod_cli.models.device.clock import DeviceClock, computing
from clipmod_cli.models.device.device import Placement

CPU, META = torch.device("cpu"), torch.device("meta")


@dataclass
class Stream:
    """A device that has done its work so many milliseconds after its start."""

    now_ms: float = 0.0


@dataclass
class Event:
    """After `torch.cuda.Event`, whose own needs a device."""

    at_ms: float | None = field(default=None)

    def record(self, stream: Stream) -> None:
        """Note when the stream is here."""
        assert self.at_ms is None, "each is recorded once"
        self.at_ms = stream.now_ms

    def synchronize(self) -> None:
        """It is over."""

    def elapsed_time(self, other: Event) -> float:
        """Return the milliseconds until the other one."""
        assert self.at_ms is not None
        assert other.at_ms is not None
        return other.at_ms - self.at_ms


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> dict[torch.device, Stream]:
    known = {CPU: Stream(), META: Stream()}
    monkeypatch.setattr(torch.cuda, "current_stream", known.__getitem__)
    return known


def test_only_forward_passes_count(streams: dict[torch.device, Stream]) -> None:
    clock = DeviceClock([CPU], Event)
    with clock.counting():
        for spent_ms in (500, 250):
            with computing(CPU):
                streams[CPU].now_ms += spent_ms
            streams[CPU].now_ms += 10_000  # copies, and nothing to do
    assert clock.seconds() == pytest.approx(0.75)


def test_several_devices_that_compute_at_once_are_one(streams: dict[torch.device, Stream]) -> None:
    clock = DeviceClock([CPU, META], Event)
    with clock.counting(), computing(CPU), computing(META):
        streams[CPU].now_ms += 400
        streams[META].now_ms += 200
    assert clock.seconds() == pytest.approx(0.3)


def test_nothing_is_counted_where_nobody_asks(streams: dict[torch.device, Stream]) -> None:
    clock = DeviceClock([CPU], Event)
    with clock.counting(), computing(META):
        streams[META].now_ms += 400
    with computing(CPU):
        streams[CPU].now_ms += 400
    assert clock.seconds() is None


def test_a_cpu_has_no_clock_of_its_own() -> None:
    clock = DeviceClock.of(Placement(CPU, torch.float32))
    with clock.counting(), computing(CPU):
        pass
    assert clock.seconds() is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_real_device_computes_for_some_of_the_time() -> None:
    device = torch.device("cuda", 0)
    clock = DeviceClock.of(Placement(device, torch.float32))
    numbers = torch.rand((4096, 4096), device=device)
    with clock.counting(), computing(device):
        numbers @ numbers
    assert 0.0 < (clock.seconds() or 0.0) < 60.0
