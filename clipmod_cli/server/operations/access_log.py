"""One JSON object a line for each request, on stderr: who asked what, and how it ended.

No key, no query, no body: a route with variables is logged by its template, so that neither an image's
id nor what a client put into a path is kept. Probes are told only with `--verbose`.
"""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TextIO

from clipmod_cli.server.request_info import RequestInfo
from clipmod_cli.settings import Settings

LONGEST_PATH: Final = 200
"""Characters of a path that no endpoint has, which may be anything."""

log = logging.getLogger("clipmod.access")
"""Not below `clipmod_cli`, whose messages are for a person; `--log-file` gets both."""


@dataclass
class AccessLog:
    """Writes a line when a request has ended."""

    stream: TextIO | None = None
    least: int = logging.INFO

    def __post_init__(self) -> None:
        """Send the lines to stderr, and there alone unless there is a log file."""
        handler = logging.StreamHandler(self.stream or sys.stderr)
        handler.setLevel(self.least)
        log.handlers = [handler]
        log.setLevel(logging.DEBUG)

    def begun(self, asked: RequestInfo) -> None:
        """Write nothing yet."""

    def ended(self, asked: RequestInfo) -> None:
        """Write the line."""
        level = logging.DEBUG if asked.is_probe else logging.INFO
        level = logging.ERROR if asked.status >= 500 else level
        log.log(level, line_of(asked, datetime.now(UTC)))


def access_log_of(settings: Settings) -> list[AccessLog]:
    """Return the log that the settings ask for, or none."""
    if not settings.access_log:
        return []
    least = logging.ERROR if settings.quiet else logging.DEBUG if settings.verbose else logging.INFO
    return [AccessLog(least=least)]


def line_of(asked: RequestInfo, now: datetime) -> str:
    """Return the line for a request that ended now."""
    facts = {
        "time": now.isoformat(timespec="milliseconds"),
        "id": asked.id,
        "client": asked.client,
        "key": asked.who or None,
        "method": asked.method,
        "path": asked.route or asked.path[:LONGEST_PATH],
        "status": asked.status,
        "refused": asked.refused or None,
        "ms": round(asked.seconds * 1000, 1),
        "bytes_in": asked.bytes_in,
        "bytes_out": asked.bytes_out,
    }
    return json.dumps({name: value for name, value in facts.items() if value is not None})
