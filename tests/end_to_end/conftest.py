"""The command for end-to-end tests."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.command import Command


@pytest.fixture
def clipmod(
    tmp_path_factory: pytest.TempPathFactory, capfdbinary: pytest.CaptureFixture[bytes]
) -> Iterator[Command]:
    """The command line, with a home of its own."""
    root, own = logging.getLogger(), logging.getLogger("clipmod_cli")
    before = root.handlers[:], own.handlers[:], own.level
    yield Command(tmp_path_factory.mktemp("home"), capfdbinary)
    root.handlers, own.handlers = before[0], before[1]
    own.setLevel(before[2])
    logging.captureWarnings(capture=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder for pictures."""
    made = tmp_path / "pictures"
    made.mkdir()
    return made


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where an output may be written, in an empty folder of its own."""
    made = tmp_path / "out"
    made.mkdir()
    return made / "records.jsonl"


@pytest.fixture
def command_line(clipmod: Command) -> Command:
    """The same under a name that leaves `clipmod` to the library."""
    return clipmod
