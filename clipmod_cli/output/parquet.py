"""Records as Parquet and back, without loss: typed columns that DuckDB reads in place, and the very lines.

A line is made again from its columns. Where that gives another text (a field of a later version, a control
character), the column `exact_line` holds the line itself; it is null in nearly all records of clipmod.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from clipmod_cli.atomic import atomic_file, temporary_file
from clipmod_cli.errors import OutputError, UsageError
from clipmod_cli.output.columns import columns_of
from clipmod_cli.output.compact import COMPACT_SCHEMA, FIELDS
from clipmod_cli.output.database import connect, first_line, quoted, quoted_path, raise_full_disk
from clipmod_cli.output.resuming.files import Compression, compressing, decompressing
from clipmod_cli.records import Record

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

PARQUET_MAGIC: Final = b"PAR1"
PARQUET_FORM: Final = "FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 9"
"""How DuckDB writes a table. Level 9 takes a sixth longer than 3 and a sixth less space."""

EXACT_LINE: Final = "exact_line"
COMPACT_KEY: Final = "clipmod_compact_fields"
"""The key of the file's metadata that tells the fields of a compact record; no other Parquet file has it."""

GROUP_ROWS: Final = 20_480
"""Rows that are in memory together, 50 MB of lines; six times as many take 1 % less space."""

FETCHED_ROWS: Final = 2_048
LEAST_LINE_BYTES: Final = 1 << 20
"""DuckDB reserves a few times the longest line for each thread."""

_SMALL_NUMBERS: Final = r"""regexp_replace({}, ':0\.00000([1-9])([,}}])', ':\1e-6\2', 'g')"""
"""DuckDB writes 0.000001 and pydantic 1e-6, in most records: probabilities are rounded to that."""


def write_parquet(lines: Iterable[bytes], path: Path) -> None:
    """Write the lines of records to a Parquet file, which replaces one of this name when it is complete.

    Memory does not grow with their number.

    Args:
        lines: UTF-8 JSON, each with its newline, full and compact records mixed.
        path: the file; for as long as this takes, its folder holds a compressed copy of the lines.

    Raises:
        OutputError: it cannot be written.
        UsageError: a line is not JSON.
    """
    try:
        with (
            temporary_file(path.parent, of=path) as copy,
            atomic_file(path, sync=True) as file,
        ):
            with compressing(copy, "zstd") as stream:
                stream.writelines(lines)
            copy.flush()
            convert_lines([Path(copy.name)], Path(file.name), compression="zstd")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def convert_lines(
    files: Sequence[Path], path: Path, *, replaced: str = "", compression: Compression = "none"
) -> None:
    """Write files of record lines as one Parquet file, not atomically; see `write_parquet`.

    Args:
        files: JSON Lines, whole lines only.
        path: the Parquet file.
        replaced: SQL, `REPLACE (...)` on the columns of a record; the lines that are read back are the same.
        compression: of the files.

    Raises:
        OSError: the disk is full.
        OutputError: it cannot be written.
        UsageError: a line is not JSON.
    """
    columns = [column.name for column in columns_of(Record)]
    listed = ", ".join(f'"{name}"' for name in columns)
    rebuilt = _rebuilt_line(columns, FIELDS)
    select = (
        f"SELECT {listed}, CASE WHEN {rebuilt} = line THEN NULL ELSE line END AS {EXACT_LINE} "  # noqa: S608
        f"FROM (SELECT * {replaced}FROM ({_typed_lines(files, compression)}))"
    )
    metadata = f"{{{COMPACT_KEY}: {quoted(json.dumps(FIELDS))}}}"
    with _database(path) as connection:
        connection.execute(
            f"COPY ({select}) TO {quoted(str(path))} ({PARQUET_FORM}, ROW_GROUP_SIZE {GROUP_ROWS}, "
            f"KV_METADATA {metadata}, USE_TMP_FILE false)"
        )


def read_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines that a Parquet file was written from, in their order, each with its newline.

    Memory does not grow with their number.

    Raises:
        UsageError: it is damaged, or not a Parquet file of records.
        OutputError: it takes more memory than DuckDB may use, and no temporary file can be written.
    """
    with _database(path) as connection:
        file = f"read_parquet({quoted_path(path)})"
        compact = connection.execute(
            f"SELECT decode(value) FROM parquet_kv_metadata({quoted_path(path)}) "  # noqa: S608
            f"WHERE decode(key) = '{COMPACT_KEY}'"
        ).fetchone()
        if compact is None:
            raise UsageError(f"{path} is not a Parquet file of clipmod records")
        described = connection.execute(f"DESCRIBE SELECT * EXCLUDE ({EXACT_LINE}) FROM {file}").fetchall()  # noqa: S608
        line = _rebuilt_line([row[0] for row in described], json.loads(compact[0]))
        connection.execute(f"SELECT coalesce({EXACT_LINE}, {line}) FROM {file}")  # noqa: S608
        while rows := connection.fetchmany(FETCHED_ROWS):
            for (text,) in rows:
                yield text.encode() + b"\n"


def _typed_lines(files: Sequence[Path], compression: Compression) -> str:
    """Return SQL for lines with their columns; a value of another type than its column's is null there."""
    types = quoted(json.dumps({column.name: column.type for column in columns_of(Record)}))
    paths = ", ".join(map(quoted_path, files))
    longest = max([LEAST_LINE_BYTES, *(longest_line(one, compression) for one in files)]) + 1
    return (
        f"SELECT CAST(json AS VARCHAR) AS line, unnest(TRY(json_transform(json, {types}))) "  # noqa: S608
        f"FROM read_json_objects([{paths}], format = 'newline_delimited', compression = '{compression}', "
        f"maximum_object_size = {longest})"
    )


def longest_line(path: Path, compression: Compression = "none") -> int:
    """Return the length of the longest line of a file, in bytes without its compression."""
    with path.open("rb") as file:
        return max(map(len, decompressing(file, compression)), default=0)


def _rebuilt_line(columns: Sequence[str], compact: Sequence[str]) -> str:
    """Return SQL for the line of a record that is made from its columns."""
    full = _as_json(columns)
    short = _as_json([name for name in columns if name == "schema" or name in compact])
    return _SMALL_NUMBERS.format(f"CASE WHEN schema = '{COMPACT_SCHEMA}' THEN {short} ELSE {full} END")


def _as_json(columns: Sequence[str]) -> str:
    listed = ", ".join(f'"{name}" := "{name}"' for name in columns)
    return f"CAST(to_json(struct_pack({listed})) AS VARCHAR)"


@contextmanager
def _database(path: Path) -> Iterator[DuckDBPyConnection]:
    """Give a database in memory to write or read a Parquet file with; its errors are translated.

    Raises:
        OSError: a disk is full.
    """
    import duckdb

    with tempfile.TemporaryDirectory(prefix="clipmod-") as spilled:
        try:
            with connect(spill=spilled) as connection:
                yield connection
        except duckdb.OutOfMemoryException as error:
            raise OutputError(f"not enough memory for the records of {path}: {error}") from error
        except duckdb.IOException as error:
            raise_full_disk(error)
            raise OutputError(f"cannot write {path}: {first_line(error)}") from error
        except duckdb.Error as error:
            raise UsageError(f"{path}: {first_line(error)}") from error
