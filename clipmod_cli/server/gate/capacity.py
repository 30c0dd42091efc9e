"""Refuses requests to judging endpoints while the service is full, before their bodies are read.

At ten times the load that can be served nine of ten requests end here, so this must cost little. The places
themselves are taken at the endpoints.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from starlette.responses import Response
from starlette.types import Scope

from clipmod_cli.server.gate.guard import Guard, refuse
from clipmod_cli.server.problems import BUSY, retry_headers
from clipmod_cli.server.service import ServiceLoad

STATUS: Final = 503


@dataclass
class CapacityMiddleware(Guard):
    """Answers 503 with `Retry-After` while no place is free.

    Attributes:
        judging_paths: prefixes of the paths of judging endpoints.
    """

    load: ServiceLoad
    judging_paths: tuple[str, ...]

    def refusal(self, scope: Scope) -> Response | None:
        """Return 503 for a POST to a judging endpoint while the service is full."""
        judging = scope["method"] == "POST" and scope["path"].startswith(self.judging_paths)
        if not (judging and self.load.full):
            return None
        return refuse(scope, "busy", STATUS, BUSY, retry_headers(STATUS))
