"""Requests over a real socket, byte by byte: what RFC 9112 leaves a server to refuse, limits, and manners."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from fastapi import FastAPI

from clipmod_cli.server.problems import handle_problems
from clipmod_cli.server.protocol.strict import HEAD_BYTES
from clipmod_cli.server.request_info import RequestInfo
from tests.server.gate.doors import KEY, Seen, build
from tests.server.listening import WAIT_S, listening_app, wait_until

GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /read HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
HELD_BACK = b"POST /read HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 4\r\n"


@dataclass(frozen=True)
class Answer:
    """An answer as it came."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def detail(self) -> str:
        found = json.loads(self.body)
        assert list(found) == ["detail"]
        return str(found["detail"])


class Wire:
    """A client's end of a connection."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)
        self.came = self.socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read(self, *, head: bool = False) -> Answer:
        """Return the next answer; `head` if it is one to HEAD."""
        line = self.came.readline()
        version, status, _ = line.split(b" ", 2)
        assert version == b"HTTP/1.1", line
        headers = dict(self._headers())
        if head or status in {b"100", b"204", b"304"}:
            return Answer(int(status), headers, b"")
        if headers.get("transfer-encoding") == "chunked":
            return Answer(int(status), headers, b"".join(self._chunks()))
        length = headers.get("content-length")
        return Answer(int(status), headers, self.came.read(None if length is None else int(length)))

    def ended(self) -> bool:
        """Return whether the server closed the connection; waits for it."""
        return self.came.read(1) == b""

    def _headers(self) -> Iterator[tuple[str, str]]:
        while (line := self.came.readline().strip()) != b"":
            name, _, value = line.decode("latin-1").partition(":")
            yield name.lower(), value.strip()

    def _chunks(self) -> Iterator[bytes]:
        while (size := int(self.came.readline(), 16)) > 0:
            yield self.came.read(size)
            self.came.readline()
        self.came.readline()


def _app(seen: Seen, **settings: Any) -> FastAPI:
    app = build(seen, **settings)
    app.router.redirect_slashes = False
    handle_problems(app)
    return app


@pytest.fixture(scope="module")
def seen() -> Seen:
    """What the observers of `port` are told."""
    return Seen()


@pytest.fixture(scope="module")
def port(seen: Seen) -> Iterator[int]:
    """The port of the gate without keys."""
    with listening_app(_app(seen)) as one:
        yield one


@pytest.fixture(scope="module")
def locked(seen: Seen) -> Iterator[int]:
    """The port of the gate with a key."""
    with listening_app(_app(seen, api_keys=(KEY,))) as one:
        yield one


@contextmanager
def wire(port: int) -> Iterator[Wire]:
    one = Wire(port)
    try:
        yield one
    finally:
        one.came.close()
        one.socket.close()


REFUSED = {
    "two ways to end": (POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "two lengths": (POST + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde", 400),
    "a list of lengths": (POST + b"Content-Length: 4, 5\r\n\r\nabcde", 400),
    "a signed length": (POST + b"Content-Length: +4\r\n\r\nabcd", 400),
    "an unknown coding": (POST + b"Transfer-Encoding: gzip\r\n\r\n", 501),
    "chunked twice": (POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 501),
    "a coding with junk": (POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400),
    "chunked in HTTP/1.0": (CHUNKED.replace(b"1.1", b"1.0") + b"0\r\n\r\n", 400),
    "a folded header": (GET + b"X: a\r\n b\r\n\r\n", 400),
    "a folded first header": (b"GET /healthz HTTP/1.1\r\n X: a\r\nHost: localhost\r\n\r\n", 400),
    "a space before the colon": (GET + b"X : a\r\n\r\n", 400),
    "no colon": (GET + b"X\r\n\r\n", 400),
    "an empty name": (GET + b": a\r\n\r\n", 400),
    "a bare LF": (GET + b"X: a\nY: b\r\n\r\n", 400),
    "bare LFs only": (b"GET /healthz HTTP/1.1\nHost: localhost\n\n", 400),
    "a bare CR": (GET + b"X: a\rY: b\r\n\r\n", 400),
    "a NUL": (GET + b"X: a\0b\r\n\r\n", 400),
    "no host": (b"GET /healthz HTTP/1.1\r\n\r\n", 400),
    "two hosts": (GET + b"Host: localhost\r\n\r\n", 400),
    "two hosts in HTTP/1.0": (GET.replace(b"1.1", b"1.0") + b"Host: other\r\n\r\n", 400),
    "HTTP/0.9": (b"GET /healthz\r\n\r\n", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "HTTP/3 by name": (b"GET /healthz HTTP/3.0\r\nHost: localhost\r\n\r\n", 505),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "a proxy's request": (b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n", 501),
    "spaces in the URL": (b"GET /healthz and more HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "other letters in the URL": ("GET /hälthz HTTP/1.1\r\nHost: localhost\r\n\r\n".encode(), 400),
    "a long URL": (b"GET /" + b"a" * HEAD_BYTES + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
    "a URL without end": (b"GET /" + b"a" * 4 * HEAD_BYTES, 414),
    "large headers": (GET + b"X: " + b"a" * HEAD_BYTES + b"\r\n\r\n", 431),
    "headers without end": (GET + b"X: aaaaaaa\r\n" * HEAD_BYTES, 431),
    "a chunk's size that is no number": (CHUNKED + b"zz\r\nabcd\r\n0\r\n\r\n", 400),
    "a chunk's size in hexadecimal notation": (CHUNKED + b"0x4\r\nabcd\r\n0\r\n\r\n", 400),
    "a negative size": (CHUNKED + b"-4\r\nabcd\r\n0\r\n\r\n", 400),
    "a size of a hundred digits": (CHUNKED + b"0" * 99 + b"4\r\nabcd\r\n0\r\n\r\n", 400),
    "a chunk that is longer than its size": (CHUNKED + b"2\r\nabcd\r\n0\r\n\r\n", 400),
    "a chunk's extension without end": (CHUNKED + b"4;" + b"a" * 4 * HEAD_BYTES, 400),
    "a trailer without end": (CHUNKED + b"0\r\n" + b"X: a\r\n" * HEAD_BYTES, 400),
}  # fmt: skip


@pytest.mark.parametrize(("request_", "status"), REFUSED.values(), ids=REFUSED.keys())
def test_what_can_be_read_in_two_ways_is_refused_and_the_connection_ends(
    port: int, seen: Seen, request_: bytes, status: int
) -> None:
    with wire(port) as one:
        one.send(request_)
        answer = one.read()
        assert answer.status == status, answer
        assert answer.detail
        assert len(answer.body) < 300
        assert answer.headers["connection"] == "close"
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert one.ended()
    noted = told_of(seen, answer)
    assert noted.status == status
    assert noted.refused == ("" if noted.path else "protocol")  # a fault in a body is its endpoint's


def told_of(seen: Seen, answer: Answer) -> RequestInfo:
    """Return what observers were told of a request, once they were: after its answer left."""
    found: list[RequestInfo] = []

    def look() -> bool:
        found[:] = [one for one in seen.ended_ones if one.id == answer.headers["x-request-id"]]
        return bool(found)

    wait_until(look)
    return found[0]


TAKEN = {
    "as it should be": GET + b"\r\n",
    "nearly too large headers": GET + b"X: " + b"a" * (HEAD_BYTES - 200) + b"\r\n\r\n",
    "an empty line before it": b"\r\n" + GET + b"\r\n",
    "one length twice": GET + b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n",
    "to a proxy": b"GET http://localhost:9/healthz HTTP/1.1\r\nHost: elsewhere\r\n\r\n",
    "an unknown upgrade": GET + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    "a WebSocket": GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
}


@pytest.mark.parametrize("request_", TAKEN.values(), ids=TAKEN.keys())
def test_what_is_in_order_is_answered_and_the_connection_stays(port: int, request_: bytes) -> None:
    with wire(port) as one:
        for _ in range(2):
            one.send(request_)
            assert one.read().body == b"in: anybody"


def test_the_host_of_an_absolute_target_counts(port: int) -> None:
    with wire(port) as one:
        one.send(b"GET http://evil.example/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (one.read().status, seen_name(one)) == (400, b"in: anybody")


def seen_name(one: Wire) -> bytes:
    """Return the answer to one more request on a connection."""
    one.send(GET + b"\r\n")
    return one.read().body


def test_pipelined_requests_are_answered_in_order(port: int) -> None:
    with wire(port) as one:
        one.send(GET + b"\r\n" + POST + b"Content-Length: 3\r\n\r\nabc" + CHUNKED + b"2\r\nab\r\n0\r\n\r\n")
        one.send(GET + b"Connection: close\r\n\r\n")
        assert [one.read().body for _ in range(4)] == [b"in: anybody", b"3", b"2", b"in: anybody"]
        assert one.ended()


def test_a_body_that_hides_a_request_is_a_body(port: int, seen: Seen) -> None:
    hidden = b"GET /bug HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with wire(port) as one:
        one.send(GET + b"Content-Length: %d\r\n\r\n" % len(hidden) + hidden + GET + b"\r\n")
        answers = [one.read() for _ in range(2)]
    assert [told_of(seen, answer).path for answer in answers] == ["/healthz"] * 2


def test_after_an_error_the_connection_stays(port: int) -> None:
    with wire(port) as one:
        one.send(b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert one.read().status == 404
        assert seen_name(one) == b"in: anybody"
        one.send(
            b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200000\r\n\r\n" + bytes(200_000)
        )
        assert one.read().status == 404
        assert seen_name(one) == b"in: anybody"


def test_a_refused_body_of_a_client_that_reads_late_is_answered(locked: int) -> None:
    with wire(locked) as one:  # as nginx sends: HTTP/1.0, so that the connection ends with the answer
        one.send(
            b"POST /read HTTP/1.0\r\nHost: localhost\r\nContent-Length: 8000000\r\n\r\n" + bytes(8_000_000)
        )
        answer = one.read()
        assert (answer.status, answer.headers["connection"]) == (401, "close")
        assert one.ended()


@pytest.mark.parametrize("path", ["/read", "/predict/single"])
def test_a_refusal_comes_before_a_body_that_is_held_back(locked: int, path: str) -> None:
    with wire(locked) as one:
        one.send(HELD_BACK.replace(b"/read", path.encode()) + b"\r\n")
        answer = one.read()
        assert (answer.status, answer.headers["connection"]) == (401, "close")
        assert one.ended()


def test_a_body_that_is_held_back_is_asked_for(locked: int) -> None:
    with wire(locked) as one:
        one.send(HELD_BACK + f"X-API-Key: {KEY}\r\n\r\n".encode())
        assert one.read().status == 100
        one.send(b"abcd")
        assert one.read().body == b"4"
        one.send(GET + b"\r\n")
        assert one.read().status == 200


def test_a_body_too_large_to_be_discarded_ends_the_connection(locked: int) -> None:
    with wire(locked) as one:
        one.send(POST + b"Content-Length: 1000000000\r\n\r\nabc")
        answer = one.read()
        assert (answer.status, answer.headers["connection"]) == (401, "close")
        assert one.ended()


def test_http_1_0_is_answered_with_a_length_or_the_end(port: int) -> None:
    with wire(port) as one:
        one.send(b"GET /healthz HTTP/1.0\r\n\r\n")
        answer = one.read()
        assert (answer.body, "transfer-encoding" in answer.headers) == (b"in: anybody", False)
        assert one.ended()


def test_head_options_and_trace(port: int) -> None:
    with wire(port) as one:
        one.send(GET + b"\r\n")
        whole = one.read()
        one.send(GET.replace(b"GET", b"HEAD") + b"\r\n")
        head = one.read(head=True)
        assert {**head.headers, "x-request-id": "", "date": ""} == {
            **whole.headers, "x-request-id": "", "date": "",
        }  # fmt: skip
        one.send(b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = one.read()
        assert (answer.status, "GET" in answer.headers["allow"]) == (204, True)
        one.send(b"TRACE /read HTTP/1.1\r\nHost: localhost\r\nCookie: secret\r\n\r\n")
        answer = one.read()
        assert (answer.status, answer.headers["allow"]) == (405, "POST, OPTIONS")
        assert b"secret" not in answer.body


def test_no_answer_tells_which_server_it_is(port: int) -> None:
    with wire(port) as one:
        one.send(GET + b"\r\n")
        answer = one.read()
    assert "date" in answer.headers
    assert "server" not in answer.headers


def test_a_client_that_closes_its_side_is_gone(port: int) -> None:
    with wire(port) as one:
        one.send(POST + b"Content-Length: 9\r\n\r\nabc")
        one.socket.shutdown(socket.SHUT_WR)
        assert one.ended()
    with wire(port) as one:
        assert seen_name(one) == b"in: anybody"
