"""One row in the store for each request that asks for a judgement: the only place where they are made.

An observer of all requests. Routers say in `RequestInfo` what only they know: how many pictures were judged,
by whom, and what went wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Final

from fastapi import Depends, Request

from clipmod_cli.output.history.serve_rows import RequestRow
from clipmod_cli.server.request_info import RequestInfo, request_info_of
from clipmod_cli.server.service import Service

JUDGING: Final = ("/predict/", "/api/", "/classify")
"""Where the endpoints that judge begin."""


@dataclass
class RequestRows:
    """Writes the rows."""

    service: Service
    _now: int = 0

    def begun(self, asked: RequestInfo) -> None:
        """Count a request under way."""
        if _is_counted(asked):
            self._now += 1
            asked.concurrent = self._now

    def ended(self, asked: RequestInfo) -> None:
        """Write the row of a request that reached an endpoint."""
        if not _is_counted(asked):
            return
        self._now -= 1
        if asked.route:  # else nobody's endpoint; its path is not ours to keep
            self.service.rows.add_request(_row(asked))


def _is_counted(asked: RequestInfo) -> bool:
    return asked.path.startswith(JUDGING)


def _row(asked: RequestInfo) -> RequestRow:
    return RequestRow(
        request_id=asked.id,
        at=datetime.now(UTC) - timedelta(seconds=asked.seconds),
        endpoint=asked.route,
        status=asked.status,
        images=asked.images,
        time_ms=round(asked.seconds * 1000, 3),
        judged_by=asked.judged_by,
        concurrent=asked.concurrent,
        error=asked.error or asked.refused or _reason(asked.status),
    )


def _reason(status: int) -> str | None:
    if status < HTTPStatus.BAD_REQUEST:
        return None
    try:
        return HTTPStatus(status).phrase
    except ValueError:  # 499
        return "the client left"


async def _tally(request: Request) -> RequestInfo:
    return request_info_of(request.scope)


Tallied = Annotated[RequestInfo, Depends(_tally)]
"""Where a router says what became of its request."""
