"""An object store as a `Source`: its buckets, each opened once a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from clipmod_cli.errors import ItemError
from clipmod_cli.sources.base import Rules, Skipped
from clipmod_cli.sources.stores.base import ObjectName, ObjectStore
from clipmod_cli.sources.stores.changes import RecordCheck
from clipmod_cli.sources.stores.circuit_breaker import CircuitBreakerStore
from clipmod_cli.sources.stores.walk import InputObject, items_of, walk_store
from clipmod_cli.types import Failure, Item


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
        """Open buckets by name with `open_bucket`, which may raise ItemError; `split` finds their names."""
        self._open_bucket = open_bucket
        self._split = split
        self._buckets: dict[str, ObjectStore] = {}
        self._records = RecordCheck(self._bucket)

    def expand(self, name: str, rules: Rules, skipped: Skipped, first: int) -> Iterator[Item | Failure]:
        """Yield the Items of an object or a folder; an error of the listing is a Failure at its end."""
        index = first
        for place in self._inputs(name, rules, skipped):
            for item in items_of(place, rules, skipped, index):
                yield item
                index += 1

    def is_unchanged(self, record: Mapping[str, Any], name: str, *, verify: bool) -> bool:
        """Return whether a record still describes its object; true if the store does not answer now."""
        return self._records.is_unchanged(record, self._parse(name), verify=verify)

    def _inputs(self, name: str, rules: Rules, skipped: Skipped) -> Iterator[InputObject]:
        try:
            parsed = self._parse(name)
            yield from walk_store(parsed, self._bucket(parsed), rules, skipped)
        except ItemError as error:
            yield InputObject(source=name, error=error)

    def _parse(self, name: str) -> ObjectName:
        scheme, _, path = name.partition("://")
        return ObjectName(scheme, *self._split(path))

    def _bucket(self, name: ObjectName) -> ObjectStore:
        if name.bucket not in self._buckets:
            if not name.bucket:
                raise ItemError("invalid_url", f"no bucket is named after {name.scheme}://")
            self._buckets[name.bucket] = CircuitBreakerStore(self._open_bucket(name.bucket))
        return self._buckets[name.bucket]
