"""A server that answers as it is told, however wrong that is. On loopback, one thread a connection."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

import trustme

AUTHORITY = trustme.CA()
CERTIFICATE = AUTHORITY.issue_cert("localhost", "public.test", "other.test", "127.0.0.1", "0:0:0:0:0:0:0:1")
"""For localhost and a few names of tests; made again for each run."""

TLS_HANDSHAKE = b"\x16"
"""The first byte of who wants a secure connection; servers tell them in plain text that there is none."""

HELD_S = 120
"""How long a connection is held that no test ends, longer than any timeout that is tested."""

Answer: TypeAlias = Callable[[socket.socket], bool]
"""Writes what it likes; returns whether the connection may be used again."""


@dataclass(frozen=True)
class Request:
    """What was asked."""

    path: str
    headers: dict[str, str]


@dataclass
class Server:
    """Answers by path; a path's answers come one after the other, the last again and again."""

    port: int
    secure: bool = False
    asked: list[Request] = field(default_factory=list)
    _answers: dict[str, list[Answer]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def on(self, path: str, *answers: Answer) -> str:
        """Set the answers for a path; return its URL."""
        self._answers[path] = list(answers)
        return self.url(path)

    def url(self, path: str, host: str = "localhost") -> str:
        """Return the URL of a path."""
        return f"{'https' if self.secure else 'http'}://{host}:{self.port}{path}"

    def paths(self) -> list[str]:
        """Return what was asked for, in order."""
        return [request.path for request in self.asked]

    def serve(self, connection: socket.socket) -> None:
        """Answer on one connection until it is to be closed."""
        with contextlib.suppress(OSError), connection:
            while request := _read_request(connection):
                with self._lock:
                    self.asked.append(request)
                    answers = self._answers.get(request.path.partition("?")[0], [reply(404)])
                    answer = answers.pop(0) if len(answers) > 1 else answers[0]
                if not answer(connection):
                    return


@contextmanager
def serving(*, secure: bool = False) -> Iterator[Server]:
    """Give a server that listens on loopback while the context lasts."""
    context = None
    if secure:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        CERTIFICATE.configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Server(listener.getsockname()[1], secure)
        threading.Thread(target=_accept, args=(listener, server, context), daemon=True).start()
        yield server
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


def _accept(listener: socket.socket, server: Server, context: ssl.SSLContext | None) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_start, args=(connection, server, context), daemon=True).start()


def _start(connection: socket.socket, server: Server, context: ssl.SSLContext | None) -> None:
    connection.settimeout(HELD_S)
    if context is not None:
        try:
            connection = context.wrap_socket(connection, server_side=True)
        except OSError:
            connection.close()
            return
    server.serve(connection)


def _read_request(connection: socket.socket) -> Request | None:
    head = b""
    while b"\r\n\r\n" not in head:
        chunk = connection.recv(65536)
        if not chunk:
            return None
        head += chunk
        if head[:1] == TLS_HANDSHAKE:
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            return None
    first, *lines = head.decode("latin-1").split("\r\n\r\n")[0].split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return Request(first.split(" ")[1], {name.lower(): value.strip() for name, _, value in pairs})


def raw(data: bytes) -> Answer:
    """Write these bytes and close."""

    def answer(connection: socket.socket) -> bool:
        connection.sendall(data)
        return False

    return answer


def reply(status: int = 200, body: bytes = b"", *, length: int | None = None, **headers: str) -> Answer:
    """Answer as servers do; `length` lies about the body's, and `retry_after` is Retry-After."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body) if length is None else length}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if status in (204, 304):
        del lines[1]
    data = "\r\n".join([*lines, "", ""]).encode() + body

    def answer(connection: socket.socket) -> bool:
        connection.sendall(data)
        return length is None

    return answer


def redirect(to: str, status: int = 302) -> Answer:
    """Redirect."""
    return reply(status, b"over there", location=to)


def chunked(*parts: bytes, end: bool = True) -> Answer:
    """Answer without telling the length beforehand."""
    data = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return raw(head + data + (b"0\r\n\r\n" if end else b""))


def drip(data: bytes, every_s: float) -> Answer:
    """Write one byte at a time."""

    def answer(connection: socket.socket) -> bool:
        for at in range(len(data)):
            connection.sendall(data[at : at + 1])
            time.sleep(every_s)
        return False

    return answer


def endless(head: bytes, part: bytes, *, in_body: bool = True) -> Answer:
    """Write for as long as the client reads: `head`, and then `part` again and again."""

    def answer(connection: socket.socket) -> bool:
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + b"\r\n" * in_body + head)
        while True:
            connection.sendall(part)

    return answer


def broken(data: bytes) -> Answer:
    """Write these bytes and reset the connection."""

    def answer(connection: socket.socket) -> bool:
        connection.sendall(data)
        time.sleep(0.05)  # or the reset overtakes them
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False

    return answer


def after(wait: threading.Event, then: Answer) -> Answer:
    """Answer only when an event has come."""

    def answer(connection: socket.socket) -> bool:
        wait.wait(HELD_S)
        return then(connection)

    return answer


@dataclass
class Gauge:
    """How many are being served at once; nobody counts any more once the first byte of an answer is sent."""

    now: int = 0
    most: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def counting(self, then: Answer) -> Answer:
        """Take a little time before answering."""

        def answer(connection: socket.socket) -> bool:
            with self.lock:
                self.now += 1
                self.most = max(self.most, self.now)
            time.sleep(0.02)
            with self.lock:
                self.now -= 1
            return then(connection)

        return answer
