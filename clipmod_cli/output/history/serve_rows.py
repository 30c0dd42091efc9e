"""What the store keeps of `clipmod serve` beside its records: requests, and pictures that are hosted.

Values and their lines in the spool. Who counts a request, and who keeps a picture's file, is left to
the server; how lines become rows is in `clipmod_cli.output.history.merge`.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from clipmod_cli.records import write_name


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRow:
    """One request that was answered.

    Attributes:
        request_id: as its answer named it. It is no key: a client may choose it, and twice the same.
        at: when it came.
        endpoint: the route as it is documented (`/image/{image_id}`), never with what a client put in.
        status: of the answer.
        images: how many pictures and videos it brought.
        time_ms: from the first byte to the last, in milliseconds.
        judged_by: the key in its results, as `triple_ensemble`; None where nobody judged.
        concurrent: how many requests were under way when it came, itself among them.
        error: what went wrong, as a code or a sentence; None where nothing did.
    """

    request_id: str
    at: datetime
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
        image_id: random, and the name of its file.
        sha256: of its bytes, in lower-case hexadecimal.
        name: as whoever sent it called it, or its URL.
        format: as in records (`JPEG`).
        bytes: how many.
    """

    image_id: str
    sha256: str
    name: str
    format: str
    bytes: int
    hosted_at: datetime
    expires_at: datetime


def request_line(row: RequestRow, run_id: str, number: int) -> bytes:
    """Return a request's line in the spool; `number` is its own in the run."""
    return _line(
        {
            "run_id": run_id,
            "number": number,
            "request_id": _text(row.request_id),
            "requested_at": _moment(row.at),
            "endpoint": _text(row.endpoint),
            "status": row.status,
            "images": row.images,
            "time_ms": row.time_ms if math.isfinite(row.time_ms) else None,
            "judged_by": _text(row.judged_by),
            "concurrent": row.concurrent,
            "error": _text(row.error),
        }
    )


def hosted_line(row: HostedRow, run_id: str, data_folder: Path | None) -> bytes:
    """Return a hosted picture's line in the spool; its file is below `data_folder`, if that is known."""
    name, encoded = write_name(row.name)
    return _line(
        {
            "image_id": row.image_id,
            "run_id": run_id,
            "sha256": row.sha256.lower(),
            "name": name,
            "name_b64": encoded,
            "format": _text(row.format),
            "bytes": row.bytes,
            "hosted_at": _moment(row.hosted_at),
            "expires_at": _moment(row.expires_at),
            "data_folder": None if data_folder is None else _sayable(str(data_folder)),
        }
    )


def _line(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def _text(text: str | None) -> str | None:
    return None if text is None else write_name(text)[0]


def _sayable(path: str) -> str | None:
    # Another path must never stand for one that JSON cannot say: files would be erased there.
    text, encoded = write_name(path)
    return text if encoded is None else None


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()
