"""Parquet and CSV as outputs: JSON Lines until the run ends, then a table that appears by rename.

The lines (`NAME.jsonl.part`) are what is written and resumed. The next run turns a finished table back into
them: a Parquet file itself, for a CSV file, which has not all of a record, the Parquet file beside it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from clipmod_cli.atomic import atomic_file, remove_unfinished, temporary_file
from clipmod_cli.errors import ClipmodError, OutputError, OutputMismatchError, UsageError
from clipmod_cli.output.database import quoted
from clipmod_cli.output.export import ExportOptions, export
from clipmod_cli.output.jsonl import JsonlSink
from clipmod_cli.output.parquet import convert_lines, read_lines
from clipmod_cli.output.reading.cards import read_cards
from clipmod_cli.output.reading.records import open_records
from clipmod_cli.output.resuming.files import part_path, records_path, whole_records
from clipmod_cli.output.resuming.resume import DoneInputs, ResumeOptions
from clipmod_cli.records import Record

TABLES: Final = frozenset({".parquet", ".csv"})
"""The endings of tables."""


@contextmanager
def lines_of(output: Path) -> Iterator[Path]:
    """Give a file with the lines of an output for reading: of a finished table a temporary one.

    Raises:
        OutputMismatchError: the table is of another program.
        OutputError: it cannot be read.
    """
    records = whole_records(output)
    if output.suffix.lower() not in TABLES:
        yield output
    elif part_path(output).exists() or not records.exists():
        yield part_path(output)
    else:
        with temporary_file() as file:
            try:
                file.writelines(read_lines(records))
                file.flush()
            except UsageError as e:
                raise OutputMismatchError(f"{e}. Name another output, or --overwrite") from e
            yield Path(file.name)


class ParquetSink:
    """A Parquet file."""

    def __init__(self, path: Path, options: ResumeOptions) -> None:
        """Raise UsageError if DuckDB cannot open a file of this path."""
        quoted(str(path))  # before anything is judged
        self.path = path
        self.records = path  # whole, of the runs that have finished
        self.lines_path = part_path(path)
        self._options = options
        self._lines = JsonlSink(self.lines_path, options)
        self._before: os.stat_result | None = None  # of the lines, if they were made from the records

    def begin(self, run_key: str) -> DoneInputs:
        """Open the lines: those of an unfinished run, or those of the finished table."""
        try:
            self._open_lines()
            return self._lines.begin(run_key)
        except OSError as e:
            raise OutputError(f"cannot write to {self.lines_path}: {e.strerror or e}") from e
        except ClipmodError:
            if self._is_unchanged():
                self.lines_path.unlink()
            raise

    def _open_lines(self) -> None:
        tables = [one for one in (self.path, self.records) if one.exists() and one.stat().st_size]
        for one in {self.lines_path, self.records, self.path}:
            remove_unfinished(one)
        if self._options.overwrite:
            self.lines_path.open("wb").close()  # first: where there are lines, no table is turned back
            for one in tables:
                one.unlink(missing_ok=True)
        elif tables and self._options.resume == "no":
            raise OutputMismatchError(
                f"{self.path} exists; --overwrite discards its content, --resume continues it"
            )
        elif tables and not self.lines_path.exists():
            self._turn_back()

    def _turn_back(self) -> None:
        if not self.records.exists():
            raise OutputMismatchError(
                f"{self.path} exists without {self.records.name}, from which a run goes on, so it is left "
                "alone. Name another output, or --overwrite"
            )
        mode = self.records.stat().st_mode & 0o7777
        try:
            with atomic_file(self.lines_path, mode=mode, sync=True) as file:
                file.writelines(read_lines(self.records))
        except UsageError as e:
            raise OutputMismatchError(f"{e}, so it is left alone. Name another output, or --overwrite") from e
        self._before = self.lines_path.stat()

    def write(self, record: Record, line: bytes) -> None:
        """Write the line."""
        self._lines.write(record, line)

    def close(self) -> None:
        """Sync and close the lines."""
        self._lines.close()

    def complete(self) -> None:
        """Write the table from the lines and remove these; if nothing has changed, it stays as it is."""
        try:
            if not self._is_unchanged():
                self._write_tables()
            self.lines_path.unlink()
        except (OSError, OutputError) as e:
            reason = e.strerror or e if isinstance(e, OSError) else e
            raise OutputError(
                f"cannot write {self.path}: {reason}. All records are in {self.lines_path}; the same command "
                "goes on from there, and `clipmod export` writes them elsewhere"
            ) from e

    def _is_unchanged(self) -> bool:
        """Return whether the lines were made from the table that is there, and not changed since."""
        if self._before is None or not self.path.exists():
            return False
        now = self.lines_path.stat()
        names = ("st_ino", "st_size", "st_mtime_ns")
        return all(getattr(now, name) == getattr(self._before, name) for name in names)

    def _write_tables(self) -> None:
        replaced = read_cards([str(self.path)]).filled_in
        mode = self.lines_path.stat().st_mode & 0o7777
        with atomic_file(self.records, mode=mode, sync=True) as file:
            convert_lines([self.lines_path], Path(file.name), replaced=replaced)


class CsvSink(ParquetSink):
    """A CSV file, and its whole records in a Parquet file beside it."""

    def __init__(self, path: Path, options: ResumeOptions) -> None:
        super().__init__(path, options)
        self.records = records_path(path)

    def _write_tables(self) -> None:
        super()._write_tables()
        with open_records([str(self.lines_path)]) as reader:
            export(reader, self.path, ExportOptions())
