"""Connections of DuckDB without extensions, and pieces of SQL. Knows no record."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MEMORY: Final = "1GB"

INTERRUPTED: Final = "Query interrupted"
"""DuckDB raises RuntimeError with this in place of KeyboardInterrupt."""


def connect(
    path: Path | str = ":memory:", *, spill: Path | str = "", read_only: bool = False, **config: Any
) -> DuckDBPyConnection:
    """Return a connection that installs and loads no extension, and takes `MEMORY` at most.

    Args:
        path: of a database; by default it is in memory.
        spill: the folder for what takes more memory; without one such a query fails.
        read_only: do not change the database.
        config: further settings of DuckDB, or other ones.

    Raises:
        duckdb.Error: the file cannot be opened.
    """
    import duckdb

    fixed = {
        "memory_limit": MEMORY,
        "temp_directory": str(spill),
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
    }
    return duckdb.connect(str(path), read_only=read_only, config=fixed | config)


def no_rows(columns: Mapping[str, str]) -> str:
    """Return a query without rows whose columns have these names and types."""
    listed = ", ".join(f'NULL::{kind} AS "{name}"' for name, kind in columns.items())
    return f"SELECT {listed} WHERE false"


def first_line(error: Exception) -> str:
    """Return what DuckDB says of an error, without the query."""
    return str(error).strip().partition("\n")[0]
