"""One thread for a device: concurrent requests share its forward passes.

There is no timer: the next batch gathers during a forward pass, and a free device takes what is queued. A
request uses `SharedEnsemble`, which has an ensemble's interface, so that it runs the same pipeline as
`clipmod scan`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.ensemble.batch import CanSkipRest
from clipmod_cli.ensemble.ensemble import Ensemble, PendingEvidence
from clipmod_cli.errors import DeviceLostError, ErrorCode
from clipmod_cli.results import Settled
from clipmod_cli.types import Evidence, Failure, Frame, Geometry, Seen

log = logging.getLogger(__name__)

Watch = Callable[[int, float], None]
"""Called with the frames and the seconds of each forward pass."""


TIME_IS_UP = "the request's time was up"

Measured: TypeAlias = "Future[Evidence | Settled]"


POLL_S = 0.25
"""How soon the thread of a request that waits for a forward pass finds that its time is up."""


@dataclass
class Ending:
    """When all callers' time is up: a `time.monotonic()`, set once the service is ending."""

    at: float = float("inf")

    @property
    def is_past(self) -> bool:
        """Whether that time has come."""
        return time.monotonic() >= self.at


@dataclass(eq=False)
class Caller:
    """One request, for the device thread.

    Attributes:
        ensemble: its models.
        deadline: `time.monotonic()` after which its frames are failed without inference.
        ending: the end of the service, where that comes first.
        sent_by: whose request it is; None for a client of its own.
    """

    ensemble: Ensemble
    deadline: float = float("inf")
    ending: Ending = field(default_factory=Ending)
    sent_by: str | None = None
    _cancelled: threading.Event = field(default_factory=threading.Event)

    def cancel(self) -> None:
        """Skip its remaining frames."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        """Whether it was cancelled, or its time is up."""
        return self._cancelled.is_set() or time.monotonic() >= self.deadline or self.ending.is_past


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
    """The waiting frames of all requests. Safe to use from any thread.

    Clients come in turn, whatever the number of their requests, then each client's requests.
    """

    def __init__(self) -> None:
        self._clients: dict[str | Caller, dict[Caller, deque[QueuedFrame]]] = {}
        self._changed = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        with self._changed:
            return sum(len(queue) for queues in self._clients.values() for queue in queues.values())

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
                queues = self._clients.setdefault(caller.sent_by or caller, {})
                queues.setdefault(caller, deque()).extend(waiting)
                self._changed.notify()
        return [one.measured for one in waiting]

    def take(self) -> list[QueuedFrame] | None:
        """Wait for frames, and return a batch; None once closed and empty.

        One frame of each client in turn, among requests of the same ensemble, up to its batch size.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._clients or self._closed)
            if not self._clients:
                return None
            ensemble = next(iter(next(iter(self._clients.values())))).ensemble
            batch: list[QueuedFrame] = []
            while len(batch) < ensemble.batch_size and (caller := self._next(ensemble)) is not None:
                batch.append(self._pop(caller))
            return batch

    def close(self) -> list[QueuedFrame]:
        """Accept no more frames, and remove and return the waiting ones."""
        with self._changed:
            self._closed = True
            left = [one for queues in self._clients.values() for queue in queues.values() for one in queue]
            self._clients.clear()
            self._changed.notify_all()
        return left

    def _next(self, ensemble: Ensemble) -> Caller | None:
        callers = (caller for queues in self._clients.values() for caller in queues)
        return next((caller for caller in callers if caller.ensemble is ensemble), None)

    def _pop(self, caller: Caller) -> QueuedFrame:
        """Return the request's first frame, and move the request and its client to the end."""
        client = caller.sent_by or caller
        queues = self._clients.pop(client)
        queue = queues.pop(caller)
        one = queue.popleft()
        if queue:
            queues[caller] = queue
        if queues:
            self._clients[client] = queues
        return one


CLOSE_S = 5.0
"""How long closing waits for the forward pass in flight: all its requests were answered by then."""


