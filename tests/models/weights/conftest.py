"""A hub on the loopback and a cache of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from clipmod_cli.models.hub.client import Hub
from tests.hub import FakeHub


@pytest.fixture
def fake() -> Iterator[FakeHub]:
    with FakeHub() as server:
        yield server


@pytest.fixture
def hub(fake: FakeHub, tmp_path: Path) -> Hub:
    return Hub(endpoint=fake.endpoint, cache_dir=tmp_path / "hub", timeout_s=5, retries=2, retry_pause_s=0)
