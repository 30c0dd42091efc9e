"""Rows of a model as a table for other programs: CSV, Parquet or JSON Lines, written whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import IO, Final

from pydantic import BaseModel

from clipmod_cli.atomic import atomic_file, temporary_file
from clipmod_cli.errors import OutputError, UsageError
from clipmod_cli.output.columns import columns_of
from clipmod_cli.output.database import connect, quoted, quoted_path
from clipmod_cli.output.export import escaped_formula
from clipmod_cli.output.parquet import PARQUET_FORM

FORMS: Final = {
    ".csv": "FORMAT csv, HEADER true",
    ".parquet": PARQUET_FORM,
    ".jsonl": "FORMAT json",
}
"""By ending: how DuckDB writes it."""


def check_table_name(path: Path) -> None:
    """Raise UsageError if no table can have a file's name."""
    if path.suffix.lower() not in FORMS:
        raise UsageError(f"-o must end in one of {', '.join(FORMS)}, not {path.name!r}")


def write_rows(path: Path, model: type[BaseModel], rows: Iterable[BaseModel]) -> None:
    """Write rows to a file, which replaces one of this name when it is complete.

    In a CSV, a text that begins like a formula gets a ' in front, since spreadsheets run it.

    Args:
        path: its ending chooses the format, see `FORMS`.
        model: of the rows; its fields are the columns.
        rows: of flat values.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        with temporary_file() as lines, atomic_file(path, sync=True) as file:
            for row in rows:
                lines.write(row.model_dump_json().encode() + b"\n")
            lines.flush()
            _copy(Path(lines.name), model, file, path.suffix.lower())
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def _copy(lines: Path, model: type[BaseModel], file: IO[bytes], ending: str) -> None:
    columns = columns_of(model)
    types = ", ".join(f"'{one.name}': '{one.type}'" for one in columns)
    cells = [
        escaped_formula(f'"{one.name}"') if ending == ".csv" and one.type == "VARCHAR" else f'"{one.name}"'
        for one in columns
    ]
    listed = ", ".join(f'{cell} AS "{one.name}"' for cell, one in zip(cells, columns, strict=True))
    with connect() as connection:
        connection.execute(
            f"COPY (SELECT {listed} FROM read_json({quoted_path(lines)}, format = 'newline_delimited', "  # noqa: S608
            f"columns = {{{types}}})) TO {quoted(file.name)} ({FORMS[ending]}, USE_TMP_FILE false)"
        )
