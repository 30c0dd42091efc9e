"""Rows into the statistics database: from the spool, and from the outputs of earlier runs.

Lines of JSON are read into the temporary table `staged` before they become rows. Functions take a connection
that may write. Column names and conditions in SQL text come from the code; values are bound.
"""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from clipmod_cli.errors import OutputError
from clipmod_cli.output.compact import COMPACT_SCHEMA
from clipmod_cli.output.history import spool
from clipmod_cli.output.history.erase import remove_hosted
from clipmod_cli.output.history.file import (
    HOSTED_COLUMNS,
    RECORD_COLUMNS,
    RECORD_KEY,
    REQUEST_COLUMNS,
    RUN_COLUMNS,
    count,
    transaction,
)
from clipmod_cli.output.history.spool import KIND_OF, RowKind, number_of, parts

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

LONGEST_LINE: Final = 1 << 28  # bytes; 10,000 frames in detail are about 5 MB
FIRST_PART: Final = 0
# Outputs count as the first part: rows that were erased while their run is active are not added again.
NULL: Final = "NULL::VARCHAR"
ERASED: Final = "erasures.run_id = staged.run_id AND coalesce(erasures.last_part, $part) >= $part"
"""Whether rows were erased after the staged part had been written."""


class RebuildResult(NamedTuple):
    """Numbers of lines in some outputs: new, known and compact records, and lines that are not records."""

    added: int = 0
    known: int = 0
    invalid: int = 0
    compact: int = 0


def merge_spool(connection: DuckDBPyConnection, folder: Path) -> list[str]:
    """Merge the whole spool; return a message for each part that failed and stays where it is."""
    problems: list[str] = []
    for run_id in spool.run_ids(folder):
        with spool.try_lock_run(folder, run_id) as ended:
            found = _merge_run(connection, folder, run_id, active=not ended)
            if ended and not found:
                spool.info_path(folder, run_id).unlink(missing_ok=True)
        if ended and not found:
            (folder / f"{run_id}.lock").unlink(missing_ok=True)
        problems += found
    spool.remove_orphans(folder)
    return problems


def raise_problems(problems: Sequence[str]) -> None:
    """Raise what `merge_spool` returned.

    Raises:
        OutputError: there was a problem.
    """
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise OutputError(f"cannot merge {problems[0]}{more}")


def rebuild_from(connection: DuckDBPyConnection, path: Path) -> RebuildResult:
    """Add the records of a JSON Lines output that the database does not have yet."""
    with transaction(connection):
        staged = _stage_records(connection, path, FIRST_PART)
        # The file's time is the best guess for a run that the database does not know.
        connection.execute(
            "UPDATE staged SET judged_at = started_at FROM runs WHERE runs.run_id = staged.run_id"
        )
        connection.execute(
            """
            INSERT INTO runs BY NAME
            SELECT run_id, any_value(run_key) AS run_key, max(judged_at) AS started_at, 'rebuilt' AS ended,
                any_value(policy) AS policy, any_value(policy_hash) AS policy_hash,
                any_value(threshold) AS threshold, any_value(models_used) AS models
            FROM staged GROUP BY run_id
            ON CONFLICT DO NOTHING
            """
        )
        total = count(connection, "SELECT count(*) FROM staged")
        added = _insert_records(connection)
    return staged._replace(added=added, known=total - added)


def _merge_run(connection: DuckDBPyConnection, folder: Path, run_id: str, *, active: bool) -> list[str]:
    import duckdb

    problems: list[str] = []
    for path in [spool.info_path(folder, run_id), *parts(folder, run_id, active=active)]:
        try:
            if path.suffix == ".run":
                _merge_info(connection, path, active=active)
            else:
                with transaction(connection):
                    _merge_part(connection, path)
                path.unlink()
        except (duckdb.Error, OSError, OutputError) as error:
            problems.append(f"{path}: {str(error).partition(chr(10))[0]}")
    if not active and not problems:
        connection.execute("DELETE FROM erasures WHERE run_id = ?", [run_id])
    return problems


def _merge_info(connection: DuckDBPyConnection, path: Path, *, active: bool) -> None:
    if not path.exists():
        return
    # The command is not written again: it may have been erased meanwhile.
    known = (
        "DO NOTHING"
        if active
        else (
            "DO UPDATE SET finished_at = excluded.finished_at, ended = excluded.ended, "
            "exit_code = excluded.exit_code, counts = excluded.counts"
        )
    )
    connection.execute(
        "INSERT INTO runs BY NAME SELECT * REPLACE (coalesce(ended, ?) AS ended) "
        f"{_lines_of(RUN_COLUMNS)} WHERE run_id IS NOT NULL ON CONFLICT (run_id) {known}",
        ["running" if active else "killed", _pattern(path)],
    )


def _merge_part(connection: DuckDBPyConnection, part: Path) -> None:
    match KIND_OF[part.suffix]:
        case RowKind.RECORDS:
            _stage_records(connection, part, number_of(part))
            _insert_records(connection)
        case RowKind.REQUESTS:
            _merge_requests(connection, part)
        case RowKind.HOSTED:
            _merge_hosted(connection, part)


def _stage_records(connection: DuckDBPyConnection, path: Path, part: int) -> RebuildResult:
    """Stage the full records of a file; return how many of its lines are compact records, or none."""
    written = datetime.fromtimestamp(path.stat().st_mtime, UTC).replace(tzinfo=None)
    _stage(connection, path, RECORD_COLUMNS, {"judged_at": written})
    compact = _drop_unless(connection, f"\"schema\" IS DISTINCT FROM '{COMPACT_SCHEMA}'")
    invalid = _drop_unless(
        connection,
        '"schema" = \'clipmod/1\' AND run_id IS NOT NULL AND "index" IS NOT NULL AND source IS NOT NULL '
        "AND status IN ('ok', 'error') AND isfinite(coalesce(unsafe_score, 0))",
    )
    name = "coalesce(staged.source_b64, staged.source)"
    _drop_erased(connection, part, time="staged.judged_at", name=name, content="staged.sha256")
    return RebuildResult(invalid=invalid, compact=compact)


