"""The lines of a manifest of `clipmod apply`: which files were to be moved where, and what became of each."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, get_args

from clipmod_cli.errors import OutputError, OutputMismatchError
from clipmod_cli.records import read_name, write_name

SCHEMA: Final = "clipmod-apply/1"
NAME: Final = "manifest.jsonl"

_SHA256: Final = re.compile("[0-9a-f]{64}")
_MOST: Final = 1 << 63
"""More nanoseconds than any file system has."""

_DAMAGED: Final = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
"""What a line of another program raises."""

MoveAction: TypeAlias = Literal["move", "copy", "delete"]
MoveState: TypeAlias = Literal["planned", "done", "left", "undoing", "undone", "purged"]
"""left: not moved, for a reason; undoing: as done, and being given back; purged: deleted for good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One file that is to be moved, copied or deleted.

    Attributes:
        number: of its line, from 1; later lines name it by this.
        run: number of the `apply` that planned it, from 1.
        source: absolute, without links in its folders.
        destination: relative to the folder of the manifest, which may itself be moved.
        sha256: of the bytes that were judged.
        mtime_ns: modification time, nanoseconds since 1970.
        mode: permission bits.
        at: when it was planned, ISO 8601.
    """

    number: int
    run: int
    action: MoveAction
    source: str
    destination: str
    sha256: str
    bytes: int
    mtime_ns: int
    mode: int
    reason: str
    at: str

    def to_fields(self) -> dict[str, Any]:
        """Return the fields of its line."""
        source, source_b64 = write_name(self.source)
        destination, destination_b64 = write_name(self.destination)
        return {
            "schema": SCHEMA,
            "number": self.number,
            "run": self.run,
            "do": self.action,
            "source": source,
            "source_b64": source_b64,
            "destination": destination,
            "destination_b64": destination_b64,
            "sha256": self.sha256,
            "bytes": self.bytes,
            "mtime_ns": self.mtime_ns,
            "mode": f"{self.mode:04o}",
            "reason": write_name(self.reason)[0],
            "at": self.at,
        }


@dataclass(frozen=True, slots=True)
class MoveChange:
    """A later line: what became of a move, and when, ISO 8601."""

    number: int
    state: MoveState
    at: str


def read_lines(path: Path) -> Iterator[Move | MoveChange]:
    """Yield the lines of a manifest; none if there is no file. A torn last line is left out.

    Raises:
        OutputMismatchError: a line is not one of a manifest.
        OutputError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    return
                try:
                    yield _parse(json.loads(line))
                except _DAMAGED as error:
                    raise OutputMismatchError(
                        f"{path} line {number} is not one of a manifest of `clipmod apply`. "
                        "Name another folder, or move this file away"
                    ) from error
    except FileNotFoundError:
        return
    except OSError as error:
        raise OutputError(f"cannot read {path}: {error.strerror}") from error


def now() -> str:
    """Return the time as a manifest has it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _parse(fields: Any) -> Move | MoveChange:
    if fields["schema"] != SCHEMA or type(fields["number"]) is not int:
        raise ValueError("another schema")
    if "state" in fields:
        if fields["state"] not in get_args(MoveState):
            raise ValueError("an unknown state")
        return MoveChange(fields["number"], fields["state"], _time_of(fields))
    if fields["do"] not in get_args(MoveAction):
        raise ValueError("an unknown action")
    destination = read_name(fields["destination"], fields["destination_b64"])
    source = read_name(fields["source"], fields["source_b64"])
    if not _is_below(destination) or not source.startswith("/"):
        raise ValueError("a path that leads elsewhere")
    mode, mtime_ns = int(fields["mode"], 8), int(fields["mtime_ns"])
    if not _SHA256.fullmatch(fields["sha256"]) or not 0 <= mode <= 0o7777 or abs(mtime_ns) >= _MOST:
        raise ValueError("a fact that no file has")
    return Move(
        number=fields["number"],
        run=int(fields["run"]),
        action=fields["do"],
        source=source,
        destination=destination,
        sha256=fields["sha256"],
        bytes=int(fields["bytes"]),
        mtime_ns=mtime_ns,
        mode=mode,
        reason=str(fields["reason"]),
        at=_time_of(fields),
    )


def _time_of(fields: Any) -> str:
    """Return the time of a line, in UTC, so that times can be compared as text."""
    return datetime.fromisoformat(fields["at"]).astimezone(UTC).isoformat(timespec="seconds")


def _is_below(destination: str) -> bool:
    """Return whether a relative path stays in its folder."""
    return not {"", ".", ".."} & set(destination.split("/"))
