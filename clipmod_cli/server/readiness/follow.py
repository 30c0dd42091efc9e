"""Readiness: follows the reference picture, which is judged after faults in a row and while unready.

Failing requests alone do not end readiness, since one caller's pictures could make the models fail.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from typing import Final, Protocol

from clipmod_cli.errors import ErrorCode
from clipmod_cli.server.device_thread import DeviceThread
from clipmod_cli.server.readiness.reference import LineStatus

log = logging.getLogger(__name__)

FAULTS: Final[frozenset[ErrorCode]] = frozenset(
    {"model_error", "non_finite_score", "internal_error", "decode_crash", "out_of_memory"}
)
"""Failures that may be the service's own; the others are the input's."""

FAULTS_IN_A_ROW: Final = 5
"""After so many the reference picture is judged."""

CHECK_EVERY_S: Final = 5.0
"""The reference picture is judged at most so often, and while unready so often."""

DEGRADED_EVERY_S: Final = 60.0
"""The same while a model fails and the others judge: each check takes time from requests."""

PASS_SHARE: Final = 0.5
"""Of a request's deadline: a longer forward pass is overdue, since no request could wait for two."""

LEAST_PASS_S: Final = 10.0
"""No forward pass is overdue earlier: a full batch of large models on a busy processor takes seconds."""

WARMING_UP: Final = "the reference picture has not been judged yet"
DEAD: Final = "the models' thread has died: restart the service"


def pass_limit_of(deadline_s: float) -> float:
    """Return the seconds after which a forward pass is overdue, given a request's deadline."""
    return max(deadline_s * PASS_SHARE, LEAST_PASS_S)


class ReferenceJudge(Protocol):
    """Judges the reference picture; see `LineCheck`."""

    def __call__(self, copies: int = 1) -> LineStatus:
        """Return what became of it."""
        ...


@dataclass
class Readiness:
    """Whether requests can be judged, and why not. `close` it. Safe to use from any thread.

    Attributes:
        device: whose forward passes are watched.
        check: judges the reference picture.
        pass_limit_s: after which a forward pass is overdue.
    """

    device: DeviceThread
    check: ReferenceJudge
    pass_limit_s: float
    faults_in_a_row: int = FAULTS_IN_A_ROW
    _status: LineStatus | None = None
    _faults: int = 0
    _overdue: int = 0
    _is_asked: bool = False
    _changed: threading.Condition = field(default_factory=threading.Condition, repr=False)
    _closed: threading.Event = field(default_factory=threading.Event, repr=False)

    def start(self, workers: int) -> None:
        """Judge the reference picture in all of so many decoding workers, and follow it from then on.

        Returns when it is judged, or a forward pass is overdue; the thread goes on in both cases.
        """
        self.device.after_pass = self._passed
        threading.Thread(target=self._follow, args=(workers,), name="clipmod-readiness", daemon=True).start()
        with self._changed:
            self._changed.wait_for(lambda: self._status is not None, timeout=self.pass_limit_s)

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed.set()
            self._changed.notify_all()

    @property
    def fault(self) -> str | None:
        """Why no request can be judged now; None if the line works."""
        if not self.device.alive:
            return DEAD
        if self.device.pass_seconds > self.pass_limit_s:
            return self._overdue_fault
        if self._status is None:
            return WARMING_UP
        return self._status.fault

    @property
    def _overdue_fault(self) -> str:
        return f"a forward pass takes more than {self.pass_limit_s:g} s"

    @property
    def degraded(self) -> bool:
        """Whether a model failed when the reference picture was last judged."""
        return self._status is not None and self._status.degraded

    def note(self, code: ErrorCode | None) -> None:
        """Count an item's failure; None is an item that was judged."""
        if code not in FAULTS and (code is not None or not self._faults):
            return
        with self._changed:
            self._faults = 0 if code is None else self._faults + 1
            if self._faults >= self.faults_in_a_row and not self._is_asked:
                log.warning(
                    "%d failures in a row (%s): checking by the reference picture", self._faults, code
                )
                self._ask()

    def _passed(self, seconds: float) -> None:
        """Take a finished forward pass: after an overdue one the line has to prove itself."""
        if seconds <= self.pass_limit_s:
            return
        with self._changed:
            self._overdue += 1
            if self._status is not None:
                self._status = LineStatus(self._overdue_fault)
            self._ask()

    def _ask(self) -> None:
        self._is_asked = True
        self._changed.notify_all()

    def _follow(self, workers: int) -> None:
        """Judge the reference picture at once, and then whenever there is doubt."""
        self._take(self.check(workers))  # the first passes may be slow
        while not self._closed.wait(CHECK_EVERY_S):
            with self._changed:
                again_s = DEGRADED_EVERY_S if self.degraded else None
                self._changed.wait_for(self._must_check, timeout=again_s)
                if self._closed.is_set():
                    return
                overdue = self._overdue
            status = self.check()
            self._take(LineStatus(self._overdue_fault) if self._overdue != overdue else status)

    def _must_check(self) -> bool:
        is_unready = self._status is None or self._status.fault is not None
        return self._closed.is_set() or self._is_asked or is_unready

    def _take(self, status: LineStatus) -> None:
        with self._changed:
            before, self._status = self._status, status
            self._faults, self._is_asked = 0, False
            self._changed.notify_all()
        if self._closed.is_set():
            return
        if status.fault is not None and (before is None or before.fault is None):
            log.error("not ready: %s. %s", status.fault, status.detail)
        elif status.fault is None and before is not None and before.fault is not None:
            log.warning("ready again: the reference picture was judged")  # as visible as its end
