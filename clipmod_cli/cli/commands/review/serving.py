"""Runs the page of a review until the person ends it."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

import typer
import uvicorn

from clipmod_cli.cli.serving import bind, url_of
from clipmod_cli.errors import ExitCode, UsageError
from clipmod_cli.server.gate.keys import is_loopback
from clipmod_cli.server.gate.stack import gate_of
from clipmod_cli.server.protocol.connection import Connection
from clipmod_cli.server.review.access import OneTimeLink, ReviewAccess, access_by_key, access_by_link

if TYPE_CHECKING:
    from fastapi import FastAPI

    from clipmod_cli.settings.definition import Settings

GRACE_S = 2
"""That a decision in progress may take at the end."""


@dataclass(frozen=True, slots=True)
class ReviewAddress:
    """Where the page is, who may see it, and what the terminal says of that."""

    bound: socket.socket
    access: ReviewAccess
    message: str


@contextmanager
def open_address(settings: Settings) -> Iterator[ReviewAddress]:
    """Bind the address; the page is opened by a link on this machine, else by an API key.

    Raises:
        UsageError: the port is in use, or another address than loopback is given without keys.
    """
    if is_loopback(settings.host):
        link = OneTimeLink()
        with bind(settings) as bound:
            url = f"{url_of(bound)}/?token={link.token}"
            yield ReviewAddress(
                bound, access_by_link(link), f"Open this link in your browser; it works once:\n  {url}"
            )
        return
    if not settings.api_keys and not settings.api_keys_file:
        raise UsageError(
            f"--host {settings.host} can be reached from other machines, so a key is needed. Set "
            "CLIPMOD_API_KEYS, or --api-keys-file FILE with one from `openssl rand -hex 24`"
        )
    gate = gate_of(settings)
    with bind(settings) as bound:
        url = f"{settings.public_url or url_of(bound)}/ui"
        yield ReviewAddress(bound, access_by_key(gate), f"Open {url} and log in with one of the API keys.")


class ReviewServer:
    """Serves one application; ended by the page, by Ctrl-C or by a signal."""

    def __init__(self) -> None:
        """Serve nothing yet."""
        self._server: _Server | None = None

    def finish(self) -> None:
        """End, as the person asked on the page."""
        if self._server is not None:
            self._server.should_exit = True

    def run(self, app: FastAPI, address: ReviewAddress) -> ExitCode:
        """Serve until the end, and return the exit code."""
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
        self._server = _Server(config, address.message)
        before = {
            number: signal.signal(number, self._server.handle_exit)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            self._server.run(sockets=[address.bound])
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        return self._server.exit_code


class _Server(uvicorn.Server):
    """Says where the page is, and keeps the exit code."""

    def __init__(self, config: uvicorn.Config, message: str) -> None:
        super().__init__(config)
        self.message = message
        self.exit_code = ExitCode.OK

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            typer.echo(self.message, err=True)
            typer.echo(
                "End with Finish on the page, or with Ctrl-C: each decision is written at once.", err=True
            )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.exit_code = ExitCode.SIGINT if sig == signal.SIGINT else ExitCode.SIGTERM
        super().handle_exit(sig, frame)
