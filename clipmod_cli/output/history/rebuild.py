"""Rows from the outputs of earlier runs: those that the history does not have yet."""

# ruff: noqa: S608 -- names and conditions in SQL text come from the code

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from clipmod_cli.errors import UsageError
from clipmod_cli.output.compact import COMPACT_SCHEMA
from clipmod_cli.output.history.keeper import Keeper
from clipmod_cli.output.history.views import IS_RECORD, RECORD_COLUMNS, RUN_COLUMNS, lines, struct_of
from clipmod_cli.output.parquet import PARQUET_MAGIC, read_lines
from clipmod_cli.output.resuming.files import (
    DAMAGE,
    MAGIC,
    MAGIC_BYTES,
    PIECE_BYTES,
    compression_of,
    decompressing,
    whole_records,
)

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

RECORD_KEY: Final = ("run_id", '"index"', "member", "sha256")
"""Identifies a record. Members of an archive at a URL share the position of the URL in the list."""

LONGEST_RECORD: Final = 1 << 28
"""Bytes of a line of an output."""

NEW_RUNS: Final = f"""
    SELECT written_us, {struct_of(RUN_COLUMNS)} AS run FROM (
        SELECT max(written_us) AS written_us, run_id, any_value(run_key) AS run_key,
            make_timestamp(max(written_us)) AS started_at, 'rebuilt' AS ended, any_value(policy) AS policy,
            any_value(policy_hash) AS policy_hash, any_value(threshold) AS threshold,
            any_value(models_used) AS models, NULL AS command, NULL AS finished_at, NULL AS exit_code,
            NULL AS counts, NULL AS version
        FROM staged WHERE run_id NOT IN (SELECT run_id FROM runs) GROUP BY run_id
    )
"""


class RebuildResult(NamedTuple):
    """Numbers of lines in some outputs: new, known and compact records, and lines that are not records."""

    added: int = 0
    known: int = 0
    invalid: int = 0
    compact: int = 0


def rebuild_from(keeper: Keeper, path: Path) -> RebuildResult:
    """Add the records of an output that are not there. Records of a run that still runs are known.

    Raises:
        duckdb.Error: a file cannot be read or written.
        OSError: likewise.
    """
    connection = keeper.connection
    keeper.make_views()
    # The file's time is the best guess for a run that the history does not know.
    written_us = path.stat().st_mtime_ns // 1000
    with _as_lines(path) as file:
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE staged AS SELECT *, {written_us} AS written_us "
            f"FROM {lines([file], RECORD_COLUMNS, LONGEST_RECORD)}"
        )
    compact = _drop(connection, f"\"schema\" = '{COMPACT_SCHEMA}'")
    invalid = _drop(connection, f"({IS_RECORD}) IS NOT TRUE")
    total = keeper.number("SELECT count(*) FROM staged")
    key = ", ".join(RECORD_KEY)
    _drop(
        connection,
        f"rowid NOT IN (SELECT min(rowid) FROM staged GROUP BY {key}) "
        "OR run_id IN (SELECT run_id FROM runs WHERE ended = 'running')",
    )
    same = " AND ".join(f"items.{name} IS NOT DISTINCT FROM staged.{name}" for name in RECORD_KEY)
    connection.execute(f"DELETE FROM staged USING items WHERE {same}")
    connection.execute(
        "UPDATE staged SET written_us = epoch_us(started_at) FROM runs WHERE runs.run_id = staged.run_id"
    )
    added = keeper.number("SELECT count(*) FROM staged")
    if added:
        keeper.add(f"SELECT * FROM staged UNION ALL BY NAME {NEW_RUNS}")
    return RebuildResult(added=added, known=total - added, invalid=invalid, compact=compact)


@contextmanager
def _as_lines(output: Path) -> Iterator[Path]:
    """Give a file of the lines of an output: itself, or a temporary one of what is compressed or a table.

    Raises:
        UsageError: it is damaged.
    """
    records = whole_records(output) if whole_records(output).exists() else output
    with records.open("rb") as file:
        is_plain = not file.read(MAGIC_BYTES).startswith((*MAGIC, PARQUET_MAGIC))
    if is_plain:
        yield output.resolve()
        return
    with tempfile.NamedTemporaryFile(prefix="clipmod-", suffix=".jsonl") as copy:
        try:
            copy.writelines(_content(records))
        except DAMAGE as error:
            raise UsageError(f"{records} is damaged and cannot be decompressed: {error}") from error
        copy.flush()
        yield Path(copy.name)


def _content(records: Path) -> Iterator[bytes]:
    """Yield the lines of a table, or what a compressed file holds: it ends early after a kill."""
    kind = compression_of(records)
    if kind == "none":
        yield from read_lines(records)
        return
    with records.open("rb") as file, suppress(EOFError):
        stream = decompressing(file, kind)
        while piece := stream.read1(PIECE_BYTES):
            yield piece


def _drop(connection: DuckDBPyConnection, condition: str) -> int:
    """Drop staged lines that meet a condition; return how many."""
    found = connection.execute(f"DELETE FROM staged WHERE {condition}").fetchone()
    return int(found[0]) if found else 0
