"""Runs the page of a review on this machine until the person ends it."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

import typer
import uvicorn

from clipmod_cli.errors import ExitCode, UsageError
from clipmod_cli.server.connections import Connection

if TYPE_CHECKING:
    from fastapi import FastAPI

    from clipmod_cli.server.review.access import OneTimeLink

HOST = "127.0.0.1"
GRACE_S = 2
"""That a decision in progress may take at the end."""


@contextmanager
def bind_loopback(port: int) -> Iterator[socket.socket]:
    """Give a bound socket that only this machine reaches.

    Raises:
        UsageError: the port is in use.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as made:
        if sys.platform != "win32":
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((HOST, port))
        except OSError as error:
            raise UsageError(
                f"cannot listen at {HOST}:{port}: {error.strerror}. Try another --port"
            ) from error
        yield made


class ReviewServer:
    """Serves one application; ended by the page, by Ctrl-C or by a signal."""

    def __init__(self, at: socket.socket) -> None:
        """Keep the socket; nothing is served yet."""
        self._at = at
        self._server: _Server | None = None

    def finish(self) -> None:
        """End, as the person asked on the page."""
        if self._server is not None:
            self._server.should_exit = True

    def run(self, app: FastAPI, link: OneTimeLink) -> ExitCode:
        """Serve until the end, and return the exit code."""
        url = f"http://{HOST}:{self._at.getsockname()[1]}/?token={link.token}"
        config = uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=GRACE_S,
        )
        self._server = _Server(config, url)
        before = {
            number: signal.signal(number, self._server.handle_exit)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            self._server.run(sockets=[self._at])
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        return self._server.exit_code


class _Server(uvicorn.Server):
    """Says where the page is, and keeps the exit code."""

    def __init__(self, config: uvicorn.Config, url: str) -> None:
        super().__init__(config)
        self.url = url
        self.exit_code = ExitCode.OK

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            typer.echo(
                f"Open this link in your browser; it works once:\n  {self.url}\n"
                "End with Finish on the page, or with Ctrl-C: each decision is written at once.",
                err=True,
            )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.exit_code = ExitCode.SIGINT if sig == signal.SIGINT else ExitCode.SIGTERM
        super().handle_exit(sig, frame)
