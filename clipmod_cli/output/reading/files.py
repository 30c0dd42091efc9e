"""The lines of an output, checked once: plain or compressed files, Parquet, stdin, lines torn by a kill.

What is not a record is refused with its line number; nothing is left out without a note. Whether a record's
fields have the right types is DuckDB's to check (`clipmod_cli.output.reading.records`).
"""

from __future__ import annotations

import itertools
import json
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, cast

from clipmod_cli.errors import OutputError, UsageError
from clipmod_cli.output.compact import SCHEMAS
from clipmod_cli.output.parquet import PARQUET_MAGIC, read_lines
from clipmod_cli.output.reading.withheld import WithheldInputs, read_withheld
from clipmod_cli.output.resuming.files import (
    DAMAGE,
    MAGIC,
    Compression,
    decompressing,
    part_path,
    records_path,
)
from clipmod_cli.output.resuming.lines import LINE_START

PARTS_CARD: Final = "run.json"
"""The run card of a run in parts, in its folder."""

PIECE_BYTES: Final = 1 << 20
PARQUET_LINES: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordFile:
    """One output whose lines were checked.

    Attributes:
        name: as the user named it; `-` is stdin.
        path: a file that holds these lines and no others, uncompressed: the output, or a temporary copy.
        count: how many records.
        longest: the length of the longest line, in bytes.
        note: what was left out, a clause for people; empty if nothing was.
    """

    name: str
    path: Path
    count: int
    longest: int
    note: str = ""


def check_file(name: str, folder: Path) -> RecordFile:
    """Check the lines of one output.

    Records of inputs that are withheld (`withheld`) are left out.

    Args:
        name: a path of JSON Lines, also compressed by gzip or zstd, or of Parquet (by content); `-` is stdin.
        folder: a temporary folder for a copy, which is made of stdin, of a compressed file, and of a file
            of which a line is left out.

    Raises:
        UsageError: it cannot be read, or a line is not a record.
        OutputError: the copy cannot be written.
    """
    withheld = WithheldInputs() if name == "-" else read_withheld(Path(name))
    try:
        with _open(name) as file:
            lines = _Lines(name, file, withheld)
            if not lines.is_plain or not stat.S_ISREG(os.fstat(file.fileno()).st_mode) or name == "-":
                return _copy(lines, name, folder)
            count = sum(1 for _ in lines)
            if lines.is_clean:
                return RecordFile(name=name, path=Path(name), count=count, longest=lines.longest)
        with _open(name) as file:
            return _copy(_Lines(name, file, withheld), name, folder)
    except OSError as error:
        raise UsageError(f"cannot read the records in {name}: {error.strerror or error}") from error


def refuse_parts(name: str) -> None:
    """Raise UsageError if a run in parts is named where a file of records is needed."""
    if "://" in name or Path(name, PARTS_CARD).is_file():
        raise UsageError(
            f"{name} is no file of records. `clipmod stats --from {name}` reads those of a run in parts; "
            f"all commands read the file that `clipmod merge {name} -o all.jsonl` makes of them"
        )


def check_once(names: Iterable[str]) -> None:
    """Raise UsageError if an output is named twice."""
    seen: set[str] = set()
    for name in names:
        real = name if name == "-" else str(Path(name).resolve())
        if real in seen:
            raise UsageError(f"{name} is named twice; its records would count twice")
        seen.add(real)


def find_invalid_line(path: Path) -> int | None:
    """Return the number of the first line that is not one JSON object, from 1; None if there is none."""
    from pydantic_core import from_json

    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                from_json(line)
            except ValueError:
                return number
    return None


def _copy(lines: _Lines, name: str, folder: Path) -> RecordFile:
    count = 0
    copy = tempfile.NamedTemporaryFile(dir=folder, suffix=".jsonl", delete=False)  # noqa: SIM115 - closed below
    try:
        for line in lines:
            _write(copy, line + b"\n")
            count += 1
        _write(copy, b"")
    finally:
        with suppress(OSError):  # of a full disk: `_write` has told it
            copy.close()
    return RecordFile(name=name, path=Path(copy.name), count=count, longest=lines.longest, note=lines.note)


def _write(copy: IO[bytes], line: bytes) -> None:
    """Write one line of a copy; no line flushes it."""
    try:
        copy.write(line)
        if not line:
            copy.flush()
    except OSError as error:
        raise OutputError(f"no temporary copy of the records: {error.strerror}") from error


