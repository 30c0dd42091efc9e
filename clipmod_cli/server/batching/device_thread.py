"""One thread for a device: concurrent callers share its forward passes.

There is no timer: the next batch gathers while the last one is measured, and a device that is free
takes what is there. A caller sees an object with an ensemble's own interface (`SharedEnsemble`),
so requests go down the same line as `clipmod scan`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.ensemble.batch import CanSkipRest
from clipmod_cli.ensemble.ensemble import PendingEvidence
from clipmod_cli.errors import DeviceLostError, ErrorCode
from clipmod_cli.server.batching.fair_queue import Caller, FairQueue, Measured, QueuedFrame
from clipmod_cli.types import Evidence, Failure, Frame, Seen, View

log = logging.getLogger(__name__)

Watch = Callable[[int, float], None]
"""Is told how many frames a forward pass had, and how many seconds it took."""


def _nobody(_frames: int, _seconds: float) -> None:
    """Watch nothing."""


@dataclass
class DeviceThread:
    """The thread that owns a device, and its queue. `close` it."""

    watch: Watch = _nobody
    queue: FairQueue = field(default_factory=FairQueue)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to measure."""
        self._thread = threading.Thread(target=self._work, name="clipmod-measure", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether somebody measures."""
        return self._thread is not None and self._thread.is_alive()

    def close(self) -> None:
        """Answer what waits with a failure, finish the batch in flight, and end the thread."""
        _answer_all(self.queue.close(), "deadline", "the service is ending")
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        try:
            self._measure_all()
        except BaseException:
            log.critical(
                "nothing can be measured any more; the service has to be started anew", exc_info=True
            )
            raise
        finally:  # whatever ended the thread, nobody waits for it for ever
            _answer_all(self.queue.close(), "internal_error", "nothing can be measured any more")

    def _measure_all(self) -> None:
        while (batch := self.queue.take()) is not None:
            wanted = [one for one in batch if not _is_given_up(one)]
            try:
                self._measure(wanted)
            except DeviceLostError as e:
                _answer_all(wanted, "internal_error", str(e))
                raise
            except Exception as e:
                log.exception("a batch of %d could not be measured", len(wanted))
                _answer_all(wanted, "internal_error", f"the models could not be asked: {e}")

    def _measure(self, batch: Sequence[QueuedFrame]) -> None:
        if not batch:
            return
        begun = time.perf_counter()
        frames = [one.frame for one in batch]
        seen = list(batch[0].caller.ensemble.submit(frames, _can_skip_rest_of(batch))())
        self.watch(len(batch), time.perf_counter() - begun)
        for one, evidence in zip(batch, seen, strict=True):
            one.measured.set_result(evidence)


def _can_skip_rest_of(batch: Sequence[QueuedFrame]) -> CanSkipRest | None:
    """Return the question that puts each frame's own; None where nobody asks."""
    own = {one.frame: one.can_skip_rest for one in batch}
    if not any(own.values()):
        return None

    def can_skip_rest(frames: Sequence[Frame], seen: Mapping[str, Sequence[Seen]]) -> NDArray[np.bool_]:
        answers = np.zeros(len(frames), dtype=np.bool_)
        for question in {asked for frame in frames if (asked := own[frame]) is not None}:
            theirs = [at for at, frame in enumerate(frames) if own[frame] == question]
            answers[theirs] = question(
                [frames[at] for at in theirs],
                {name: [one[at] for at in theirs] for name, one in seen.items()},
            )
        return answers

    return can_skip_rest


def _is_given_up(one: QueuedFrame) -> bool:
    """Answer a frame whose caller's time is up, so that no forward pass is spent on it."""
    if one.caller.cancelled:
        one.measured.set_result(_failure(one.frame, "deadline", "the request's time was up"))
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
    """An ensemble as one caller sees it; its frames are measured together with those of others."""

    device: DeviceThread
    caller: Caller

    @property
    def views(self) -> tuple[View, ...]:
        """The geometries that the members want, each once."""
        return self.caller.ensemble.views

    @property
    def batch_size(self) -> int:
        """Frames in one forward pass."""
        return self.caller.ensemble.batch_size

    def prepare_batch(self, batch: Sequence[Frame | Failure]) -> None:
        """Do nothing: which frames are measured together is not known yet."""

    def submit(
        self, batch: Sequence[Frame | Failure], can_skip_rest: CanSkipRest | None = None
    ) -> PendingEvidence:
        """Put the frames into the queue, and return what waits for the evidence."""
        measured = iter(self._put([one for one in batch if isinstance(one, Frame)], can_skip_rest))
        places = [next(measured) if isinstance(one, Frame) else one for one in batch]
        # one by one: others' frames may be measured between a caller's own, and some callers stream
        return lambda: (one if isinstance(one, Failure) else one.result() for one in places)

    def _put(self, frames: list[Frame], can_skip_rest: CanSkipRest | None) -> list[Measured]:
        try:
            return self.device.queue.put(self.caller, frames, can_skip_rest)
        except RuntimeError as e:
            return [_done(_failure(frame, "deadline", str(e))) for frame in frames]


def _done(result: Evidence | Failure) -> Measured:
    future: Measured = Future()
    future.set_result(result)
    return future
