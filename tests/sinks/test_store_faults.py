"""What goes wrong with the store is no matter of the scan's."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from random import Random

import duckdb
import pytest

from clipmod_cli.errors import OutputError, UsageError
from clipmod_cli.output.history.folder import lock_file
from clipmod_cli.output.history.run import HistoryRun
from clipmod_cli.output.history.store import HistoryStore
from tests.full_disk import files_no_longer_than
from tests.sinks.rows import ending, fill, info, lines, numbers, warnings_in


def test_a_busy_store_is_left_to_the_next(
    store: HistoryStore, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipmod_cli.output.history.run.EXIT_LOCK_TIMEOUT_S", 0.05)
    fill(store, 1, "first")
    with lock_file(store.folder / ".lock"):
        run = HistoryRun(store, info())
        run.add(lines(1)[0])
        run.finish({}, 0)
        assert not store.maintain()
        assert numbers(store) == [0], "a query needs no lock"
    assert warnings_in(caplog) == []
    assert (numbers(store), ending(store)) == ([0], ("finished", 0))


def test_a_change_says_when_the_store_stays_busy(
    store: HistoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, 1)
    monkeypatch.setattr("clipmod_cli.output.history.store.LOCK_TIMEOUT_S", 0.05)
    with lock_file(store.folder / ".lock"):
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


def test_a_catalogue_that_broke_in_its_midst_is_one_warning(
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
    assert (numbers(store), len(numbers(store, "before"))) == ([0, 1, 2], 50), "it held no row"


def test_a_damaged_inventory_is_named(store: HistoryStore, caplog: pytest.LogCaptureFixture) -> None:
    fill(store, 1, "before")
    (store.folder / "inventory.json").write_text("{")
    assert_a_run_goes_on(store, caplog)
    with pytest.raises(OutputError, match=r"inventory\.json is damaged.*--rebuild"):
        store.stats()


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


def test_a_folder_that_disappears_is_one_warning(
    store: HistoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    run = HistoryRun(store, info())
    run.add(lines(1)[0])
    while store.folder.exists():  # the run's thread may write into it meanwhile
        shutil.rmtree(store.folder, ignore_errors=True)
    run.finish({}, 0)
    assert len(warnings_in(caplog)) == 1


def test_a_full_disk_costs_the_rows_that_did_not_fit_and_no_other(
    store: HistoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    run = HistoryRun(store, info())
    given = lines(8)
    (journal,) = store.folder.glob("*.jsonl")
    with files_no_longer_than(journal.stat().st_size + len(given[0]) * 3 + 500):
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
    with pytest.raises(UsageError, match="not a statistics database"):
        store.forget(source="x")
    with duckdb.connect(str(store.path)) as connection:
        assert connection.execute("SELECT table_name FROM duckdb_tables()").fetchall() == [("theirs",)]


def test_where_no_store_can_be_a_question_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = HistoryStore(tmp_path / "file" / "x.duckdb")
    with pytest.raises(OutputError, match="cannot use"):
        store.rebuild([tmp_path / "file"])
    assert store.stats()["totals"]["inputs"] == 0


def test_a_damaged_sealed_file_is_named_and_the_rest_counts_without_it(
    store: HistoryStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for run_id in ("first", "second"):
        fill(store, 2, run_id)
        store.maintain()
    sealed = sorted(store.folder.glob("*.parquet"))
    assert len(sealed) == 2
    sealed[0].write_bytes(sealed[0].read_bytes()[:-20])
    with pytest.raises(OutputError, match=rf"{sealed[0].name} is damaged .* Move it away"):
        store.stats()
    with pytest.raises(OutputError, match="Move it away"):
        store.forget(source="x")
    sealed[0].unlink()
    (lost,) = {"first", "second"} - {run["run_id"] for run in store.stats()["runs"]}
    assert "lacks 1 of its files" in warnings_in(caplog)[-1]
    ((source,),) = store.query('SELECT source FROM items WHERE "index" = 0').rows
    assert store.forget(source=source).records == 1
    output = tmp_path / "out.jsonl"
    output.write_bytes(b"".join(lines(2, lost)))
    store.rebuild([output])
    assert numbers(store, lost) == [0, 1]
    fill(store, 1, "third")
    assert store.maintain()


def test_what_is_not_ours_stays(store: HistoryStore) -> None:
    fill(store, 1)
    store.maintain()
    others = [store.folder / name for name in ("mine.parquet", "notes.duckdb", "a.part", "b.jsonl")]
    for path in others:
        path.write_bytes(b"mine")
        os.utime(path, (0, 0))
    assert store.maintain()
    assert [path.read_bytes() for path in others] == [b"mine"] * 4


def test_sealed_files_are_not_removed_for_want_of_an_inventory(store: HistoryStore) -> None:
    fill(store, 1)
    store.maintain()
    inventory = store.folder / "inventory.json"
    content = inventory.read_bytes()
    inventory.unlink()
    for path in store.folder.iterdir():
        os.utime(path, (0, 0))
    with pytest.raises(OutputError, match="is gone"):
        store.stats()
    fill(store, 1, "second")
    inventory.write_bytes(content)
    assert (numbers(store), numbers(store, "second")) == ([0], [0])
