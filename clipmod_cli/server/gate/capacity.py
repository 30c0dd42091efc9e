"""Layers that refuse what the service has no room for: no place to judge it, or no room for its body."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clipmod_cli.server.fairness.bodies import OpenBodies
from clipmod_cli.server.fairness.places import BusyError, ServiceLoad
from clipmod_cli.server.gate.middleware import Guard, refuse
from clipmod_cli.server.problems import problem, refusal_of_place, retry_headers
from clipmod_cli.server.request_info import declared_bytes, is_judging, request_info_of


@dataclass
class CapacityMiddleware(Guard):
    """Answers 503 or 429 with `Retry-After` while a judging request has no place, before its body is read.

    At ten times the load that can be served nine of ten requests end here, so this must cost little. The
    places themselves are taken at the endpoints.

    Attributes:
        judging_paths: prefixes of the paths of judging endpoints.
    """

    load: ServiceLoad
    judging_paths: tuple[str, ...]

    def refusal(self, scope: Scope) -> Response | None:
        """Return 503 while the service is full, 429 while its caller has its share."""
        if not is_judging(scope, self.judging_paths):
            return None
        try:
            self.load.check(request_info_of(scope).caller)
        except BusyError as e:
            return _answer_to(scope, e)
        return None


@dataclass
class BodiesMiddleware:
    """Answers 503 or 429 with `Retry-After` to judging requests for whose body there is no room.

    Attributes:
        judging_paths: prefixes of the paths of judging endpoints.
    """

    app: ASGIApp
    bodies: OpenBodies
    judging_paths: tuple[str, ...]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a counted body, or refuse it."""
        if not is_judging(scope, self.judging_paths):
            await self.app(scope, receive, send)
            return
        caller = request_info_of(scope).caller
        try:
            self.bodies.open(caller, declared_bytes(scope))
        except BusyError as e:
            await _answer_to(scope, e)(scope, receive, send)
            return
        body = _CountedBody(self.bodies, caller, scope, receive)
        try:
            await self.app(scope, body.receive, send)
        finally:
            self.bodies.close(caller, body.size)


@dataclass
class _CountedBody:
    """One request's body."""

    bodies: OpenBodies
    caller: str
    scope: Scope
    inner: Receive
    size: int = 0

    async def receive(self) -> Message:
        """Return the next message.

        Raises:
            HTTPException: there is no room for it.
        """
        message = await self.inner()
        more = len(message.get("body", b""))
        try:
            self.bodies.add(self.caller, more)
        except BusyError as e:
            status, reason, detail = refusal_of_place(e)
            request_info_of(self.scope).refused = reason
            raise problem(status, detail) from e
        self.size += more
        return message


def _answer_to(scope: Scope, error: BusyError) -> Response:
    status, reason, detail = refusal_of_place(error)
    return refuse(scope, reason, status, detail, retry_headers(status))
