"""Writes one row to the history store for each request to an endpoint that judges."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus

from clipmod_cli.output.history.serve_rows import RequestRow
from clipmod_cli.server.request_info import RequestInfo
from clipmod_cli.server.service import Service


@dataclass
class RequestRows:
    """An observer of all requests.

    Attributes:
        judging_paths: prefixes of the paths that are counted.
    """

    service: Service
    judging_paths: tuple[str, ...]
    _in_progress: int = 0

    def started(self, info: RequestInfo) -> None:
        """Count a request in progress."""
        if info.path.startswith(self.judging_paths):
            self._in_progress += 1
            info.concurrent = self._in_progress

    def finished(self, info: RequestInfo) -> None:
        """Write the row of a request that reached an endpoint; unknown paths are not stored."""
        if not info.path.startswith(self.judging_paths):
            return
        self._in_progress -= 1
        if info.route:
            self.service.rows.add_request(_row(info))


def _row(info: RequestInfo) -> RequestRow:
    return RequestRow(
        request_id=info.id,
        at=datetime.now(UTC) - timedelta(seconds=info.seconds),
        endpoint=info.route,
        status=info.status,
        images=info.images,
        time_ms=round(info.seconds * 1000, 3),
        judged_by=info.judged_by,
        concurrent=info.concurrent,
        error=info.error or info.refused or _reason(info.status),
    )


def _reason(status: int) -> str | None:
    if status < HTTPStatus.BAD_REQUEST:
        return None
    try:
        return HTTPStatus(status).phrase
    except ValueError:  # 499
        return "the client left"
