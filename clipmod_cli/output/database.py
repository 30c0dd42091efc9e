"""Connections of DuckDB without extensions, and pieces of SQL. Knows no record."""

from __future__ import annotations

import errno
import glob
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from clipmod_cli.errors import UsageError
from clipmod_cli.records import write_name

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MEMORY: Final = "1GB"

NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

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


def quoted(text: str) -> str:
    """Return a text as a literal of SQL.

    Raises:
        UsageError: it is no Unicode, as the name of a file that is not UTF-8.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{write_name(text)[0]}: DuckDB, which reads and writes tables, opens no file whose path is not "
            "UTF-8. Rename it"
        ) from error
    return "'" + text.replace("'", "''") + "'"


def quoted_path(path: Path) -> str:
    """Return a path for SQL that reads the file: DuckDB takes it as a pattern. Raises as `quoted`."""
    return quoted(glob.escape(str(path)))


def quoted_list(paths: Iterable[Path]) -> str:
    """Return the list of the paths that a locked connection may read: DuckDB checks their patterns, too."""
    names = dict.fromkeys(name for path in map(str, paths) for name in (path, glob.escape(path)))
    return f"[{', '.join(map(quoted, names))}]"


def no_rows(columns: Mapping[str, str]) -> str:
    """Return a query without rows whose columns have these names and types."""
    listed = ", ".join(f'NULL::{kind} AS "{name}"' for name, kind in columns.items())
    return f"SELECT {listed} WHERE false"


def first_line(error: Exception) -> str:
    """Return what DuckDB says of an error, without the query and its code's place."""
    line = str(error).strip().partition("\n")[0]
    nested = re.search(r'"exception_message":"((?:[^"\\]|\\.)*)"', line)
    return json.loads(f'"{nested[1]}"') if nested else line


def raise_full_disk(error: Exception) -> None:
    """Raise the OSError of a full disk if that is what DuckDB's error is about."""
    for code in NO_SPACE:
        if (reason := os.strerror(code)) in str(error):
            raise OSError(code, reason) from error
