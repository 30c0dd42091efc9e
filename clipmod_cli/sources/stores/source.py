"""An object store as a `Source`: its buckets, each opened once a run, its circuit breaker, and resuming."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from clipmod_cli.errors import ErrorCode, ItemError
from clipmod_cli.sources.base import Rules, Skipped, same_file
from clipmod_cli.sources.stores.base import ObjectEntry, ObjectName, ObjectStore
from clipmod_cli.sources.stores.errors import store_errors
from clipmod_cli.sources.stores.fetch import object_failure, read_chunks
from clipmod_cli.sources.stores.walk import items_of, walk_store
from clipmod_cli.types import Failure, Item

MAX_FAILURES = 16
"""Requests in a row without an answer that open the circuit, as for the hosts of URLs: each may take long."""

COOLDOWN_S = 60.0
"""How long it stays open; objects that are due meanwhile are left to the next run."""

NO_ANSWER: frozenset[ErrorCode] = frozenset({"connect_error", "dns_error", "timeout"})

log = logging.getLogger(__name__)
T = TypeVar("T")


def split_bucket(path: str) -> tuple[str, str]:
    """Return bucket and key of what follows the scheme."""
    bucket, _, key = path.partition("/")
    return bucket, key


class ObjectStoreSource:
    """The buckets of one kind of object store."""

    def __init__(
        self,
        open_bucket: Callable[[str], ObjectStore],
        *,
        split: Callable[[str], tuple[str, str]] = split_bucket,
    ) -> None:
        """Open buckets by name with `open_bucket`; `split` finds their names."""
        self._open_bucket = open_bucket
        self._split = split
        self._buckets: dict[str, ObjectStore] = {}
        self._pages: dict[str, dict[str, ObjectEntry]] = {}  # the last page read of each bucket
        self._unlistable: set[str] = set()
        self._unreachable: set[str] = set()

    def expand(self, name: str, rules: Rules, skipped: Skipped, first: int) -> Iterator[Item | Failure]:
        """Yield the Items of an object or a folder; an error of the listing is a Failure at its end."""
        index = first
        try:
            parsed = self._parse(name)
            for found in walk_store(parsed, self._bucket(parsed), rules, skipped):
                for item in items_of(found, rules, skipped, index):
                    yield item
                    index += 1
        except ItemError as error:
            yield object_failure(Item(source=name, index=index), None, error)

    def is_unchanged(self, record: Mapping[str, Any], name: str, *, verify: bool) -> bool:
        """Return whether a record still describes its object; true if the object is gone.

        Records come in the order in which a store was listed, so one request for a page checks a thousand of
        them. If a store cannot be reached, its records are kept, with one warning a bucket.
        """
        if record["bytes"] is None and record["member"] is None:
            return False  # the object was missing or unreadable
        parsed = self._parse(name)
        if parsed.bucket in self._unreachable:
            return True
        try:
            store = self._bucket(parsed)
            entry = self._find(store, parsed)
            return _matches(entry, record) and not (verify and _content_differs(store, entry, record))
        except ItemError as error:
            if error.code not in ("not_found", "permission_denied"):
                self._unreachable.add(parsed.bucket)
                bucket = parsed.with_key("")
                log.warning(
                    "Cannot check %s for changes (%s): its records are kept as they are",
                    bucket,
                    error.message,
                )
            return True

    def _parse(self, name: str) -> ObjectName:
        scheme, _, path = name.partition("://")
        return ObjectName(scheme, *self._split(path))

    def _bucket(self, name: ObjectName) -> ObjectStore:
        if name.bucket not in self._buckets:
            if not name.bucket:
                raise ItemError("invalid_url", f"no bucket is named after {name.scheme}://")
            with store_errors():
                self._buckets[name.bucket] = CircuitBreakerStore(self._open_bucket(name.bucket))
        return self._buckets[name.bucket]

    def _find(self, store: ObjectStore, name: ObjectName) -> ObjectEntry:
        page = self._pages.get(name.bucket, {})
        if name.key not in page and name.bucket not in self._unlistable:
            try:
                page = self._pages[name.bucket] = {entry.key: entry for entry in store.near(name.key)}
            except ItemError as error:
                if error.code == "permission_denied":
                    self._unlistable.add(name.bucket)  # permission to read does not include listing
                elif error.code != "not_found":
                    raise
        return page.get(name.key) or store.find(name.key)


class CircuitBreakerStore:
    """An `ObjectStore` around another one, whose exceptions it translates."""

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
            with store_errors():
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


def _matches(entry: ObjectEntry, record: Mapping[str, Any]) -> bool:
    if not same_file(record, entry.size, entry.mtime_ns):
        return False
    return (
        record["member"] is not None
        or None in (entry.sha256, record["sha256"])
        or bool(entry.sha256 == record["sha256"])
    )


def _content_differs(store: ObjectStore, entry: ObjectEntry, record: Mapping[str, Any]) -> bool:
    """Return whether the object's bytes have another hash than the record; reads all of them."""
    if record["member"] is not None or record["sha256"] is None:
        return False
    digest = hashlib.sha256()
    for chunk in read_chunks(store, entry):
        digest.update(chunk)
    return bool(digest.hexdigest() != record["sha256"])
