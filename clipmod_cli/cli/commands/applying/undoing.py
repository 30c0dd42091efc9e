"""Runs `clipmod apply undo`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from clipmod_cli.cli.commands.applying.move_report import show_undone
from clipmod_cli.errors import ExitCode, UsageError
from clipmod_cli.output.lock import OutputLock
from clipmod_cli.output.moves import NAME
from clipmod_cli.review.applying.folders import IS_SUPPORTED
from clipmod_cli.review.applying.manifest import Manifest
from clipmod_cli.review.applying.undo import moves_to_undo, undo_moves


def run_undo(path: Path, paths: Sequence[Path], *, last: bool, as_json: bool) -> ExitCode:
    """Give back what a manifest lists, and return the exit code.

    Raises:
        UsageError: there is no manifest, or a path is not in it.
        OutputError: it cannot be written, or an `apply` is running.
    """
    if not IS_SUPPORTED:
        raise UsageError("clipmod apply needs Linux or macOS")
    path = Path(os.path.realpath(path / NAME if path.is_dir() else path))
    if not path.is_file():
        raise UsageError(f"there is no manifest {path}; `clipmod apply` writes DIR/{NAME}")
    names = [str(Path(os.path.realpath(name.parent), name.name)) for name in paths]
    with OutputLock(path):
        manifest = Manifest.read(path)
        moves = moves_to_undo(manifest, last=last, paths=names)
        for name in names:
            if not moves_to_undo(manifest, last=last, paths=[name]):
                raise UsageError(f"{path} has nothing to undo at {name}")
        manifest.open()
        try:
            is_all = show_undone(str(path.parent), undo_moves(manifest, moves), as_json=as_json)
        finally:
            manifest.close()
    return ExitCode.OK if is_all else ExitCode.SOME_FAILED
