"""The real command as a process: where it listens, who may ask, and how it ends."""

from __future__ import annotations

import http.client
import itertools
import json
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

import pytest

from tests.end_to_end.command import SHAPES, TINY, TINY_L, Command
from tests.warm import warm

KEY = "a-key-that-is-long-enough"
IN_FLIGHT = 32
PATIENCE_S = 120
"""For what takes seconds on an idle machine."""

ALONE = (
    "--policy", str(SHAPES), "--models", TINY_L, "--no-isolate", "--no-db", "--workers", "2",
    "--drain-s", "0",
)  # fmt: skip


@dataclass
class Running:
    """A service that runs as a process."""

    process: subprocess.Popen[bytes]
    port: int
    lines: Queue[str]

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
        """Return the status and body of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def log(self, wanted: Callable[[dict[str, object]], bool]) -> dict[str, object]:
        """Return the first line of the access log from here on that is wanted."""
        while True:
            line = self.lines.get(timeout=PATIENCE_S)
            if line.startswith("{") and wanted(told := json.loads(line)):
                return dict(told)


@contextmanager
def running(
    clipmod: Command,
    *words: str,
    base: Sequence[str] = ALONE,
    **environment: str,
) -> Iterator[Running]:
    """Give a service at a free port, which does not outlive the context."""
    argv = ["serve", *base, "--port", "0", *words]
    warm(clipmod.home / "XDG_CACHE_HOME")
    process = clipmod.start(argv, environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    lines: Queue[str] = Queue()
    reader = threading.Thread(target=_read, args=(process, lines))
    reader.start()
    try:
        yield Running(process, _port_in(lines), lines)
    finally:
        process.kill()
        process.wait(PATIENCE_S)
        reader.join(PATIENCE_S)


def _read(process: subprocess.Popen[bytes], lines: Queue[str]) -> None:
    assert process.stderr is not None
    with process.stderr:
        for line in process.stderr:
            lines.put(line.decode(errors="replace"))
    lines.put("")


def _port_in(lines: Queue[str]) -> int:
    said: list[str] = []
    while not (match := re.search(r"listening at http://.*:(\d+) ", "".join(said))):
        line = lines.get(timeout=PATIENCE_S)
        assert line, "".join(said)
        said.append(line)
    return int(match[1])


def form(*pictures: Path) -> tuple[bytes, str]:
    """Return a body with files, and its type."""
    parts = [
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\n\r\n%s\r\n'
        % (one.name.encode(), one.read_bytes())
        for one in pictures
    ]
    return b"".join(parts) + b"--x--\r\n", "multipart/form-data; boundary=x"


PICTURE = next(iter(sorted((TINY / "pictures").glob("*.png"))))


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=["terminated", "terminal closed"]
)
def test_requests_in_flight_get_their_answers_and_then_it_ends(
    clipmod: Command, number: signal.Signals, code: int
) -> None:
    body, kind = form(PICTURE)
    half, rest = body[: len(body) // 2], body[len(body) // 2 :]
    with running(clipmod) as service, ThreadPoolExecutor(IN_FLIGHT) as pool:
        begun = [_send_half(service.port, half, len(body), kind) for _ in range(IN_FLIGHT)]
        wait_until_taken(service, IN_FLIGHT)
        service.process.send_signal(number)
        answers = list(pool.map(lambda one: _send_rest(one, rest), begun))
        assert service.process.wait(PATIENCE_S) == code
    assert [status for status, _ in answers] == [200] * IN_FLIGHT
    assert all(json.loads(text)["results"] for _, text in answers)


def test_a_request_that_never_ends_does_not_keep_it_beyond_its_grace(clipmod: Command) -> None:
    with (
        running(clipmod, "--grace", "1") as service,
        _send_half(service.port, b"--x\r\n", 1000, "multipart/form-data; boundary=x"),
    ):
        wait_until_taken(service, 1)
        service.process.terminate()
        assert service.process.wait(PATIENCE_S) == 143


def test_ctrl_c_ends_it_too_and_without_an_access_log_nothing_was_said(clipmod: Command) -> None:
    with running(clipmod, "--no-access-log") as service:
        assert service.ask("GET", "/metrics")[0] == 200
        service.process.send_signal(signal.SIGINT)
        assert service.process.wait(PATIENCE_S) == 130
        assert not [line for line in iter(service.lines.get, "") if line.startswith("{")]


def test_with_a_key_others_are_let_in_and_the_log_says_who(clipmod: Command, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# one\n{KEY}\n")
    with running(clipmod, "--host", "0.0.0.0", "--api-keys-file", str(file)) as service:  # noqa: S104
        assert service.ask("GET", "/healthz")[0] == 200
        assert service.ask("GET", "/metrics")[0] == 401
        told = service.log(lambda line: line["status"] == 401)
        assert (told["path"], told["refused"]) == ("/metrics", "key")
        assert service.ask("GET", "/metrics?token=secret", Authorization=f"Bearer {KEY}")[0] == 200
        told = service.log(lambda line: line["status"] == 200)
        _send_endless_headers(service.port)
        assert service.ask("GET", "/healthz")[0] == 200
    assert told["path"] == "/metrics"
    assert re.fullmatch(r"[0-9a-f]{8}", str(told["key"]))
    assert "secret" not in json.dumps(told)
    assert KEY not in json.dumps(told)


@pytest.mark.parametrize("environment", [{}, {"USE_API_KEYS": "false"}, {"API_KEYS": " , "}])
def test_without_a_key_it_does_not_listen_where_others_can_ask(
    clipmod: Command, environment: dict[str, str]
) -> None:
    ended = clipmod("serve", *ALONE, "--host", "0.0.0.0", "--port", "0", env=environment)  # noqa: S104
    assert ended.code == 2
    assert "CLIPMOD_API_KEYS" in ended.stderr
    assert "--no-auth" in ended.stderr


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_port_that_is_taken_is_said_before_models_are_loaded(clipmod: Command, host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as taken:
        port = taken.getsockname()[1]
        ended = clipmod("serve", "--models", "no:such:model", "--host", host, "--port", str(port))
    assert ended.code == 2
    assert f"{host}:{port}" in ended.stderr
    assert "--port" in ended.stderr


def test_an_address_that_is_not_ours_is_said(clipmod: Command) -> None:
    ended = clipmod("serve", "--host", "192.0.2.1", "--no-auth", "--port", "0")
    assert ended.code == 2
    assert "192.0.2.1" in ended.stderr


def _send_half(port: int, half: bytes, length: int, kind: str) -> socket.socket:
    """Begin a request, and return the connection over which the rest may follow."""
    head = ["POST /predict/single HTTP/1.1", "Host: 127.0.0.1", f"Content-Type: {kind}"]
    head += [f"Content-Length: {length}", "", ""]
    one = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
    one.sendall("\r\n".join(head).encode() + half)
    return one


def _send_rest(one: socket.socket, rest: bytes) -> tuple[int, bytes]:
    with one:
        one.sendall(rest)
        answer = http.client.HTTPResponse(one)
        answer.begin()
        return answer.status, answer.read()


def wait_until_taken(service: Running, count: int) -> None:
    """Wait until the service has so many requests under way, besides the one that asks."""
    while True:
        text = service.ask("GET", "/metrics")[1].decode()
        match = re.search(r"^clipmod_requests_in_flight (\S+)", text, flags=re.MULTILINE)
        assert match
        if float(match[1]) > count:
            return


def _send_endless_headers(port: int) -> None:
    """Send headers until the service closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as one:
        one.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        with pytest.raises(ConnectionError):
            _send_for_ever(one, b"X-More: " + b"x" * 60_000 + b"\r\n")


def _send_for_ever(one: socket.socket, line: bytes) -> None:
    for _ in itertools.count():
        one.sendall(line)
