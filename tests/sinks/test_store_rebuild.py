"""A store can be had back from the outputs of runs."""

from __future__ import annotations

import gzip
from pathlib import Path
from random import Random

import pytest

from clipmod_cli.errors import UsageError
from clipmod_cli.output.history.rebuild import RebuildResult
from clipmod_cli.output.history.run import HistoryRun
from clipmod_cli.output.history.store import HistoryStore
from clipmod_cli.output.parquet import write_parquet
from tests.results import RUN
from tests.sinks.rows import ending, fill, info, lines, numbers


def test_rebuilding_twice_is_the_same_as_once(store: HistoryStore, tmp_path: Path) -> None:
    output = tmp_path / "results [1].jsonl"
    output.write_bytes(
        b"".join(lines(3)) + b"not a record\n" + b"".join(lines(2, "other")) + lines(4)[3][:100]
    )
    assert store.rebuild([output]) == RebuildResult(added=5, known=0, invalid=2)
    once = store.query("SELECT * FROM items ORDER BY ALL"), store.query("SELECT * FROM runs ORDER BY ALL")
    assert store.rebuild([output, output]) == RebuildResult(added=0, known=10, invalid=4)
    assert (
        store.query("SELECT * FROM items ORDER BY ALL"),
        store.query("SELECT * FROM runs ORDER BY ALL"),
    ) == once
    assert {run["run_id"]: run["ended"] for run in store.stats()["runs"]} == {
        RUN.run_id: "rebuilt",
        "other": "rebuilt",
    }


def test_rebuilding_adds_to_a_known_run_only_what_is_missing(store: HistoryStore, tmp_path: Path) -> None:
    fill(store, 2)
    output = tmp_path / "results.jsonl"
    output.write_bytes(b"".join(lines(5)))
    assert store.rebuild([output]) == RebuildResult(added=3, known=2)
    assert numbers(store) == [0, 1, 2, 3, 4]
    assert ending(store) == ("finished", 0)
    moments = store.query(
        "SELECT count(*), min(judged_at) >= min(started_at) FROM items JOIN runs USING (run_id)"
    ).rows
    assert moments == [(5, True)]


def test_what_a_run_is_writing_is_not_added_a_second_time(store: HistoryStore, tmp_path: Path) -> None:
    run = HistoryRun(store, info())
    for line in lines(2):
        run.add(line)
    output = tmp_path / "results.jsonl"
    output.write_bytes(b"".join(lines(3)))  # the third is on its way
    assert store.rebuild([output]) == RebuildResult(added=0, known=3)
    run.add(lines(3)[2])
    run.finish({}, 0)
    assert numbers(store) == [0, 1, 2]


def test_of_a_record_that_a_file_says_twice_the_first_counts(store: HistoryStore, tmp_path: Path) -> None:
    fill(store, 1)
    output = tmp_path / "results.jsonl"
    said_again = [line.replace(b"photos/", b"other/") for line in lines(3)]
    output.write_bytes(b"".join([*lines(3), *said_again, *lines(2, "another") * 3]))
    assert store.rebuild([output]) == RebuildResult(added=4, known=8)
    assert numbers(store) == [0, 1, 2]
    assert numbers(store, "another") == [0, 1]
    assert store.query("SELECT count(*) FROM items WHERE source LIKE 'photos/%'").rows == [(5,)]


def test_an_output_that_is_not_there_is_named(store: HistoryStore, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"missing\.jsonl"):
        store.rebuild([tmp_path / "missing.jsonl"])


def test_a_file_that_is_no_output_adds_nothing(store: HistoryStore, tmp_path: Path) -> None:
    picture = tmp_path / "x.jsonl"
    picture.write_bytes(Random(2).randbytes(5000))
    added = store.rebuild([picture])
    assert (added.added, added.known) == (0, 0)
    assert added.invalid > 0


def test_tables_and_compressed_outputs_add_what_can_be_read(store: HistoryStore, tmp_path: Path) -> None:
    table, torn = tmp_path / "a.parquet", tmp_path / "b.jsonl.gz"
    write_parquet(lines(3), table)
    torn.write_bytes(b"".join(gzip.compress(line) for line in lines(2, "another"))[:-100])
    assert store.rebuild([table, torn]) == RebuildResult(added=4, invalid=1)
    damaged = tmp_path / "c.jsonl.gz"
    damaged.write_bytes(gzip.compress(b"".join(lines(1, "third"))) + b"more")
    with pytest.raises(UsageError, match="damaged"):
        store.rebuild([damaged])
