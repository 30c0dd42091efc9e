"""Items that are still in a store → Items with their bytes, or Failures; fetched ahead, in order.

Nothing is fetched before it is known to be within the limits. A picture is held in memory, a video goes
to the temporary folder and belongs to whoever decodes it, as with URLs.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING

from clipmod_cli.decode.formats import HEAD_BYTES, class_of, sniff
from clipmod_cli.decode.limits import DecodeLimits
from clipmod_cli.errors import ErrorCode, ItemError
from clipmod_cli.sources.ahead import Prefetch
from clipmod_cli.sources.stores.base import ObjectEntry, ObjectStore, StoredItem
from clipmod_cli.types import Failure, Item, Media

if TYPE_CHECKING:
    from clipmod_cli.sources.spill import SpillFolder

THREADS = 32
"""Most of the time is spent waiting for the store: some 50 ms for an object."""

AHEAD = 64
"""Objects that may wait to be decoded: twice what is fetched at once."""

MEMORY_BYTES = 256_000_000
"""Of objects that nobody has taken yet: five of the largest pictures."""

CHUNK_BYTES = 8_000_000
"""A large object is read in such parts, so that no more of it is ever in memory."""

AGAIN: frozenset[ErrorCode] = frozenset({"read_error", "timeout"})
"""What is tried once more at once. A connection that cannot be made is tried again by the libraries."""

TOLD_BY_SIZE: frozenset[ErrorCode] = frozenset({"empty_file", "file_too_large"})
"""Codes whose records carry the size, so that they stand while it does; other refusals are asked again."""


def fetch_stored(items: Iterable[Item | Failure], limits: DecodeLimits) -> Iterator[Item | Failure]:
    """Yield the items, each with its bytes if it came from a store; others pass through as they are.

    The threads begin with the first item from a store, so that a scan of files knows nothing of them.
    """
    iterator = iter(items)
    for item in iterator:
        if isinstance(item, StoredItem):
            yield from _fetched(chain([item], iterator), limits)
            return
        yield item


def _fetched(items: Iterable[Item | Failure], limits: DecodeLimits) -> Iterator[Item | Failure]:
    from clipmod_cli.sources.spill import SpillFolder  # late, with httpx2: a scan of files needs neither

    folder = SpillFolder()
    yield from Prefetch(
        items,
        lambda given: bring(given, limits, folder),
        threads=THREADS,
        ahead=AHEAD,
        cost=lambda given: _held(given, limits),
        max_bytes=MEMORY_BYTES,
    )


def _held(given: Item | Failure, limits: DecodeLimits) -> int:
    if not isinstance(given, StoredItem):
        return 0
    size = given.entry.size
    return size if size <= limits.max_file_bytes else CHUNK_BYTES


def bring(given: Item | Failure, limits: DecodeLimits, folder: SpillFolder) -> Item | Failure:
    """Return an item with its bytes, or why they cannot be had; never raises for an item."""
    if not isinstance(given, StoredItem):
        return given
    from clipmod_cli.sources.stores.errors import store_errors

    item = plain(given)
    try:
        with store_errors():
            return _fetch(given, item, limits, folder)
    except ItemError as error:
        return failure(item, given.entry, error)


def plain(stored: StoredItem) -> Item:
    """Return the item without its store, which no worker process could take."""
    return Item(source=stored.source, index=stored.index, mtime_ns=stored.mtime_ns)


def failure(item: Item, entry: ObjectEntry | None, error: ItemError) -> Failure:
    """Return the Failure of an item that could not be had."""
    known = entry if entry is not None and error.code in TOLD_BY_SIZE else None
    media = Media(
        started=time.perf_counter(),
        bytes=known.size if known else None,
        mtime_ns=known.mtime_ns if known else None,
    )
    return Failure(
        item=item,
        stage="source",
        code=error.code,
        message=error.message,
        media=media,
        http_status=getattr(error, "status", None),  # a FetchError's
    )


def read_with_retry(store: ObjectStore, entry: ObjectEntry, start: int, length: int) -> bytes:
    """Return a part of an object, after a second try if the first one broke; raises ItemError."""
    try:
        return store.read(entry, start, length)
    except ItemError as error:
        if error.code not in AGAIN:
            raise
    return store.read(entry, start, length)


def read_chunks(store: ObjectStore, entry: ObjectEntry) -> Iterator[bytes]:
    """Yield an object's bytes in chunks; raises ItemError."""
    for start in range(0, entry.size, CHUNK_BYTES):
        yield read_with_retry(store, entry, start, min(CHUNK_BYTES, entry.size - start))


def _fetch(stored: StoredItem, item: Item, limits: DecodeLimits, folder: SpillFolder) -> Item:
    store, entry = stored.store, stored.entry
    if not entry.size:
        raise ItemError("empty_file", "the object is empty")
    small = entry.size <= limits.max_file_bytes
    data = read_with_retry(store, entry, 0, entry.size if small else min(HEAD_BYTES, entry.size))
    name = sniff(data[:HEAD_BYTES])
    if name is None or class_of(name) != "video":
        if not small:
            raise _too_large(limits.max_file_bytes)
        return Item(source=item.source, index=item.index, mtime_ns=item.mtime_ns, data=data)
    if entry.size > limits.max_video_bytes:
        raise _too_large(limits.max_video_bytes)
    with spilled(store, entry, folder, data if small else None) as path:
        return Item(source=item.source, index=item.index, mtime_ns=item.mtime_ns, spilled=path)


@contextmanager
def spilled(
    store: ObjectStore, entry: ObjectEntry, folder: SpillFolder, data: bytes | None = None
) -> Iterator[str]:
    """Give the path of a new file with an object's bytes; it is removed only if the block raises.

    Raises:
        ItemError: if it cannot be read, or not be kept.
    """
    with folder.new_file() as file:
        if data is not None:
            file.write(data)
        else:
            for chunk in read_chunks(store, entry):
                file.write(chunk)
        yield file.path


def _too_large(limit: int) -> ItemError:
    return ItemError("file_too_large", f"the object is larger than the limit of {limit / 1e6:g} MB")
