"""The real command at SIGTERM: what was taken is answered, and new connections are told to go elsewhere."""

from __future__ import annotations

import http.client
import json
import os
import pty
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import dropwhile

from tests.end_to_end.command import SHAPES, TINY_L, Command
from tests.server.ensemble.pictures import BLUE_SQUARE
from tests.server.listening import CONTENT_TYPE, Upload, form_of, part, read_event, read_events, wait_until
from tests.server.test_serving_process import PATIENCE_S, Running, running, wait_until_taken

BASE = (
    "--policy",
    str(SHAPES),
    "--models",
    TINY_L,
    "--no-isolate",
    "--no-db",
    "--workers",
    "2",
    "--no-access-log",
)
DRAIN_S = 1.5
LARGE = BLUE_SQUARE + bytes(3_000_000)
"""More than sockets hold: a client is still sending when it is refused."""

SECOND = part("files", "second.png", BLUE_SQUARE)

Answer = tuple[int, str | None, str | None]


def ask(port: int, data: bytes = BLUE_SQUARE) -> Answer:
    """Send a picture over a new connection; return status, Retry-After and Connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        body = form_of("file", [("a.png", data)])
        connection.request("POST", "/predict/single", body, {"Content-Type": CONTENT_TYPE})
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.headers["Retry-After"], answer.headers["Connection"]
    finally:
        connection.close()


def ask_until_refused(port: int, data: bytes) -> tuple[list[Answer], float]:
    """Ask over new connections until the port is closed; return the answers, and when that was."""
    answers: list[Answer] = []
    while True:
        try:
            answers.append(ask(port, data))
        except OSError:
            return answers, time.monotonic()


def begin(port: int) -> Upload:
    """Begin a request for one picture, whose end is yet to come."""
    begun = Upload(port, "/predict/single")
    begun.send(part("file", "a.png", BLUE_SQUARE))
    return begun


def begin_stream(port: int) -> tuple[Upload, http.client.HTTPResponse]:
    """Begin a stream whose first picture is judged, and whose second one has begun."""
    stream = Upload(port, "/predict/streaming")
    stream.send(part("files", "first.png", BLUE_SQUARE) + SECOND[:2])
    lines = stream.answer()
    assert read_event(lines)
    return stream, lines


def end_of(begun: Upload) -> int:
    """Return the status of a request's answer, which ends it."""
    with begun.answer() as answer:
        answer.read()
        status = answer.status
    begun.close()
    return status


def is_draining(service: Running) -> bool:
    status, text = service.ask("GET", "/readyz")
    told = json.loads(text)
    assert (status == 503) == told["draining"]
    return bool(told["draining"])


def test_new_connections_are_told_and_what_was_taken_is_answered(clipmod: Command) -> None:
    with running(clipmod, "--drain-s", str(DRAIN_S), base=BASE) as service, ThreadPoolExecutor(2) as pool:
        taken = [begin(service.port) for _ in range(4)]
        stream, lines = begin_stream(service.port)
        wait_until_taken(service, len(taken) + 1)
        asking = [pool.submit(ask_until_refused, service.port, data) for data in (BLUE_SQUARE, LARGE)]
        kept = http.client.HTTPConnection("127.0.0.1", service.port, timeout=PATIENCE_S)
        kept.request("GET", "/healthz")
        assert kept.getresponse().read()
        told = time.monotonic()
        service.process.terminate()
        wait_until(lambda: is_draining(service))
        kept.request("GET", "/healthz")  # over a connection from before
        with kept.getresponse() as answer:
            assert (answer.status, answer.headers["Connection"]) == (200, "close")
        kept.close()
        stream.send(SECOND[2:])
        stream.finish()
        for one in taken:
            one.finish()
        assert [end_of(one) for one in taken] == [200] * len(taken)
        assert [event.get("image") for event in read_events(lines)] == ["second.png", None]
        ended = [one.result(PATIENCE_S) for one in asking]
        assert service.process.wait(PATIENCE_S) == 143
    for answers, closed in ended:
        assert closed - told >= DRAIN_S, "refused while draining"
        refused = list(dropwhile(lambda one: one[0] == 200, answers))
        assert set(refused) == {(503, "5", "close")}
    lines.close()
    stream.close()


def test_a_stream_that_never_ends_gets_a_last_line_within_the_grace_time(clipmod: Command) -> None:
    with running(clipmod, "--drain-s", "0", "--grace", "2", base=BASE) as service:
        silent = Upload(service.port, "/predict/streaming")
        stream, lines = begin_stream(service.port)
        wait_until_taken(service, 2)
        service.process.terminate()
        error, summary = read_events(lines)
        assert end_of(silent) == 503
        assert service.process.wait(PATIENCE_S) == 143
        lines.close()
        stream.close()
    assert (error["type"], error["image"]) == ("error", None)
    assert "ending" in error["error"]
    assert (summary["total_processed"], summary["errors"]) == (1, [error["error"]])


def test_a_second_signal_closes_the_port_and_ctrl_c_then_ends_it_at_once(clipmod: Command) -> None:
    with running(clipmod, "--drain-s", "1000", "--grace", "2000", base=BASE) as service:
        begun = begin(service.port)
        wait_until_taken(service, 1)
        service.process.terminate()
        wait_until(lambda: is_draining(service))
        assert ask(service.port)[0] == 503
        service.process.terminate()
        ask_until_refused(service.port, BLUE_SQUARE)
        assert service.process.poll() is None, "a request was in progress"
        service.process.send_signal(signal.SIGINT)
        assert service.process.wait(PATIENCE_S) == 143
        begun.close()


@contextmanager
def at_terminal(terminal: int) -> Iterator[None]:
    """Let processes that are started in the block have this as their stdin."""
    kept = os.dup(0)
    os.dup2(terminal, 0)
    try:
        yield
    finally:
        os.dup2(kept, 0)
        os.close(kept)


def test_ctrl_c_at_a_terminal_does_not_wait_for_load_balancers(clipmod: Command) -> None:
    ours, terminal = pty.openpty()
    try:
        with (
            at_terminal(terminal),
            running(clipmod, "--drain-s", "1000", "--grace", "2000", base=BASE) as service,
        ):
            begun = begin(service.port)
            wait_until_taken(service, 1)
            service.process.send_signal(signal.SIGINT)
            ask_until_refused(service.port, BLUE_SQUARE)
            begun.finish()
            assert end_of(begun) == 200
            assert service.process.wait(PATIENCE_S) == 130
    finally:
        os.close(ours)
        os.close(terminal)
