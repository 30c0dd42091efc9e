"""A picture that is erased is gone from the store and from the disk, wherever it was."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from clipmod_cli.errors import OutputError
from clipmod_cli.output.history.run import HistoryRun
from clipmod_cli.output.history.store import HistoryStore
from clipmod_cli.records import to_line, to_record
from tests.results import RUN, plain_verdict
from tests.sinks.rows import info, warnings_in
from tests.sinks.serve import NOW, hosted, keep_files, left, request, serving

LONG_AGO = NOW - timedelta(days=100)
ROWS = (
    hosted("picture-one-1", name="a.jpg", sha256="a" * 64),
    hosted("picture-two-2", name="b.jpg", sha256="b" * 64),
    hosted("picture-old-3", name="c.jpg", sha256="a" * 64, hosted_at=LONG_AGO),
)
WANTED: tuple[tuple[dict[str, Any], set[str]], ...] = (
    ({"source": "b.jpg"}, {"picture-two-2"}),
    ({"sha256": "A" * 64}, {"picture-one-1", "picture-old-3"}),
    ({"before": NOW - timedelta(days=1)}, {"picture-old-3"}),
    ({"source": "picture"}, set()),
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return the folder of hosted pictures, with all of `ROWS` in it."""
    folder = tmp_path / "data"
    for row in ROWS:
        for path in keep_files(folder, row):
            os.utime(path, (row.hosted_at.timestamp(), row.hosted_at.timestamp()))
    return folder


@pytest.fixture
def store(store: HistoryStore, data: Path) -> HistoryStore:
    """Return a store that knows where hosted pictures are."""
    return HistoryStore(store.path, data_folder=data)


def serve_pictures(store: HistoryStore) -> None:
    store.register()
    serving(store).finish({}, 0)


def kept(store: HistoryStore) -> set[str]:
    return {row[0] for row in store.query("SELECT image_id FROM hosted").rows}


def assert_gone(store: HistoryStore, data: Path, gone: set[str]) -> None:
    stays = {row.image_id for row in ROWS} - gone
    assert kept(store) == stays
    names = {(one, f"{one}.json", f"some_{one[::-1]}.json") for one in stays}
    assert left(data) == {name for three in names for name in three}


@pytest.mark.parametrize(("wanted", "gone"), WANTED)
def test_rows_and_files_go_together(
    store: HistoryStore, data: Path, wanted: dict[str, Any], gone: set[str]
) -> None:
    serve_pictures(store)
    assert store.forget(**wanted).image_ids == gone
    assert_gone(store, data, gone)
    assert store.forget(**wanted).image_ids == set()


@pytest.mark.parametrize(("wanted", "gone"), WANTED)
def test_files_go_without_a_store(
    store: HistoryStore, data: Path, wanted: dict[str, Any], gone: set[str]
) -> None:
    assert store.forget(**wanted).image_ids == gone
    assert left(data) == {name for name in left(data) if not any(one in name for one in gone)}
    assert (data / "hosted" / "picture-one-1").exists() == ("picture-one-1" not in gone)
    assert not store.path.parent.exists()


@pytest.mark.parametrize(("wanted", "gone"), WANTED)
def test_whoever_erases_need_not_know_the_folder(
    store: HistoryStore, data: Path, wanted: dict[str, Any], gone: set[str]
) -> None:
    serve_pictures(store)
    assert HistoryStore(store.path, data_folder=data / "another").forget(**wanted).image_ids == gone
    assert_gone(store, data, gone)


def test_a_picture_is_in_the_table_as_long_as_its_file_is_there(store: HistoryStore, data: Path) -> None:
    serve_pictures(store)
    one = ROWS[0]
    assert store.query("SELECT * EXCLUDE (hosted_at, expires_at) FROM hosted WHERE name = 'a.jpg'").rows == [
        (one.image_id, one.sha256, one.name, one.format, one.bytes, str(data))
    ]
    (data / "hosted" / f"{one.image_id}.json").unlink()
    assert kept(store) == {row.image_id for row in ROWS[1:]}
    with duckdb.connect(str(store.path), read_only=True) as connection:
        assert len(connection.execute("FROM hosted").fetchall()) == 2
    shutil.rmtree(data)
    assert kept(store) == set()


