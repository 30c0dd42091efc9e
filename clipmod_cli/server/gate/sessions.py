"""Sessions of people at `/ui`, who gave a key once: random ids in memory, bounded, ended by time.

A restart ends them all. The cookie that carries an id is `login`'s matter.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

LIFE_S: Final = 12 * 3600.0
"""A working day; then the key is asked for again."""

MOST: Final = 1000
"""More than people work with one service; beyond that the oldest session ends."""


@dataclass
class Sessions:
    """Who is logged in. Used in the event loop alone."""

    clock: Callable[[], float] = time.monotonic
    life_s: float = LIFE_S
    most: int = MOST
    _open: dict[bytes, tuple[str, float]] = field(default_factory=dict)

    def open(self, who: str) -> str:
        """Return the id of a new session of the key `who`."""
        now = self.clock()
        self._open = {key: one for key, one in self._open.items() if one[1] > now}
        while len(self._open) >= self.most:
            del self._open[next(iter(self._open))]
        made = secrets.token_urlsafe(32)
        self._open[_hidden(made)] = (who, now + self.life_s)
        return made

    def find(self, given: str) -> str:
        """Return whose session this is, or nothing if there is none or it has ended."""
        who, ends = self._open.get(_hidden(given), ("", 0.0))
        return who if ends > self.clock() else ""

    def close(self, given: str) -> None:
        """End a session, if it is there."""
        self._open.pop(_hidden(given), None)


def _hidden(given: str) -> bytes:
    # looked up by digest: how long that takes says nothing of the ids that are there
    return hashlib.sha256(given.encode(errors="replace")).digest()
