"""Merging, and being killed: nothing is lost and nothing doubled."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from clipmod_cli.output.history import run as store_run
from clipmod_cli.output.history.run import HistoryRun
from clipmod_cli.output.history.store import HistoryStore
from tests.results import RUN
from tests.sinks.rows import ending, fill, info, leave_behind, lines, numbers, warnings_in


def test_a_living_run_is_seen_up_to_its_last_sealed_part(tmp_path: Path) -> None:
    store = HistoryStore(tmp_path / "x.duckdb", merge_every_s=0.01)
    run = HistoryRun(store, info())
    for line in lines(3):
        run.add(line)
    while numbers(store) != [0, 1, 2]:
        time.sleep(0.01)
    assert ending(store) == ("running", None)
    run.finish({}, 130)
    assert ending(store) == ("finished", 130)


def test_a_fast_run_is_merged_before_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_run, "MERGE_AFTER_ROWS", 3)
    store = HistoryStore(tmp_path / "x.duckdb", merge_every_s=3600.0)
    run = HistoryRun(store, info())
    *six, seventh = lines(7)
    for number, line in enumerate(six, 1):
        run.add(line)
        while number % 3 == 0 and len(numbers(store)) < number:
            time.sleep(0.01)
    run.add(seventh)
    assert numbers(store) == [0, 1, 2, 3, 4, 5], "what is left waits for its time, or the end"
    run.finish({}, 0)
    assert numbers(store) == [0, 1, 2, 3, 4, 5, 6]


def test_nobody_takes_the_open_part_of_a_living_run(store: HistoryStore) -> None:
    run = HistoryRun(store, info())
    run.add(lines(1)[0])
    assert store.merge()
    assert numbers(store) == []
    assert ending(store) == ("running", None)
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
    whole = b"".join(lines(3))
    leave_behind(store, whole + lines(4)[3][:-cut])
    assert store.merge()
    assert numbers(store) == ([0, 1, 2, 3] if cut == 1 else [0, 1, 2])
    assert ending(store) == ("killed", None)
    assert list(store.spool.glob("*.*")) == [store.spool / ".merge.lock"]


def test_garbage_in_a_part_takes_nothing_with_it(store: HistoryStore) -> None:
    first, second, third = lines(3)
    leave_behind(store, first + b"\0" * 100 + b"\n" + second + b"\xff\xfe{}\n[]\nnull\n{}\n" + third)
    assert store.merge()
    assert numbers(store) == [0, 1, 2]


def test_a_part_that_is_met_again_after_its_commit_adds_nothing(store: HistoryStore) -> None:
    leave_behind(store, b"".join(lines(3)), "000000.jsonl")
    part = store.spool / f"{RUN.run_id}.000000.jsonl"
    content = part.read_bytes()
    assert store.merge()
    part.write_bytes(content)  # as if it had been killed between the commit and the deletion
    assert store.merge()
    assert numbers(store) == [0, 1, 2]
    assert not part.exists()


def test_a_lock_that_was_left_alone_goes_after_an_hour(store: HistoryStore) -> None:
    fill(store, 1)
    old, new = store.spool / "old.lock", store.spool / "new.lock"
    for path in (old, new):
        path.touch()
    os.utime(old, (0, 0))
    fill(store, 1, "another")
    assert not old.exists()
    assert new.exists()


def start_writer(store: HistoryStore, run_id: str, records: int, every_s: float) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "tests.sinks.writer",
        str(store.path),
        run_id,
        str(records),
        str(every_s),
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def requests_of(store: HistoryStore, run_id: str) -> list[int]:
    query = f"SELECT number FROM requests WHERE run_id = '{run_id}' ORDER BY ALL"  # noqa: S608
    return [row[0] for row in store.query(query).rows]


def assert_requests_and_pictures_are_whole(store: HistoryStore, taken: dict[str, int]) -> None:
    for run_id, least in taken.items():
        requests = requests_of(store, run_id)
        assert requests == list(range(len(requests)))
        query = f"SELECT count(*) FROM hosted WHERE run_id = '{run_id}'"  # noqa: S608
        ((pictures,),) = store.query(query).rows
        assert least <= pictures <= len(requests)


@pytest.mark.parametrize("seed", range(2))
def test_a_killed_run_loses_and_doubles_nothing(tmp_path: Path, seed: int) -> None:
    store = HistoryStore(tmp_path / "x.duckdb")
    random = Random(seed)
    taken: dict[str, int] = {}
    for number in range(5):
        run_id = f"killed-{number}"
        with start_writer(store, run_id, 1_000_000, 0.02) as writer:
            assert writer.stdout is not None
            said = [writer.stdout.readline() for _ in range(random.randrange(1, 1200))]
            writer.kill()
            said += [line for line in writer.stdout if line.endswith("\n")]
        taken[run_id] = len(said)
    for run_id, least in taken.items():
        kept = numbers(store, run_id)
        assert kept == list(range(len(kept)))
        assert least <= len(kept) <= least + 1
        assert ending(store, run_id) == ("killed", None)
        assert least <= len(requests_of(store, run_id)) <= least + 1
    assert_requests_and_pictures_are_whole(store, taken)
    segments = store.query('SELECT count(*), count(DISTINCT (run_id, "index", number)) FROM segments').rows[0]
    assert segments[0] == segments[1] == 2 * store.stats()["totals"]["inputs"]


def test_two_runs_and_a_reader_at_once(tmp_path: Path) -> None:
    store = HistoryStore(tmp_path / "x.duckdb")
    count = 400
    with start_writer(store, "one", count, 0.3) as one, start_writer(store, "two", count, 0.3) as two:
        before = 0
        while one.poll() is None or two.poll() is None:
            now = store.stats()["totals"]["inputs"] + store.serve_stats(timeout_s=30)["total_requests"]
            assert now >= before
            before = now
    assert (one.returncode, two.returncode) == (0, 0)
    assert numbers(store, "one") == numbers(store, "two") == list(range(count))
    assert requests_of(store, "one") == requests_of(store, "two") == list(range(count))
    assert Counter(run["ended"] for run in store.stats()["runs"]) == {"finished": 2}


def test_a_process_that_exits_during_a_merge_waits_for_it(tmp_path: Path) -> None:
    store = HistoryStore(tmp_path / "x.duckdb")
    code = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from clipmod_cli.output.history import merge
from clipmod_cli.output.history.run import HistoryRun
from clipmod_cli.output.history.rows import RunInfo
from clipmod_cli.output.history.store import HistoryStore
from clipmod_cli.records import to_line, to_record
from tests.results import RUN, plain_verdict
merging, exiting = Event(), Event()
merge_spool, stop = merge.merge_spool, HistoryRun._stop
def wait_for_the_exit(number):
    merging.set()
    exiting.wait(10)
    return number
def merge_slowly(connection, folder):
    connection.create_function("wait_for_the_exit", wait_for_the_exit, ["BIGINT"], "BIGINT")
    connection.execute("SELECT wait_for_the_exit(range) FROM range(1)")  # fails if interrupted meanwhile
    return merge_spool(connection, folder)
def stop_slowly(run):
    exiting.set()
    stop(run)
merge.merge_spool, HistoryRun._stop = merge_slowly, stop_slowly
info = RunInfo(facts=RUN, command="", models=(), started_at=datetime.now(UTC))
run = HistoryRun(HistoryStore(Path(sys.argv[1]), merge_every_s=0.001), info)
run.add(to_line(to_record(plain_verdict(0), RUN)))
merging.wait()
sys.exit(7)
"""
    done = subprocess.run([sys.executable, "-c", code, str(store.path)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (7, "")
    assert not list(store.spool.glob("*.jsonl")), "the merge was completed"
    assert numbers(store) == [0]


def test_leaving_without_finishing_keeps_the_exit_code_and_the_records(tmp_path: Path) -> None:
    store = HistoryStore(tmp_path / "x.duckdb")
    code = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from clipmod_cli.records import to_line, to_record
from clipmod_cli.output.history.rows import RunInfo
from clipmod_cli.output.history.run import HistoryRun
from clipmod_cli.output.history.store import HistoryStore
from tests.results import RUN, plain_verdict
info = RunInfo(facts=RUN, command="", models=(), started_at=datetime.now(UTC))
run = HistoryRun(HistoryStore(Path(sys.argv[1]), merge_every_s=0.001), info)
for index in range(3000):
    run.add(to_line(to_record(plain_verdict(index), RUN)))
sys.exit(7)
"""
    done = subprocess.run([sys.executable, "-c", code, str(store.path)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (7, "")
    assert numbers(store) == list(range(3000))
    assert ending(store) == ("killed", None)
