"""Whether a record still describes its object, checked against the store one page of objects at a time.

Records come in the order in which a store was listed, so one request checks a thousand of them.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from typing import Any

from clipmod_cli.errors import ItemError
from clipmod_cli.sources.stores.base import ObjectEntry, ObjectName, ObjectStore
from clipmod_cli.sources.stores.fetch import read_chunks

log = logging.getLogger(__name__)


class RecordCheck:
    """Compares records with objects; holds the last page of each bucket."""

    def __init__(self, open_bucket: Callable[[ObjectName], ObjectStore]) -> None:
        self._open_bucket = open_bucket
        self._pages: dict[str, dict[str, ObjectEntry]] = {}
        self._unlistable: set[str] = set()
        self._unreachable: set[str] = set()

    def is_unchanged(self, record: Mapping[str, Any], name: ObjectName, *, verify: bool) -> bool:
        """Return whether a record still describes its object; true if the object is gone.

        If a store cannot be reached, its records are taken for unchanged, with one warning a bucket.
        """
        if record["bytes"] is None and record["member"] is None:
            return False  # the object was missing or unreadable
        if name.bucket in self._unreachable:
            return True
        try:
            store = self._open_bucket(name)
            entry = self._find(store, name)
            return _matches(entry, record) and not (verify and _content_differs(store, entry, record))
        except ItemError as error:
            if error.code not in ("not_found", "permission_denied"):
                self._unreachable.add(name.bucket)
                log.warning(
                    "Cannot check %s://%s for changes (%s): its records are kept as they are",
                    name.scheme,
                    name.bucket,
                    error.message,
                )
            return True

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


def _matches(entry: ObjectEntry, record: Mapping[str, Any]) -> bool:
    if record["member"] is not None:
        return bool(entry.mtime_ns == record["mtime_ns"])
    if (entry.size, entry.mtime_ns) != (record["bytes"], record["mtime_ns"]):
        return False
    return None in (entry.sha256, record["sha256"]) or bool(entry.sha256 == record["sha256"])


def _content_differs(store: ObjectStore, entry: ObjectEntry, record: Mapping[str, Any]) -> bool:
    """Return whether the object's bytes have another hash than the record; reads all of them."""
    if record["member"] is not None or record["sha256"] is None:
        return False
    digest = hashlib.sha256()
    for chunk in read_chunks(store, entry):
        digest.update(chunk)
    return bool(digest.hexdigest() != record["sha256"])
