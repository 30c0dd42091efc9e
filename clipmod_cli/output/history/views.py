"""The tables of the history, as SQL: views over sealed files, journals and the files beside hosted pictures.

The same text makes the catalogue and the connection of a query. Names and conditions come from the code;
paths and values are quoted.
"""

# ruff: noqa: S608 -- see above

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from clipmod_cli.output.columns import column_types, columns_of
from clipmod_cli.output.database import no_rows, quoted, quoted_path
from clipmod_cli.output.history.folder import Erasure, Snapshot
from clipmod_cli.output.history.rows import HostedRow, RequestRow, RunInfo
from clipmod_cli.output.history.writer import LONGEST_LINE
from clipmod_cli.records import Record
from clipmod_cli.records.parts import SegmentRow

RECORD_COLUMNS: Final = column_types(Record)
ITEM_COLUMNS: Final = {name: kind for name, kind in RECORD_COLUMNS.items() if name != "segments"}
SEGMENT_COLUMNS: Final = column_types(SegmentRow)
RUN_COLUMNS: Final = {**column_types(RunInfo), "version": "VARCHAR"}
REQUEST_COLUMNS: Final = {"run_id": "VARCHAR", "number": "BIGINT", **column_types(RequestRow)}
HOSTED_COLUMNS: Final = column_types(HostedRow)
VIEWS: Final = ("stored_rows", "runs", "items", "segments", "requests", "hosted")

IN_HOSTED: Final = r"[/\\]hosted[/\\][^/\\]+$"
NO_PICTURE: Final = ".none.json"
"""An empty file beside hosted pictures: DuckDB refuses a pattern that fits no file."""


def _struct(columns: Mapping[str, str]) -> str:
    listed = ", ".join(f'"{name}" {kind}' for name, kind in columns.items())
    return f"STRUCT({listed})"


ROW_COLUMNS: Final = {
    "written_us": "BIGINT",
    **RECORD_COLUMNS,
    "run": _struct(RUN_COLUMNS),
    "request": _struct(REQUEST_COLUMNS),
}
"""Of the lines of journals and of sealed files: a row is a record, a run or a request."""

IS_RECORD: Final = (
    '"schema" = \'clipmod/1\' AND run_id IS NOT NULL AND "index" IS NOT NULL AND source IS NOT NULL '
    "AND status IN ('ok', 'error') AND isfinite(coalesce(unsafe_score, 0))"
)
IS_ROW: Final = f"""written_us IS NOT NULL AND (({IS_RECORD})
    OR (run.run_id IS NOT NULL AND run.started_at IS NOT NULL)
    OR (request.run_id IS NOT NULL AND request.number IS NOT NULL AND request.requested_at IS NOT NULL
        AND request.endpoint IS NOT NULL AND request.status IS NOT NULL))"""
"""A torn line and any other that is no row is read as NULL in all columns."""

NAME_OF: Final = "coalesce(source_b64, source)"
ENDINGS: Final = "['rebuilt', 'killed', 'finished']"
"""How runs ended, the last counts: a run has a row in each of its journals."""


def statements(snapshot: Snapshot, journals: str = "") -> list[str]:
    """Return the statements that make the views of a snapshot.

    Args:
        snapshot: names the files.
        journals: a query of the rows of its journals, if not the files themselves.
    """
    rows = [sealed_rows(snapshot.sealed)]
    if snapshot.journals:
        rows.append(journals or journal_rows(snapshot.journals, snapshot.inventory.erasures))
    return [
        f"CREATE OR REPLACE VIEW stored_rows AS {' UNION ALL BY NAME '.join(rows)}",
        *(f"CREATE OR REPLACE VIEW {name} AS {query}" for name, query in TABLES.items()),
        f"CREATE OR REPLACE VIEW hosted AS {_hosted(hosted_folders(snapshot))}",
    ]


def hosted_folders(snapshot: Snapshot) -> list[Path]:
    """Return the folders of hosted pictures that exist."""
    folders = [Path(name) / "hosted" for name in snapshot.inventory.data_folders]
    return [folder for folder in folders if (folder / NO_PICTURE).exists()]


def comments() -> list[str]:
    """Return the statements that describe the columns of records."""
    return [
        f'COMMENT ON COLUMN items."{column.name}" IS {quoted(column.description)}'
        for column in columns_of(Record)
        if column.name in ITEM_COLUMNS
    ]


def _run_names() -> str:
    return _names(RUN_COLUMNS, "run.").replace('run."ended"', "coalesce(run.ended, 'running') AS ended")


def _names(columns: Mapping[str, str], struct: str = "") -> str:
    return ", ".join(f'{struct}"{name}"' for name in columns)


TABLES: Final = {
    "runs": f"""
        SELECT {_run_names()}
        FROM (
            SELECT max_by(run, coalesce(list_position({ENDINGS}, run.ended), 0)) AS run
            FROM stored_rows WHERE run.run_id IS NOT NULL GROUP BY run.run_id
        )""",
    "items": f"""
        SELECT {_names(ITEM_COLUMNS)}, make_timestamp(written_us) AS judged_at
        FROM stored_rows WHERE "schema" IS NOT NULL""",
    "segments": """
        SELECT run_id, "index", member, generate_subscripts(segments, 1) - 1 AS number,
            unnest(segments, recursive := true)
        FROM stored_rows WHERE len(segments) > 0""",
    "requests": f"""
        SELECT {_names(REQUEST_COLUMNS, "request.")} FROM stored_rows WHERE request.run_id IS NOT NULL""",
}


