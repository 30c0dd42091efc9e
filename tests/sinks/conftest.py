from __future__ import annotations

from pathlib import Path

import pytest

from clipmod_cli.output.history.store import HistoryStore


@pytest.fixture
def store(tmp_path: Path) -> HistoryStore:
    """Return a store that is not there yet, and merges only when it is told to."""
    return HistoryStore(tmp_path / "it's a [store]" / "clipmod.duckdb", merge_every_s=3600)
