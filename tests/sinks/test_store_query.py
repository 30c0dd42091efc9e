"""A query can only read, and only the store."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from clipmod_cli.errors import UsageError
from clipmod_cli.output.history.run import HistoryRun
from clipmod_cli.output.history.store import HistoryStore
from tests.sinks.rows import fill, info, leave_behind, numbers, seal_all, stored

CHANGES = [
    "DELETE FROM items",
    "INSERT INTO runs (run_id) VALUES ('a')",
    "CREATE TABLE more AS SELECT 1",
    "DROP TABLE items",
]
REACHES = [
    "COPY items TO '{target}'",
    "COPY (SELECT 1) TO '{target}' (FORMAT parquet)",
    "EXPORT DATABASE '{target}'",
    "ATTACH '{target}'",
    "ATTACH '{target}' AS other; CREATE TABLE other.x AS SELECT 1",
    "SELECT * FROM read_text('{secret}')",
    "SELECT * FROM read_csv('{secret}')",
    "SELECT * FROM '{secret}'",
    "SELECT * FROM glob('{secret}*')",
    "SET enable_external_access = true",
    "SET temp_directory = '{target}'",
    "SET lock_configuration = false",
    "PRAGMA enable_profiling",
    "INSTALL httpfs",
    "LOAD httpfs",
    "CREATE PERSISTENT SECRET s (TYPE s3)",
    "this is no query",
]


def refused(store: HistoryStore, statement: str, folder: Path) -> None:
    secret, target = folder / "secret.csv", folder / "target"
    secret.write_text("a,b\n1,2\n")
    with pytest.raises(UsageError, match="query failed"):
        store.query(statement.format(secret=secret, target=target))
    assert not target.exists()


@pytest.mark.parametrize("statement", CHANGES + REACHES)
def test_a_query_can_neither_change_the_store_nor_reach_a_file(
    store: HistoryStore, tmp_path: Path, statement: str
) -> None:
    fill(store, 2)
    refused(store, statement, tmp_path)
    assert numbers(store) == [0, 1]


@pytest.mark.parametrize("statement", REACHES)
def test_a_query_of_a_store_that_is_not_there_reaches_no_file(
    store: HistoryStore, tmp_path: Path, statement: str
) -> None:
    refused(store, statement, tmp_path)
    assert not store.path.parent.exists()


def test_a_query_cannot_overwrite_the_files_that_it_reads(store: HistoryStore, tmp_path: Path) -> None:
    fill(store, 2)
    seal_all(store)
    (sealed,) = store.folder.glob("*.parquet")
    for statement in ("COPY (SELECT 1) TO '{0}'", "EXPLAIN ANALYZE COPY (SELECT 1) TO '{0}'"):
        refused(store, statement.format(str(sealed).replace("'", "''")), tmp_path)
    assert numbers(store) == [0, 1]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_store_in_a_folder_that_cannot_be_written_can_be_read(store: HistoryStore) -> None:
    fill(store, 2, "before")
    leave_behind(store, b"".join(stored(3)))
    store.folder.chmod(0o500)
    try:
        assert (numbers(store), numbers(store, "before")) == ([0, 1, 2], [0, 1])
    finally:
        store.folder.chmod(0o700)


def test_a_run_without_an_end_leaves_no_thread_that_keeps_the_process(store: HistoryStore) -> None:
    run = HistoryRun(store, info())
    assert isinstance(run, HistoryRun)
    assert run._thread.daemon
    run.finish({}, 0)
    assert not run._thread.is_alive()


def test_a_store_that_cannot_be_locked_can_be_read(store: HistoryStore) -> None:
    fill(store, 2, "before")
    leave_behind(store, b"".join(stored(3)))
    lock = store.folder / ".lock"
    lock.unlink()
    lock.mkdir()
    assert (numbers(store), numbers(store, "before")) == ([0, 1, 2], [0, 1])


@pytest.mark.timeout(60)  # the whole query takes hours
def test_ctrl_c_ends_a_query(store: HistoryStore) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    store.query("SELECT 1")  # imports DuckDB
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            store.query("SELECT count(*) FROM range(1000000) a, range(3000000) b WHERE a.range * b.range = 3")
    finally:
        timer.join()
        signal.signal(signal.SIGINT, before)
