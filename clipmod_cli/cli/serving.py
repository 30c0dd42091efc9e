"""Runs the application in uvicorn until a signal ends it, and finishes what was taken."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

import uvicorn

from clipmod_cli.cli.terminal.summary import say
from clipmod_cli.errors import ExitCode, UsageError
from clipmod_cli.server.connections import Connection

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import ASGIApp, Receive, Scope, Send

    from clipmod_cli.server.service import Service
    from clipmod_cli.settings import Settings

KEEP_ALIVE_S = 20
"""How long an idle connection stays: longer than a page thinks between two pictures."""


def bind(settings: Settings) -> socket.socket:
    """Return a socket at the wanted address, which nobody can connect to before the service is open.

    Raises:
        UsageError: if the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":  # there it would let two services share one port
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((settings.host, settings.port))
    except OSError as e:
        made.close()
        place, reason = f"{settings.host}:{settings.port}", e.strerror or e
        raise UsageError(f"cannot listen at {place}: {reason}. Try another --host or --port") from e
    return made


def listen(app: FastAPI, service: Service, settings: Settings, at: socket.socket) -> ExitCode:
    """Serve until a signal comes, and return the exit code."""
    told = _Told(app)
    config = uvicorn.Config(
        told,
        http=Connection,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, round(settings.grace)),
    )
    server = _Server(config, service, quiet=settings.quiet)
    with _signals_to(server):
        try:
            server.run(sockets=[at])
        except SystemExit:
            if told.fault is None:
                raise
            raise told.fault from None
    return server.exit_code


class _Server(uvicorn.Server):
    """Tells the service that it is ending, and leaves with the documented exit code."""

    def __init__(self, config: uvicorn.Config, service: Service, *, quiet: bool) -> None:
        super().__init__(config)
        self.service = service
        self.quiet = quiet
        self.exit_code = ExitCode.OK

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and sockets and not self.quiet:
            say(f"clipmod: listening at {_url_of(sockets[0])} (page: /ui, description: /docs)")
            sys.stderr.flush()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.service.draining = True
        self.exit_code = ExitCode.SIGINT if sig == signal.SIGINT else ExitCode.SIGTERM
        super().handle_exit(sig, frame)


class _Told:
    """The application; keeps why it could not start, of which uvicorn only writes a log."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.fault: BaseException | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.app(scope, receive, send)
        except BaseException as e:
            if scope["type"] == "lifespan":
                self.fault = e
            raise


@contextmanager
def _signals_to(server: _Server) -> Iterator[None]:
    """Have signals end the server also before uvicorn takes them, and after: it raises them once more."""
    before: dict[int, Any] = {
        number: signal.signal(number, server.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _url_of(at: socket.socket) -> str:
    host, port = at.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
