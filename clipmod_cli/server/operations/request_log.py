"""Observers of all requests: a JSON line on stderr for each, and a row in the history store.

No key, query or body is logged, and a route with variables by its template, so that no image id is logged
either. Probes are logged with `--verbose` only.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Final, TextIO

from clipmod_cli.output.history.rows import RequestRow
from clipmod_cli.server.fairness.callers import REQUEST
from clipmod_cli.server.request_info import RequestInfo
from clipmod_cli.server.service import Service
from clipmod_cli.settings.definition import Settings

PATH_CHARS: Final = 200
"""Characters of a path that matched no endpoint."""

log = logging.getLogger("clipmod.access")
"""Apart from the `clipmod_cli` loggers, whose messages are for people; `--log-file` gets both."""


@dataclass
class AccessLog:
    """Writes a line when a request has finished."""

    stream: TextIO | None = None
    least: int = logging.INFO

    def __post_init__(self) -> None:
        """Write the lines to stderr, and to the log file if there is one."""
        handler = logging.StreamHandler(self.stream or sys.stderr)
        handler.setLevel(self.least)
        log.handlers = [handler]
        log.setLevel(logging.DEBUG)

    def started(self, info: RequestInfo) -> None:
        """Write nothing yet."""

    def finished(self, info: RequestInfo) -> None:
        """Write the line."""
        level = logging.DEBUG if info.is_probe else logging.INFO
        level = logging.ERROR if info.status >= 500 else level
        log.log(level, line_of(info, datetime.now(UTC)))


def access_log_of(settings: Settings) -> list[AccessLog]:
    """Return the access log, if the settings ask for one."""
    if not settings.access_log:
        return []
    least = logging.ERROR if settings.quiet else logging.DEBUG if settings.verbose else logging.INFO
    return [AccessLog(least=least)]


def line_of(info: RequestInfo, now: datetime) -> str:
    """Return the line of a request that finished now."""
    facts = {
        "time": now.isoformat(timespec="milliseconds"),
        "id": info.id,
        "trace_id": info.trace_id or None,
        "client": info.client,
        "key": info.key_id or None,
        "method": info.method,
        "path": info.route or info.path[:PATH_CHARS],
        "status": info.status,
        "refused": info.refused or None,
        "ms": round(info.seconds * 1000, 1),
        "bytes_in": info.bytes_in,
        "bytes_out": info.bytes_out,
    }
    return json.dumps({name: value for name, value in facts.items() if value is not None})


class _RequestNotes(logging.Filter):
    """Adds to a message which request it was about, and by which trace."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the note, once."""
        info = REQUEST.get()
        if info is None or getattr(record, "has_request_note", False):
            return True
        record.has_request_note = True
        message = record.getMessage()
        notes = [] if info.id in message else [f"request {info.id}"]
        notes += [f"trace {info.trace_id}"] if info.trace_id else []
        if notes:
            record.msg, record.args = f"{message} ({', '.join(notes)})", ()
        return True


@contextmanager
def noting_requests() -> Iterator[None]:
    """Let messages of clipmod's log name their requests for the block."""
    notes, handlers = (
        _RequestNotes(),
        [*logging.getLogger("clipmod_cli").handlers, *logging.getLogger().handlers],
    )
    for handler in handlers:
        handler.addFilter(notes)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(notes)


@dataclass
class RequestRows:
    """Writes a row for each request to an endpoint that judges.

    Attributes:
        judging_paths: prefixes of the paths that are counted.
    """

    service: Service
    judging_paths: tuple[str, ...]

    def started(self, info: RequestInfo) -> None:
        """Do nothing: a request that only sends is not judged yet."""

    def finished(self, info: RequestInfo) -> None:
        """Write the row of a request that reached an endpoint; unknown paths are not stored."""
        if info.path.startswith(self.judging_paths) and info.route:
            self.service.rows.add_request(_row(info, self.service.load.take_peak()))


def _row(info: RequestInfo, concurrent: int) -> RequestRow:
    return RequestRow(
        request_id=info.id,
        requested_at=datetime.now(UTC) - timedelta(seconds=info.seconds),
        endpoint=info.route,
        status=info.status,
        images=info.images,
        time_ms=round(info.seconds * 1000, 3),
        judged_by=info.judged_by,
        concurrent=concurrent,
        error=info.error or info.refused or _reason(info.status),
    )


def _reason(status: int) -> str | None:
    if status < HTTPStatus.BAD_REQUEST:
        return None
    try:
        return HTTPStatus(status).phrase
    except ValueError:  # 499
        return "the client left"
