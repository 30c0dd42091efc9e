"""The real command: slow streams for each place one, and an honest client beside them."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.end_to_end.command import Command
from tests.server.listening import BOUNDARY, END, START, part
from tests.server.test_serving_process import KEY, PICTURE, Running, form, running

OTHER = "another-key-of-another-caller"
SLOW = 64
AT_ONCE = 16
"""Streams whose first picture is judged at once: fewer than one caller may have places."""

PATIENCE_S = 120.0


class SlowStream:
    """A stream of one caller: a whole picture at first, then a few bytes now and then."""

    def __init__(self, port: int) -> None:
        head = [
            "POST /predict/streaming HTTP/1.1", "Host: 127.0.0.1", f"X-API-Key: {KEY}",
            f"Content-Type: multipart/form-data; boundary={BOUNDARY}", "Transfer-Encoding: chunked", "", "",
        ]  # fmt: skip
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self.socket.sendall("\r\n".join(head).encode())
        self._second = part("files", "second.png", PICTURE.read_bytes())
        self.send(START + part("files", "first.png", PICTURE.read_bytes()) + self._second[:50])
        self._sent = 50
        self._lines = self.socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self.socket.sendall(b"%x\r\n%b\r\n" % (len(data), data))

    def drip(self) -> None:
        self.send(self._second[self._sent : self._sent + 5])
        self._sent += 5

    def first_line(self) -> dict[str, object]:
        """Return the line of the first picture."""
        told_before = b""
        while not (line := self._lines.readline()).startswith(b"data: "):
            assert line, f"the stream ended after {told_before!r}"
            told_before += line
        told: dict[str, object] = json.loads(line[6:])
        return told

    def rest(self) -> bytes:
        """Send the rest, and return all lines that are left."""
        self.send(self._second[self._sent :] + END)
        self.socket.sendall(b"0\r\n\r\n")
        rest = b""
        while not rest.endswith(b"0\r\n\r\n"):
            rest += self.socket.recv(65_536) if not (more := self._lines.read1()) else more
        return rest

    def close(self) -> None:
        self._lines.close()
        self.socket.close()


@pytest.fixture
def service_with_keys(clipmod: Command, tmp_path: Path) -> Iterator[Running]:
    """A service with two keys and the default limits."""
    file = tmp_path / "keys"
    file.write_text(f"{KEY}\n{OTHER}\n")
    with running(clipmod, "--api-keys-file", str(file), "--no-access-log") as service:
        yield service


def judged(service: Running, key: str) -> int:
    body, kind = form(PICTURE)
    return service.ask("POST", "/predict/single", body, X_API_Key=key, Content_Type=kind)[0]


def test_slow_streams_shut_nobody_out(service_with_keys: Running) -> None:
    service = service_with_keys
    streams: list[SlowStream] = []
    with ThreadPoolExecutor(SLOW) as pool:
        try:
            for _ in range(SLOW // AT_ONCE):
                several = [SlowStream(service.port) for _ in range(AT_ONCE)]
                streams += several
                assert {one["image"] for one in pool.map(SlowStream.first_line, several)} == {"first.png"}
            for _ in range(3):  # none of them has ended, and the honest client is answered at once
                for stream in streams:
                    stream.drip()
                assert judged(service, OTHER) == 200
            assert judged(service, KEY) == 200  # nor has the slow one itself used up its places
            text = service.ask("GET", "/metrics", X_API_Key=OTHER)[1].decode()
            assert re.search(rf"^clipmod_requests_in_flight {SLOW + 1}\.0", text, flags=re.MULTILINE)
            endings = list(pool.map(SlowStream.rest, streams))
            assert all(b'"total_processed":2' in one for one in endings)
        finally:
            for stream in streams:
                stream.close()
