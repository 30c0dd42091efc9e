"""StoredItems → Items with their bytes, or Failures; fetched ahead, in order.

Nothing is fetched before its size is known to be within the limits. A picture is held in memory; a video
goes to a temporary file that belongs to the consumer, as with URLs.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain

from clipmod_cli.decode.formats import HEAD_BYTES, sniff
from clipmod_cli.decode.limits import DecodeLimits
from clipmod_cli.errors import ErrorCode, ItemError
from clipmod_cli.sources.ahead import prefetch
from clipmod_cli.sources.base import failure
from clipmod_cli.sources.spill import SpillFolder
from clipmod_cli.sources.stores.base import ObjectEntry, ObjectStore, StoredItem
from clipmod_cli.sources.stores.errors import store_errors
from clipmod_cli.types import Failure, Item, Media

THREADS = 32
"""A fetch mostly waits for the store, some 50 ms for an object."""

AHEAD = 2 * THREADS
"""Objects that may wait to be decoded."""

MEMORY_BYTES = 256_000_000
"""Of objects that wait to be decoded: five of the largest pictures."""

CHUNK_BYTES = 8_000_000
"""A large object is read in such chunks, so that no more of it is ever in memory."""

RETRIED: frozenset[ErrorCode] = frozenset({"read_error", "timeout"})
"""Retried once at once. Failed connections are retried by the libraries."""

SIZE_ERRORS: frozenset[ErrorCode] = frozenset({"empty_file", "file_too_large"})
"""Their records carry the size, so that resuming skips them until it changes; others are tried again."""


def fetch_stored(items: Iterable[Item | Failure], limits: DecodeLimits) -> Iterator[Item | Failure]:
    """Yield the items, StoredItems with their bytes.

    Threads start with the first StoredItem, so a scan of local files has none of them.
    """
    folder = SpillFolder()
    iterator = iter(items)
    for item in iterator:
        if isinstance(item, StoredItem):
            yield from prefetch(
                chain([item], iterator),
                lambda given: _fetch(given, limits, folder) if isinstance(given, StoredItem) else given,
                threads=THREADS,
                ahead=AHEAD,
                cost=lambda given: _cost(given, limits),
                max_bytes=MEMORY_BYTES,
            )
            return
        yield item


def _cost(given: Item | Failure, limits: DecodeLimits) -> int:
    if not isinstance(given, StoredItem):
        return 0
    size = given.entry.size
    return size if size <= limits.max_file_bytes else CHUNK_BYTES


def _fetch(stored: StoredItem, limits: DecodeLimits, folder: SpillFolder) -> Item | Failure:
    """Return an item with its bytes, or its Failure; never raises for an item."""
    item = plain(stored)
    try:
        with store_errors():
            return _read(stored, item, limits, folder)
    except ItemError as error:
        return object_failure(item, stored.entry, error)


def plain(stored: StoredItem) -> Item:
    """Return the item without its store, which cannot be sent to a worker process."""
    return Item(source=stored.source, index=stored.index, mtime_ns=stored.mtime_ns)


def object_failure(item: Item, entry: ObjectEntry | None, error: ItemError) -> Failure:
    """Return the Failure of an object, which is None if it was not found."""
    media = Media(started=time.perf_counter())
    if entry is not None and error.code in SIZE_ERRORS:
        media = replace(media, bytes=entry.size, mtime_ns=entry.mtime_ns)
    return failure(item, error, media)


def read_with_retry(store: ObjectStore, entry: ObjectEntry, start: int, length: int) -> bytes:
    """Return a part of an object, after one retry if the first read broke; raises ItemError."""
    try:
        return store.read(entry, start, length)
    except ItemError as error:
        if error.code not in RETRIED:
            raise
    return store.read(entry, start, length)


def read_chunks(store: ObjectStore, entry: ObjectEntry) -> Iterator[bytes]:
    """Yield an object's bytes in chunks; raises ItemError."""
    for start in range(0, entry.size, CHUNK_BYTES):
        yield read_with_retry(store, entry, start, min(CHUNK_BYTES, entry.size - start))


def _read(stored: StoredItem, item: Item, limits: DecodeLimits, folder: SpillFolder) -> Item:
    store, entry = stored.store, stored.entry
    if not entry.size:
        raise ItemError("empty_file", "the object is empty")
    small = entry.size <= limits.max_file_bytes
    data = read_with_retry(store, entry, 0, entry.size if small else min(HEAD_BYTES, entry.size))
    known = sniff(data)
    is_video = known is not None and known.kind == "video"
    if small and not is_video:
        return replace(item, data=data)
    limit = limits.max_video_bytes if is_video else limits.max_file_bytes
    if entry.size > limit:
        raise ItemError("file_too_large", f"the object is larger than the limit of {limit / 1e6:g} MB")
    return replace(item, spilled=spill([data] if small else read_chunks(store, entry), folder))


def spill(chunks: Iterable[bytes], folder: SpillFolder) -> str:
    """Write chunks to a new file and return its path; raises ItemError."""
    with folder.new_file() as file:
        for chunk in chunks:
            file.write(chunk)
    return file.path
