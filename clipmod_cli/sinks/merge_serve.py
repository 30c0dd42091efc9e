"""How the rows of `clipmod serve`, requests and hosted pictures, get from a staged part into the store.

The caller has begun a transaction. Rows that are there already, by their keys, are not added again.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from clipmod_cli.sinks import hosted_files, staging
from clipmod_cli.sinks.hosted_files import Hosted
from clipmod_cli.sinks.spool_parts import number_of
from clipmod_cli.sinks.store_schema import HOSTED_COLUMNS, REQUEST_COLUMNS

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


def bring_in_requests(connection: DuckDBPyConnection, path: Path) -> None:
    """Add the requests of a part."""
    part = number_of(path)
    staging.stage(connection, path, REQUEST_COLUMNS, {})
    staging.drop_unless(
        connection,
        "run_id IS NOT NULL AND number IS NOT NULL AND requested_at IS NOT NULL AND endpoint IS NOT NULL "
        "AND status IS NOT NULL AND isfinite(coalesce(time_ms, 0))",
    )
    staging.drop_forgotten(connection, part, moment="staged.requested_at")
    # What went wrong may be told with the name of an input that was forgotten meanwhile.
    by_source = f"{staging.HELD_BACK} AND forgotten.\"by\" = 'source'"
    connection.execute(f"UPDATE staged SET error = NULL FROM forgotten WHERE {by_source}", {"part": part})  # noqa: S608
    connection.execute("INSERT INTO requests BY NAME SELECT * FROM staged ON CONFLICT DO NOTHING")


def bring_in_hosted(connection: DuckDBPyConnection, path: Path) -> None:
    """Add the hosted pictures of a part; those that were forgotten meanwhile lose their files.

    Raises:
        OutputError: such a file cannot be removed.
    """
    staging.stage(connection, path, HOSTED_COLUMNS, {})
    staging.drop_unless(
        connection,
        "image_id IS NOT NULL AND run_id IS NOT NULL AND name IS NOT NULL AND hosted_at IS NOT NULL "
        "AND expires_at IS NOT NULL",
    )
    forgotten = staging.drop_forgotten(
        connection,
        number_of(path),
        moment="staged.hosted_at",
        name="coalesce(staged.name_b64, staged.name)",
        content="staged.sha256",
        returning="staged.image_id, staged.data_folder",
    )
    connection.execute("INSERT INTO hosted BY NAME SELECT * FROM staged ON CONFLICT DO NOTHING")
    hosted_files.remove(Hosted(image_id=image_id, data_folder=folder) for image_id, folder in forgotten)
