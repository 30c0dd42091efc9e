"""The tables of the statistics database. Its file is opened in `clipmod_cli.output.history.file`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from clipmod_cli.output.columns import column_types, columns_of
from clipmod_cli.output.history.rows import HostedRow, RequestRow, RunInfo
from clipmod_cli.records import Record, SegmentRow

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

SCHEMA_VERSION: Final = 3  # A database of any other version has to be rebuilt from outputs.

RECORD_COLUMNS: Final = column_types(Record)
ITEM_COLUMNS: Final = {name: kind for name, kind in RECORD_COLUMNS.items() if name != "segments"}
SEGMENT_COLUMNS: Final = column_types(SegmentRow)
RUN_COLUMNS: Final = {**column_types(RunInfo), "version": "VARCHAR"}
REQUEST_COLUMNS: Final = {"run_id": "VARCHAR", "number": "BIGINT", **column_types(RequestRow)}
HOSTED_COLUMNS: Final = {
    "run_id": "VARCHAR",
    **column_types(HostedRow),
    "name_b64": "VARCHAR",
    "data_folder": "VARCHAR",
}


def _listed(columns: Mapping[str, str]) -> str:
    return ", ".join(f'"{name}" {kind}' for name, kind in columns.items())


TABLES: Final = (
    "CREATE TABLE meta (name VARCHAR PRIMARY KEY, value VARCHAR)",
    f"CREATE TABLE runs ({_listed(RUN_COLUMNS)}, PRIMARY KEY (run_id))",
    f'CREATE TABLE items ({_listed(ITEM_COLUMNS)}, judged_at TIMESTAMP, PRIMARY KEY (run_id, "index"))',
    (
        f'CREATE TABLE segments (run_id VARCHAR, "index" BIGINT, number BIGINT, {_listed(SEGMENT_COLUMNS)}, '
        'PRIMARY KEY (run_id, "index", number))'
    ),
    f"CREATE TABLE requests ({_listed(REQUEST_COLUMNS)}, PRIMARY KEY (run_id, number))",
    f"CREATE TABLE hosted ({_listed(HOSTED_COLUMNS)}, PRIMARY KEY (image_id))",
    # Rows to erase as they are merged, from spool parts of an active run up to `last_part`. Names and
    # content hashes are hashed, since they are being erased themselves.
    (
        'CREATE TABLE erasures (run_id VARCHAR, "by" VARCHAR, digest VARCHAR, before TIMESTAMP, '
        "last_part BIGINT)"
    ),
)


def create_tables(connection: DuckDBPyConnection) -> None:
    """Create the tables of an empty database, with the record's field descriptions as comments."""
    for statement in TABLES:
        connection.execute(statement)
    for column in columns_of(Record):
        if column.name in ITEM_COLUMNS:
            text = column.description.replace("'", "''")
            connection.execute(f"COMMENT ON COLUMN items.\"{column.name}\" IS '{text}'")
    connection.execute("INSERT INTO meta VALUES ('schema_version', ?)", [str(SCHEMA_VERSION)])
