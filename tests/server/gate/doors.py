"""A small application behind the real gate: what it answers shows who got through."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse, Response
from starlette.testclient import TestClient

from clipmod_cli.server.fairness.places import ServiceLoad
from clipmod_cli.server.gate.stack import gate_of
from clipmod_cli.server.request_info import RequestInfo, request_info_of
from clipmod_cli.settings.definition import Settings

JUDGING_PATHS = ("/predict/", "/classify")
BASE = "http://127.0.0.1:8000"
KEY = "a-key-that-is-long-enough"
OTHER = "another-key-of-another-caller"


class Seen:
    """Keeps what observers are told."""

    def __init__(self) -> None:
        self.begun_count = 0
        self.ended_ones: list[RequestInfo] = []

    def started(self, _info: RequestInfo) -> None:
        self.begun_count += 1

    def finished(self, info: RequestInfo) -> None:
        self.ended_ones.append(info)

    @property
    def last(self) -> RequestInfo:
        return self.ended_ones[-1]


def build(seen: Seen | None = None, load: ServiceLoad | None = None, **changes: Any) -> FastAPI:
    """Return the application behind a gate with these settings, and the load that its places are in."""
    gate = gate_of(Settings(**changes))
    app = FastAPI(
        docs_url=None,
        redoc_url=None,
        middleware=[*gate.layers([seen] if seen else [], load or ServiceLoad(64), JUDGING_PATHS)],
    )
    app.include_router(gate.login)
    for path in ("/healthz", "/readyz", "/ui", "/ui/app.js", "/image/{name}", "/"):
        app.add_api_route(path, _who, methods=["GET", "POST"], include_in_schema=False)
    app.add_api_route("/own", _own)
    app.add_api_route("/bug", _bug)
    for path in ("/read", "/predict/single", "/classify/"):
        app.add_api_route(path, _read, methods=["POST"])
    return app


def gated(seen: Seen | None = None, *, base: str = BASE, **changes: Any) -> TestClient:
    """Return a client that stands before the gate."""
    return TestClient(build(seen, **changes), base_url=base, follow_redirects=False)


async def _who(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"in: {request_info_of(request.scope).key_id or 'anybody'}")


async def _own() -> Response:
    headers = {"Content-Security-Policy": "sandbox", "Cache-Control": "private"}
    return PlainTextResponse("mine", headers=headers)


async def _bug() -> None:
    raise ZeroDivisionError("with a secret in it")


async def _read(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(len(await request.body())))
