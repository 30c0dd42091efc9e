"""A store that is left alone for a while once it does not answer: its libraries wait long for each object."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from clipmod_cli.errors import ErrorCode, ItemError

if TYPE_CHECKING:
    from clipmod_cli.sources.stores.base import ObjectEntry, ObjectStore

SILENT_AFTER = 16
"""Requests in a row without an answer, as for the hosts of URLs."""

REST_S = 60.0
"""How long nothing is asked then; objects whose turn comes meanwhile are for the next run."""

SILENCE: frozenset[ErrorCode] = frozenset({"connect_error", "dns_error", "timeout"})

T = TypeVar("T")


class CircuitBreakerStore:
    """A store with the same methods, which fail at once while it is left alone."""

    def __init__(self, store: ObjectStore, *, rest_s: float = REST_S) -> None:
        self._store = store
        self._rest_s = rest_s
        self._lock = threading.Lock()
        self._unanswered = 0
        self._until = 0.0

    def pages(self, prefix: str) -> Iterator[Sequence[ObjectEntry]]:
        """Yield all objects below a prefix."""
        pages = self._store.pages(prefix)
        while (page := self._ask(lambda: next(pages, None))) is not None:
            yield page

    def find(self, key: str) -> ObjectEntry:
        """Return the object of this key."""
        return self._ask(lambda: self._store.find(key))

    def near(self, key: str) -> Sequence[ObjectEntry]:
        """Return some objects about a key."""
        return self._ask(lambda: self._store.near(key))

    def read(self, entry: ObjectEntry, start: int, length: int) -> bytes:
        """Return a part of an object."""
        return self._ask(lambda: self._store.read(entry, start, length))

    def _ask(self, call: Callable[[], T]) -> T:
        with self._lock:
            if self._unanswered >= SILENT_AFTER and time.monotonic() < self._until:
                raise ItemError(
                    "connect_error", f"not asked: the store left {SILENT_AFTER} requests unanswered"
                )
        try:
            answer = call()
        except ItemError as error:
            self._note(silent=error.code in SILENCE)
            raise
        self._note(silent=False)
        return answer

    def _note(self, *, silent: bool) -> None:
        with self._lock:
            self._unanswered = self._unanswered + 1 if silent else 0
            self._until = time.monotonic() + self._rest_s
