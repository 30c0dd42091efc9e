"""An object store as a `Source`: its buckets, each opened once a run, their objects, and resuming.

A name is the object of that very key, else a folder: the keys that go on after a slash. A name that ends
in a slash is always a folder. Keys come in the store's order, a page at a time. Where neither the ending of
a key nor the listing shows what an object is, its first bytes are read.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from clipmod_cli.decode.formats import FormatKind, kind_of, sniff
from clipmod_cli.decode.unread import UNREAD_HEAD_BYTES, UnreadFormat, unread_format
from clipmod_cli.errors import ErrorCode, ItemError
from clipmod_cli.sources.ahead import prefetch
from clipmod_cli.sources.archives.items import look_inside
from clipmod_cli.sources.base import OLDER, InputPath, InputState, Rules, Skipped, SourceInput, same_file
from clipmod_cli.sources.spill import SpillFolder
from clipmod_cli.sources.stores.base import ObjectEntry, ObjectName, ObjectStore, StoredItem
from clipmod_cli.sources.stores.errors import store_errors
from clipmod_cli.sources.stores.fetch import (
    AHEAD,
    THREADS,
    object_failure,
    plain,
    read_chunks,
    read_with_retry,
    spill,
)
from clipmod_cli.types import Failure, Item

MAX_FAILURES = 16
"""Requests in a row without an answer that open the circuit, as for the hosts of URLs: each may take long."""

COOLDOWN_S = 60.0
"""How long it stays open; objects that are due meanwhile are left to the next run."""

NO_ANSWER: frozenset[ErrorCode] = frozenset({"connect_error", "dns_error", "timeout"})

MAX_ARCHIVE_BYTES = 10_000_000_000
"""As the largest video: an archive is kept in the temporary folder while it is read."""

_TEMPORARY_FOLDER = SpillFolder()

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

    def expand(self, name: str, rules: Rules, skipped: Skipped) -> Iterator[Item | Failure]:
        """Yield the Items of an object or a folder; an error of the listing is a Failure at its end."""
        count = 0
        try:
            parsed = self._parse(name)
            for found in _walk_store(parsed, self._bucket(parsed), rules, skipped):
                for item in _items_of(found, rules, skipped):
                    count += 1
                    yield item
            skipped.listed[name] = count
        except ItemError as error:
            skipped.unlisted.add(name)
            yield object_failure(Item(source=name, index=0), None, error)

    def list(self, name: str, rules: Rules, skipped: Skipped) -> Iterator[SourceInput]:
        """Yield the inputs of an object or a folder, archives as one; an error of the listing is the last."""
        try:
            parsed = self._parse(name)
            for found in _walk_store(parsed, self._bucket(parsed), rules, skipped):
                yield SourceInput(
                    source=found.source,
                    folder=None if found.rel is None else found.source.removesuffix(found.rel),
                    size=found.entry.size,
                    mtime_ns=found.entry.mtime_ns,
                    version=found.entry.version,
                )
        except ItemError:
            skipped.unlisted.add(name)
            yield SourceInput(source=name)

    def open(self, listed: SourceInput, rules: Rules, skipped: Skipped) -> Iterator[Item | Failure]:
        """Yield the Item of an object in the version that was listed, or the members of its archive."""
        item = Item(source=listed.source, index=0)
        try:
            parsed = self._parse(listed.source)
            store = self._bucket(parsed)
            entry = _entry_of(listed, parsed.key, store)
        except ItemError as error:
            yield object_failure(item, None, error)
            return
        given = _sniff(_InputObject(source=listed.source, rel=listed.rel, store=store, entry=entry))
        empty, count = skipped.reasons["empty archive"], 0
        for found in _items_of(given, rules, skipped):
            count += 1
            yield found
        if not count and skipped.reasons["empty archive"] == empty:
            changed = ItemError("read_error", "the object has changed since it was listed")
            yield object_failure(item, entry, changed)

    def state_of(self, record: Mapping[str, Any], name: str, *, verify: bool) -> InputState:
        """Return what became of a record's object.

        Records come in the order in which a store was listed, so one request for a page checks a thousand of
        them. If a store cannot be reached, its records are kept, with one warning a bucket.
        """
        if record["bytes"] is None and record["member"] is None:
            return "changed"  # the object was missing or unreadable
        parsed = self._parse(name)
        if parsed.bucket in self._unreachable:
            return "unchanged"
        try:
            store = self._bucket(parsed)
            entry = self._find(store, parsed)
            is_same = _matches(entry, record) and not (verify and _content_differs(store, entry, record))
        except ItemError as error:
            if error.code == "not_found":
                return "gone"
            if error.code != "permission_denied":
                self._unreachable.add(parsed.bucket)
                bucket, why = parsed.with_key(""), error.message
                log.warning("Cannot check %s for changes (%s): its records are kept as they are", bucket, why)
            return "unchanged"
        return "unchanged" if is_same else "changed"

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


def _entry_of(listed: SourceInput, key: str, store: ObjectStore) -> ObjectEntry:
    """Return the object as it was listed, as it is now if it was not; raises ItemError."""
    if listed.size is not None:
        return ObjectEntry(key=key, size=listed.size, mtime_ns=listed.mtime_ns, version=listed.version)
    if not key or key.endswith("/"):
        raise ItemError("not_found", "the folder could not be listed")
    return store.find(key)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _InputObject:
    """An object that may be an input.

    Attributes:
        rel: the key relative to the folder in which it was found; None if it was named itself.
        kind: what it is as far as that is known; None for an unknown kind.
        error: why it cannot be read.
        unread: its format if that is not read.
    """

    source: str
    store: ObjectStore
    entry: ObjectEntry
    rel: str | None = None
    kind: FormatKind | None = None
    error: ItemError | None = None
    unread: UnreadFormat | None = None


def _walk_store(
    name: ObjectName, store: ObjectStore, rules: Rules, skipped: Skipped
) -> Iterator[_InputObject]:
    """Yield the inputs of a name; raises ItemError where the listing fails or there is nothing."""
    found = _find(store, name.key)
    if isinstance(found, ObjectEntry):
        yield _sniff(_InputObject(source=name.with_key(found.key), store=store, entry=found))
        return
    listed = _list_folder(name, store, rules, skipped, found)
    for given in prefetch(listed, _sniff, threads=THREADS, ahead=AHEAD, at_once=_by_key):
        if given.unread and (reason := rules.skips_unread(given.unread)):
            skipped.add_unread(reason)
        elif given.kind is None and given.error is None:
            skipped.reasons["other type"] += 1
        else:
            yield given


def _find(store: ObjectStore, key: str) -> ObjectEntry | ItemError | None:
    """Return the object of a key, or why there is none; None where the key can only be a folder's."""
    if not key or key.endswith("/"):
        return None
    try:
        return store.find(key)
    except ItemError as error:
        if error.code in ("not_found", "permission_denied"):  # S3 needs the right to list for a "not found"
            return error
        raise


