"""The manifest of a folder into which `apply` moves files.

JSON Lines, append-only. The line of a move is on the disk before its file is touched; a line with its state
follows when it is done. What a kill left without a state is found out from the files themselves.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from clipmod_cli.errors import OutputError
from clipmod_cli.output.jsonl import FileSink, open_file
from clipmod_cli.output.moves import SCHEMA, Move, MoveChange, MoveState, now, read_lines
from clipmod_cli.records import write_name


@dataclass
class Manifest:
    """A manifest that was read. Its writer holds the lock of its path, and calls `open` first.

    Attributes:
        moves: by number.
        states: of the moves, likewise.
        since: when these states began, ISO 8601 in UTC.
    """

    path: Path
    moves: dict[int, Move] = field(default_factory=dict)
    states: dict[int, MoveState] = field(default_factory=dict)
    since: dict[int, str] = field(default_factory=dict)
    _sink: FileSink | None = None

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return a manifest; an empty one if there is no file.

        Raises:
            OutputMismatchError: the file of this name is not a manifest.
            OutputError: it cannot be read.
        """
        manifest = cls(path)
        for line in read_lines(path):
            if isinstance(line, Move):
                manifest._plan(line)
            elif line.number in manifest.states:
                manifest._change(line)
        return manifest

    @property
    def last_run(self) -> int:
        """The number of the last `apply` that planned a move; 0 if there was none."""
        return max((move.run for move in self.moves.values()), default=0)

    def in_state(self, *states: MoveState) -> list[Move]:
        """Return the moves in one of these states, in the order of their lines."""
        return [move for number, move in self.moves.items() if self.states[number] in states]

    def open(self) -> None:
        """Open it for adding lines; a torn last line, of which nothing was carried out, is removed.

        Raises:
            OutputError: it cannot be written.
        """
        try:
            if self.path.is_symlink():
                raise OutputError(f"{self.path} is a link. Name another folder, or move it away")
            if self.path.exists():
                content = self.path.read_bytes()
                os.truncate(self.path, content.rfind(b"\n") + 1)
            self._sink = open_file(self.path)
            self._sink.sync()
            _sync_folder(self.path.parent)
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror}") from error

    def add(self, moves: Sequence[Move]) -> None:
        """Add planned moves; when this returns they are on the disk.

        Raises:
            OutputError: they cannot be written; none of them may be carried out.
        """
        self._opened.write(b"".join(_line(move.to_fields()) for move in moves))
        self._opened.sync()
        for move in moves:
            self._plan(move)

    def mark(self, move: Move, state: MoveState, why: str = "") -> None:
        """Add what became of a move; a crash of the machine may lose that, and nothing else.

        Raises:
            OutputError: it cannot be written.
        """
        reason = {"why": write_name(why)[0]} if why else {}
        change = MoveChange(move.number, state, now())
        self._opened.write(
            _line({"schema": SCHEMA, "number": move.number, "state": state, **reason, "at": change.at})
        )
        self._change(change)

    def close(self) -> None:
        """Sync and close it if it is open.

        Raises:
            OutputError: it cannot be written.
        """
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.close()

    def _plan(self, move: Move) -> None:
        self.moves[move.number] = move
        self._change(MoveChange(move.number, "planned", move.at))

    def _change(self, change: MoveChange) -> None:
        self.states[change.number] = change.state
        self.since[change.number] = change.at

    @property
    def _opened(self) -> FileSink:
        if self._sink is None:
            raise AssertionError("the manifest is not open")
        return self._sink


def _line(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, ensure_ascii=False).encode() + b"\n"


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
