"""The command, and a folder of judged files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.applying.trees import Entry, judge, make_tree, snapshot
from tests.end_to_end.command import Command, Outcome
from tests.end_to_end.conftest import clipmod

__all__ = ["clipmod"]


@dataclass
class Judged:
    """A folder of which all files were judged NSFW.

    Attributes:
        before: the folder as it was.
        kept: where files go; it does not exist yet.
    """

    tree: Path
    paths: list[Path]
    output: Path
    before: dict[str, Entry]
    kept: Path

    @property
    def manifest(self) -> Path:
        return self.kept / "manifest.jsonl"


@pytest.fixture
def judged(tmp_path: Path) -> Judged:
    """A folder that was scanned, with its output."""
    tree, output = tmp_path / "tree", tmp_path / "out.jsonl"
    paths = make_tree(tree)
    judge(output, paths, tree)
    return Judged(tree, paths, output, snapshot(tree), tmp_path / "kept")


Apply: TypeAlias = Callable[..., Outcome]


@pytest.fixture
def apply(clipmod: Command, judged: Judged) -> Apply:
    """Move all NSFW files of the output; further words are added."""

    def run(*words: str | Path, output: Path = judged.output) -> Outcome:
        return clipmod("apply", output, "--nsfw", "--move", judged.kept, "--yes", *words)

    return run


@pytest.fixture
def undo(clipmod: Command, judged: Judged) -> Apply:
    """Undo it."""

    def run(*words: str | Path) -> Outcome:
        return clipmod("apply", "undo", judged.manifest, *words)

    return run
