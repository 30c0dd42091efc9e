"""What goes wrong with the store is no matter of the scan's."""

from __future__ import annotations

import hashlib
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import duckdb
import pytest

from clipmod_cli.errors import OutputError, UsageError
from clipmod_cli.output.history.file import SCHEMA_VERSION, TABLES, open_for_writing
from clipmod_cli.output.history.run import HistoryRun
from clipmod_cli.output.history.spool import lock_file
from clipmod_cli.output.history.store import HistoryStore
from tests.sinks.rows import fill, info, lines, numbers, warnings_in


def test_a_busy_store_is_left_to_the_next(
    store: HistoryStore, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipmod_cli.output.history.run.EXIT_LOCK_TIMEOUT_S", 0.05)
    fill(store, 1, "first")
    with lock_file(store.spool / ".merge.lock"):
        run = HistoryRun(store, info())
        run.add(lines(1)[0])
        run.finish({}, 0)
        assert not store.merge()
        assert len(list(store.spool.glob("*.jsonl"))) == 1
    assert warnings_in(caplog) == []
    assert numbers(store) == [0]


def test_a_question_says_when_the_store_stays_busy(
    store: HistoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, 1)
    monkeypatch.setattr("clipmod_cli.output.history.store.LOCK_TIMEOUT_S", 0.05)
    with lock_file(store.spool / ".merge.lock"):
        with pytest.raises(OutputError, match="busy"):
            store.query("SELECT 1")
        with pytest.raises(OutputError, match="busy"):
            store.forget(source="x")
        with pytest.raises(OutputError, match="busy"):
            store.rebuild([])


def assert_a_run_goes_on(store: HistoryStore, log: pytest.LogCaptureFixture) -> None:
    run = HistoryRun(store, info())
    for line in lines(3):
        run.add(line)
    run.finish({}, 0)
    said = warnings_in(log)
    assert len(said) == 1, said
    assert str(store.path) in said[0]
    assert "--rebuild" in said[0]


@pytest.mark.parametrize("size", [0, 100, 100_000])
def test_a_broken_file_is_one_warning_and_the_records_wait(
    store: HistoryStore, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    store.path.parent.mkdir()
    store.path.write_bytes(Random(1).randbytes(size))
    assert_a_run_goes_on(store, caplog)
    for question in (store.stats, lambda: store.query("SELECT 1"), lambda: store.forget(source="x")):
        with pytest.raises(UsageError, match="cannot use"):
            question()
    store.path.unlink()
    assert numbers(store) == [0, 1, 2]


def test_a_file_that_broke_in_its_midst_is_one_warning(
    store: HistoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    fill(store, 50, "before")
    content = bytearray(store.path.read_bytes())
    content[12_288:] = Random(1).randbytes(len(content) - 12_288)
    store.path.write_bytes(content)
    assert_a_run_goes_on(store, caplog)
    with pytest.raises(UsageError, match="cannot use"):
        store.stats()
    store.path.unlink()
    assert numbers(store) == [0, 1, 2]


def test_a_file_in_place_of_the_folder_is_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    store = HistoryStore(tmp_path / "file" / "x.duckdb")
    assert_a_run_goes_on(store, caplog)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tmp_path.chmod(0o500)
    try:
        assert_a_run_goes_on(HistoryStore(tmp_path / "x.duckdb"), caplog)
    finally:
        tmp_path.chmod(0o700)


def test_a_spool_that_disappears_is_one_warning(
    store: HistoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    run = HistoryRun(store, info())
    run.add(lines(1)[0])
    for path in store.spool.iterdir():
        path.unlink()
    store.spool.rmdir()
    run.finish({}, 0)
    assert len(warnings_in(caplog)) == 1


@contextmanager
def files_no_longer_than(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_costs_the_rows_that_did_not_fit_and_no_other(
    store: HistoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    run = HistoryRun(store, info())
    given = lines(8)
    with files_no_longer_than(len(given[0]) * 3 + 500):
        for line in given[:6]:
            run.add(line)
    run.add(given[6])
    run.add(given[7])
    run.finish({}, 0)
    assert numbers(store) == [0, 1, 2, 6, 7]
    assert len(warnings_in(caplog)) == 1


def test_another_file_of_duckdb_is_left_alone(store: HistoryStore) -> None:
    store.path.parent.mkdir()
    with duckdb.connect(str(store.path)) as connection:
        connection.execute("CREATE TABLE theirs AS SELECT 1 AS x")
    run = HistoryRun(store, info())
    run.finish({}, 0)
    with pytest.raises(UsageError, match="not a statistics database"):
        store.stats()
    with duckdb.connect(str(store.path)) as connection:
        assert connection.execute("SELECT table_name FROM duckdb_tables()").fetchall() == [("theirs",)]


def test_a_database_of_another_version_is_refused(store: HistoryStore) -> None:
    fill(store, 1)
    with open_for_writing(store.path, store.spool) as connection:
        connection.execute(
            "UPDATE meta SET value = ? WHERE name = 'schema_version'", [str(SCHEMA_VERSION + 1)]
        )
    with pytest.raises(UsageError, match="another version"):
        store.stats()
    with pytest.raises(UsageError, match="another version"):
        store.rebuild([])


def test_the_version_is_raised_when_the_tables_change() -> None:
    """If this fails, raise SCHEMA_VERSION, and write here both what it is now and the digest."""
    digest = hashlib.sha256("\n".join(TABLES).encode()).hexdigest()
    assert (SCHEMA_VERSION, digest[:16]) == (11, "4a2de3613d2012fd")


def test_where_no_store_can_be_a_question_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = HistoryStore(tmp_path / "file" / "x.duckdb")
    with pytest.raises(OutputError, match="cannot open"):
        store.rebuild([tmp_path / "file"])
    assert store.stats()["totals"]["inputs"] == 0