@dataclass
class DeviceThread:
    """The thread that owns a device, and its queue. `close` it.

    Attributes:
        watch: called after a forward pass that succeeded.
        after_pass: called with the seconds of every forward pass, also of one that raised.
    """

    watch: Watch = lambda _frames, _seconds: None
    after_pass: Callable[[float], None] = lambda _seconds: None
    queue: FairQueue = field(default_factory=FairQueue)
    _thread: threading.Thread | None = None
    _pass_started: float | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._work, name="clipmod-measure", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def pass_seconds(self) -> float:
        """How long the current forward pass has taken so far; 0 between two."""
        started = self._pass_started
        return 0.0 if started is None else time.monotonic() - started

    def close(self) -> None:
        """Fail the queued frames, finish the batch in flight if it ends soon, and end the thread."""
        _answer_all(self.queue.close(), "deadline", "the service is ending")
        if self._thread is not None:
            self._thread.join(CLOSE_S)
            if self._thread.is_alive():
                log.error("a forward pass has not ended in %.0f s and is abandoned", self.pass_seconds)

    def _work(self) -> None:
        try:
            self._measure_all()
        except BaseException:
            log.critical("the device thread has died; restart the service", exc_info=True)
            raise
        finally:  # no request may wait forever
            _answer_all(self.queue.close(), "internal_error", "the device thread has died")

    def _measure_all(self) -> None:
        while (batch := self.queue.take()) is not None:
            live = [one for one in batch if not _is_cancelled(one)]
            try:
                self._measure(live)
            except DeviceLostError as e:
                _answer_all(live, "internal_error", str(e))
                raise
            except Exception as e:
                log.exception("inference of a batch of %d failed", len(live))
                _answer_all(live, "internal_error", f"inference failed: {e}")

    def _measure(self, batch: Sequence[QueuedFrame]) -> None:
        if not batch:
            return
        self._pass_started = start = time.monotonic()
        frames = [one.frame for one in batch]
        try:
            seen = list(batch[0].caller.ensemble.submit(frames, _can_skip_rest_of(batch))())
        finally:
            self._pass_started, seconds = None, time.monotonic() - start
            self.after_pass(seconds)
        self.watch(len(batch), seconds)
        for one, evidence in zip(batch, seen, strict=True):
            one.measured.set_result(evidence)


def _can_skip_rest_of(batch: Sequence[QueuedFrame]) -> CanSkipRest | None:
    """Return a function that applies each frame's own; None if no frame has one."""
    own = {one.frame: one.can_skip_rest for one in batch}
    if not any(own.values()):
        return None

    def can_skip_rest(frames: Sequence[Frame], seen: Mapping[str, Sequence[Seen]]) -> NDArray[np.bool_]:
        answers = np.zeros(len(frames), dtype=np.bool_)
        for function in {one for frame in frames if (one := own[frame]) is not None}:
            at = [index for index, frame in enumerate(frames) if own[frame] == function]
            answers[at] = function(
                [frames[index] for index in at],
                {name: [one[index] for index in at] for name, one in seen.items()},
            )
        return answers

    return can_skip_rest


def _is_cancelled(one: QueuedFrame) -> bool:
    """Fail a frame whose caller is cancelled or past its deadline, and return whether it is."""
    if one.caller.cancelled:
        one.measured.set_result(_failure(one.frame, "deadline", TIME_IS_UP))
        return True
    return False


def _answer_all(batch: Sequence[QueuedFrame], code: ErrorCode, message: str) -> None:
    for one in batch:
        if not one.measured.done():
            one.measured.set_result(_failure(one.frame, code, message))


def _failure(frame: Frame, code: ErrorCode, message: str) -> Failure:
    return Failure(
        item=frame.item, stage="infer", code=code, message=message, media=frame.media, last=frame.last
    )


@dataclass(frozen=True)
class SharedEnsemble:
    """An ensemble for one caller, whose frames share batches with those of others."""

    device: DeviceThread
    caller: Caller

    @property
    def geometries(self) -> tuple[Geometry, ...]:
        """The geometries of the members, each once."""
        return self.caller.ensemble.geometries

    @property
    def batch_size(self) -> int:
        """Frames in one forward pass."""
        return self.caller.ensemble.batch_size

    def prepare_batch(self, batch: Sequence[Frame | Settled]) -> None:
        """Do nothing: the batch of the forward pass is not known yet."""

    def submit(
        self, batch: Sequence[Frame | Settled], can_skip_rest: CanSkipRest | None = None
    ) -> PendingEvidence:
        """Queue the frames; the returned function waits for their evidence."""
        measured = iter(self._put([one for one in batch if isinstance(one, Frame)], can_skip_rest))
        places = [(one, next(measured)) if isinstance(one, Frame) else one for one in batch]
        # one by one: a caller's frames may be in several batches, and some callers stream
        return lambda: (self._wait(*one) if isinstance(one, tuple) else one for one in places)

    def _wait(self, frame: Frame, measured: Measured) -> Evidence | Settled:
        """Return a frame's evidence; a failure once the caller's time is up, whatever the device does."""
        while True:
            try:
                return measured.result(timeout=POLL_S)
            except TimeoutError:
                if self.caller.cancelled:
                    return _failure(frame, "deadline", TIME_IS_UP)

    def _put(self, frames: list[Frame], can_skip_rest: CanSkipRest | None) -> list[Measured]:
        try:
            return self.device.queue.put(self.caller, frames, can_skip_rest)
        except RuntimeError as e:
            return [_done(_failure(frame, "deadline", str(e))) for frame in frames]


def _done(result: Evidence | Settled) -> Measured:
    future: Measured = Future()
    future.set_result(result)
    return future
