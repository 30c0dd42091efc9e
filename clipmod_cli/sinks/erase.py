"""How rows leave an open store: because they are old, or because somebody asked for it.

Deleted rows' bytes stay in a DuckDB file until it is written anew, which is
`clipmod_cli.sinks.store_file.rewrite`. Only conditions that are written here are put into SQL as
text; values are bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256 as hash_of
from typing import TYPE_CHECKING, Any

from clipmod_cli.records import write_name
from clipmod_cli.sinks.store_file import count, transaction

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


def erase_before(connection: DuckDBPyConnection, moment: datetime) -> int:
    """Delete what was judged before a moment, and runs of which nothing is left; return how many items."""
    moment = moment.astimezone(UTC).replace(tzinfo=None)
    with transaction(connection):
        number = _erase(connection, "judged_at < ?", moment)
        connection.execute(
            """
            DELETE FROM runs WHERE started_at < ? AND ended <> 'running'
            AND NOT EXISTS (SELECT 1 FROM items WHERE items.run_id = runs.run_id)
            """,
            [moment],
        )
    return number


def erase_source(connection: DuckDBPyConnection, source: str, living: Sequence[str]) -> int:
    """Delete all items of a path or URL, and the commands that name it; return how many items."""
    text, encoded = write_name(source)
    with transaction(connection):
        number = _erase(connection, "coalesce(source_b64, source) = ?", encoded or text)
        connection.execute("UPDATE runs SET command = NULL WHERE contains(command, ?)", [text])
        _remember(connection, "source", encoded or text, living)
    return number


def erase_content(connection: DuckDBPyConnection, sha256: str, living: Sequence[str]) -> int:
    """Delete all items whose bytes have a hash; return how many."""
    with transaction(connection):
        number = _erase(connection, "sha256 = ?", sha256.lower())
        _remember(connection, "sha256", sha256.lower(), living)
    return number


def _erase(connection: DuckDBPyConnection, condition: str, value: Any) -> int:
    connection.execute(
        "DELETE FROM segments USING items WHERE segments.run_id = items.run_id "  # noqa: S608
        f'AND segments."index" = items."index" AND {condition}',
        [value],
    )
    return count(connection, f"DELETE FROM items WHERE {condition}", [value])  # noqa: S608


def _remember(connection: DuckDBPyConnection, by: str, value: str, living: Sequence[str]) -> None:
    # A living run's last rows are in a file that only it touches: they are dropped when they come in.
    digest = hash_of(value.encode()).hexdigest()
    for run_id in living:
        connection.execute("INSERT INTO forgotten VALUES (?, ?, ?)", [run_id, by, digest])
