"""Rows of `clipmod serve` beside its records: answered requests and hosted pictures.

Holds their values and their lines in the spool. Counting requests and keeping files is the server's; merging
lines is in `clipmod_cli.output.history.merge`.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from clipmod_cli.records import write_name


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRow:
    """One answered request.

    Attributes:
        request_id: as in its answer. Not unique: a client may choose it.
        requested_at: when it arrived.
        endpoint: the documented route (`/image/{image_id}`), without values from the client.
        status: HTTP status of the answer.
        images: how many pictures and videos it contained.
        time_ms: from the first byte to the last, in milliseconds.
        judged_by: the key in its results, as `triple_ensemble`; None if nothing was judged.
        concurrent: requests in progress when it arrived, including itself.
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


def request_line(row: RequestRow, run_id: str, number: int) -> bytes:
    """Return a request's line in the spool; `number` counts the requests of the run."""
    return _line({"run_id": run_id, "number": number, **_values(row)})


def hosted_line(row: HostedRow, run_id: str, data_folder: Path | None) -> bytes:
    """Return a hosted picture's line in the spool; its file is in `data_folder`, if that is known."""
    folder = None if data_folder is None else _lossless(str(data_folder))
    _, name_b64 = write_name(row.name)
    more = {"sha256": row.sha256.lower(), "name_b64": name_b64, "data_folder": folder}
    return _line({"run_id": run_id, **_values(row), **more})


def _values(row: RequestRow | HostedRow) -> dict[str, Any]:
    return {name: _json_value(value) for name, value in asdict(row).items()}


def _json_value(value: Any) -> Any:
    if isinstance(value, str):
        return write_name(value)[0]
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _line(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def _lossless(path: str) -> str | None:
    # A path that JSON cannot represent must not become another path: files would be erased there.
    text, encoded = write_name(path)
    return text if encoded is None else None
