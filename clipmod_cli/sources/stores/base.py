"""What object stores share: names, entries of a listing, and the seam `ObjectStore`. Opens nothing.

Names are `s3://bucket/key`, `gs://bucket/key` and `hf://[datasets/|spaces/]owner/name[@revision]/path`. What
follows the bucket is the key, unchanged: nothing is decoded, joined or normalised, and a key is never a
path of this machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from clipmod_cli.types import Item

READ_S = 10.0
"""As for URLs."""


@dataclass(frozen=True, slots=True)
class ObjectName:
    """A name in an object store; the key is empty for the whole bucket.

    The `bucket` of the hub is the kind of repository, its owner, name and revision.
    """

    scheme: str
    bucket: str
    key: str

    def with_key(self, key: str) -> str:
        """Return the whole name of a key in the same bucket."""
        return f"{self.scheme}://{self.bucket}/{key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectEntry:
    """An object as its store lists it.

    Attributes:
        version: identifies these very bytes, so that a later version is not read in their place.
        sha256: of the content, where the store knows it.
    """

    key: str
    size: int
    mtime_ns: int | None = None
    version: str | None = None
    sha256: str | None = None


class ObjectStore(Protocol):
    """One bucket. Every method blocks, and may be called by several threads.

    It may raise ItemError, or an exception of its library that `stores.errors` translates.
    """

    def pages(self, prefix: str) -> Iterator[Sequence[ObjectEntry]]:
        """Yield all objects whose key begins with `prefix`, in the store's own fixed order."""

    def find(self, key: str) -> ObjectEntry:
        """Return the object of this very key; raises `not_found` if there is none."""

    def near(self, key: str) -> Sequence[ObjectEntry]:
        """Return one page of objects about `key` in the store's order; most likely `key` is among them."""

    def read(self, entry: ObjectEntry, start: int, length: int) -> bytes:
        """Return `length` bytes from `start`, all within the object.

        Raises `read_error` if the object is no longer the one that was listed.
        """


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredItem(Item):
    """An item whose bytes are still in a store; `stores.fetch` turns it into a plain Item."""

    store: ObjectStore = field(repr=False)
    entry: ObjectEntry
