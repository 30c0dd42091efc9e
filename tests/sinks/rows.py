"""Runs for a store, and what it is asked about them afterwards."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from clipmod_cli.output.history.rows import RunInfo
from clipmod_cli.output.history.run import HistoryRun
from clipmod_cli.output.history.store import HistoryStore
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


def leave_behind(store: HistoryStore, content: bytes, part: str = "000000.open") -> None:
    """Leave what a killed run leaves: its facts and a part, and a lock that nobody holds."""
    run = HistoryRun(store, info())
    assert run._writer is not None
    run._writer._lock.release()
    (store.spool / f"{RUN.run_id}.{part}").write_bytes(content)
