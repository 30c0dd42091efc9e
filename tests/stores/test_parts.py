"""The parts that need no server: order, budgets, patience, and what errors become."""

from __future__ import annotations

import importlib.util
import re
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipmod_cli.decode.limits import DecodeLimits
from clipmod_cli.errors import ErrorCode, ItemError, MissingPackageError
from clipmod_cli.install import install_command
from clipmod_cli.sources.ahead import prefetch
from clipmod_cli.sources.base import Rules
from clipmod_cli.sources.registry import expand, scheme_of
from clipmod_cli.sources.stores import fetch, source
from clipmod_cli.sources.stores.base import ObjectEntry, StoredItem
from clipmod_cli.sources.stores.fetch import fetch_stored
from clipmod_cli.sources.stores.source import CircuitBreakerStore
from clipmod_cli.types import Failure, Item
from tests.end_to_end.command import Command
from tests.stores.servers import sample


class Shelf:
    """A store in memory that counts what it is asked and can fail."""

    def __init__(self, content: dict[str, bytes], *errors: ErrorCode) -> None:
        self.content = content
        self.errors = list(errors)
        self.parts: list[int] = []

    def pages(self, prefix: str) -> Iterator[Sequence[ObjectEntry]]:
        yield [
            ObjectEntry(key=key, size=len(data))
            for key, data in self.content.items()
            if key.startswith(prefix)
        ]

    def find(self, key: str) -> ObjectEntry:
        return ObjectEntry(key=key, size=len(self.content[key]), mtime_ns=7)

    def near(self, key: str) -> Sequence[ObjectEntry]:
        return [self.find(key)]

    def read(self, entry: ObjectEntry, start: int, length: int) -> bytes:
        self.parts.append(length)
        if self.errors:
            raise ItemError(self.errors.pop(0), "no")
        return self.content[entry.key][start : start + length]


def stored(shelf: Shelf, key: str, index: int = 0) -> StoredItem:
    return StoredItem(source=f"s3://b/{key}", index=index, mtime_ns=7, store=shelf, entry=shelf.find(key))


@settings(max_examples=30)
@given(
    sizes=st.lists(st.integers(0, 30), max_size=30),
    threads=st.integers(1, 5),
    ahead=st.integers(1, 8),
    most=st.integers(1, 40),
)
def test_work_ahead_keeps_order_and_budget(sizes: list[int], threads: int, ahead: int, most: int) -> None:
    lock, held, peak, begun = threading.Lock(), [0], [0], [0]

    def work(size: int) -> int:
        with lock:
            begun[0] += 1
            held[0] += size
            if held[0] > size:  # one that is too large is had alone
                peak[0] = max(peak[0], held[0])
        return size

    def at_once(size: int) -> int | None:
        return None if size % 3 else work(size)

    got = []
    line = prefetch(
        sizes, work, threads=threads, ahead=ahead, at_once=at_once, cost=lambda size: size, max_bytes=most
    )
    for taken, size in enumerate(line, 1):
        with lock:
            held[0] -= size
            assert begun[0] <= taken + ahead
        got.append(size)
    assert got == sizes
    assert peak[0] <= most + max(sizes, default=0)  # a result counts here until it is seen


def test_a_slow_producer_holds_no_result_back() -> None:
    more = threading.Event()

    def produce() -> Iterator[int]:
        yield 1
        assert more.wait(100)
        yield 2

    line = prefetch(produce(), lambda one: one * 10, threads=2, ahead=4)
    assert next(line) == 10
    more.set()
    assert list(line) == [20]


def test_what_the_producer_raises_comes_after_all_results() -> None:
    def produce() -> Iterator[int]:
        yield 1
        raise ItemError("timeout", "gone")

    line = prefetch(produce(), str, threads=2, ahead=4)
    assert next(line) == "1"
    with pytest.raises(ItemError, match="gone"):
        next(line)


def test_leaving_early_ends_the_producer() -> None:
    ended = threading.Event()

    def produce() -> Iterator[int]:
        try:
            yield from range(1000)
        finally:
            ended.set()

    line = prefetch(produce(), str, threads=2, ahead=4)
    assert next(line) == "0"
    line.close()
    assert ended.wait(100)


