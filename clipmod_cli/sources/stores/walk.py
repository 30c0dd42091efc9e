"""One source in a store → the places of its inputs, as `local` has them for files and folders.

A name is the object of that very key, else the folder of the keys that go on after a slash; one that
ends in a slash is always a folder. Keys come as the store lists them, a page at a time. What is told by
neither its name's ending nor a listing, the first bytes tell.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from clipmod_cli.decode.formats import HEAD_BYTES, MediaClass, class_of, media_class, sniff
from clipmod_cli.errors import ItemError
from clipmod_cli.sources.ahead import Prefetch
from clipmod_cli.sources.archives.items import look_inside
from clipmod_cli.sources.base import InputPath
from clipmod_cli.sources.spill import SpillFolder
from clipmod_cli.sources.stores.base import (
    ObjectEntry,
    ObjectName,
    ObjectStore,
    StoredItem,
)
from clipmod_cli.sources.stores.fetch import THREADS, failure, plain, read_with_retry, spilled
from clipmod_cli.types import Failure, Item

if TYPE_CHECKING:
    from clipmod_cli.sources.base import Rules, Skipped

PEEKED_AHEAD = 64
"""Objects whose first bytes may be asked for before their turn: twice what is asked at once."""

MAX_ARCHIVE_BYTES = 10_000_000_000
"""As the largest video: an archive has to lie in the temporary folder while it is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputObject:
    """An object that is an input, or a name for which there is none.

    Attributes:
        rel: its key relative to the folder in which it was found; None if it was named itself.
        kind: what it is, as far as that is known; None for what may be anything.
        error: why it cannot be had.
    """

    source: str
    rel: str | None = None
    store: ObjectStore | None = None
    entry: ObjectEntry | None = None
    kind: MediaClass | None = None
    error: ItemError | None = None


def walk_store(name: ObjectName, store: ObjectStore, rules: Rules, skipped: Skipped) -> Iterator[InputObject]:
    """Yield the inputs of a name; raises ItemError where the listing fails."""
    found = _find(store, name.key)
    if isinstance(found, ObjectEntry):
        yield _peek(InputObject(source=name.with_key(found.key), store=store, entry=found))
    else:
        yield from _folder(name, store, rules, skipped, found)


def _find(store: ObjectStore, key: str) -> ObjectEntry | ItemError | None:
    """Return the object of a key, or why there is none; None where the key can only be a folder's."""
    if not key or key.endswith("/"):
        return None
    try:
        return store.find(key)
    except ItemError as error:
        if error.code in ("not_found", "permission_denied"):  # who may not list is not told "not found"
            return error
        raise


def _folder(
    name: ObjectName, store: ObjectStore, rules: Rules, skipped: Skipped, missing: ItemError | None
) -> Iterator[InputObject]:
    """Yield what is below a name; raises ItemError where the listing breaks, or if there is nothing."""
    listed = _list_folder(name, store, rules, skipped, missing)
    for place in Prefetch(listed, _peek, threads=THREADS, ahead=PEEKED_AHEAD):
        if place.kind is None and place.error is None:
            skipped.reasons["other type"] += 1
        else:
            yield place


def _list_folder(
    name: ObjectName, store: ObjectStore, rules: Rules, skipped: Skipped, missing: ItemError | None
) -> Iterator[InputObject]:
    prefix = name.key if not name.key or name.key.endswith("/") else name.key + "/"
    there = not prefix  # a bucket may be empty, but a folder is only where something is in it
    for page in store.pages(prefix):
        for entry in page:
            there = True
            rel = entry.key[len(prefix) :]
            if not entry.size and (not rel or rel.endswith("/")):
                continue  # how some tools mark a folder
            if reason := _passed_over(rel, rules):
                skipped.reasons[reason] += 1
            else:
                yield InputObject(source=name.with_key(entry.key), rel=rel, store=store, entry=entry)
    if not there:
        raise missing or ItemError("not_found", "there is nothing below this name")


def _passed_over(rel: str, rules: Rules) -> str | None:
    """Return why an object is not looked at, as for files; None if it is."""
    if not rules.hidden and any(part.startswith(".") for part in rel.split("/")):
        return "hidden"
    shown = rel.replace("\n", " ")  # as for files: pathspec takes no newline for a part of a name
    if rules.excluded is not None and rules.excluded.match_file(shown):
        return "excluded"
    if rules.included is not None and not rules.included.match_file(shown):
        return "excluded"
    if rules.max_depth is not None and rel.count("/") >= rules.max_depth:
        return "depth"
    return None


def _peek(place: InputObject) -> InputObject:
    """Return a place with what is known of its kind; asks for the first bytes only if they tell more."""
    store, entry = place.store, place.entry
    if store is None or entry is None:
        return place
    kind = media_class(b"", entry.key)
    if kind in ("picture", "video") or not entry.size:
        return replace(place, kind=kind)
    try:
        head = read_with_retry(store, entry, 0, min(HEAD_BYTES, entry.size))
    except ItemError as error:
        return replace(place, error=error)  # it might be a picture: its record says that it cannot be read
    known = sniff(head)
    return replace(place, kind=class_of(known) if known is not None else kind and "picture")


def items_of(place: InputObject, rules: Rules, skipped: Skipped, first: int) -> Iterator[Item | Failure]:
    """Yield the item of an object, or those that its archive holds; indices count from `first`."""
    store, entry = place.store, place.entry
    if place.error is not None or store is None or entry is None:
        error = place.error or ItemError("not_found", "there is no such object")
        yield failure(Item(source=place.source, index=first), entry, error)
        return
    item = StoredItem(source=place.source, index=first, mtime_ns=entry.mtime_ns, store=store, entry=entry)
    if place.kind == "archive":
        yield from _unpack(item, place.rel, rules, skipped)
    else:
        yield item


def _unpack(item: StoredItem, rel: str | None, rules: Rules, skipped: Skipped) -> Iterator[Item | Failure]:
    try:
        file = _download(item)
    except ItemError as error:
        yield failure(plain(item), item.entry, error)
        return
    try:
        place = InputPath(item.source, rel, file=file, mtime_ns=item.entry.mtime_ns)
        yield from look_inside(place, rules, skipped, item.index)
    finally:
        Path(file).unlink(missing_ok=True)


@cache
def _temporary_folder() -> SpillFolder:
    return SpillFolder()


def _download(item: StoredItem) -> str:
    """Return the path of a temporary file with the archive's bytes; raises ItemError."""
    if item.entry.size > MAX_ARCHIVE_BYTES:
        limit = f"{MAX_ARCHIVE_BYTES / 1e9:g} GB"
        raise ItemError("file_too_large", f"the archive is larger than the limit of {limit}")
    with spilled(item.store, item.entry, _temporary_folder()) as path:
        return path
