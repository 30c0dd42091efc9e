"""Whose frames are measured next: every caller in turn, so that none waits behind another's thousands.

Plain data structures behind one lock; knows no model and starts no thread. The thread that
takes from here is `clipmod_cli.server.batching.device_thread`.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TypeAlias

from clipmod_cli.ensemble.batch import CanSkipRest
from clipmod_cli.ensemble.ensemble import Ensemble
from clipmod_cli.types import Evidence, Failure, Frame

Measured: TypeAlias = "Future[Evidence | Failure]"


@dataclass(eq=False)
class Caller:
    """One request, as the measuring thread sees it.

    Attributes:
        ensemble: the models that it asks.
        deadline: `time.monotonic()` after which its frames are no longer measured.
    """

    ensemble: Ensemble
    deadline: float = float("inf")
    _gone: threading.Event = field(default_factory=threading.Event)

    def cancel(self) -> None:
        """Have no more of its frames measured; nobody waits for them."""
        self._gone.set()

    @property
    def cancelled(self) -> bool:
        """Whether it left, or its time is up."""
        return self._gone.is_set() or time.monotonic() >= self.deadline


@dataclass(frozen=True, slots=True)
class QueuedFrame:
    """A frame that waits to be measured, and where what was seen in it goes.

    Attributes:
        can_skip_rest: called between models, for early exit; None runs all models.
    """

    frame: Frame
    measured: Measured
    caller: Caller
    can_skip_rest: CanSkipRest | None = None


class FairQueue:
    """The frames of all callers that wait. Safe to use from any thread."""

    def __init__(self) -> None:
        self._queues: dict[Caller, deque[QueuedFrame]] = {}
        self._changed = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        with self._changed:
            return sum(map(len, self._queues.values()))

    def put(
        self, caller: Caller, frames: list[Frame], can_skip_rest: CanSkipRest | None = None
    ) -> list[Measured]:
        """Line frames up behind the others of the same caller.

        Raises:
            RuntimeError: after `close`.
        """
        waiting = [QueuedFrame(frame, Future(), caller, can_skip_rest) for frame in frames]
        with self._changed:
            if self._closed:
                raise RuntimeError("the service is ending")
            if waiting:  # a batch may hold nothing but failures
                self._queues.setdefault(caller, deque()).extend(waiting)
                self._changed.notify()
        return [one.measured for one in waiting]

    def take(self) -> list[QueuedFrame] | None:
        """Wait for frames, and return those of one forward pass; None once closed and empty.

        One frame of each caller in turn, as long as they ask the same ensemble, up to its batch size.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._queues or self._closed)
            if not self._queues:
                return None
            ensemble = next(iter(self._queues)).ensemble
            batch: list[QueuedFrame] = []
            while len(batch) < ensemble.batch_size and (caller := self._next(ensemble)) is not None:
                batch.append(self._pop(caller))
            return batch

    def close(self) -> list[QueuedFrame]:
        """Let nothing more in, and return what still waits, which is then nobody's any more."""
        with self._changed:
            self._closed = True
            left = [one for queue in self._queues.values() for one in queue]
            self._queues.clear()
            self._changed.notify_all()
        return left

    def _next(self, ensemble: Ensemble) -> Caller | None:
        return next((caller for caller in self._queues if caller.ensemble is ensemble), None)

    def _pop(self, caller: Caller) -> QueuedFrame:
        """Return the caller's first frame, and put the caller behind all others."""
        queue = self._queues.pop(caller)
        one = queue.popleft()
        if queue:
            self._queues[caller] = queue
        return one
