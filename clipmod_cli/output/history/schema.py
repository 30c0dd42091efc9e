"""The store's tables, and how an older store gets them.

Its file is opened in `clipmod_cli.output.history.file`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

SCHEMA_VERSION: Final = 2

PROBABILITIES: Final = "MAP(VARCHAR, DOUBLE)"
PREDICTION: Final = (
    f"STRUCT(predicted_category VARCHAR, confidence DOUBLE, category_probabilities {PROBABILITIES}, "
    "inference_time_ms DOUBLE, detections STRUCT(label VARCHAR, score DOUBLE, box INTEGER[])[])"
)
FRAME: Final = (
    "STRUCT(frame BIGINT, time_s DOUBLE, ensemble_category VARCHAR, confidence DOUBLE, unsafe_score DOUBLE, "
    f"category_ensemble_probabilities {PROBABILITIES}, model_agreement DOUBLE)"
)
SEGMENT_COLUMNS: Final = {
    "start_s": "DOUBLE",
    "end_s": "DOUBLE",
    "ensemble_category": "VARCHAR",
    "peak_unsafe_score": "DOUBLE",
    "peak_time_s": "DOUBLE",
}
ITEM_COLUMNS: Final = {
    "schema": "VARCHAR",
    "source": "VARCHAR",
    "member": "VARCHAR",
    "kind": "VARCHAR",
    "status": "VARCHAR",
    "final_decision": "VARCHAR",
    "needs_review": "BOOLEAN",
    "degraded": "BOOLEAN",
    "confidence": "DOUBLE",
    "unsafe_score": "DOUBLE",
    "ensemble_category": "VARCHAR",
    "category_ensemble_probabilities": PROBABILITIES,
    "model_agreement": "DOUBLE",
    "models_used": "VARCHAR[]",
    "per_model_predictions": f"MAP(VARCHAR, {PREDICTION})",
    "policy": "VARCHAR",
    "policy_hash": "VARCHAR",
    "threshold": "DOUBLE",
    "run_key": "VARCHAR",
    "sha256": "VARCHAR",
    "bytes": "BIGINT",
    "mtime_ns": "BIGINT",
    "width": "BIGINT",
    "height": "BIGINT",
    "format": "VARCHAR",
    "truncated": "BOOLEAN",
    "total_time_ms": "DOUBLE",
    "error": "STRUCT(code VARCHAR, message VARCHAR, retryable BOOLEAN, http_status INTEGER)",
    "index": "BIGINT",
    "run_id": "VARCHAR",
    "source_b64": "VARCHAR",
    "member_b64": "VARCHAR",
    "final_url": "VARCHAR",
    "duration_s": "DOUBLE",
    "frames_scored": "BIGINT",
    "frames": f"{FRAME}[]",
    "models_skipped": "VARCHAR[]",
    "unsafe_score_bounds": "DOUBLE[]",
    "unseen_categories": "VARCHAR[]",
}
RECORD_COLUMNS: Final = {
    **ITEM_COLUMNS,
    "segments": f"STRUCT({', '.join(f'{name} {kind}' for name, kind in SEGMENT_COLUMNS.items())})[]",
}
RUN_COLUMNS: Final = {
    "run_id": "VARCHAR",
    "run_key": "VARCHAR",
    "started_at": "TIMESTAMP",
    "finished_at": "TIMESTAMP",
    "ended": "VARCHAR",
    "exit_code": "INTEGER",
    "command": "VARCHAR",
    "models": "VARCHAR[]",
    "policy": "VARCHAR",
    "policy_hash": "VARCHAR",
    "threshold": "DOUBLE",
    "counts": "MAP(VARCHAR, BIGINT)",
    "version": "VARCHAR",
}


REQUEST_COLUMNS: Final = {
    "run_id": "VARCHAR",
    "number": "BIGINT",
    "request_id": "VARCHAR",
    "requested_at": "TIMESTAMP",
    "endpoint": "VARCHAR",
    "status": "INTEGER",
    "images": "BIGINT",
    "time_ms": "DOUBLE",
    "judged_by": "VARCHAR",
    "concurrent": "INTEGER",
    "error": "VARCHAR",
}
HOSTED_COLUMNS: Final = {
    "image_id": "VARCHAR",
    "run_id": "VARCHAR",
    "sha256": "VARCHAR",
    "name": "VARCHAR",
    "name_b64": "VARCHAR",
    "format": "VARCHAR",
    "bytes": "BIGINT",
    "hosted_at": "TIMESTAMP",
    "expires_at": "TIMESTAMP",
    "data_folder": "VARCHAR",
}


def columns(kinds: dict[str, str]) -> str:
    """Return columns as a `CREATE TABLE` lists them."""
    return ", ".join(f'"{name}" {kind}' for name, kind in kinds.items())


SERVE_TABLES: Final = {
    "requests": f"({columns(REQUEST_COLUMNS)}, PRIMARY KEY (run_id, number))",
    "hosted": f"({columns(HOSTED_COLUMNS)}, PRIMARY KEY (image_id))",
}
TABLES: Final = (
    "CREATE TABLE meta (name VARCHAR PRIMARY KEY, value VARCHAR)",
    f"CREATE TABLE runs ({columns(RUN_COLUMNS)}, PRIMARY KEY (run_id))",
    f'CREATE TABLE items ({columns(ITEM_COLUMNS)}, judged_at TIMESTAMP, PRIMARY KEY (run_id, "index"))',
    (
        f'CREATE TABLE segments (run_id VARCHAR, "index" BIGINT, number BIGINT, {columns(SEGMENT_COLUMNS)}, '
        'PRIMARY KEY (run_id, "index", number))'
    ),
    # What is to be erased from a run that still writes, up to the part with this number (null: all
    # its parts). Names and contents are hashed, being erased themselves.
    'CREATE TABLE forgotten (run_id VARCHAR, "by" VARCHAR, digest VARCHAR, before TIMESTAMP, through BIGINT)',
    *(f"CREATE TABLE {name} {definition}" for name, definition in SERVE_TABLES.items()),
)
TO_VERSION_2: Final = (
    *(f"CREATE TABLE {name} {definition}" for name, definition in SERVE_TABLES.items()),
    "ALTER TABLE forgotten ADD COLUMN before TIMESTAMP",
    "ALTER TABLE forgotten ADD COLUMN through BIGINT",
)


def create_tables(connection: DuckDBPyConnection) -> None:
    """Make the tables of an empty store."""
    for statement in TABLES:
        connection.execute(statement)
    connection.execute("INSERT INTO meta VALUES ('schema_version', ?)", [str(SCHEMA_VERSION)])


def upgrade(connection: DuckDBPyConnection) -> None:
    """Make this version's store of one of version 1; the caller's transaction makes it all or nothing."""
    for statement in TO_VERSION_2:
        connection.execute(statement)
    connection.execute("UPDATE meta SET value = ? WHERE name = 'schema_version'", [str(SCHEMA_VERSION)])


def stand_in(connection: DuckDBPyConnection) -> None:
    """Give a connection that only reads a store of version 1 what that one lacks, empty and for itself."""
    for name, definition in SERVE_TABLES.items():
        connection.execute(f"CREATE TEMP TABLE {name} {definition}")
