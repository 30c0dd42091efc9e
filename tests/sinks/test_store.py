"""What goes into the store comes out of it, and no other user can read it."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clipmod_cli.output.history.run import HistoryRun
from clipmod_cli.output.history.store import HistoryStore, default_db_path
from clipmod_cli.output.history.views import ITEM_COLUMNS, RECORD_COLUMNS, ROW_COLUMNS
from clipmod_cli.records import Record, to_line, to_record
from clipmod_cli.results import Result
from tests.results import RUN, plain_animation, plain_failure, plain_verdict, results
from tests.sinks.rows import ending, info, lines, numbers


def test_a_run_and_its_records_are_kept(store: HistoryStore) -> None:
    run = HistoryRun(store, info())
    run.add(to_line(to_record(plain_verdict(0), RUN)))
    run.add(to_line(to_record(plain_animation(1), RUN)))
    run.add(to_line(to_record(plain_failure(2), RUN)))
    run.finish({"inputs": 3, "errors": 1}, 3)
    assert numbers(store) == [0, 1, 2]
    assert store.query("SELECT count(*) FROM segments").rows == [(2,)]
    kept = store.query(
        "SELECT command, models, policy, threshold, counts, finished_at >= started_at FROM runs"
    ).rows
    assert kept == [("clipmod scan photos", ["nudenet"], RUN.policy, 0.5, {"inputs": 3, "errors": 1}, True)]
    assert ending(store) == ("finished", 3)
    assert {path.suffix for path in store.folder.iterdir()} == {"", ".json", ".jsonl", ".parquet"}


def test_every_field_of_a_record_has_its_column() -> None:
    names = [field.alias or name for name, field in Record.model_fields.items()]
    assert sorted(RECORD_COLUMNS) == sorted(names)
    assert len(ROW_COLUMNS) == len(names) + 3, "no field of a record is called as a column of all rows"
    assert list(ITEM_COLUMNS) == [name for name in names if name != "segments"]


@settings(max_examples=3, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(found=st.lists(results, min_size=10, max_size=30), detail=st.booleans())
def test_a_record_comes_back_from_the_store_as_it_was(
    found: list[Result], detail: bool, tmp_path: Path
) -> None:
    run_id = f"run-{time.monotonic_ns()}"
    store = HistoryStore(tmp_path / "one.duckdb")
    facts = replace(RUN, run_id=run_id)
    records = [
        to_record(result, facts, frames_detail=detail).model_copy(update={"index": index})
        for index, result in enumerate(found)
    ]
    run = HistoryRun(store, info(run_id))
    for record in records:
        run.add(to_line(record))
    run.finish({}, 0)
    assert list(rows_of(store, run_id)) == [json.loads(to_line(record)) for record in records]


def rows_of(store: HistoryStore, run_id: str) -> Iterator[dict[str, Any]]:
    where = f"WHERE run_id = '{run_id}' ORDER BY ALL"
    segments: dict[int, list[dict[str, Any]]] = {}
    answer = store.query(f"SELECT * EXCLUDE (run_id, member) FROM segments {where}")  # noqa: S608
    for row in answer.rows:
        index, _, *fields = row
        segments.setdefault(index, []).append(dict(zip(answer.columns[2:], fields, strict=True)))
    names = ", ".join(f'"{name}"' for name in ITEM_COLUMNS)
    where = f"""WHERE run_id = '{run_id}' ORDER BY "index" """
    for row in store.query(f"SELECT {names} FROM items {where}").rows:  # noqa: S608
        item = dict(zip(ITEM_COLUMNS, row, strict=True))
        moving = item["frames_scored"] is not None and item["kind"] != "image"
        item["segments"] = segments.get(item["index"], []) if moving else None
        yield item


def test_nothing_is_made_for_a_look_at_a_store_that_is_not_there(store: HistoryStore) -> None:
    assert store.stats()["totals"]["inputs"] == 0
    assert store.query("SELECT * FROM items").rows == []
    assert store.forget(source="x").records == 0
    assert not store.path.parent.exists()


def test_the_default_is_in_the_user_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_db_path().name == "clipmod.duckdb"
    if sys.platform == "linux":
        assert default_db_path() == tmp_path / "clipmod" / "clipmod.duckdb"


@pytest.mark.skipif(os.name != "posix", reason="permissions of another kind")
def test_nobody_else_can_read_it(store: HistoryStore) -> None:
    run = HistoryRun(store, info())
    run.add(lines(1)[0])
    run.finish({}, 0)
    assert store.folder.stat().st_mode & 0o077 == 0
    for path in [store.path, *store.folder.iterdir()]:
        assert path.stat().st_mode & 0o077 == 0, path
