"""What is erased is gone, wherever it was."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from clipmod_cli.errors import OutputError
from clipmod_cli.output.history.folder import load_inventory
from clipmod_cli.output.history.run import HistoryRun
from clipmod_cli.output.history.store import HistoryStore
from clipmod_cli.records import to_line, to_record
from tests.results import RUN, plain_animation, plain_verdict
from tests.sinks.rows import fill, info, leave_behind, lines, numbers, stored


def content_of(store: HistoryStore) -> bytes:
    return b"".join(path.read_bytes() for path in store.path.parent.rglob("*") if path.is_file())


def test_forgetting_a_source_leaves_no_byte_of_it(store: HistoryStore) -> None:
    name = "photos/someone-in-particular-7731.jpg"
    run = HistoryRun(store, replace(info(), command=f"clipmod scan {name}"))
    for index, source in enumerate([name, None, name, "photos/someone"]):
        run.add(to_line(to_record(plain_verdict(index, source=source), RUN)))
    run.add(to_line(to_record(plain_animation(4), RUN)))
    run.finish({}, 0)
    assert store.query(f"SELECT count(*) FROM items WHERE source = '{name}'").rows == [(2,)]  # noqa: S608
    assert store.forget(source=name).records == 2
    assert numbers(store) == [1, 3, 4]
    assert store.query("SELECT count(*) FROM segments").rows == [(2,)]
    assert b"someone-in-particular" not in content_of(store)
    assert store.forget(source=name).records == 0


def test_forgetting_a_content_takes_its_segments_too(store: HistoryStore) -> None:
    run = HistoryRun(store, info())
    for index in range(3):
        run.add(to_line(to_record(plain_animation(index), RUN)))
    run.finish({}, 0)
    assert store.forget(sha256=f"{1:064X}").records == 1
    assert numbers(store) == [0, 2]
    assert store.query('SELECT DISTINCT "index" FROM segments ORDER BY 1').rows == [(0,), (2,)]


def test_members_of_an_archive_at_a_url_are_records_of_their_own(store: HistoryStore) -> None:
    run = HistoryRun(store, info())
    film = to_record(plain_animation(0), RUN)  # all have the position of the URL in its list
    members = [
        film.model_copy(update={"member": name, "sha256": content * 64})
        for name, content in [("a.gif", "a"), ("b.gif", "b"), ("b.gif", "c")]
    ]
    for member in members:
        run.add(to_line(member))
    run.finish({}, 0)
    assert store.query("SELECT member FROM items ORDER BY ALL").rows == [("a.gif",), ("b.gif",), ("b.gif",)]
    assert store.forget(sha256="a" * 64).records == 1
    assert store.query("SELECT DISTINCT member FROM segments").rows == [("b.gif",)]


def test_forgetting_a_name_that_is_not_utf8(store: HistoryStore) -> None:
    run = HistoryRun(store, info())
    for index, name in enumerate([b"\xff.jpg", b"\xfe.jpg"]):
        run.add(to_line(to_record(plain_verdict(index, source=os.fsdecode(name)), RUN)))
    run.finish({}, 0)
    assert store.forget(source=os.fsdecode(b"\xfe.jpg")).records == 1
    assert numbers(store) == [0]


def test_forgetting_what_is_old(store: HistoryStore) -> None:
    fill(store, 2, "now")
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    leave_behind(store, b"".join(stored(3, at=long_ago.timestamp())), started_at=long_ago)
    assert store.forget(before=long_ago).records == 0
    assert store.forget(before=long_ago + timedelta(days=1)).records == 3
    assert (numbers(store), numbers(store, "now")) == ([], [0, 1])
    assert [run["run_id"] for run in store.stats()["runs"]] == ["now"]


def test_a_running_run_forgets_what_it_has_not_sealed(store: HistoryStore) -> None:
    run = HistoryRun(store, replace(info(), command="clipmod scan photos/1.jpg"))
    for line in lines(3):
        run.add(line)
    assert store.forget(source="photos/1.jpg").records == 1
    assert numbers(store) == [0, 2], "at once"
    assert store.query("SELECT command FROM runs").rows == [(None,)]
    run.tick()
    assert store.maintain()
    assert b"photos/1.jpg" not in content_of(store), "and soon from the disk"
    assert store.forget(sha256=f"{2:064x}").records == 1
    run.add(lines(4)[3])
    run.finish({}, 0)
    assert numbers(store) == [0, 3]
    assert store.query("SELECT command FROM runs").rows == [(None,)]
    assert b"photos/1.jpg" not in content_of(store)
    assert load_inventory(store.folder).erasures == ()


def test_what_a_killed_run_left_is_forgotten_too(store: HistoryStore) -> None:
    leave_behind(store, b"".join(stored(3)))
    assert store.forget(source="photos/1.jpg").records == 1
    assert numbers(store) == [0, 2]
    assert b"photos/1.jpg" not in content_of(store)


def test_a_journal_that_cannot_be_read_is_not_called_forgotten(store: HistoryStore) -> None:
    fill(store, 1)
    (store.folder / f"{RUN.run_id}.000001.jsonl").mkdir()
    with pytest.raises(OutputError, match="cannot use"):
        store.forget(source="photos/0.jpg")


def test_old_rows_go_by_themselves(tmp_path: Path) -> None:
    now = datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()
    store = HistoryStore(tmp_path / "x.duckdb", retention_days=30, clock=lambda: now)
    old = datetime.fromtimestamp(now - 40 * 86_400, UTC)
    leave_behind(store, b"".join(stored(3, at=old.timestamp())), started_at=old)
    fill(store, 1, "now")
    assert (numbers(store), numbers(store, "now")) == ([], [0])
    assert [run["run_id"] for run in store.stats()["runs"]] == ["now"]
    assert b"photos/2.jpg" not in content_of(store)
