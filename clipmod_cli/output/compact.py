"""The compact record (`--record compact`): what readers of decisions and resuming need, in 500 bytes."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import Field, create_model

from clipmod_cli.records import SCHEMA_NAME, Record, json_schema, to_line
from clipmod_cli.records.parts import RowModel

COMPACT_SCHEMA: Final = f"{SCHEMA_NAME}-compact"
SCHEMAS: Final = frozenset({SCHEMA_NAME, COMPACT_SCHEMA})
"""The `schema` of the records that an output may hold, full and compact ones mixed."""

FIELDS: Final = (
    "source", "member", "index", "status", "final_decision", "needs_review", "review_reasons", "unsafe_score",
    "ensemble_category", "sha256", "bytes", "mtime_ns", "error", "run_key", "run_id", "source_b64",
    "member_b64", "known", "row", "columns", "decided_by", "matches", "pdq", "decided_at", "exit_audit",
)  # fmt: skip
"""The fields of `Record` that it has, each with the same meaning."""

_START: Final = f'{{"schema":"{COMPACT_SCHEMA}",'.encode()


def compact_line(record: Record) -> bytes:
    """Return the compact form of a record as one line of UTF-8 JSON, newline included."""
    fields = record.__pydantic_serializer__.to_json(record, include=set(FIELDS))
    return _START + fields[1:] + b"\n"


def record_line(record: Record, form: Literal["full", "compact"]) -> bytes:
    """Return a record as one line, in the form of `--record`."""
    return to_line(record) if form == "full" else compact_line(record)


def compact_json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a compact record's line."""
    known = Record.model_fields
    named: dict[str, Any] = {name: (known[name].annotation, known[name]) for name in FIELDS}
    about = (
        "What a reader of decisions and resuming need of one input. Fields mean the same as in a full record."
    )
    schema_: Any = (Literal["clipmod/1-compact"], Field(default=COMPACT_SCHEMA, alias="schema"))
    model = create_model("CompactRecord", __base__=RowModel, __doc__=about, schema_=schema_, **named)
    return json_schema(model, COMPACT_SCHEMA)
