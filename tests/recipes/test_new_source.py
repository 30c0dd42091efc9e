"""The recipe "Add a source": one class and one entry of `SOURCES`, for a source of any kind or a store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from clipmod_cli.errors import ItemError
from clipmod_cli.sources.base import InputState, Rules, Skipped, SourceInput
from clipmod_cli.sources.registry import SOURCES, SourceKind
from clipmod_cli.sources.stores.base import ObjectEntry
from clipmod_cli.sources.stores.source import ObjectStoreSource
from clipmod_cli.types import Failure, Item
from tests.end_to_end.command import SAMPLES, SHAPE_OPTIONS, Command, read_records

CONTENT = {"b/cat.png": (SAMPLES / "cat.png").read_bytes(), "b/chart.png": (SAMPLES / "cat.png").read_bytes()}


class MemorySource:
    """`mem://key`: pictures of a dictionary; a name that ends in a slash stands for all below it."""

    def expand(self, name: str, rules: Rules, skipped: Skipped) -> Iterator[Item | Failure]:  # noqa: ARG002
        key = name.removeprefix("mem://")
        keys = [one for one in CONTENT if one.startswith(key)] if key.endswith("/") else [key]
        for found in keys:
            item = Item(source=f"mem://{found}", index=0, data=CONTENT.get(found))
            if found in CONTENT:
                yield item
            else:
                yield Failure(item=item, stage="source", code="not_found", message="there is no such key")

    def list(self, name: str, rules: Rules, skipped: Skipped) -> Iterator[SourceInput]:
        return (
            SourceInput(source=item.item.source if isinstance(item, Failure) else item.source)
            for item in self.expand(name, rules, skipped)
        )

    def open(self, listed: SourceInput, rules: Rules, skipped: Skipped) -> Iterator[Item | Failure]:
        return self.expand(listed.source, rules, skipped)

    def state_of(self, record: Mapping[str, Any], name: str, *, verify: bool) -> InputState:  # noqa: ARG002
        return "unchanged" if record["status"] == "ok" else "changed"


class MemoryStore:
    """A bucket of the same dictionary: listing, ranges, archives and resuming come with the source."""

    def __init__(self, bucket: str) -> None:
        self._prefix = f"{bucket}/"

    def pages(self, prefix: str) -> Iterator[Sequence[ObjectEntry]]:
        keys = [key.removeprefix(self._prefix) for key in CONTENT if key.startswith(self._prefix + prefix)]
        yield [self.find(key) for key in keys]

    def find(self, key: str) -> ObjectEntry:
        if self._prefix + key not in CONTENT:
            raise ItemError("not_found", "there is no such key")
        return ObjectEntry(key=key, size=len(CONTENT[self._prefix + key]))

    def near(self, key: str) -> Sequence[ObjectEntry]:
        return [self.find(key)]

    def read(self, entry: ObjectEntry, start: int, length: int) -> bytes:
        return CONTENT[self._prefix + entry.key][start : start + length]


KINDS = {
    "source": SourceKind(MemorySource),
    "object store": SourceKind(lambda: ObjectStoreSource(MemoryStore)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_one_entry_adds_a_source(
    kind: str, clipmod: Command, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SOURCES, "mem", KINDS[kind])
    words = ("scan", "mem://b/", "mem://b/none.png", *SHAPE_OPTIONS, "--no-db", "-o", out)
    first = clipmod(*words)
    assert first.code == 3, first.stderr
    records = {record["source"]: record for record in read_records(out.read_bytes())}
    assert list(records) == ["mem://b/cat.png", "mem://b/chart.png", "mem://b/none.png"]
    assert [record["status"] for record in records.values()] == ["ok", "ok", "error"]
    assert records["mem://b/none.png"]["error"]["code"] == "not_found"
    again = clipmod(*words)
    assert ": 2 done" in again.stderr
    assert {record["source"] for record in read_records(out.read_bytes())} == set(records)
