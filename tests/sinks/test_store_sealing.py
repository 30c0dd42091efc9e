"""Sealing, merging and being killed: nothing is lost and nothing doubled."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import duckdb
import pytest

from clipmod_cli.output.history import keeper
from clipmod_cli.output.history.folder import load_inventory
from clipmod_cli.output.history.keeper import FEW_JOURNALS
from clipmod_cli.output.history.run import SEAL_S, HistoryRun
from clipmod_cli.output.history.store import HistoryStore
from tests.sinks.rows import (
    ending,
    fill,
    info,
    leave_behind,
    lines,
    numbers,
    seal_all,
    stored,
    warnings_in,
)
from tests.sinks.serve import request

WRITE = os.write


def sealed(store: HistoryStore) -> list[int]:
    """Return how many rows each sealed file has."""
    return [file.rows for file in load_inventory(store.folder).files]


def test_a_running_run_is_seen_at_once(store: HistoryStore) -> None:
    run = HistoryRun(store, info())
    for index, line in enumerate(lines(3)):
        run.add(line)
        assert numbers(store) == list(range(index + 1))
    assert ending(store) == ("running", None)
    assert sealed(store) == []
    run.finish({}, 130)
    assert (numbers(store), ending(store)) == ([0, 1, 2], ("finished", 130))
    assert sealed(store) == [5], "three records, the beginning and the end"


def test_duckdb_reads_the_file_while_a_run_is_writing(store: HistoryStore) -> None:
    """As `duckdb FILE 'from items'` does: the views are there, and have what was added since."""
    run = HistoryRun(store, info())
    while not store.path.exists():
        time.sleep(0.01)
    for line in lines(3):
        run.add(line)
    for view, count in {"items": 3, "runs": 1, "segments": 0, "requests": 0, "hosted": 0}.items():
        with duckdb.connect(str(store.path), read_only=True) as connection:
            assert len(connection.execute(f"FROM {view}").fetchall()) == count
    with duckdb.connect(str(store.path), read_only=True) as connection:
        run.finish({}, 0)  # the file is replaced, and what the old one names stays for a while
        assert len(connection.execute("FROM items").fetchall()) == 3
        described = (
            "SELECT comment FROM duckdb_columns() WHERE table_name = 'items' AND column_name = 'sha256'"
        )
        assert connection.execute(described).fetchall()[0][0]


def test_short_runs_are_sealed_together(store: HistoryStore) -> None:
    for number in range(FEW_JOURNALS - 1):
        fill(store, 1, f"run{number}")
    assert len(list(store.folder.glob("*.jsonl"))) == FEW_JOURNALS - 1
    assert not list(store.folder.glob("*.parquet"))
    with duckdb.connect(str(store.path), read_only=True) as connection:
        ended = connection.execute("SELECT ended, count(*) FROM runs GROUP BY ALL").fetchall()
    assert ended == [("finished", FEW_JOURNALS - 1)]
    fill(store, 1, "last")
    (sealed,) = load_inventory(store.folder).files
    assert sealed.rows == 3 * FEW_JOURNALS  # of each run a record, how it began and how it ended
    assert store.stats()["totals"]["inputs"] == FEW_JOURNALS


def test_a_short_run_is_sealed_at_once_where_rows_are_not_kept(store: HistoryStore) -> None:
    fill(HistoryStore(store.path, retention_days=1), 1)
    assert [file.rows for file in load_inventory(store.folder).files] == [3]


def test_the_catalogue_is_written_only_when_its_text_changes(store: HistoryStore) -> None:
    fill(store, 2)
    seal_all(store)
    written = store.path.stat().st_mtime_ns
    assert store.maintain()
    store.stats()
    assert store.path.stat().st_mtime_ns == written
    fill(store, 2, "another")
    assert store.path.stat().st_mtime_ns > written


def test_a_folder_that_is_moved_is_found_again(store: HistoryStore, tmp_path: Path) -> None:
    fill(store, 2)
    moved = HistoryStore(store.path.parent.rename(tmp_path / "moved") / store.path.name)
    assert numbers(moved) == [0, 1]
    with duckdb.connect(str(moved.path), read_only=True) as connection:
        assert len(connection.execute("FROM items").fetchall()) == 2


@pytest.mark.parametrize("why", ["rows", "age"])
def test_a_long_run_is_sealed_from_time_to_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    now = datetime.now(UTC).timestamp()
    store = HistoryStore(tmp_path / "x.duckdb", clock=lambda: now)
    if why == "rows":
        monkeypatch.setattr("clipmod_cli.output.history.run.SEAL_ROWS", 3)
    run = HistoryRun(store, info(), tick_s=3600)
    for index, line in enumerate(lines(7)):
        run.add(line)
        if index % 3 == 2:
            now += SEAL_S if why == "age" else 0
            while sum(sealed(store)) < (index + 1) * 4 // 3:
                if why == "age":
                    run.tick()
                time.sleep(0.01)  # the thread of the run may be at work
    assert sum(sealed(store)) == 6 + 2
    assert (numbers(store), ending(store)) == (list(range(7)), ("running", None))
    run.finish({}, 0)
    assert (numbers(store), ending(store)) == (list(range(7)), ("finished", 0))


def test_a_service_runs_for_a_week(tmp_path: Path) -> None:
    now = start = datetime(2026, 3, 2, 9, tzinfo=UTC).timestamp()
    store = HistoryStore(tmp_path / "x.duckdb", retention_days=3, clock=lambda: now)
    run = HistoryRun(store, info("serve-run"), tick_s=3600)
    for hour in range(0, 7 * 24, 8):
        now = start + hour * 3600
        for line in lines(2, "serve-run"):
            run.add(line.replace(b'"index":', b'"index":%d' % hour, 1))
        run.add_request(request(hour))
        run.tick()
        if hour % 24 == 16:
            days = store.query("SELECT DISTINCT judged_at::DATE FROM items ORDER BY 1").rows
            assert 3 <= len(days) <= 5 or hour < 3 * 24
            assert len(list(store.folder.iterdir())) < 20
    assert store.serve_stats()["total_requests"] == len(numbers(store, "serve-run")) / 2
    run.finish({}, 0)
    assert ending(store, "serve-run") == ("finished", 0)


def test_a_year_of_small_runs_leaves_few_files(store: HistoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "SMALL_FILES", (8, 64))
    monkeypatch.setattr(keeper, "MOST_SMALL", 3)
    for number in range(10):
        leave_behind(store, b"".join(stored(2, f"run-{number}")), run_id=f"run-{number}")
        store.maintain()
        assert len(sealed(store)) <= 2 * keeper.MOST_SMALL
    now = time.time() + 3600
    store.clock = lambda: now
    store.maintain()
    assert len(list(store.folder.iterdir())) <= 2 * keeper.MOST_SMALL + 3
    totals = store.stats()["totals"]
    assert (totals["inputs"], totals["runs"]) == (20, 10)


def test_no_process_takes_the_open_journal_of_another(store: HistoryStore) -> None:
    run = HistoryRun(store, info())
    run.add(lines(1)[0])
    assert store.maintain(timeout_s=30)
    assert sealed(store) == []
    run.add(lines(2)[1])
    run.finish({}, 0)
    assert numbers(store) == [0, 1]


def test_two_runs_cannot_have_one_name(store: HistoryStore, caplog: pytest.LogCaptureFixture) -> None:
    first, second = HistoryRun(store, info()), HistoryRun(store, info())
    first.add(lines(1)[0])
    second.add(lines(2)[1])
    second.finish({}, 0)
    first.finish({}, 0)
    assert numbers(store) == [0]
    assert len(warnings_in(caplog)) == 1


def test_a_run_id_never_becomes_a_path(store: HistoryStore) -> None:
    with pytest.raises(ValueError, match="run's id"):
        HistoryRun(store, info("../elsewhere"))


@pytest.mark.parametrize("cut", [1, 20, 400])
def test_a_torn_last_line_takes_nothing_with_it(store: HistoryStore, cut: int) -> None:
    leave_behind(store, b"".join(stored(3)) + stored(4)[3][:-cut])
    whole = [0, 1, 2, 3] if cut == 1 else [0, 1, 2]
    assert numbers(store) == whole
    seal_all(store)
    assert numbers(store) == whole
    assert ending(store) == ("killed", None)


def test_a_line_after_a_torn_one_is_whole(store: HistoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full, and refuses even to cut off the part of a line that it took."""
    run = HistoryRun(store, info())
    journal = run._writer._journal  # type: ignore[union-attr]
    first, second, third = lines(3)
    run.add(first)
    with monkeypatch.context() as patch:
        patch.setattr("os.ftruncate", refuse)
        patch.setattr("os.write", lambda descriptor, line: WRITE(descriptor, line[:100]))
        run.add(second)
    assert journal._torn
    run.add(third)
    run.finish({}, 0)
    assert numbers(store) == [0, 2]


