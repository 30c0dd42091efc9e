"""One name in a store → the objects that are inputs, and their Items.

A name is the object of that very key, else a folder: the keys that go on after a slash. A name that ends
in a slash is always a folder. Keys come in the store's order, a page at a time. Where neither the ending of
a key nor the listing shows what an object is, its first bytes are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from clipmod_cli.decode.formats import HEAD_BYTES, FormatKind, kind_of, sniff
from clipmod_cli.errors import ItemError
from clipmod_cli.sources.ahead import prefetch
from clipmod_cli.sources.archives.items import look_inside
from clipmod_cli.sources.base import InputPath
from clipmod_cli.sources.spill import SpillFolder
from clipmod_cli.sources.stores.base import ObjectEntry, ObjectName, ObjectStore, StoredItem
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

if TYPE_CHECKING:
    from clipmod_cli.sources.base import Rules, Skipped

MAX_ARCHIVE_BYTES = 10_000_000_000
"""As the largest video: an archive is kept in the temporary folder while it is read."""

_TEMPORARY_FOLDER = SpillFolder()


@dataclass(frozen=True, slots=True, kw_only=True)
class InputObject:
    """An object that may be an input.

    Attributes:
        rel: the key relative to the folder in which it was found; None if it was named itself.
        kind: what it is as far as that is known; None for an unknown kind.
        error: why it cannot be read.
    """

    source: str
    store: ObjectStore
    entry: ObjectEntry
    rel: str | None = None
    kind: FormatKind | None = None
    error: ItemError | None = None


def walk_store(name: ObjectName, store: ObjectStore, rules: Rules, skipped: Skipped) -> Iterator[InputObject]:
    """Yield the inputs of a name; raises ItemError where the listing fails or there is nothing."""
    found = _find(store, name.key)
    if isinstance(found, ObjectEntry):
        yield _sniff(InputObject(source=name.with_key(found.key), store=store, entry=found))
        return
    listed = _list_folder(name, store, rules, skipped, found)
    for given in prefetch(listed, _sniff, threads=THREADS, ahead=AHEAD):
        if given.kind is None and given.error is None:
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
) -> Iterator[InputObject]:
    prefix = name.key if not name.key or name.key.endswith("/") else name.key + "/"
    exists = not prefix  # a bucket may be empty, but a folder exists only through its objects
    for page in store.pages(prefix):
        for entry in page:
            exists = True
            rel = entry.key[len(prefix) :]
            if not entry.size and (not rel or rel.endswith("/")):
                continue  # some tools mark a folder so
            if reason := rules.skip_reason(rel):
                skipped.reasons[reason] += 1
            else:
                yield InputObject(source=name.with_key(entry.key), rel=rel, store=store, entry=entry)
    if not exists:
        raise missing or ItemError("not_found", "there is no object below this name")


def _sniff(given: InputObject) -> InputObject:
    """Return an input with its kind; reads the first bytes only if the key does not show the kind."""
    store, entry = given.store, given.entry
    kind = kind_of(b"", entry.key)
    if kind in ("picture", "video") or not entry.size:
        return replace(given, kind=kind)
    try:
        head = read_with_retry(store, entry, 0, min(HEAD_BYTES, entry.size))
    except ItemError as error:
        return replace(given, error=error)  # it may be a picture, so its record says that it cannot be read
    known = sniff(head)
    return replace(given, kind=known.kind if known is not None else kind and "picture")


def items_of(given: InputObject, rules: Rules, skipped: Skipped, first: int) -> Iterator[Item | Failure]:
    """Yield the item of an object, or those of its archive's members; indices count from `first`."""
    store, entry = given.store, given.entry
    if given.error is not None:
        yield object_failure(Item(source=given.source, index=first), entry, given.error)
        return
    item = StoredItem(source=given.source, index=first, mtime_ns=entry.mtime_ns, store=store, entry=entry)
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
        yield from look_inside(place, rules, skipped, first)
    finally:
        Path(file).unlink(missing_ok=True)


def _download(item: StoredItem) -> str:
    """Return the path of a temporary file with the archive's bytes; raises ItemError."""
    if item.entry.size > MAX_ARCHIVE_BYTES:
        limit = f"{MAX_ARCHIVE_BYTES / 1e9:g} GB"
        raise ItemError("file_too_large", f"the archive is larger than the limit of {limit}")
    return spill(read_chunks(item.store, item.entry), _TEMPORARY_FOLDER)