def journal_rows(journals: Sequence[Path], erasures: Sequence[Erasure] = ()) -> str:
    """Return a query of the rows of journals, without those that are erased."""
    hidden = "".join(f" AND NOT ({_erased(one)})" for one in erasures)
    columns = {name: f'"{name}"' for name in ROW_COLUMNS}
    if sources := [one for one in erasures if one.by == "source"]:
        # A digest does not tell which errors contain the name, so all of that time are left out.
        known = f"request.error IS NULL OR written_us > {max(one.at_us for one in sources)}"
        hidden_error = _without("request", REQUEST_COLUMNS, "error")
        columns["request"] = f"CASE WHEN {known} THEN request ELSE {hidden_error} END"
        if named := sorted({run_id for one in sources for run_id in one.commands}):
            meant = f"run.run_id IN ({', '.join(map(quoted, named))})"
            hidden_command = _without("run", RUN_COLUMNS, "command")
            columns["run"] = f"CASE WHEN {meant} THEN {hidden_command} ELSE run END"
    listed = ", ".join(f'{value} AS "{name}"' for name, value in columns.items())
    return f"SELECT {listed} FROM {lines(journals, ROW_COLUMNS)} WHERE {IS_ROW}{hidden}"


def sealed_rows(files: Sequence[Path], *, with_names: bool = False) -> str:
    """Return a query of the rows of sealed files, with the column `filename` if that is wanted."""
    names = ", filename = true" if with_names else ""
    read = f" UNION ALL BY NAME SELECT * FROM {parquet(files, names)}" if files else ""
    return f"{NO_ROWS}{read}"


def without_texts(name: str) -> dict[str, str]:
    """Return `run` and `request` without the command and the error that contain a name, as SQL."""
    return {
        "run": f"CASE WHEN contains(run.command, {quoted(name)}) "
        f"THEN {_without('run', RUN_COLUMNS, 'command')} ELSE run END",
        "request": f"CASE WHEN contains(request.error, {quoted(name)}) "
        f"THEN {_without('request', REQUEST_COLUMNS, 'error')} ELSE request END",
    }


def struct_of(columns: Mapping[str, str]) -> str:
    """Return an expression that makes a struct of columns of these names, as SQL."""
    listed = ", ".join(f'"{name}" := "{name}"::{kind}' for name, kind in columns.items())
    return f"struct_pack({listed})"


def _without(struct: str, columns: Mapping[str, str], left_out: str) -> str:
    """Return a struct with one field set to NULL, or NULL for one that is NULL."""
    listed = ", ".join(
        f'"{name}" := NULL::{kind}' if name == left_out else f'"{name}" := {struct}."{name}"'
        for name, kind in columns.items()
    )
    return f"CASE WHEN {struct} IS NOT NULL THEN struct_pack({listed}) END"


def _erased(one: Erasure) -> str:
    match one.by:
        case "source":
            meant = f"sha256({NAME_OF}) = {quoted(one.digest or '')}"
        case "sha256":
            meant = f'sha256("sha256") = {quoted(one.digest or "")}'
        case "before":
            meant = f"run IS NULL AND written_us < {one.before_us}"
    return f"coalesce({meant}, false) AND written_us <= {one.at_us}"


def lines(paths: Sequence[Path], columns: Mapping[str, str], longest: int = LONGEST_LINE) -> str:
    """Return a table function that reads files of JSON lines with these columns."""
    listed = ", ".join(f"{quoted(name)}: {quoted(kind)}" for name, kind in columns.items())
    return (
        f"read_json({_listed(paths)}, format = 'newline_delimited', ignore_errors = true, "
        f"maximum_object_size = {longest}, columns = {{{listed}}})"
    )


def parquet(paths: Sequence[Path], more: str = "") -> str:
    """Return a table function that reads Parquet files."""
    return f"read_parquet({_listed(paths)}, union_by_name = true{more})"


def _listed(paths: Sequence[Path]) -> str:
    """Return a list of patterns that each match one path alone: DuckDB takes a path as a pattern."""
    return f"[{', '.join(map(quoted_path, paths))}]"


def _hosted(folders: Sequence[Path]) -> str:
    if not folders:
        return no_rows({**HOSTED_COLUMNS, "data_folder": "VARCHAR"})
    patterns = ", ".join(quoted(f"{glob.escape(str(folder))}/*.json") for folder in folders)
    listed = ", ".join(f"{quoted(name)}: {quoted(kind)}" for name, kind in HOSTED_COLUMNS.items())
    return (
        f"SELECT {_names(HOSTED_COLUMNS)}, regexp_replace(filename, '{IN_HOSTED}', '') AS data_folder "
        f"FROM read_json([{patterns}], format = 'newline_delimited', ignore_errors = true, filename = true, "
        f"columns = {{{listed}}}) WHERE image_id IS NOT NULL AND hosted_at IS NOT NULL"
    )


NO_ROWS: Final = no_rows(ROW_COLUMNS)
"""No row, with all columns: files of another version may lack some."""
