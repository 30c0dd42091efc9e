"""A circuit breaker around a store: after many unanswered requests it fails at once for a while."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from clipmod_cli.errors import ErrorCode, ItemError
from clipmod_cli.sources.stores.base import ObjectEntry, ObjectStore

MAX_FAILURES = 16
"""Requests in a row without an answer that open the circuit, as for the hosts of URLs: each may take long."""

COOLDOWN_S = 60.0
"""How long it stays open; objects that are due meanwhile are left to the next run."""

NO_ANSWER: frozenset[ErrorCode] = frozenset({"connect_error", "dns_error", "timeout"})

T = TypeVar("T")


class CircuitBreakerStore:
    """An `ObjectStore` around another one."""

    def __init__(self, store: ObjectStore, *, cooldown_s: float = COOLDOWN_S) -> None:
        self._store = store
        self._cooldown_s = cooldown_s
        self._lock = threading.Lock()
        self._failures = 0
        self._open_until = 0.0

    def pages(self, prefix: str) -> Iterator[Sequence[ObjectEntry]]:
        """Yield all objects below a prefix."""
        pages = self._store.pages(prefix)
        while (page := self._call(lambda: next(pages, None))) is not None:
            yield page

    def find(self, key: str) -> ObjectEntry:
        """Return the object of this key."""
        return self._call(lambda: self._store.find(key))

    def near(self, key: str) -> Sequence[ObjectEntry]:
        """Return some objects about a key."""
        return self._call(lambda: self._store.near(key))

    def read(self, entry: ObjectEntry, start: int, length: int) -> bytes:
        """Return a part of an object."""
        return self._call(lambda: self._store.read(entry, start, length))

    def _call(self, request: Callable[[], T]) -> T:
        with self._lock:
            if self._failures >= MAX_FAILURES and time.monotonic() < self._open_until:
                raise ItemError(
                    "connect_error", f"not tried: the store did not answer the last {MAX_FAILURES} requests"
                )
        try:
            answer = request()
        except ItemError as error:
            self._count(failed=error.code in NO_ANSWER)
            raise
        self._count(failed=False)
        return answer

    def _count(self, *, failed: bool) -> None:
        with self._lock:
            self._failures = self._failures + 1 if failed else 0
            self._open_until = time.monotonic() + self._cooldown_s
