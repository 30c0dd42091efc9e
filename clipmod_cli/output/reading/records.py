"""Queries over the records of outputs, by DuckDB in memory. Full and compact records are read alike."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from clipmod_cli.errors import OutputError, UsageError
from clipmod_cli.output.columns import columns_of
from clipmod_cli.output.database import (
    INTERRUPTED,
    connect,
    first_line,
    no_rows,
    quoted_list,
    quoted_path,
    raise_full_disk,
)
from clipmod_cli.output.history.store import QueryResult
from clipmod_cli.output.reading.cards import RunCards, read_cards
from clipmod_cli.output.reading.files import RecordFile, check_file, check_once, find_invalid_line
from clipmod_cli.records import Record

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

LEAST_OBJECT_BYTES: Final = 1 << 20
"""DuckDB reserves a few times the longest line for each thread."""


@dataclass(frozen=True, slots=True)
class RecordReader:
    """The records of some outputs: the view `records` of a DuckDB database in memory.

    Attributes:
        is_columnar: a query reads only the columns that it names, not all lines.
    """

    connection: DuckDBPyConnection
    files: tuple[RecordFile, ...]
    cards: RunCards
    is_columnar: bool = False

    @property
    def count(self) -> int:
        """How many records there are."""
        return sum(file.count for file in self.files)

    @property
    def notes(self) -> list[str]:
        """What was left out of each file, sentences for people."""
        return [f"{file.name}: {file.note}" for file in self.files if file.note]

    def execute(self, sql: str, values: Sequence[Any] = ()) -> None:
        """Run a statement; raises as `rows`."""
        with self.translated():
            self.connection.execute(sql, values)

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Return the rows of a query by column.

        Raises:
            UsageError: a record has a field of the wrong type, or a line is no JSON.
            OSError: the disk is full.
            OutputError: a file cannot be written: a result, or what exceeds the memory limit.
        """
        answer = self.query(sql, values)
        return [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]

    def query(self, sql: str, values: Sequence[Any] = ()) -> QueryResult:
        """Return the columns and rows of a query; two columns may have the same name. Raises as `rows`."""
        with self.translated():
            answer = self.connection.execute(sql, values)
            names = tuple(column[0] for column in answer.description or ())
            return QueryResult(columns=names, rows=answer.fetchall())

    def lock(self) -> None:
        """Allow no other file than those of the records, and no change of that."""
        for statement in (
            f"SET allowed_paths = {quoted_list(file.path.resolve() for file in self.files)}",
            "SET enable_external_access = false",
            "SET lock_configuration = true",
        ):
            self.connection.execute(statement)

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Raise errors of DuckDB as `rows` does."""
        import duckdb

        try:
            yield
        except (duckdb.InvalidInputException, duckdb.ConversionException) as error:
            raise UsageError(self._explain(error)) from error
        except (duckdb.IOException, duckdb.OutOfMemoryException) as error:
            raise_full_disk(error)
            raise OutputError(f"cannot go through the records: {first_line(error)}") from error
        except duckdb.Error as error:
            raise UsageError(str(error).strip()) from error
        except RuntimeError as error:
            if str(error) == INTERRUPTED:
                raise KeyboardInterrupt from error
            raise

    def _explain(self, error: Exception) -> str:
        """Return which line is no record; DuckDB's own line numbers are off by one for some faults."""
        for file in self.files if not self.is_columnar else ():
            if (number := find_invalid_line(file.path)) is not None:
                return f"{file.name} line {number} is not valid JSON. Remove it, or scan its input again"
        return f"a record cannot be read: {first_line(error)}"


def open_database(folder: Path) -> DuckDBPyConnection:
    """Return a database in memory, which writes what exceeds `MEMORY` to a folder."""
    return connect(spill=folder / "spilled")


@contextmanager
def open_records(names: Sequence[str]) -> Iterator[RecordReader]:
    """Give the records of some outputs, one after the other, in the order of their lines.

    Memory does not grow with their number; temporary files are removed at the end.

    Args:
        names: paths, each once; `-` is stdin.

    Raises:
        UsageError: a file cannot be read, is named twice, or has a line that is not a record.
        OutputError: a temporary file cannot be written.
    """
    check_once(names)
    folder = Path(tempfile.mkdtemp(prefix="clipmod-"))
    try:
        files = tuple(check_file(name, folder) for name in names)
        with open_database(folder) as connection:
            cards = read_cards(names)
            connection.execute(f"CREATE VIEW records AS {_view_of(files, cards)}")
            yield RecordReader(connection, files, cards)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _view_of(files: Sequence[RecordFile], cards: RunCards) -> str:
    columns = {column.name: column.type for column in columns_of(Record)}
    paths = ", ".join(quoted_path(file.path.resolve()) for file in files if file.count)
    if not paths:
        return no_rows(columns)
    listed = ", ".join(f"'{name}': '{kind}'" for name, kind in columns.items())
    longest = max(LEAST_OBJECT_BYTES, *(file.longest for file in files)) + 1
    return (
        f"SELECT * {cards.filled_in}FROM read_json([{paths}], format = 'newline_delimited', "
        f"compression = 'none', maximum_object_size = {longest}, columns = {{{listed}}})"
    )