def test_the_same_picture_sent_once_more_is_another_matter(store: HistoryStore, data: Path) -> None:
    def send(index: int) -> None:
        record = to_record(plain_verdict(index, source="b.jpg"), RUN)
        run.add(to_line(record.model_copy(update={"run_id": "serve-run"})))
        run.add_request(request(index, error="b.jpg is invalid"))

    run = serving(store)
    send(0)
    store.forget(source="b.jpg")
    send(1)
    again = hosted("picture-new-4", name="b.jpg")
    keep_files(data, again)
    expected = [(1,)], [(None,), ("b.jpg is invalid",)]
    for step in (lambda: None, run.tick, store.maintain, lambda: run.finish({}, 0)):
        step()
        items = store.query('SELECT "index" FROM items').rows
        assert (items, store.query("SELECT error FROM requests ORDER BY number").rows) == expected
    assert (data / "hosted" / again.image_id).exists()


def test_requests_stay_but_name_nothing_that_was_forgotten(store: HistoryStore) -> None:
    run = serving(store)
    run.add_request(request(0, error="cannot read b.jpg"))
    run.add_request(request(1, error="too large"))
    run.finish({}, 0)
    store.forget(source="b.jpg")
    assert store.query("SELECT error FROM requests ORDER BY number").rows == [(None,), ("too large",)]
    sealed = store.query("SELECT count(*) FROM requests WHERE contains(error, 'cannot read b')").rows
    assert sealed == [(0,)]


def test_requests_go_by_age(store: HistoryStore) -> None:
    run = serving(store)
    run.add_request(request(0))
    run.finish({}, 0)
    since = datetime.now(UTC)
    later = HistoryRun(store, info("later"))
    later.add_request(request(1))
    assert store.forget(before=since).records == 0
    later.finish({}, 0)
    assert store.query("SELECT request_id FROM requests").rows == [("request-1",)]
    store.forget(before=datetime.now(UTC) + timedelta(days=1))
    assert store.stats()["runs"] == []


def test_old_pictures_go_by_themselves(store: HistoryStore, data: Path) -> None:
    keeper = HistoryStore(store.path, retention_days=30, data_folder=data)
    serve_pictures(keeper)
    assert_gone(store, data, {"picture-old-3"})


@pytest.fixture
def stuck(data: Path) -> Iterator[Path]:
    """Put something that cannot be removed in a picture's place."""
    path = data / "hosted" / "picture-old-3"
    path.unlink()
    path.mkdir()
    (path / "x").touch()
    yield path
    shutil.rmtree(path, ignore_errors=True)


def test_a_file_that_cannot_be_erased_is_named(store: HistoryStore, stuck: Path) -> None:
    serve_pictures(store)
    with pytest.raises(OutputError, match=f"cannot erase {stuck}"):
        store.forget(sha256="a" * 64)
    shutil.rmtree(stuck)
    assert store.forget(sha256="a" * 64).image_ids >= {"picture-old-3"}


def test_a_file_that_cannot_be_erased_holds_up_no_run(
    store: HistoryStore, stuck: Path, caplog: pytest.LogCaptureFixture
) -> None:
    serve_pictures(HistoryStore(store.path, retention_days=30, data_folder=stuck.parents[1]))
    assert len(warnings_in(caplog)) == 1
    assert str(stuck) in warnings_in(caplog)[0]


def test_an_id_is_never_a_path(store: HistoryStore, data: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.touch()
    for image_id in ("../../precious", str(precious), ".."):
        text = json.dumps({"name": "x", "image_id": image_id})
        (data / "hosted" / f"{image_id.replace('/', '')}.json").write_text(text)
    store.register()
    store.forget(source="x")
    assert precious.exists()
    assert left(data / "hosted") >= {row.image_id for row in ROWS}


def test_what_says_nothing_is_left_alone(store: HistoryStore, data: Path) -> None:
    strangers = {"broken.json": b"\xff{", "list.json": b"[1]", "notes.txt": b"b.jpg", "short": b""}
    for name, content in strangers.items():
        (data / "predictions" / name).write_bytes(content)
    (data / "hosted" / "short.json").write_text(json.dumps({"name": "b.jpg"}))
    store.forget(source="b.jpg")
    assert set(strangers) <= left(data)
    assert "short.json" not in left(data)
