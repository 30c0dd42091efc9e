"""Rows into an open store: from the spool, and from the outputs of earlier runs.

Lines of JSON are read into the table `staged` before any of them become rows; there is one such table at
a time, and each function is given a connection that may write. Names of columns and conditions are put
into SQL as text, and all come from the code; values are bound.
"""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from clipmod_cli.errors import OutputError
from clipmod_cli.output.history import hosted_files, spool
from clipmod_cli.output.history.file import count, transaction
from clipmod_cli.output.history.hosted_files import HostedFile
from clipmod_cli.output.history.schema import HOSTED_COLUMNS, RECORD_COLUMNS, REQUEST_COLUMNS, RUN_COLUMNS
from clipmod_cli.output.history.spool import KIND_OF, RowKind, number_of, parts

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


FIRST_PART: Final = 0
# What an output is taken for: what was forgotten while its run still writes does not come back that way.


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """What became of the lines of some files.

    Attributes:
        added: records that are new in the store.
        known: records that were there already.
        bad: lines that are no record, as a torn last one.
    """

    added: int = 0
    known: int = 0
    bad: int = 0

    def __add__(self, other: Added) -> Added:
        """Return both together."""
        return Added(added=self.added + other.added, known=self.known + other.known, bad=self.bad + other.bad)


def merge_spool(connection: DuckDBPyConnection, folder: Path) -> list[str]:
    """Bring in all that waits in the spool; return what went wrong, each in a sentence.

    A part that cannot be brought in stays where it is, and the others are not kept waiting.
    """
    problems: list[str] = []
    for run_id in spool.run_ids(folder):
        with spool.claim(folder, run_id) as gone:
            found = _merge_run(connection, folder, run_id, alive=not gone)
            if gone and not found:
                spool.info_path(folder, run_id).unlink(missing_ok=True)
        if gone and not found:
            (folder / f"{run_id}.lock").unlink(missing_ok=True)
        problems += found
    spool.remove_orphans(folder)
    return problems


def raise_problems(problems: Sequence[str]) -> None:
    """Tell what `merge_spool` returned.

    Raises:
        OutputError: there was a problem.
    """
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise OutputError(f"what waits beside the store cannot all be merged: {problems[0]}{more}")


def rebuild_from(connection: DuckDBPyConnection, path: Path) -> Added:
    """Add the records of a JSON Lines output that the store does not have yet."""
    with transaction(connection):
        bad = _stage(connection, path, FIRST_PART)
        # A run that the store knows nothing of is known by its records, and began no later than this.
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
        whole = count(connection, "SELECT count(*) FROM staged")
        added = _insert_staged(connection)
    return Added(added=added, known=whole - added, bad=bad)


def _merge_run(connection: DuckDBPyConnection, folder: Path, run_id: str, *, alive: bool) -> list[str]:
    import duckdb

    problems: list[str] = []
    for path in [spool.info_path(folder, run_id), *parts(folder, run_id, alive=alive)]:
        try:
            if path.suffix == ".run":
                _merge_info(connection, path, alive=alive)
            else:
                with transaction(connection):
                    _bring_in(connection, path)
                path.unlink()
        except (duckdb.Error, OSError, OutputError) as error:
            problems.append(f"{path}: {str(error).partition(chr(10))[0]}")
    if not alive and not problems:
        connection.execute("DELETE FROM forgotten WHERE run_id = ?", [run_id])
    return problems


def _bring_in(connection: DuckDBPyConnection, part: Path) -> None:
    kind = KIND_OF[part.suffix]
    if kind is RowKind.REQUESTS:
        bring_in_requests(connection, part)
    elif kind is RowKind.HOSTED:
        bring_in_hosted(connection, part)
    else:
        _stage(connection, part, number_of(part))
        _insert_staged(connection)


def _merge_info(connection: DuckDBPyConnection, path: Path, *, alive: bool) -> None:
    if not path.exists():
        return
    # Its command is not written twice: it may have been erased since.
    known = (
        "DO NOTHING"
        if alive
        else (
            "DO UPDATE SET finished_at = excluded.finished_at, ended = excluded.ended, "
            "exit_code = excluded.exit_code, counts = excluded.counts"
        )
    )
    connection.execute(
        "INSERT INTO runs BY NAME SELECT * REPLACE (coalesce(ended, ?) AS ended) "
        f"{lines_of(RUN_COLUMNS)} WHERE run_id IS NOT NULL ON CONFLICT (run_id) {known}",
        ["running" if alive else "killed", pattern(path)],
    )


