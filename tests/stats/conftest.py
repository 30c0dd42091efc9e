"""A statistics database in a home of its own."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from clipmod_cli.output.history.rows import RunInfo
from clipmod_cli.output.history.run import HistoryRun
from clipmod_cli.output.history.store import HistoryStore
from clipmod_cli.records import to_line, to_record
from tests.results import RUN, plain_animation, plain_failure, plain_verdict


@pytest.fixture(autouse=True)
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the settings and the store of the user who runs the tests out of them."""
    for name in [name for name in os.environ if name.startswith("CLIPMOD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("CLIPMOD_DB", str(tmp_path / "clipmod.duckdb"))
    return tmp_path


@pytest.fixture
def store(at_home: Path) -> HistoryStore:
    """Return a store with one run: NSFW and safe stills, an animation, two errors."""
    store = HistoryStore(at_home / "clipmod.duckdb")
    started = datetime.now(UTC) - timedelta(seconds=10)
    run = HistoryRun(
        store, RunInfo(facts=RUN, command="clipmod scan photos", models=("ensemble",), started_at=started)
    )
    run.add(to_line(to_record(plain_verdict(0, unsafe=0.9), RUN)))
    run.add(
        to_line(
            to_record(
                replace(plain_verdict(1, unsafe=0.2), review_reasons=("truncated",), total_ms=100.0), RUN
            )
        )
    )
    run.add(to_line(to_record(plain_animation(2), RUN)))
    run.add(to_line(to_record(plain_failure(3), RUN)))
    run.add(to_line(to_record(plain_failure(4, "timeout"), RUN)))
    run.finish({"inputs": 5}, 3)
    return store
