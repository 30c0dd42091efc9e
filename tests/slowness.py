"""Tells how slow this machine is just now, for promises that are made in seconds."""

from __future__ import annotations

import time

SPUN_S = 0.2
"""Of processor time: long enough for others to come in between."""


def slowness() -> float:
    """Return how many times longer than on an idle machine work takes here now, at least 1.

    A promise of ten seconds is kept by an idle machine; a limit of ten times this is kept by a busy one
    too, and still broken by what waits too long.
    """
    begun, spun = time.monotonic(), time.thread_time()
    while time.thread_time() - spun < SPUN_S:
        pass
    return max(1.0, (time.monotonic() - begun) / SPUN_S)
