"""Runs the HTTP application in uvicorn until SIGINT, SIGTERM or SIGHUP.

A first signal: new requests are answered 503 for the time of draining, then the port is closed; requests in
progress are finished. A second one closes the port at once; a second Ctrl-C ends the process.
"""

from __future__ import annotations

import errno
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

import uvicorn

from clipmod_cli.cli.signals import caught_signals
from clipmod_cli.cli.terminal.stdout import say
from clipmod_cli.errors import ExitCode, UsageError
from clipmod_cli.server.protocol.connection import Connection
from clipmod_cli.server.protocol.limit import connection_limit

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import ASGIApp, Receive, Scope, Send

    from clipmod_cli.server.service import Service
    from clipmod_cli.settings.definition import Settings

KEEP_ALIVE_S = 20
"""Seconds before an idle connection is closed."""


def bind(settings: Settings) -> socket.socket:
    """Return a bound socket; connections are refused until the server listens on it.

    Raises:
        UsageError: if the address is in use, or not one of this machine.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":  # there it would let two services share one port
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((settings.host, settings.port))
    except OSError as e:
        made.close()
        raise _cannot_listen(settings, e) from e
    return made


def _cannot_listen(settings: Settings, error: OSError) -> UsageError:
    place, reason = f"{settings.host}:{settings.port}", error.strerror or error
    return UsageError(f"cannot listen at {place}: {reason}. Try another --host or --port")


def listen(app: FastAPI, service: Service, settings: Settings, at: socket.socket) -> ExitCode:
    """Serve until a signal comes, and return the exit code."""
    checked = _StartupCheck(app)
    config = uvicorn.Config(
        checked,
        http=partial(Connection, limit=connection_limit()),  # type: ignore[arg-type]  # makes connections
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, round(settings.grace)),
    )
    server = _Server(config, service, settings)
    with _handle_signals(server):
        try:
            server.run(sockets=[at])
        except SystemExit:
            if checked.error is None:
                raise
            raise checked.error from None
        except OSError as e:
            if e.errno != errno.EADDRINUSE:
                raise
            raise _cannot_listen(settings, e) from e  # another one bound the port too, and listened first
    if service.device.alive:  # a forward pass that does not end would keep the process from ending
        sys.stderr.flush()
        os._exit(server.exit_code)
    return server.exit_code


ANSWER_S: Final = 1.0
"""Of the grace time, for the answers to requests whose time is up."""


class _Server(uvicorn.Server):
    """Drains the service when a signal comes, and keeps the exit code."""

    def __init__(self, config: uvicorn.Config, service: Service, settings: Settings) -> None:
        super().__init__(config)
        self.service = service
        self.settings = settings
        self.exit_code = ExitCode.OK
        self._closes_at = math.inf
        self._ends_at = math.inf
        self._has_told = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and sockets and not self.settings.quiet:
            at = f"{url_of(sockets[0])} (page: /ui, description: /docs)"
            say(f"clipmod: listening at {at}. {_describe(self.service)}")
            if fault := self.service.readiness.fault:
                say(f"clipmod: not ready, requests are answered 503 until it is: {fault}")
            sys.stderr.flush()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 — uvicorn's signature
        """Handle a signal. Raises nothing and takes no lock."""
        now = time.monotonic()
        if self.exit_code == ExitCode.OK:
            self.exit_code = ExitCode.of_signal(sig)
            self._ends_at = now + self.settings.grace
            # a load balancer has no terminal, and a person there does not want to wait
            drain_s = 0.0 if sig == signal.SIGINT and os.isatty(0) else self.settings.drain_s
            self._closes_at = min(now + drain_s, self._ends_at)
            self.service.drain(self.settings.grace - min(ANSWER_S, self.settings.grace / 2))
        elif sig == signal.SIGINT:
            os._exit(self.exit_code)
        else:
            self._closes_at = now

    async def on_tick(self, counter: int) -> bool:
        """Close the port when draining is over; uvicorn calls this every 0.1 s."""
        if self.exit_code != ExitCode.OK and not self._has_told:
            self._has_told = True  # not in the handler: it may interrupt another print
            self._tell()
        self.should_exit = time.monotonic() >= self._closes_at
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.config.timeout_graceful_shutdown = max(1, math.ceil(self._ends_at - time.monotonic()))
        await super().shutdown(sockets)

    def _tell(self) -> None:
        if self.settings.quiet:
            return
        left_s = self._closes_at - time.monotonic()
        drains = f"new requests are answered 503 for {left_s:.0f} s, and " if left_s > 0 else ""
        say(
            f"clipmod: stopping: {drains}requests in progress have {self.settings.grace:g} s; "
            "Ctrl-C ends it at once"
        )
        sys.stderr.flush()


def _describe(service: Service) -> str:
    """Return by what the service judges."""
    panel = service.panel
    names = ", ".join(member.model.name for member in panel.ensemble.members)
    return f"Policy {panel.policy.name}, threshold {panel.criteria.threshold:g}, models {names}"


class _StartupCheck:
    """Wraps the application; keeps the exception of its start-up, which uvicorn only logs."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.error: BaseException | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.app(scope, receive, send)
        except BaseException as e:
            if scope["type"] == "lifespan":
                self.error = e
            raise


@contextmanager
def _handle_signals(server: _Server) -> Iterator[None]:
    """Handle signals before uvicorn installs its handlers, and after."""
    before: dict[int, Any] = {
        number: signal.signal(number, server.handle_exit) for number in caught_signals()
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def url_of(at: socket.socket) -> str:
    """Return the address of a bound socket as a URL."""
    host, port = at.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
