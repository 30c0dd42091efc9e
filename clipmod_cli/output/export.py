"""Records as a table for other programs: CSV, Parquet, or JSON Lines, written whole or not at all."""

from __future__ import annotations

import difflib
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from clipmod_cli.atomic import atomic_file
from clipmod_cli.errors import OutputError, UsageError
from clipmod_cli.output.columns import columns_of
from clipmod_cli.output.database import quoted
from clipmod_cli.output.parquet import PARQUET_FORM, convert_lines
from clipmod_cli.output.reading.records import RecordReader
from clipmod_cli.output.resuming.files import Compression, compressing
from clipmod_cli.records import Record
from clipmod_cli.records.parts import RecordError

FORMULA: Final = r"^[=+\-@\t\r\n\x{ff1d}\x{ff0b}\x{ff0d}\x{ff20}]"
"""Spreadsheets run a cell that begins so as a formula, in some languages also one with the wide form of these
characters. File names come from strangers."""

LIST_SEPARATOR: Final = ";"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableColumn:
    """A column of a table of records.

    Attributes:
        value: SQL for it over the view `records`.
        type: DuckDB's type.
        description: what it means.
    """

    name: str
    value: str
    type: str
    description: str

    @property
    def is_nested(self) -> bool:
        """Whether a value has names of its own in it, which do not fit into one cell."""
        return "STRUCT" in self.type or self.type.startswith("MAP")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportResult:
    """What was written.

    Attributes:
        left_out: columns that a CSV file has only if they are named.
        escaped: cells that begin like a formula.
    """

    records: int
    left_out: tuple[str, ...] = ()
    escaped: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """What a table is to hold.

    Attributes:
        columns: their names, in order; empty for those that suit the format.
        raw_csv: write texts that begin like a formula as they are.
    """

    columns: Sequence[str] = ()
    raw_csv: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRows:
    """Rows to write: a view of a reader's database.

    Attributes:
        columns: in order; of records, empty stands for those that suit the format.
        count: how many rows there are.
    """

    reader: RecordReader
    view: str
    columns: Sequence[TableColumn]
    count: int


def table_columns() -> dict[str, TableColumn]:
    """Return all columns by name, in the order of the record; an error's fields are columns of their own."""
    found = {}
    for column in columns_of(Record):
        if column.name == "error":
            for one in columns_of(RecordError):
                found[f"error_{one.name}"] = TableColumn(
                    name=f"error_{one.name}",
                    value=f'"error"."{one.name}"',
                    type=one.type,
                    description=one.description,
                )
        else:
            found[column.name] = TableColumn(
                name=column.name, value=f'"{column.name}"', type=column.type, description=column.description
            )
    return found


def export(reader: RecordReader, path: Path, options: ExportOptions) -> ExportResult:
    """Write all records to a file, which replaces one of this name when it is complete.

    Args:
        reader: the records.
        path: its ending chooses the format, see `FORMATS`.
        options: which columns, and how.

    Raises:
        UsageError: the ending or a column is unknown, or a record cannot be read.
        OutputError: it cannot be written.
    """
    rows = TableRows(reader=reader, view="records", columns=_choose(options.columns), count=reader.count)
    return write_table(rows, path, raw_csv=options.raw_csv)


def write_table(rows: TableRows, path: Path, *, raw_csv: bool = False) -> ExportResult:
    """Write rows to a file, which replaces one of this name when it is complete.

    Args:
        rows: what to write.
        path: its ending chooses the format, see `FORMATS`.
        raw_csv: write texts that begin like a formula as they are.

    Raises:
        UsageError: the ending is unknown, or a record cannot be read.
        OutputError: it cannot be written.
    """
    write = format_of(path)
    try:
        with atomic_file(path, sync=True) as file:
            return write(rows, file, raw_csv)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def format_of(path: Path) -> Writer:
    """Return what writes a file of this name.

    Raises:
        UsageError: no format has its ending.
    """
    for ending, writer in FORMATS.items():
        if path.name.lower().endswith(ending):
            return writer
    raise UsageError(f"-o must end in one of {', '.join(FORMATS)}, not {path.name!r}")


