"""The queue of frames, fair by round robin: no caller waits behind another's thousands.

Data structures behind one lock, without models or threads. `device_thread` takes from it.
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
    """One request, for the device thread.

    Attributes:
        ensemble: its models.
        deadline: `time.monotonic()` after which its frames are failed without inference.
    """

    ensemble: Ensemble
    deadline: float = float("inf")
    _cancelled: threading.Event = field(default_factory=threading.Event)

    def cancel(self) -> None:
        """Skip its remaining frames."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        """Whether it was cancelled, or its deadline has passed."""
        return self._cancelled.is_set() or time.monotonic() >= self.deadline


@dataclass(frozen=True, slots=True)
class QueuedFrame:
    """A frame that waits for inference, and the future of its evidence.

    Attributes:
        can_skip_rest: called between models, for early exit; None runs all models.
    """

    frame: Frame
    measured: Measured
    caller: Caller
    can_skip_rest: CanSkipRest | None = None


class FairQueue:
    """The waiting frames of all callers. Safe to use from any thread."""

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
        """Queue frames behind the others of the same caller.

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
        """Wait for frames, and return a batch; None once closed and empty.

        One frame of each caller in turn, among callers of the same ensemble, up to its batch size.
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
        """Accept no more frames, and remove and return the waiting ones."""
        with self._changed:
            self._closed = True
            left = [one for queue in self._queues.values() for one in queue]
            self._queues.clear()
            self._changed.notify_all()
        return left

    def _next(self, ensemble: Ensemble) -> Caller | None:
        return next((caller for caller in self._queues if caller.ensemble is ensemble), None)

    def _pop(self, caller: Caller) -> QueuedFrame:
        """Return the caller's first frame, and move the caller to the end."""
        queue = self._queues.pop(caller)
        one = queue.popleft()
        if queue:
            self._queues[caller] = queue
        return one
