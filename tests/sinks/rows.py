"""Runs for a store, and what it is asked about them afterwards."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from clipmod_cli.output.history.folder import journal_path, journals_by_run, load_inventory
from clipmod_cli.output.history.rows import RunInfo, record_line
from clipmod_cli.output.history.run import HistoryRun
from clipmod_cli.output.history.store import HistoryStore
from clipmod_cli.output.history.writer import RunWriter
from clipmod_cli.records import to_line, to_record
from tests.results import RUN, plain_verdict


def info(run_id: str = RUN.run_id, **known: Any) -> RunInfo:
    started = known.pop("started_at", datetime.now(UTC))
    facts = replace(RUN, run_id=run_id)
    return RunInfo(
        facts=facts, command="clipmod scan photos", models=("nudenet",), started_at=started, **known
    )


def lines(count: int, run_id: str = RUN.run_id) -> list[bytes]:
    return [to_line(to_record(plain_verdict(index), replace(RUN, run_id=run_id))) for index in range(count)]


def fill(store: HistoryStore, count: int, run_id: str = RUN.run_id) -> None:
    run = HistoryRun(store, info(run_id))
    for line in lines(count, run_id):
        run.add(line)
    run.finish({"inputs": count}, 0)


def numbers(store: HistoryStore, run_id: str = RUN.run_id) -> list[int]:
    query = f"""SELECT "index" FROM items WHERE run_id = '{run_id}' ORDER BY ALL"""  # noqa: S608
    return [row[0] for row in store.query(query).rows]


def ending(store: HistoryStore, run_id: str = RUN.run_id) -> tuple[Any, ...]:
    rows = store.query(f"SELECT ended, exit_code FROM runs WHERE run_id = '{run_id}'").rows  # noqa: S608
    assert len(rows) == 1
    return rows[0]


def warnings_in(log: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in log.records if record.levelno >= logging.WARNING]


def stored(count: int, run_id: str = RUN.run_id, *, at: float | None = None) -> list[bytes]:
    """Return the lines of records in a journal, written at one time in seconds."""
    written_us = round((time.time() if at is None else at) * 1e6)
    return [record_line(line, written_us) for line in lines(count, run_id)]


def leave_behind(store: HistoryStore, content: bytes, **known: Any) -> None:
    """Leave what a killed run leaves: a journal, and a lock that no process holds."""
    writer = RunWriter(store.folder, info(**known))
    writer._lock.release()
    with journal_path(store.folder, known.get("run_id", RUN.run_id), 0).open("ab") as file:
        file.write(content)


def seal_all(store: HistoryStore) -> None:
    """Seal what ended runs left, and assert that nothing is left to be sealed."""
    assert store.maintain(timeout_s=30)
    done = load_inventory(store.folder).done
    open_ = [
        path.name
        for journals in journals_by_run(store.folder).values()
        for path in journals
        if path.name not in done
    ]
    assert open_ == []