def _insert_records(connection: DuckDBPyConnection) -> int:
    """Insert the staged records that are new; return how many."""
    key = ", ".join(RECORD_KEY)
    connection.execute(f"DELETE FROM staged USING items WHERE {_same('items')}")  # noqa: S608 - constants
    connection.execute(
        f"DELETE FROM staged USING (SELECT {key}, min(rowid) AS first FROM staged "  # noqa: S608 - constants
        f"GROUP BY {key} HAVING count(*) > 1) AS twice WHERE {_same('twice')} AND staged.rowid > twice.first"
    )
    connection.execute(
        """
        INSERT INTO segments BY NAME
        SELECT run_id, "index", member, generate_subscripts(segments, 1) - 1 AS number,
            unnest(segments, recursive := true)
        FROM staged WHERE len(segments) > 0
        """
    )
    return count(connection, "INSERT INTO items BY NAME SELECT * EXCLUDE (segments) FROM staged")


def _same(other: str) -> str:
    """Return the condition that a staged record is one of another table."""
    return " AND ".join(f"{other}.{name} IS NOT DISTINCT FROM staged.{name}" for name in RECORD_KEY)


def _merge_requests(connection: DuckDBPyConnection, path: Path) -> None:
    part = number_of(path)
    _stage(connection, path, REQUEST_COLUMNS, {})
    _drop_unless(
        connection,
        "run_id IS NOT NULL AND number IS NOT NULL AND requested_at IS NOT NULL AND endpoint IS NOT NULL "
        "AND status IS NOT NULL AND isfinite(coalesce(time_ms, 0))",
    )
    _drop_erased(connection, part, time="staged.requested_at")
    # An error message may contain the name of an input that was erased meanwhile.
    by_source = f"{ERASED} AND erasures.\"by\" = 'source'"
    connection.execute(f"UPDATE staged SET error = NULL FROM erasures WHERE {by_source}", {"part": part})  # noqa: S608
    connection.execute("INSERT INTO requests BY NAME SELECT * FROM staged ON CONFLICT DO NOTHING")


def _merge_hosted(connection: DuckDBPyConnection, path: Path) -> None:
    """Merge hosted pictures, and remove the files of those that were erased meanwhile.

    Raises:
        OutputError: a file cannot be removed.
    """
    _stage(connection, path, HOSTED_COLUMNS, {})
    _drop_unless(
        connection,
        "image_id IS NOT NULL AND run_id IS NOT NULL AND name IS NOT NULL AND hosted_at IS NOT NULL "
        "AND expires_at IS NOT NULL",
    )
    erased = _drop_erased(
        connection,
        number_of(path),
        time="staged.hosted_at",
        name="coalesce(staged.name_b64, staged.name)",
        content="staged.sha256",
        image="staged.image_id",
        returning="staged.image_id, staged.data_folder",
    )
    connection.execute("INSERT INTO hosted BY NAME SELECT * FROM staged ON CONFLICT DO NOTHING")
    remove_hosted(erased)


def _stage(
    connection: DuckDBPyConnection, path: Path, columns: Mapping[str, str], constants: Mapping[str, Any]
) -> None:
    """Read a file's lines into `staged`, with columns of one value for all of them."""
    extra = "".join(f", ? AS {name}" for name in constants)
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE staged AS SELECT *{extra} {_lines_of(columns)}",
        [*constants.values(), _pattern(path)],
    )


def _drop_unless(connection: DuckDBPyConnection, condition: str) -> int:
    """Drop staged lines that are not rows, such as a torn last one; return how many."""
    return count(connection, f"DELETE FROM staged WHERE ({condition}) IS NOT TRUE")  # noqa: S608


def _drop_erased(
    connection: DuckDBPyConnection,
    part: int,
    *,
    time: str,
    name: str = NULL,
    content: str = NULL,
    image: str = NULL,
    returning: str = "staged.run_id",
) -> list[Any]:
    """Drop staged rows that were erased before they were merged; return them.

    Args:
        connection: may write.
        part: the number of the staged part.
        time: SQL for the time of a row.
        name: SQL for the name of its input.
        content: SQL for the hash of its input.
        image: SQL for the id of a hosted picture.
        returning: which columns to return.
    """
    statement = f"""
        DELETE FROM staged USING erasures WHERE {ERASED} AND CASE erasures."by"
            WHEN 'source' THEN erasures.digest = sha256({name})
            WHEN 'sha256' THEN erasures.digest = sha256({content})
            WHEN 'image_id' THEN erasures.digest = sha256({image})
            ELSE {time} < erasures.before END
        RETURNING {returning}
    """  # noqa: S608
    return connection.execute(statement, {"part": part}).fetchall()


def _lines_of(columns: Mapping[str, str]) -> str:
    """Return a FROM clause for a file of lines with these columns; the file's pattern has to be bound."""
    listed = ", ".join(f"'{name}': '{kind}'" for name, kind in columns.items())
    return (
        "FROM read_json(?, format = 'newline_delimited', ignore_errors = true, "
        f"maximum_object_size = {LONGEST_LINE}, columns = {{{listed}}})"
    )


def _pattern(path: Path) -> str:
    """Return the glob pattern that matches this path alone: DuckDB takes a path as a pattern."""
    return glob.escape(str(path.resolve()))
