"""Rows that are no records, and their lines in the spool: a run, an answered request, a hosted picture.

Columns are derived from them in `clipmod_cli.output.history.file`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from clipmod_cli import __version__
from clipmod_cli.records import RunFacts, write_name


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """A run's row in the database.

    Attributes:
        command: the command line, without secrets.
        models: their specs, in order.
        ended: how it ended; None while it runs, and if it was killed.
        counts: inputs by outcome.
    """

    facts: RunFacts
    command: str
    models: tuple[str, ...]
    started_at: datetime
    finished_at: datetime | None = None
    ended: str | None = None
    exit_code: int | None = None
    counts: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRow:
    """One answered request to `clipmod serve`.

    Attributes:
        request_id: as in its answer. Not unique: a client may choose it.
        requested_at: when it arrived.
        endpoint: the documented route (`/image/{image_id}`), without values from the client.
        status: HTTP status of the answer.
        images: how many pictures and videos it contained.
        time_ms: from the first byte to the last, in milliseconds.
        judged_by: the key in its results, as `triple_ensemble`; None if nothing was judged.
        concurrent: the most requests that were judged at once since the row before.
        error: a code or message; None if there was no error.
    """

    request_id: str
    requested_at: datetime
    endpoint: str
    status: int
    images: int
    time_ms: float
    judged_by: str | None
    concurrent: int
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedRow:
    """One picture that is kept for `/image/{image_id}`.

    Attributes:
        image_id: random; also the name of its file.
        sha256: of its bytes, in lower-case hexadecimal.
        name: the client's file name, or its URL.
        format: as in records (`JPEG`).
        bytes: its size.
    """

    image_id: str
    sha256: str
    name: str
    format: str
    bytes: int
    hosted_at: datetime
    expires_at: datetime


def run_line(info: RunInfo) -> bytes:
    """Return a run's line."""
    fields = asdict(info)
    return _line({**fields.pop("facts"), **fields, "version": __version__})


def request_line(row: RequestRow, run_id: str, number: int) -> bytes:
    """Return a request's line; `number` counts the requests of the run."""
    return _line({"run_id": run_id, "number": number, **asdict(row)})


def hosted_line(row: HostedRow, run_id: str, data_folder: Path | None) -> bytes:
    """Return a hosted picture's line; its file is in `data_folder`, if that is known."""
    fields = {**asdict(row), "sha256": row.sha256.lower(), "name_b64": write_name(row.name)[1]}
    # A path that JSON cannot represent must not become another path: files would be erased there.
    exact = data_folder is not None and write_name(str(data_folder))[1] is None
    return _line({"run_id": run_id, **fields, "data_folder": str(data_folder) if exact else None})


def _line(fields: dict[str, Any]) -> bytes:
    return json.dumps({name: _json_value(value) for name, value in fields.items()}).encode() + b"\n"


def _json_value(value: Any) -> Any:
    match value:
        case str():
            return write_name(value)[0]
        case datetime():
            return value.astimezone(UTC).isoformat()
        case float():
            return value if math.isfinite(value) else None
        case tuple():
            return [_json_value(one) for one in value]
    return value
