"""Small bombs of every kind through the real command. The large ones: `benchmarks.bombs`."""

from __future__ import annotations

from pathlib import Path

from tests.bombs import bombs, find_wrong, write
from tests.end_to_end.command import SHAPE_OPTIONS, Command


def test_every_bomb_gets_its_record_and_none_is_safe_unseen(clipmod: Command, tmp_path: Path) -> None:
    folder = tmp_path / "bombs"
    folder.mkdir()
    written = write(list(bombs(600, members=1, slow=False)), folder, copies=1)
    done = clipmod("scan", folder, "--json", "--no-db", *SHAPE_OPTIONS)
    assert done.code == 3
    assert find_wrong(done.stdout.splitlines(), written) == []
