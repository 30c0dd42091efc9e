"""The records of a part: collected as lines, sorted by index, and written as Parquet or JSON Lines."""

from __future__ import annotations

import os
import re
import tempfile
from array import array
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Literal, Self

from clipmod_cli.errors import OutputError, OutputMismatchError

PartFormat = Literal["parquet", "jsonl"]

_INDEX: Final = re.compile(rb'"index":(\d+),"run_id":"')
"""Nothing but the field can be so: other fields of these names hold no number before a text."""


class PartLines:
    """Collects the lines of a part in a temporary file. Memory does not grow with their length."""

    def __init__(self) -> None:
        """Create a temporary folder.

        Raises:
            OutputError: it cannot be created.
        """
        try:
            self._folder = tempfile.TemporaryDirectory(prefix="clipmod-part-")
            self._file: IO[bytes] = Path(self._folder.name, "lines").open("w+b")  # noqa: SIM115 - closed below
        except OSError as error:
            raise OutputError(f"cannot write to {tempfile.gettempdir()}: {error.strerror}") from error
        self._indices, self._ends = array("q"), array("q", [0])

    def __enter__(self) -> Self:
        """Do nothing more."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the folder."""
        with suppress(OSError):  # of a full disk: the call that wrote has told it
            self._file.close()
        self._folder.cleanup()

    @property
    def count(self) -> int:
        """How many lines there are."""
        return len(self._indices)

    def add(self, index: int, line: bytes) -> None:
        """Add the line of a record.

        Raises:
            OutputError: the temporary file cannot be written.
        """
        try:
            self._file.write(line)
        except OSError as error:
            raise OutputError(f"cannot write to {self._folder.name}: {error.strerror}") from error
        self._indices.append(index)
        self._ends.append(self._ends[-1] + len(line))

    def write(self, form: PartFormat) -> Path:
        """Return a file of all lines by index, those of one index as they came; it is removed at the end.

        Raises:
            OutputError: it cannot be written.
        """
        path = Path(self._folder.name, f"part.{form}")
        try:
            self._file.flush()
            if form == "parquet":
                from clipmod_cli.output.parquet import write_parquet

                write_parquet(self._sorted(), path)
            else:
                with path.open("wb") as file:
                    file.writelines(self._sorted())
        except OSError as error:
            raise OutputError(f"cannot write to {path}: {error.strerror}") from error
        return path

    def _sorted(self) -> Iterator[bytes]:
        for number in sorted(range(self.count), key=self._indices.__getitem__):
            start = self._ends[number]
            yield os.pread(self._file.fileno(), self._ends[number + 1] - start, start)


def read_part(path: Path, form: PartFormat) -> Iterator[bytes]:
    """Yield the lines of a part's file, each with its newline."""
    if form == "parquet":
        from clipmod_cli.output.parquet import read_lines

        yield from read_lines(path)
        return
    with path.open("rb") as file:
        yield from file


def index_of(line: bytes) -> int:
    """Return the index of a record.

    Raises:
        OutputMismatchError: the line is no record.
    """
    return int(_find(line)[1])


def with_index(line: bytes, index: int) -> bytes:
    """Return the record with another index."""
    found = _find(line)
    return line[: found.start(1)] + str(index).encode() + line[found.end(1) :]


def _find(line: bytes) -> re.Match[bytes]:
    found = _INDEX.search(line)
    if found is None:
        raise OutputMismatchError("a line of a part is not a clipmod record")
    return found
