"""A client that costs little beside the service it loads: requests prepared as bytes, answers barely read.

Two ways to load: `closed` has so many clients that each wait for their answer before they ask again;
`open_loop` asks at a rate, whether or not there were answers, as the world does.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit


@dataclass(slots=True)
class Heard:
    """How requests ended: seconds until the whole answer was there, by status; connecting is counted.

    Attributes:
        broken: requests without an answer.
        without_retry_after: refusals that do not say when to come again.
        until_answered: seconds from a client's first try to its last answer.
    """

    seconds: dict[int, list[float]] = field(default_factory=dict)
    broken: int = 0
    without_retry_after: int = 0
    until_answered: list[float] = field(default_factory=list)

    def add(self, status: int, spent: float, head: bytes) -> None:
        """Count an answer."""
        self.seconds.setdefault(status, []).append(spent)
        if status in {429, 503} and b"\r\nretry-after:" not in head.lower():
            self.without_retry_after += 1


def form_request(url: str, path: str, name: str, data: bytes) -> bytes:
    """Return a POST with one file in the form field `file`, as bytes of HTTP/1.1."""
    mark = b"----clipmod-load"
    body = b"".join((
        b"--", mark, b'\r\nContent-Disposition: form-data; name="file"; filename="', name.encode(),
        b'"\r\nContent-Type: image/jpeg\r\n\r\n', data, b"\r\n--", mark, b"--\r\n",
    ))  # fmt: skip
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\n"
        f"Content-Type: multipart/form-data; boundary={mark.decode()}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class _Connection(asyncio.Protocol):
    """One connection; one request at a time."""

    _transport: asyncio.Transport

    def __init__(self) -> None:
        self._came = bytearray()
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self.is_open = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def ask(self, request: bytes) -> asyncio.Future[tuple[int, bytes]]:
        """Send a request; the future holds status and headers once the body is there too."""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._came += data
        end = self._came.find(b"\r\n\r\n")
        if end < 0 or self._answer is None:
            return
        head = bytes(self._came[:end])
        at = head.lower().find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0])
        if len(self._came) < end + 4 + length:
            return
        answer, self._answer = self._answer, None
        self._came.clear()
        if b"\r\nconnection: close" in head.lower():
            self.is_open = False
        if not answer.done():
            answer.set_result((int(head[9:12]), head))

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("the service closed the connection"))

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()


class _Lines:
    """Connections to one address: idle ones are used again."""

    def __init__(self, url: str) -> None:
        place = urlsplit(url)
        self._host, self._port = str(place.hostname), int(place.port or 80)
        self._idle: deque[_Connection] = deque()

    async def ask(self, request: bytes, heard: Heard) -> float | None:
        """Send a request and count its answer; return after how many seconds to try again, if at all."""
        begun = time.perf_counter()
        try:
            line = await self._line()
            status, head = await line.ask(request)
        except OSError:
            heard.broken += 1
            return None
        heard.add(status, time.perf_counter() - begun, head)
        if line.is_open:
            self._idle.append(line)
        return _retry_after(head) if status in {429, 503} else None

    async def _line(self) -> _Connection:
        while self._idle:
            line = self._idle.pop()
            if line.is_open:
                return line
        loop = asyncio.get_running_loop()
        _, made = await loop.create_connection(_Connection, self._host, self._port)
        return made

    def close(self) -> None:
        """Close the idle connections."""
        for line in self._idle:
            line.close()


def _retry_after(head: bytes) -> float:
    found = re.search(rb"\r\nretry-after: *(\d+)", head, re.IGNORECASE)
    return float(found[1]) if found else 1.0


async def closed(
    url: str,
    requests: Sequence[bytes],
    *,
    clients: int,
    count: int,
    retry: bool = False,
    tell: Callable[[int], None] = lambda _done: None,
) -> tuple[Heard, float]:
    """Return how `count` requests by so many clients ended, and the seconds that all took.

    With `retry` a refused request is sent again when its answer said.
    """
    heard, lines, numbers = Heard(), _Lines(url), iter(range(count))

    async def client(taken: Iterator[int]) -> None:
        for number in taken:
            asked = time.perf_counter()
            wait = await lines.ask(requests[number % len(requests)], heard)
            while wait is not None and retry:
                await asyncio.sleep(wait)
                wait = await lines.ask(requests[number % len(requests)], heard)
            heard.until_answered.append(time.perf_counter() - asked)
            tell(number)

    begun = time.perf_counter()
    await asyncio.gather(*(client(numbers) for _ in range(clients)))
    spent = time.perf_counter() - begun
    lines.close()
    return heard, spent


async def open_loop(
    url: str, requests: Sequence[bytes], *, per_s: float, seconds: float
) -> tuple[Heard, float]:
    """Return how requests at a steady rate ended, and the seconds until the last answer."""
    heard, lines, asked = Heard(), _Lines(url), set[asyncio.Task[float | None]]()
    begun = time.perf_counter()
    for number in range(round(per_s * seconds)):
        due = begun + number / per_s
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        task = asyncio.create_task(lines.ask(requests[number % len(requests)], heard))
        asked.add(task)
        task.add_done_callback(asked.discard)
        if number % 16 == 0:
            await asyncio.sleep(0)  # behind its time it would else send without ever listening
    if asked:
        await asyncio.wait(asked)
    spent = time.perf_counter() - begun
    lines.close()
    return heard, spent