def _open(name: str) -> IO[bytes]:
    if name == "-":
        return open(0, "rb", closefd=False)
    refuse_parts(name)
    if Path(name).is_dir():
        raise UsageError(f"{name} is a folder; name the output of a scan, as results.jsonl")
    return Path(name).open("rb")


class _Lines:
    """Yields the lines of one file that are records, without their newlines; skips empty ones.

    Attributes:
        is_plain: the file is not compressed.
        longest: the length of the longest line so far, in bytes.
        is_clean: after all were yielded: the file holds these lines and no others.
        note: likewise: what was left out.
    """

    def __init__(self, name: str, file: IO[bytes], withheld: WithheldInputs) -> None:
        self._name = name
        self._withheld = withheld
        self._stream, self.is_plain = _uncompressed(name, cast("Any", file))
        self.longest = 0
        self.is_clean = True
        self.note = ""

    def __iter__(self) -> Iterator[bytes]:
        left_out = 0
        for line in self._records():
            if self._withheld and self._withheld.covers_line(line):
                self.is_clean = False
                left_out += 1
                continue
            self.longest = max(self.longest, len(line) + 1)
            yield line
        if self._name != "-" and part_path(Path(self._name)).exists():
            unfinished = (
                f"a run has not finished it yet, whose records are in {part_path(Path(self._name)).name}"
            )
            self.note = "; ".join(filter(None, [self.note, unfinished]))
        if left_out:
            are = "1 is withheld" if left_out == 1 else f"{left_out:,} are withheld"
            self.note = "; ".join(filter(None, [self.note, f"{are} (see docs/review.md)"]))

    def _records(self) -> Iterator[bytes]:
        number = 0
        for number, line in enumerate(self._whole_lines(), 1):
            if not line.strip():
                self.is_clean = False
                continue
            # a line that another program has rewritten is parsed to be recognised
            if not (line.startswith(LINE_START) and line.endswith(b"}")) and not _is_record(line):
                raise self._foreign(number, line)
            yield line
        if self._rest.strip():
            self.is_clean = False
            if _is_record(self._rest):  # whole, but for its newline
                yield self._rest
            elif number == 0 and not self._rest.startswith(LINE_START[: len(self._rest)]):
                raise self._foreign(1, self._rest)
            else:
                self.note = f"line {number + 1} is torn, as after a kill, and is left out"

    def _whole_lines(self) -> Iterator[bytes]:
        self._rest = b""
        parts: list[bytes] = []
        for piece in self._pieces():
            *whole, last = piece.split(b"\n")
            if whole:
                yield b"".join([*parts, whole[0]])
                yield from whole[1:]
                parts = []
            parts.append(last)
        self._rest = b"".join(parts)

    def _pieces(self) -> Iterator[bytes]:
        """Yield the uncompressed content; a compressed file may end early, as its writer was killed."""
        try:
            while piece := self._stream.read1(PIECE_BYTES):
                yield piece
        except EOFError:
            self.note = "the compressed file ends early, as after a kill; what can be read is taken"
        except DAMAGE as error:
            raise UsageError(f"{self._name} is damaged and cannot be decompressed: {error}") from error

    def _foreign(self, number: int, line: bytes) -> UsageError:
        pretty = number == 1 and line.strip() in {b"{", b"["}
        hint = "; records are one JSON object a line (`jq -c` writes them so)" if pretty else ""
        if (kept := records_path(Path(self._name))).exists():
            hint = f"; the records of this table are in {kept.name}"
        return UsageError(f"{self._name} line {number} is not a clipmod record{hint}")


def _uncompressed(name: str, file: Any) -> tuple[Any, bool]:
    """Return a stream of the lines in a file, and whether the file is that already."""
    head = file.peek(4)[:4]
    if head == PARQUET_MAGIC:
        if name == "-":
            raise UsageError("Parquet cannot be read from stdin. Name the file")
        return _ParquetLines(Path(name)), False
    kind: Compression = next((one for magic, one in MAGIC.items() if head.startswith(magic)), "none")
    return decompressing(file, kind), kind == "none"


class _ParquetLines:
    """The lines of a Parquet file as a stream."""

    def __init__(self, path: Path) -> None:
        self._lines = read_lines(path)

    def read1(self, _size: int) -> bytes:
        return b"".join(itertools.islice(self._lines, PARQUET_LINES))


def _is_record(line: bytes) -> bool:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and value.get("schema") in SCHEMAS