def refuse(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_garbage_in_a_journal_takes_nothing_with_it(store: HistoryStore) -> None:
    first, second, third = stored(3)
    leave_behind(store, first + b"\0" * 100 + b"\n" + second + b"\xff\xfe{}\n[]\nnull\n{}\n" + third)
    assert numbers(store) == [0, 1, 2]
    seal_all(store)
    assert numbers(store) == [0, 1, 2]


def test_a_journal_that_is_left_after_it_was_sealed_adds_nothing(store: HistoryStore) -> None:
    """As if the process had been killed between the inventory and the removal."""
    leave_behind(store, b"".join(stored(3)))
    seal_all(store)
    (journal,) = store.folder.glob("*.jsonl")
    assert store.maintain()
    assert numbers(store) == [0, 1, 2]
    assert journal.exists(), "another program may be about to read it"
    now = time.time() + 3600
    store.clock = lambda: now
    assert store.maintain()
    assert numbers(store) == [0, 1, 2]
    assert not journal.exists()
    assert load_inventory(store.folder).done == ()


def test_a_file_that_no_inventory_names_is_removed_and_never_read(store: HistoryStore) -> None:
    """As if the process had been killed between sealing and the inventory."""
    fill(store, 2)
    seal_all(store)
    (path,) = store.folder.glob("*.parquet")
    left = store.folder / f"{'0' * 32}.parquet"
    left.write_bytes(path.read_bytes())
    assert numbers(store) == [0, 1]
    now = time.time() + 3600
    store.clock = lambda: now
    assert store.maintain()
    assert not left.exists()
    assert numbers(store) == [0, 1]


def start_writer(store: HistoryStore, run_id: str, records: int, rows: int) -> subprocess.Popen[str]:
    words = ["-m", "tests.sinks.writer", str(store.path), run_id, str(records), str(rows)]
    return subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True)


