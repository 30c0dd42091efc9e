"""The lines of an output as resuming reads them: records, or those of another program."""

from __future__ import annotations

import re
from base64 import b64decode
from pathlib import Path
from typing import Any, Final

from clipmod_cli.errors import OutputMismatchError
from clipmod_cli.output.compact import SCHEMAS
from clipmod_cli.records import SCHEMA_NAME

LINE_START = f'{{"schema":"{SCHEMA_NAME}'.encode()
"""The start of every record's line; a torn line without it belongs to another program's file."""
_HASH: Final = re.compile("[0-9a-f]{64}")
_NEEDED: dict[str, Any] = {
    "run_key": str,
    "run_id": str,
    "source": str,
    "source_b64": str | None,
    "member": str | None,
    "member_b64": str | None,
    "bytes": int | None,
    "mtime_ns": int | None,
    "sha256": str | None,
    "error": dict | None,
    "status": str,
    "final_decision": str | None,
    "needs_review": bool | None,
    "review_reasons": list | None,
    "ensemble_category": str | None,
    "known": bool,
    "decided_by": str | None,
    "matches": list | None,
}
"""The fields that resuming reads. Checking all fields of each record would take ten times as long."""


def parse_line(line: bytes) -> dict[str, Any] | None:
    """Return the fields of a record's line, full or compact; None if it is not a record."""
    from pydantic_core import from_json

    try:
        record = from_json(line)
        return record if _is_record(record) else None
    except ValueError:  # not JSON, or not base64
        return None


def _is_record(value: Any) -> bool:
    if not isinstance(value, dict) or value.get("schema") not in SCHEMAS:
        return False
    if not all(key in value and isinstance(value[key], kind) for key, kind in _NEEDED.items()):
        return False
    if not isinstance(value.get("models_used"), list | None):
        return False
    if any(value.get(name) and not _is_hash(value[name]) for name in ("sha256", "pdq")):
        return False
    for name in ("source_b64", "member_b64"):
        if value[name] is not None:
            b64decode(value[name], validate=True)
    error = value["error"]
    return error is None or (isinstance(error.get("retryable"), bool) and isinstance(error.get("code"), str))


def _is_hash(value: Any) -> bool:
    return isinstance(value, str) and _HASH.fullmatch(value) is not None


def foreign_line(path: Path, number: int) -> OutputMismatchError:
    """Return the error that refuses a file of which a line is not a record."""
    return OutputMismatchError(
        f"{path} line {number} is not a clipmod record, so this file is left alone. "
        "Name another output, or --overwrite"
    )


def outcome_of(record: dict[str, Any]) -> str | None:
    """Return the decision of a record, or the code of its error."""
    code: str | None = record["error"] and record["error"]["code"]
    return code or record["final_decision"]


def describe_record(record: dict[str, Any]) -> str:
    """Return how a record was made, as `policy nsfw, threshold 0.5, models nudenet`."""
    parts = [f"{name} {record[name]}" for name in ("policy", "threshold") if record.get(name) is not None] + [
        f"models {', '.join(record['models_used'])}"
    ] * bool(record.get("models_used"))
    return ", ".join(parts) or f"run_key {record['run_key']}"
