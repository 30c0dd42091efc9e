"""Timestamps of a stream → seconds from its start. Arithmetic only."""

from __future__ import annotations

_USUAL_STEP_S = 0.04
"""Between frames whose container tells no time: that of 25 a second."""

_FAR_S = 10.0
"""A container that says it begins longer than this before its first frame is not believed."""

_LEAST_STEP_S = 0.001
_SPLICE_S = 1.0
"""Where time goes back by more, two recordings were put together: the second one goes on where the
first one ended. Less is a container's carelessness."""


class StreamClock:
    """Turns timestamps into seconds from the start that never go back, whatever a stream claims."""

    def __init__(self, unit_s: float, start_s: float | None) -> None:
        """Count in units of `unit_s`; times are told from `start_s`, by default the first one read."""
        self._unit_s = unit_s
        self._start_s = start_s
        self._read_one = False
        self._last_s: float | None = None

    def read(self, stamp: int | None) -> float:
        """Return the time of the next frame shown, in seconds."""
        if stamp is None:
            seconds = 0.0 if self._last_s is None else self._last_s + _USUAL_STEP_S
        else:
            seconds = self.peek(stamp)
        if self._last_s is not None and seconds <= self._last_s:
            if self._last_s - seconds > _SPLICE_S:
                self._start_s = (self._start_s or 0.0) - (self._last_s - seconds) - _USUAL_STEP_S
            seconds = self._last_s + _LEAST_STEP_S
        self._last_s = seconds
        return round(seconds, 6)

    def peek(self, stamp: int) -> float:
        """Return the time that a timestamp means, without moving on."""
        if self._start_s is None or (
            not self._read_one and abs(stamp * self._unit_s - self._start_s) > _FAR_S
        ):
            self._start_s = stamp * self._unit_s
        self._read_one = True
        return max(stamp * self._unit_s - self._start_s, 0.0)