def _list_folder(
    name: ObjectName, store: ObjectStore, rules: Rules, skipped: Skipped, missing: ItemError | None
) -> Iterator[_InputObject]:
    prefix = name.key if not name.key or name.key.endswith("/") else name.key + "/"
    exists = not prefix  # a bucket may be empty, but a folder exists only through its objects
    for page in store.pages(prefix):
        for entry in page:
            exists = True
            rel = entry.key[len(prefix) :]
            if not entry.size and (not rel or rel.endswith("/")):
                continue  # some tools mark a folder so
            if reason := rules.skip_reason(rel):
                skipped.add(reason, rel)
            elif rules.is_older(entry.mtime_ns):
                skipped.reasons[OLDER] += 1
            else:
                yield _InputObject(source=name.with_key(entry.key), rel=rel, store=store, entry=entry)
    if not exists:
        raise missing or ItemError("not_found", "there is no object below this name")


def _by_key(given: _InputObject) -> _InputObject | None:
    """Return an input with its kind if that shows without its first bytes."""
    kind = kind_of(b"", given.entry.key)
    return replace(given, kind=kind) if kind in ("picture", "video") or not given.entry.size else None


def _sniff(given: _InputObject) -> _InputObject:
    """Return an input with its kind; reads the first bytes only if the key does not show the kind."""
    if (shown := _by_key(given)) is not None:
        return shown
    store, entry = given.store, given.entry
    kind = kind_of(b"", entry.key)
    try:
        head = read_with_retry(store, entry, 0, min(UNREAD_HEAD_BYTES, entry.size))
    except ItemError as error:
        return replace(given, error=error)  # it may be a picture, so its record says that it cannot be read
    if (known := sniff(head)) is not None:
        return replace(given, kind=known.kind)
    unread = unread_format(head, entry.key)
    refused = unread.error() if unread is not None and unread.counted_as is None else None
    return replace(given, kind=kind and "picture", unread=unread, error=refused)


def _items_of(given: _InputObject, rules: Rules, skipped: Skipped) -> Iterator[Item | Failure]:
    """Yield the item of an object, or those of its archive's members."""
    store, entry = given.store, given.entry
    if given.error is not None:
        yield object_failure(Item(source=given.source, index=0), entry, given.error)
        return
    item = StoredItem(source=given.source, index=0, mtime_ns=entry.mtime_ns, store=store, entry=entry)
    if given.kind != "archive":
        yield item
        return
    try:
        file = _download(item)
    except ItemError as error:
        yield object_failure(plain(item), entry, error)
        return
    try:
        place = InputPath(item.source, given.rel, file=file, mtime_ns=entry.mtime_ns)
        yield from look_inside(place, rules, skipped)
    finally:
        Path(file).unlink(missing_ok=True)


def _download(item: StoredItem) -> str:
    """Return the path of a temporary file with the archive's bytes; raises ItemError."""
    if item.entry.size > MAX_ARCHIVE_BYTES:
        limit = f"{MAX_ARCHIVE_BYTES / 1e9:g} GB"
        raise ItemError("file_too_large", f"the archive is larger than the limit of {limit}")
    return spill(read_chunks(item.store, item.entry), _TEMPORARY_FOLDER)
