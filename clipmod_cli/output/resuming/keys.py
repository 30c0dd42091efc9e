"""Multisets of sixteen bytes each, sorted in an array: a set of bytes takes five times the memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

_KEY = np.dtype("S16")
"""Sixteen bytes. numpy strips zeros at the end, by which hashes of one length stay distinct."""


@dataclass
class KeyCounts:
    """A multiset of keys from which some can be taken.

    Attributes:
        keys: `(n,)` of 16 bytes, sorted: each key once.
        left: `(n,)` how many of each key are not taken.
    """

    keys: NDArray[np.bytes_] = field(default_factory=lambda: np.zeros(0, dtype=_KEY))
    left: NDArray[np.uint32] = field(default_factory=lambda: np.zeros(0, dtype=np.uint32))

    @classmethod
    def of(cls, joined: bytes | bytearray) -> Self:
        """Return those of keys one after the other."""
        keys, counts = np.unique(np.frombuffer(joined, dtype=_KEY), return_counts=True)
        return cls(keys, counts.astype(np.uint32))

    def __contains__(self, key: bytes) -> bool:
        """Return whether a key was ever there."""
        return self._find(key) is not None

    def has_left(self, key: bytes) -> bool:
        """Return whether one of this key is not taken."""
        at = self._find(key)
        return at is not None and bool(self.left[at])

    def take(self, key: bytes) -> bool:
        """Take one of this key; return whether there was one left."""
        at = self._find(key)
        if at is None or not self.left[at]:
            return False
        self.left[at] -= 1
        return True

    def _find(self, key: bytes) -> int | None:
        if not len(self.keys):
            return None
        wanted = np.array(key, dtype=_KEY)
        at = int(np.searchsorted(self.keys, wanted))
        return at if at < len(self.keys) and self.keys[at] == wanted else None