def _choose(names: Sequence[str]) -> list[TableColumn]:
    known = table_columns()
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise UsageError(f"--columns: there is no column {name!r}.{hint} They are: {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(names)]


def _write_csv(rows: TableRows, file: IO[bytes], raw_csv: bool) -> ExportResult:  # noqa: FBT001 - a Writer
    known = table_columns().values()
    chosen = rows.columns or [column for column in known if not column.is_nested or column.name == "columns"]
    left_out = () if rows.columns else tuple(column.name for column in known if column not in chosen)
    cells = {column: _cell(column) for column in chosen}
    escaped = 0
    if not raw_csv:
        texts = {column: cell for column, cell in cells.items() if "VARCHAR" in column.type}
        escaped = _count_formulas(rows, texts.values())
        if escaped:
            cells |= {column: escaped_formula(cell) for column, cell in texts.items()}
    listed = ", ".join(f'{cell} AS "{column.name}"' for column, cell in cells.items())
    _copy(rows, listed, file, "FORMAT csv, HEADER true")
    return ExportResult(records=rows.count, left_out=left_out, escaped=escaped)


def _cell(column: TableColumn) -> str:
    """Return SQL for a value as one cell: lists joined by semicolons, nested values as JSON."""
    if column.is_nested:
        return f"CAST(to_json({column.value}) AS VARCHAR)"
    if column.type.endswith("[]"):
        return f"array_to_string({column.value}, '{LIST_SEPARATOR}')"
    return column.value


def _count_formulas(rows: TableRows, texts: Iterable[str]) -> int:
    counts = [f"count(*) FILTER ({_is_formula(text)})" for text in texts]
    (row,) = rows.reader.rows(f"SELECT {' + '.join(counts) or '0'} AS cells FROM {rows.view}")  # noqa: S608
    return int(row["cells"])


def _is_formula(text: str) -> str:
    return f"regexp_matches({text}, '{FORMULA}')"


def escaped_formula(text: str) -> str:
    """Return SQL for a text that no spreadsheet runs as a formula."""
    return f"CASE WHEN {_is_formula(text)} THEN chr(39) || {text} ELSE {text} END"


def _write_parquet(rows: TableRows, file: IO[bytes], _raw_csv: bool) -> ExportResult:  # noqa: FBT001
    if rows.columns:
        _copy(rows, _typed(rows), file, PARQUET_FORM)
    else:
        files = [one.path for one in rows.reader.files]
        convert_lines(files, Path(file.name), replaced=rows.reader.cards.filled_in)
    return ExportResult(records=rows.count)


def _json_lines(compression: Compression) -> Writer:
    def write(rows: TableRows, file: IO[bytes], _raw_csv: bool) -> ExportResult:  # noqa: FBT001
        if rows.columns:
            _copy(rows, _typed(rows), file, f"FORMAT json, COMPRESSION {compression}")
        else:
            _copy_lines(rows.reader, file, compression)
        return ExportResult(records=rows.count)

    return write


def _typed(rows: TableRows) -> str:
    return ", ".join(f'{one.value} AS "{one.name}"' for one in rows.columns or table_columns().values())


def _copy(rows: TableRows, listed: str, file: IO[bytes], form: str) -> None:
    target = quoted(file.name)
    rows.reader.execute(f"COPY (SELECT {listed} FROM {rows.view}) TO {target} ({form}, USE_TMP_FILE false)")  # noqa: S608


def _copy_lines(reader: RecordReader, file: IO[bytes], compression: Compression) -> None:
    """Write the records' own lines: other commands of clipmod read the file."""
    _check_all(reader)
    with compressing(file, compression) as target:
        for one in reader.files:
            with one.path.open("rb") as lines:
                shutil.copyfileobj(lines, target, 1 << 20)


def _check_all(reader: RecordReader) -> None:
    """Read every field of every record once; raises UsageError as a table would."""
    listed = ", ".join(f'count("{column.name}")' for column in columns_of(Record))
    reader.rows(f"SELECT {listed} FROM records")  # noqa: S608


Writer = Callable[[TableRows, IO[bytes], bool], ExportResult]
"""Takes rows, a file, and whether texts that begin like a formula are written as they are."""

FORMATS: Final[dict[str, Writer]] = {
    ".csv": _write_csv,
    ".parquet": _write_parquet,
    ".jsonl.zst": _json_lines("zstd"),
    ".jsonl.gz": _json_lines("gzip"),
    ".jsonl": _json_lines("none"),
}
"""By ending, in lower case."""