def test_only_what_is_stored_is_fetched() -> None:
    shelf = Shelf({"a.png": sample("cat.png")})
    path, lost = (
        Item(source="b.png", index=0),
        Failure(item=Item(source="c", index=2), stage="source", code="not_found", message=""),
    )
    got = list(fetch_stored([path, stored(shelf, "a.png", 1), lost], DecodeLimits()))
    assert (got[0], got[2]) == (path, lost)
    assert isinstance(got[1], Item)
    assert type(got[1]) is Item  # no store goes to a worker
    assert (got[1].data, got[1].mtime_ns, got[1].index) == (sample("cat.png"), 7, 1)


@pytest.mark.parametrize(
    ("errors", "code", "requests"),
    [
        (("read_error",), None, 2),
        (("timeout", "timeout"), "timeout", 2),
        (("permission_denied",), "permission_denied", 1),
        (("connect_error",), "connect_error", 1),
    ],
)
def test_what_broke_is_tried_once_more(
    errors: tuple[ErrorCode, ...], code: str | None, requests: int
) -> None:
    shelf = Shelf({"a.png": sample("cat.png")}, *errors)
    (got,) = fetch_stored([stored(shelf, "a.png")], DecodeLimits())
    assert (got.code if isinstance(got, Failure) else None) == code
    assert len(shelf.parts) == requests


def test_a_large_video_is_never_wholly_in_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(fetch, "CHUNK_BYTES", 1000)
    film = b"\x1a\x45\xdf\xa3" + bytes(4321)
    shelf = Shelf({"film.mkv": film})
    limits = DecodeLimits(max_file_bytes=2000, max_video_bytes=5000)
    (got,) = fetch_stored([stored(shelf, "film.mkv")], limits)
    assert isinstance(got, Item)
    assert got.spilled is not None
    assert Path(got.spilled).read_bytes() == film
    assert max(shelf.parts) == 1024
    Path(got.spilled).unlink()
    (lost,) = fetch_stored(
        [stored(shelf, "film.mkv")], DecodeLimits(max_file_bytes=2000, max_video_bytes=4000)
    )
    assert isinstance(lost, Failure)
    assert lost.code == "file_too_large"
    assert lost.media is not None
    assert (lost.media.bytes, lost.media.mtime_ns) == (len(film), 7)


def test_a_silent_store_is_left_alone_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(source, "time", SimpleNamespace(monotonic=lambda: now))
    silence: list[ErrorCode] = ["timeout"] * source.MAX_FAILURES
    shelf = Shelf({"a": b"x"}, *silence)
    store = CircuitBreakerStore(shelf, cooldown_s=60)
    entry = shelf.find("a")
    for _ in range(source.MAX_FAILURES):
        with pytest.raises(ItemError, match="no"):
            store.read(entry, 0, 1)
    asked = len(shelf.parts)
    with pytest.raises(ItemError, match="not tried") as left:
        store.find("a")
    assert left.value.code == "connect_error"
    assert len(shelf.parts) == asked
    now += 61
    assert store.read(entry, 0, 1) == b"x"


def test_a_missing_package_names_the_command_that_brings_it(
    clipmod: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingPackageError, match=re.escape(install_command("stores"))):
        list(expand(["s3://bucket/"], Rules()))
    run = clipmod("scan", "gs://bucket/")
    assert run.code == 4
    assert install_command("stores") in run.stderr
    assert "Traceback" not in run.stderr


def test_a_path_is_no_name_in_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s3:" / "b").mkdir(parents=True)
    (tmp_path / "s3:" / "b" / "a.png").write_bytes(b"x")
    assert [item.source for item in expand(["./s3:/b"], Rules()) if isinstance(item, Item)] == [
        "./s3:/b/a.png"
    ]
    assert not any(map(scheme_of, ["s3:/b", "./s3://b", "az://b", "S3://b", "/s3://b", ""]))
