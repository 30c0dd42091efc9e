"""A picture that is erased is gone from the store and from the disk, wherever it was."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from clipmod_cli.errors import OutputError
from clipmod_cli.output.history.store import HistoryStore
from clipmod_cli.records import to_line, to_record
from tests.results import RUN, plain_verdict
from tests.sinks.rows import warnings_in
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
    return HistoryStore(store.path, merge_every_s=3600, data_folder=data)


def serve_pictures(store: HistoryStore) -> None:
    run = serving(store)
    for row in ROWS:
        run.add_hosted(row)
    run.finish({}, 0)


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


@pytest.mark.parametrize(("wanted", "gone"), WANTED)
def test_a_living_server_forgets_what_it_still_holds_back(
    store: HistoryStore, data: Path, wanted: dict[str, Any], gone: set[str]
) -> None:
    run = serving(store)
    for row in ROWS:
        run.add_hosted(row)
    HistoryStore(store.path).forget(**wanted)  # it can know nothing of the folder yet
    run.finish({}, 0)
    assert_gone(store, data, gone)
    assert store.query("SELECT * FROM erasures").rows == []


@pytest.mark.parametrize("sealed", [False, True])
def test_one_hosted_picture_is_forgotten_by_its_id(store: HistoryStore, sealed: bool) -> None:
    run = serving(store)
    run.add(
        to_line(to_record(plain_verdict(0, source="a.jpg"), RUN).model_copy(update={"run_id": "serve-run"}))
    )
    for row in ROWS:
        run.add_hosted(row)
    if sealed:
        run.flush()
    store.forget_hosted({ROWS[0].image_id})
    run.finish({}, 0)
    assert kept(store) == {row.image_id for row in ROWS[1:]}
    assert store.query("SELECT * FROM erasures").rows == []
    assert store.query("SELECT count(*) FROM items").rows == [(1,)], "the record of the verdict stays"


def test_the_same_picture_sent_once_more_is_another_matter(store: HistoryStore) -> None:
    def send(image_id: str, index: int) -> None:
        record = to_record(plain_verdict(index, source="b.jpg"), RUN)
        run.add(to_line(record.model_copy(update={"run_id": "serve-run"})))
        run.add_hosted(hosted(image_id, name="b.jpg"))
        run.add_request(request(index, error="b.jpg is invalid"))

    run = serving(store)
    send("before-it", 0)
    store.forget(source="b.jpg")
    run.flush()
    send("after-it", 1)
    run.finish({}, 0)
    assert kept(store) == {"after-it"}
    assert store.query('SELECT "index" FROM items').rows == [(1,)]
    errors = store.query("SELECT error FROM requests ORDER BY number").rows
    assert errors == [(None,), ("b.jpg is invalid",)]


def test_requests_stay_but_name_nothing_that_was_forgotten(store: HistoryStore) -> None:
    run = serving(store)
    run.add_request(request(0, error="cannot read b.jpg"))
    run.add_request(request(1, error="too large"))
    run.finish({}, 0)
    store.forget(source="b.jpg")
    assert store.query("SELECT error FROM requests ORDER BY number").rows == [(None,), ("too large",)]
    assert b"cannot read b" not in store.path.read_bytes()


def test_requests_go_by_age(store: HistoryStore) -> None:
    run = serving(store)
    run.add_request(request(0, requested_at=LONG_AGO))
    run.add_request(request(1))
    assert store.forget(before=NOW - timedelta(days=1)).records == 0
    run.finish({}, 0)  # what it held back, too
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


def test_a_file_that_cannot_be_erased_is_named_and_keeps_its_row(store: HistoryStore, stuck: Path) -> None:
    serve_pictures(store)
    with pytest.raises(OutputError, match=f"cannot erase {stuck}"):
        store.forget(sha256="a" * 64)
    assert kept(store) == {row.image_id for row in ROWS}
    shutil.rmtree(stuck)
    assert store.forget(sha256="a" * 64).image_ids == {"picture-one-1", "picture-old-3"}


def test_a_file_that_cannot_be_erased_holds_up_no_run(
    store: HistoryStore, stuck: Path, caplog: pytest.LogCaptureFixture
) -> None:
    serve_pictures(HistoryStore(store.path, retention_days=30, data_folder=stuck.parents[1]))
    assert len(warnings_in(caplog)) == 1
    assert str(stuck) in warnings_in(caplog)[0]
    assert kept(store) == {row.image_id for row in ROWS}


def test_an_id_is_never_a_path(store: HistoryStore, data: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.touch()
    run = serving(store)
    for image_id in ("../../precious", str(precious), ".."):
        run.add_hosted(hosted(image_id, name="x"))
    run.finish({}, 0)
    (data / "hosted" / "..precious.json").write_text('{"name": "x", "image_id": "../../precious"}')
    assert len(store.forget(source="x").image_ids) == 3
    assert precious.exists()


def test_what_says_nothing_is_left_alone(store: HistoryStore, data: Path) -> None:
    strangers = {"broken.json": b"\xff{", "list.json": b"[1]", "notes.txt": b"b.jpg", "short": b""}
    for name, content in strangers.items():
        (data / "predictions" / name).write_bytes(content)
    (data / "hosted" / "short.json").write_text(json.dumps({"name": "b.jpg"}))
    store.forget(source="b.jpg")
    assert set(strangers) <= left(data)
    assert "short.json" not in left(data)


def test_a_prediction_of_a_picture_that_is_no_longer_hosted_goes_too(store: HistoryStore, data: Path) -> None:
    serve_pictures(store)
    for name in ("picture-two-2", "picture-two-2.json"):
        (data / "hosted" / name).unlink()
    store.forget(sha256="b" * 64)
    assert not any(name.startswith("some_2-owt") for name in left(data))
