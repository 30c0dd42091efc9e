"""Rows of `clipmod serve`, and the files that it leaves of hosted pictures."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from clipmod_cli.output.history.rows import HostedRow, RequestRow
from clipmod_cli.output.history.run import HistoryRun
from clipmod_cli.output.history.store import HistoryStore
from clipmod_cli.output.history.views import NO_PICTURE
from tests.sinks.rows import info

NOW = datetime.now(UTC)
REQUEST = RequestRow(
    request_id="r",
    requested_at=NOW,
    endpoint="/predict/single",
    status=200,
    images=1,
    time_ms=100.0,
    judged_by="triple_ensemble",
    concurrent=1,
    error=None,
)
HOSTED = HostedRow(
    image_id="picture-0",
    sha256=f"{0:064x}",
    name="photos/0.jpg",
    format="JPEG",
    bytes=1000,
    hosted_at=NOW,
    expires_at=NOW + timedelta(hours=24),
)


def request(number: int = 0, **changes: Any) -> RequestRow:
    """Return an answered request."""
    return replace(REQUEST, request_id=f"request-{number}", **changes)


def hosted(image_id: str, **changes: Any) -> HostedRow:
    """Return a picture's row."""
    return replace(HOSTED, image_id=image_id, **changes)


def serving(store: HistoryStore) -> HistoryRun:
    """Return a run as `clipmod serve` opens it."""
    return HistoryRun(store, replace(info("serve-run"), command="clipmod serve"))


def keep_files(data: Path, row: HostedRow, *, told: bool = True) -> list[Path]:
    """Write what the server keeps of a hosted picture; with `told` false, nothing that names its input."""
    known = json.loads(TypeAdapter(HostedRow).dump_json(row))
    answer = {"image": row.name, "image_id": row.image_id}
    files = {
        data / "hosted" / row.image_id: b"pixels",
        data / "hosted" / f"{row.image_id}.json": json.dumps(known if told else {}).encode(),
        data / "predictions" / f"some_{row.image_id[::-1]}.json": json.dumps(answer).encode(),
    }
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return list(files)


def left(data: Path) -> set[str]:
    """Return the names of all files that are left below a data folder."""
    return {path.name for path in data.rglob("*") if path.is_file()} - {NO_PICTURE}
