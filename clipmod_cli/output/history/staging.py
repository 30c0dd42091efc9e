"""Files of JSON lines, read into a table of their own before any of them become rows.

The table is `staged`, and there is one at a time; each function is given a connection that may write.
Names of columns and conditions are put into SQL as text, and all come from the code; values are bound.
"""

from __future__ import annotations

import glob
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from clipmod_cli.output.history.file import count

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

LONGEST_LINE: Final = 1 << 28  # bytes; 10,000 frames in detail are about 5 MB
NOTHING: Final = "NULL::VARCHAR"

HELD_BACK: Final = "forgotten.run_id = staged.run_id AND coalesce(forgotten.through, $part) >= $part"
"""Whether something was forgotten while the run still held back the part that is staged."""


def stage(
    connection: DuckDBPyConnection, path: Path, kinds: Mapping[str, str], added: Mapping[str, Any]
) -> None:
    """Read a file's lines; `added` are columns with one value for all of them."""
    extra = "".join(f", ? AS {name}" for name in added)
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE staged AS SELECT *{extra} {lines_of(kinds)}",
        [*added.values(), pattern(path)],
    )


def drop_unless(connection: DuckDBPyConnection, condition: str) -> int:
    """Drop the lines that are no row, as a torn last one; return how many."""
    return count(connection, f"DELETE FROM staged WHERE ({condition}) IS NOT TRUE")  # noqa: S608


def drop_forgotten(
    connection: DuckDBPyConnection,
    part: int,
    *,
    moment: str,
    name: str = NOTHING,
    content: str = NOTHING,
    returning: str = "staged.run_id",
) -> list[tuple[Any, ...]]:
    """Drop what somebody had erased while its run still held it back; return that.

    Args:
        connection: may write.
        part: the number of the part that is staged.
        moment: what says when a row came to be, in SQL.
        name: what says the name of its input.
        content: what says the hash of its input.
        returning: what to return of each row.
    """
    statement = f"""
        DELETE FROM staged USING forgotten WHERE {HELD_BACK} AND CASE forgotten."by"
            WHEN 'source' THEN forgotten.digest = sha256({name})
            WHEN 'sha256' THEN forgotten.digest = sha256({content})
            ELSE {moment} < forgotten.before END
        RETURNING {returning}
    """  # noqa: S608
    return connection.execute(statement, {"part": part}).fetchall()


def lines_of(kinds: Mapping[str, str]) -> str:
    """Return what to select from: a file of lines with these columns; its pattern is to be bound."""
    listed = ", ".join(f"'{name}': '{kind}'" for name, kind in kinds.items())
    return (
        "FROM read_json(?, format = 'newline_delimited', ignore_errors = true, "
        f"maximum_object_size = {LONGEST_LINE}, columns = {{{listed}}})"
    )


def pattern(path: Path) -> str:
    """Return the pattern that fits this path alone: DuckDB takes a path for a pattern."""
    return glob.escape(str(path.resolve()))
