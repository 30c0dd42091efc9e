"""One JSON line on stderr for each request.

No key, query or body is logged, and a route with variables by its template, so that no image id is logged
either. Probes are logged with `--verbose` only.
"""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TextIO

from clipmod_cli.server.request_info import RequestInfo
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
