"""The lines of a run's file: a record as it was written elsewhere, an answered request, the run itself.

Each line has `written_us`, microseconds since 1970. `clipmod_cli.output.history.views` derives the columns.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from clipmod_cli import __version__
from clipmod_cli.records import RunFacts, write_name


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """A run's row in the database.

    Attributes:
        command: the command line, without secrets; None if it was erased.
        models: their specs, in order.
        ended: how it ended; None while it runs, and if it was killed.
        counts: inputs by outcome.
    """

    facts: RunFacts
    command: str | None
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
    """One picture that is kept for `/image/{image_id}`: the content of the file beside it.

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


def record_line(record: bytes, written_us: int) -> bytes:
    """Return the line of a record, given as a line of JSON."""
    return b'{"written_us":%d,%b' % (written_us, record[1:])


def run_line(info: RunInfo) -> bytes:
    """Return a run's line. Its time is when the run began, so that an erasure since then covers it."""
    fields = asdict(info)
    row = {**fields.pop("facts"), **fields, "version": __version__}
    return _line("run", row, round(info.started_at.timestamp() * 1e6))


def request_line(row: RequestRow, run_id: str, number: int, written_us: int) -> bytes:
    """Return a request's line; `number` counts the requests of the run."""
    return _line("request", {"run_id": run_id, "number": number, **asdict(row)}, written_us)


def _line(kind: str, fields: dict[str, Any], written_us: int) -> bytes:
    row = {name: _json_value(value) for name, value in fields.items()}
    return json.dumps({"written_us": written_us, kind: row}).encode() + b"\n"


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