def _stage(connection: DuckDBPyConnection, path: Path, part: int) -> int:
    """Read a file of lines into the table `staged`; return how many of them are no record."""
    written = datetime.fromtimestamp(path.stat().st_mtime, UTC).replace(tzinfo=None)
    stage(connection, path, RECORD_COLUMNS, {"judged_at": written})
    bad = drop_unless(
        connection,
        '"schema" = \'clipmod/1\' AND run_id IS NOT NULL AND "index" IS NOT NULL AND source IS NOT NULL '
        "AND status IN ('ok', 'error') AND isfinite(coalesce(unsafe_score, 0))",
    )
    drop_forgotten(
        connection,
        part,
        moment="staged.judged_at",
        name="coalesce(staged.source_b64, staged.source)",
        content="staged.sha256",
    )
    return bad


def _insert_staged(connection: DuckDBPyConnection) -> int:
    _drop_known(connection)
    connection.execute(
        """
        INSERT INTO segments BY NAME
        SELECT run_id, "index", generate_subscripts(segments, 1) - 1 AS number,
            unnest(segments, recursive := true)
        FROM staged WHERE len(segments) > 0
        ON CONFLICT DO NOTHING
        """
    )
    return count(connection, "INSERT INTO items BY NAME SELECT * EXCLUDE (segments) FROM staged")


def _drop_known(connection: DuckDBPyConnection) -> None:
    """Drop the records that the store has, and all but the first where a file says one twice.

    `ON CONFLICT DO NOTHING` means the same, and takes five times as long as inserting without it.
    """
    connection.execute(
        'DELETE FROM staged USING items WHERE items.run_id = staged.run_id AND items."index" = staged."index"'
    )
    connection.execute(
        """
        DELETE FROM staged USING (
            SELECT run_id, "index", min(rowid) AS first
            FROM staged GROUP BY run_id, "index" HAVING count(*) > 1
        ) AS twice
        WHERE twice.run_id = staged.run_id AND twice."index" = staged."index" AND staged.rowid > twice.first
        """
    )


def bring_in_requests(connection: DuckDBPyConnection, path: Path) -> None:
    """Add the requests of a part."""
    part = number_of(path)
    stage(connection, path, REQUEST_COLUMNS, {})
    drop_unless(
        connection,
        "run_id IS NOT NULL AND number IS NOT NULL AND requested_at IS NOT NULL AND endpoint IS NOT NULL "
        "AND status IS NOT NULL AND isfinite(coalesce(time_ms, 0))",
    )
    drop_forgotten(connection, part, moment="staged.requested_at")
    # What went wrong may be told with the name of an input that was forgotten meanwhile.
    by_source = f"{HELD_BACK} AND forgotten.\"by\" = 'source'"
    connection.execute(f"UPDATE staged SET error = NULL FROM forgotten WHERE {by_source}", {"part": part})  # noqa: S608
    connection.execute("INSERT INTO requests BY NAME SELECT * FROM staged ON CONFLICT DO NOTHING")


def bring_in_hosted(connection: DuckDBPyConnection, path: Path) -> None:
    """Add the hosted pictures of a part; those that were forgotten meanwhile lose their files.

    Raises:
        OutputError: such a file cannot be removed.
    """
    stage(connection, path, HOSTED_COLUMNS, {})
    drop_unless(
        connection,
        "image_id IS NOT NULL AND run_id IS NOT NULL AND name IS NOT NULL AND hosted_at IS NOT NULL "
        "AND expires_at IS NOT NULL",
    )
    forgotten = drop_forgotten(
        connection,
        number_of(path),
        moment="staged.hosted_at",
        name="coalesce(staged.name_b64, staged.name)",
        content="staged.sha256",
        returning="staged.image_id, staged.data_folder",
    )
    connection.execute("INSERT INTO hosted BY NAME SELECT * FROM staged ON CONFLICT DO NOTHING")
    hosted_files.remove(HostedFile(image_id=image_id, data_folder=folder) for image_id, folder in forgotten)
