"""How much a folder holds: the oldest files make room for new ones. Touches no file."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptFile:
    """A kept file: its size in bytes, when it was written and when it expires (seconds since 1970)."""

    size: int
    written_at: float
    expires_at: float


@dataclass
class QuotaLedger:
    """The kept files by key, oldest first. Safe to use from any thread.

    Attributes:
        most_bytes: of all together.
        most_files: how many.
    """

    most_bytes: int
    most_files: int
    _files: dict[str, KeptFile] = field(default_factory=dict, repr=False)
    _pinned: set[str] = field(default_factory=set, repr=False)
    _bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def reserve(self, key: str, file: KeptFile) -> list[str] | None:
        """Make room for a new file and pin it; return the keys that must go, None if there is no room.

        A pinned file is never evicted: its link is in an answer that is not sent yet.
        """
        with self._lock:
            evicted = self._excess(file.size, 1)
            if evicted is None:
                return None
            for old in evicted:
                self._drop(old)
            self._add(key, file)
            self._pinned.add(key)
            return evicted

    def unpin(self, key: str) -> None:
        """Let a file be evicted from now on."""
        with self._lock:
            self._pinned.discard(key)

    def drop(self, key: str) -> None:
        """Count a file no longer."""
        with self._lock:
            self._drop(key)

    def adopt(self, found: dict[str, KeptFile], gone: Iterable[str]) -> list[str]:
        """Count files of other processes and no longer those that are `gone`; return the keys over the quota.

        A pinned file is not gone: it may be being written.
        """
        with self._lock:
            for key in set(gone) - self._pinned:
                self._drop(key)
            for key, file in found.items():
                if key not in self._files:
                    self._add(key, file)
            if found:
                self._files = dict(sorted(self._files.items(), key=lambda one: one[1].written_at))
            over = self._excess(0, 0)
            evicted = [key for key in self._files if key not in self._pinned] if over is None else over
            for key in evicted:
                self._drop(key)
            return evicted

    def keys(self) -> set[str]:
        """Return the keys of all files."""
        with self._lock:
            return set(self._files)

    def expired(self, now: float) -> list[str]:
        """Return the keys of the files that have expired."""
        with self._lock:
            return [key for key, file in self._files.items() if file.expires_at <= now]

    def __len__(self) -> int:
        """Return the number of files."""
        with self._lock:
            return len(self._files)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        with self._lock:
            return self._bytes

    def _excess(self, size: int, files: int) -> list[str] | None:
        """Return the oldest keys that must go before so much is added; None if that is not enough."""
        over_bytes = self._bytes + size - self.most_bytes
        over_files = len(self._files) + files - self.most_files
        evicted: list[str] = []
        for key, file in self._files.items():
            if over_bytes <= 0 and over_files <= 0:
                break
            if key not in self._pinned:
                evicted.append(key)
                over_bytes -= file.size
                over_files -= 1
        return evicted if over_bytes <= 0 and over_files <= 0 else None

    def _add(self, key: str, file: KeptFile) -> None:
        self._files[key] = file
        self._bytes += file.size

    def _drop(self, key: str) -> None:
        file = self._files.pop(key, None)
        self._pinned.discard(key)
        if file is not None:
            self._bytes -= file.size


@dataclass
class AnswerPins:
    """The files that one answer names; `release` when it is sent. Safe to use from any thread."""

    _pins: list[tuple[QuotaLedger, str]] = field(default_factory=list, repr=False)
    _released: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, ledger: QuotaLedger, key: str) -> None:
        """Keep a pinned file pinned until `release`; after that it is unpinned at once."""
        with self._lock:
            if not self._released:
                self._pins.append((ledger, key))
                return
        ledger.unpin(key)

    def release(self) -> None:
        """Unpin all files."""
        with self._lock:
            self._released = True
            pins, self._pins = self._pins, []
        for ledger, key in pins:
            ledger.unpin(key)