def requests_of(store: HistoryStore, run_id: str) -> list[int]:
    query = f"SELECT number FROM requests WHERE run_id = '{run_id}' ORDER BY ALL"  # noqa: S608
    return [row[0] for row in store.query(query).rows]


@pytest.mark.parametrize("kills", [2, pytest.param(30, marks=pytest.mark.slow)])
def test_killed_processes_lose_and_double_nothing(tmp_path: Path, kills: int) -> None:
    """They seal and merge all the time, so most are killed while they do."""
    store = HistoryStore(tmp_path / "x.duckdb")
    random = Random(7)
    taken: dict[str, int] = {}
    for number in range(kills):
        run_id = f"killed-{number}"
        with start_writer(store, run_id, 1_000_000, random.choice([5, 20, 100])) as writer:
            assert writer.stdout is not None
            said = [writer.stdout.readline() for _ in range(random.randrange(1, 150))]
            time.sleep(random.random() * 0.2)
            writer.kill()
            said += [line for line in writer.stdout if line.endswith("\n")]
        taken[run_id] = len(said)
    assert store.maintain()
    kept = dict(store.query("SELECT run_id, count(*) FROM items GROUP BY ALL").rows)
    distinct = dict(store.query('SELECT run_id, count(DISTINCT "index") FROM items GROUP BY ALL').rows)
    assert kept == distinct
    for run_id, least in taken.items():
        assert least <= kept[run_id] <= least + 1, run_id
        assert least <= len(requests_of(store, run_id)) <= least + 1
        assert ending(store, run_id) == ("killed", None)
    segments = store.query('SELECT count(*), count(DISTINCT (run_id, "index", number)) FROM segments').rows[0]
    assert segments[0] == segments[1] == 2 * sum(kept.values())


def test_two_runs_and_readers_at_once(tmp_path: Path) -> None:
    store = HistoryStore(tmp_path / "x.duckdb")
    count = 400
    with start_writer(store, "one", count, 50) as one, start_writer(store, "two", count, 50) as two:
        before = 0
        while one.poll() is None or two.poll() is None:
            now = store.stats()["totals"]["inputs"] + store.serve_stats()["total_requests"]
            assert now >= before
            before = now
            if store.path.exists():
                with duckdb.connect(str(store.path), read_only=True) as connection:
                    rows = 'SELECT count(*), count(DISTINCT (run_id, "index")) FROM items'
                    seen = connection.execute(rows).fetchall()[0]
                assert seen[0] == seen[1]
    assert (one.returncode, two.returncode) == (0, 0)
    assert numbers(store, "one") == numbers(store, "two") == list(range(count))
    assert requests_of(store, "one") == requests_of(store, "two") == list(range(count))
    assert Counter(run["ended"] for run in store.stats()["runs"]) == {"finished": 2}


def test_leaving_without_finishing_keeps_the_exit_code_and_the_records(tmp_path: Path) -> None:
    store = HistoryStore(tmp_path / "x.duckdb")
    code = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from clipmod_cli.records import to_line, to_record
from clipmod_cli.output.history import run as module
from clipmod_cli.output.history.rows import RunInfo
from clipmod_cli.output.history.store import HistoryStore
from tests.results import RUN, plain_verdict
module.SEAL_ROWS = 500
info = RunInfo(facts=RUN, command="", models=(), started_at=datetime.now(UTC))
run = module.HistoryRun(HistoryStore(Path(sys.argv[1])), info, tick_s=0.001)
for index in range(3000):
    run.add(to_line(to_record(plain_verdict(index), RUN)))
sys.exit(7)
"""
    done = subprocess.run([sys.executable, "-c", code, str(store.path)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (7, "")
    assert numbers(store) == list(range(3000))
    assert ending(store) == ("killed", None)
