"""What is begun on a CUDA device is waited for later, in the right order; here a list stands in for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from clipmod_cli.models.device import transfer
from tests.models.vision_kit import CPU

CUDA = torch.device("cuda", 1)


def test_a_cpu_has_computed_when_it_returns() -> None:
    done: list[str] = []

    def work() -> torch.Tensor:
        done.append("work")
        return torch.arange(3.0)

    wait = transfer.submit_work(CPU, work)
    assert done == ["work"]
    assert torch.equal(wait().result, torch.arange(3.0))
    assert wait().seconds > 0.0
    assert wait() is wait()


@dataclass
class Event:
    """After `torch.cuda.Event`; notes what happens to it and on which stream."""

    name: str
    log: list[str]

    def record(self, stream: str) -> None:
        self.log.append(f"{self.name} recorded on {stream}")

    def synchronize(self) -> None:
        self.log.append(f"{self.name} waited for")

    def elapsed_time(self, other: Event) -> float:
        self.log.append(f"time from {self.name} to {other.name}")
        return 250.0


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    told: list[str] = []
    names = iter(["begun", "ended", "arrived"])
    empty, copy = torch.empty, torch.Tensor.copy_

    def unpinned(*shape: Any, pin_memory: bool = False, **more: Any) -> torch.Tensor:
        told.append("pinned" if pin_memory else "not pinned")
        return empty(*shape, **more)

    def note_copy(self: torch.Tensor, other: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
        told.append("copied, not waiting" if non_blocking else "copied")
        return copy(self, other)

    def event(*, enable_timing: bool = False, blocking: bool = False) -> Event:
        assert enable_timing, "it is asked for its time"
        assert blocking, "who waits for it would spin"
        return Event(next(names), told)

    monkeypatch.setattr(torch.cuda, "Event", event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"the stream of {device}")
    monkeypatch.setattr(torch, "empty", unpinned)
    monkeypatch.setattr(torch.Tensor, "copy_", note_copy)
    return told


def test_a_gpu_is_waited_for_once_its_result_has_arrived(log: list[str]) -> None:
    def work() -> torch.Tensor:
        log.append("work")
        return torch.arange(3.0)

    wait = transfer.submit_work(CUDA, work)
    stream = "recorded on the stream of cuda:1"
    copied = ["pinned", "copied, not waiting"]
    # an event recorded before the copy would have it read what another batch has left there
    assert log == [f"begun {stream}", "work", f"ended {stream}", *copied, f"arrived {stream}"]
    computed = wait()
    assert log[6:] == ["arrived waited for", "time from begun to ended"]
    assert torch.equal(computed.result, torch.arange(3.0))
    assert computed.seconds == 0.25


def test_what_is_returned_is_not_the_pinned_memory(log: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Evidence is kept for long, and memory that a device can reach is scarce."""
    pinned: list[torch.Tensor] = []
    empty = torch.empty

    def note(*shape: Any, **more: Any) -> torch.Tensor:
        pinned.append(empty(*shape, **more))
        return pinned[-1]

    monkeypatch.setattr(torch, "empty", note)
    result = transfer.submit_work(CUDA, lambda: torch.ones(2, 2))().result
    assert log
    assert len(pinned) == 1
    assert result.data_ptr() != pinned[0].data_ptr()
