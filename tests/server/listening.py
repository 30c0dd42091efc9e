"""The application behind a real socket, and forms that are sent piece by piece."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from clipmod_cli.server.app import create_app
from clipmod_cli.server.protocol.connection import Connection
from clipmod_cli.server.service import Service
from clipmod_cli.settings.definition import Settings

WAIT_S = 60.0
BOUNDARY = "a-boundary"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"
START = f"--{BOUNDARY}".encode()
END = b"--\r\n"


@contextmanager
def listening(service: Service, settings: Settings) -> Iterator[int]:
    """Give the port of a server that answers for the time of the block."""
    with listening_app(create_app(service, settings)) as port:
        yield port


@contextmanager
def listening_app(app: ASGIApp) -> Iterator[int]:
    """Give the port of any application."""
    config = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        server_header=False,
        port=0,
        log_config=None,
        access_log=False,
        proxy_headers=False,
        timeout_graceful_shutdown=2,
    )
    server = uvicorn.Server(config)
    listener = config.bind_socket()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(WAIT_S)
        listener.close()
        assert not thread.is_alive()


def wait_until(true: Any) -> None:
    """Wait until something is so; fail where it takes too long."""
    until = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < until, "it never came to be"
        time.sleep(0.01)


def part(field: str, name: str, data: bytes) -> bytes:
    """Return one file of a form with the boundary behind it; it is complete two bytes later."""
    head = f'\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'
    return head.encode() + data + b"\r\n" + START


class Upload:
    """A request whose body is sent piece by piece, and whose answer can be read meanwhile."""

    def __init__(self, port: int, path: str, *, length: int | None = None) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
        self.connection.putrequest("POST", path)
        self.connection.putheader("Content-Type", CONTENT_TYPE)
        self._chunked = length is None
        if length is None:
            self.connection.putheader("Transfer-Encoding", "chunked")
        else:
            self.connection.putheader("Content-Length", str(length))
        self.connection.endheaders()
        if self._chunked:
            self.send(START)

    def send(self, data: bytes) -> None:
        self.connection.send(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def finish(self) -> None:
        self.send(END)
        if self._chunked:
            self.connection.send(b"0\r\n\r\n")

    def answer(self) -> http.client.HTTPResponse:
        return self.connection.getresponse()

    def close(self) -> None:
        self.connection.close()


def read_event(answer: http.client.HTTPResponse) -> dict[str, Any] | None:
    """Return the next event of a stream, and see that an empty line follows it; None at the end."""
    line = answer.readline()
    if not line:
        return None
    assert line.startswith(b"data: "), line
    assert answer.readline() == b"\n"
    event: dict[str, Any] = json.loads(line[6:])
    return event


def read_events(answer: http.client.HTTPResponse) -> list[dict[str, Any]]:
    """Return all events that are left."""
    return list(iter(lambda: read_event(answer), None))


def form_of(field: str, files: Sequence[tuple[str, bytes]]) -> bytes:
    """Return a whole form."""
    return START + b"".join(part(field, name, data) for name, data in files) + END
