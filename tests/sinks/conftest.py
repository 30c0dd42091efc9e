from __future__ import annotations

from pathlib import Path

import pytest

from clipmod_cli.output.history.store import HistoryStore


@pytest.fixture
def store(tmp_path: Path) -> HistoryStore:
    """Return a store that is not there yet."""
    return HistoryStore(tmp_path / "it's a [store]" / "clipmod.duckdb")
