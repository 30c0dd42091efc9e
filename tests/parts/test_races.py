"""Processes that commit the same parts at once, some of which die: the small form of `tests.parts.race`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.parts.race import race
from tests.stores.servers import BUCKET, SERVERS


def test_in_a_folder_every_part_is_committed_once(tmp_path: Path) -> None:
    counts = race(str(tmp_path / "run"), rounds=30, workers=3, deaths=0.1)
    assert (counts["done"], counts["wrong"], counts["missing"]) == (30, 0, 0)
    assert not list(tmp_path.rglob(".*.part"))


@pytest.mark.parametrize("scheme", SERVERS)
def test_in_a_bucket_every_part_is_committed_once_though_answers_are_lost(
    monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    with SERVERS[scheme]() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        server.loss = 0.1
        counts = race(f"{scheme}://{BUCKET}/run/", rounds=8, workers=2, deaths=0.1)
    assert (counts["done"], counts["wrong"], counts["missing"]) == (8, 0, 0)
    assert counts["lost"], "no two of them committed the same part"
