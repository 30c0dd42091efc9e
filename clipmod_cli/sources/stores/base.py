"""Object stores as sources: their names, and what each of them can be asked.

`s3://bucket/key`, `gs://bucket/key` and `hf://[datasets/|spaces/]owner/name[@revision]/path`. A key is
text and never a path of this machine, wherever it came from; what follows the bucket is the key to the
letter: nothing is decoded, joined or normalised. One file beside this one speaks to each kind of store.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from clipmod_cli.errors import ItemError, MissingPackageError
from clipmod_cli.sources.stores.circuit_breaker import CircuitBreakerStore
from clipmod_cli.types import Item

SCHEMES = ("s3", "gs", "hf")

PACKAGES = {"s3": "s3fs", "gs": "gcsfs"}
"""What the `stores` extra brings for each; huggingface_hub is here anyway."""

_HF_KINDS = frozenset({"datasets", "models", "spaces"})


@dataclass(frozen=True, slots=True)
class ObjectName:
    """A name in an object store.

    Attributes:
        bucket: of the hub: the kind of repository, its owner, name and revision.
        key: what follows the slash after it; empty for the whole bucket.
    """

    scheme: str
    bucket: str
    key: str

    def named(self, key: str) -> str:
        """Return the whole name of a key in the same bucket."""
        return f"{self.scheme}://{self.bucket}/{key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectEntry:
    """An object as its store lists it.

    Attributes:
        version: what the store calls these very bytes, so that others are not read in their place.
        sha256: of the content, where the store knows it.
    """

    key: str
    size: int
    mtime_ns: int | None = None
    version: str | None = None
    sha256: str | None = None


class ObjectStore(Protocol):
    """One bucket. Every method blocks, may be called by several threads, and raises ItemError."""

    def pages(self, prefix: str) -> Iterator[Sequence[ObjectEntry]]:
        """Yield all objects whose key begins with `prefix`, in the store's own fixed order."""
        ...

    def find(self, key: str) -> ObjectEntry:
        """Return the object of this very key; raises `not_found` if there is none."""
        ...

    def near(self, key: str) -> Sequence[ObjectEntry]:
        """Return some objects about `key` in the store's order; it is most likely among them, if it is."""
        ...

    def read(self, entry: ObjectEntry, start: int, length: int) -> bytes:
        """Return `length` bytes from `start`, all within the object.

        Raises `read_error` if the object is no longer the one that was listed.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredItem(Item):
    """An item whose bytes are still in a store; `store_fetch` makes a plain Item of it."""

    store: ObjectStore = field(repr=False)
    entry: ObjectEntry


class ObjectStores:
    """The buckets that one run asks: each is opened once, when it is first named."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, str], ObjectStore] = {}

    def of(self, name: ObjectName) -> ObjectStore:
        """Return the bucket of a name.

        Raises:
            MissingPackageError: if the package for such stores is not installed.
            ItemError: `invalid_url`, if this can be no bucket.
        """
        known = self._open.get((name.scheme, name.bucket))
        if known is None:
            if not name.bucket:
                raise ItemError("invalid_url", f"no bucket is named after {name.scheme}://")
            known = self._open[name.scheme, name.bucket] = CircuitBreakerStore(_open_store(name))
        return known


def is_store(source: str) -> bool:
    """Return whether a source is a name in an object store; `./s3:/x` is a path."""
    scheme, separator, _ = source.partition("://")
    return bool(separator) and scheme in SCHEMES


def parse_store(source: str) -> ObjectName:
    """Return the parts of a name for which `is_store` holds."""
    scheme, _, rest = source.partition("://")
    if scheme != "hf":
        bucket, _, key = rest.partition("/")
        return ObjectName(scheme, bucket, key)
    parts = rest.split("/")
    count = 3 if parts[0] in _HF_KINDS else 2
    if parts[count - 1 : count] and parts[count - 1].endswith("@refs"):
        count += 2  # refs/pr/1, refs/convert/parquet
    return ObjectName(scheme, "/".join(parts[:count]), "/".join(parts[count:]))


def check_stores(sources: Iterable[str]) -> None:
    """Raise MissingPackageError if the package for one of these sources is not installed."""
    for source in sources:
        if is_store(source):
            _check_package(source.partition("://")[0])


def _check_package(scheme: str) -> None:
    package = PACKAGES.get(scheme)
    if package is not None and importlib.util.find_spec(package) is None:
        raise MissingPackageError(
            f"reading {scheme}:// needs the package {package}: pip install 'clipmod[stores]'"
        )


def _open_store(name: ObjectName) -> ObjectStore:
    _check_package(name.scheme)
    match name.scheme:
        case "s3":
            from clipmod_cli.sources.stores.s3 import S3Store

            return S3Store(name.bucket)
        case "gs":
            from clipmod_cli.sources.stores.gs import GsStore

            return GsStore(name.bucket)
        case "hf":
            from clipmod_cli.sources.stores.hub import HfStore

            return HfStore(name.bucket)
    raise ValueError(name.scheme)
