"""Whether an object is still the one that a record tells of, asked of its store a page at a time.

Records come in the order in which a store was listed, so one request answers for a thousand of them.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from typing import Any

from clipmod_cli.errors import ItemError
from clipmod_cli.sources.stores.base import ObjectEntry, ObjectName, ObjectStore, ObjectStores, parse_store
from clipmod_cli.sources.stores.fetch import CHUNK_BYTES, read_again

log = logging.getLogger(__name__)


class StoreChanges:
    """Looks objects up; remembers one page of each bucket."""

    def __init__(self) -> None:
        self._stores = ObjectStores()
        self._pages: dict[ObjectStore, dict[str, ObjectEntry]] = {}
        self._unlisted: set[ObjectStore] = set()
        self._silent: set[tuple[str, str]] = set()

    def stands(self, record: Mapping[str, Any], source: str, *, verify: bool) -> bool:
        """Return whether a record still tells of what is in the store; that of what is gone does.

        So do those of a store that cannot be asked now, which is said once.

        Raises:
            MissingPackageError: if the package for such stores is not installed.
        """
        if record["bytes"] is None and record["member"] is None:
            return False  # it was not there, or not to be had
        name = parse_store(source)
        if (name.scheme, name.bucket) in self._silent:
            return True
        try:
            store = self._stores.of(name)
            entry = self._entry(store, name)
            return _is_same(entry, record) and not (verify and _differs(store, entry, record))
        except ItemError as error:
            if error.code not in ("not_found", "permission_denied"):
                self._silent.add((name.scheme, name.bucket))
                log.warning(
                    "%s://%s cannot be asked what has changed (%s): records of it stand as they are",
                    name.scheme,
                    name.bucket,
                    error.message,
                )
            return True

    def _entry(self, store: ObjectStore, name: ObjectName) -> ObjectEntry:
        known = self._pages.get(store, {})
        if name.key not in known and store not in self._unlisted:
            try:
                known = self._pages[store] = {entry.key: entry for entry in store.near(name.key)}
            except ItemError as error:
                if error.code == "permission_denied":
                    self._unlisted.add(store)  # who may read need not be allowed to list
                elif error.code != "not_found":
                    raise
        return known.get(name.key) or store.find(name.key)


def _is_same(entry: ObjectEntry, record: Mapping[str, Any]) -> bool:
    if record["member"] is not None:
        return bool(entry.mtime_ns == record["mtime_ns"])
    if (entry.size, entry.mtime_ns) != (record["bytes"], record["mtime_ns"]):
        return False
    return None in (entry.sha256, record["sha256"]) or bool(entry.sha256 == record["sha256"])


def _differs(store: ObjectStore, entry: ObjectEntry, record: Mapping[str, Any]) -> bool:
    """Return whether the object's bytes have another hash than the record; reads all of them."""
    if record["member"] is not None or record["sha256"] is None:
        return False
    digest = hashlib.sha256()
    for start in range(0, entry.size, CHUNK_BYTES):
        digest.update(read_again(store, entry, start, min(CHUNK_BYTES, entry.size - start)))
    return bool(digest.hexdigest() != record["sha256"])
