"""Streams over a real socket: who waits for whom, and what happens when a caller leaves."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from clipmod_cli.models.seam import ForwardPass
from clipmod_cli.server.device_thread import Caller
from clipmod_cli.server.forms import spooled
from clipmod_cli.server.service import Service
from clipmod_cli.settings.reading import Resolved
from clipmod_cli.types import Frame
from tests.server.ensemble.pictures import BLUE_SQUARE, CUT, RED_CIRCLE, TEXT, VIDEO
from tests.server.listening import (
    END,
    START,
    WAIT_S,
    Upload,
    form_of,
    listening,
    part,
    read_event,
    read_events,
    wait_until,
)

PATH = "/predict/streaming"


@pytest.fixture(scope="module")
def port(service: Service, resolved: Resolved) -> Iterator[int]:
    """Where the application listens."""
    with listening(service, resolved.settings) as one:
        yield one


@contextmanager
def uploading(port: int) -> Iterator[Upload]:
    """Give a stream whose body is sent piece by piece; the request begins here."""
    one = Upload(port, PATH)
    try:
        yield one
    finally:
        one.close()


@pytest.fixture
def upload(port: int) -> Iterator[Upload]:
    """A stream that has begun."""
    with uploading(port) as one:
        yield one


class Gate:
    """A model that looks at nothing until it is opened."""

    def __init__(self, service: Service, patch: pytest.MonkeyPatch) -> None:
        self.entered, self.open = threading.Event(), threading.Event()
        self.frames = 0
        model: Any = service.panel.ensemble.members[0].model
        self._submit = model.submit
        patch.setattr(model, "submit", self._wait)

    def _wait(self, frames: Sequence[Frame]) -> Callable[[], ForwardPass]:
        self.entered.set()
        assert self.open.wait(WAIT_S)
        self.frames += len(frames)
        wait: Callable[[], ForwardPass] = self._submit(frames)
        return wait


@pytest.fixture
def gate(service: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """A gate before the first model, opened at the end whatever happens: nobody is left behind it.

    Ask for no stream before it: a request has its place from its headers on.
    """
    wait_until(lambda: not service.load.now)  # what an earlier client left is not to enter it
    one = Gate(service, monkeypatch)
    yield one
    one.open.set()


def _spilled() -> int:
    """Return how many nameless temporary files this process holds open."""
    links = list(Path("/proc/self/fd").iterdir())
    return sum(link.is_symlink() and _target(link).endswith("(deleted)") for link in links)


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""


def names_of(events: Sequence[dict[str, Any]]) -> list[str]:
    return [one["image"] for one in events if "image" in one]


def test_a_line_leaves_before_the_next_file_has_come(upload: Upload) -> None:
    upload.send(part("files", "a.jpg", RED_CIRCLE) + part("files", "b.png", BLUE_SQUARE)[:80])
    answer = upload.answer()
    first = read_event(answer)
    assert first is not None
    assert (first["image"], first["final_decision"]) == ("a.jpg", "NSFW")
    assert first["progress"] == {"current": 1, "total": 1, "total_is_final": False}
    upload.send(part("files", "b.png", BLUE_SQUARE)[80:])
    upload.finish()
    second, summary = read_events(answer)
    assert (second["image"], second["progress"]["current"]) == ("b.png", 2)
    assert (summary["type"], summary["total_processed"]) == ("summary", 2)


def test_all_files_are_read_while_nothing_is_judged(gate: Gate, port: int) -> None:
    with uploading(port) as upload:
        upload.send(b"".join(part("files", f"{i}.jpg", RED_CIRCLE + bytes(400_000)) for i in range(100)))
        upload.finish()  # the body is gone although the first forward pass still lasts
        gate.open.set()
        *lines, summary = read_events(upload.answer())
    assert names_of(lines) == [f"{i}.jpg" for i in range(100)]
    assert lines[-1]["progress"] == {"current": 100, "total": 100, "total_is_final": True}
    assert summary["nsfw_count"] == 100


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="descriptors are counted in /proc")
def test_files_wait_in_one_descriptor(gate: Gate, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        spooled.SpooledPieces.__init__, "__defaults__", (100_000,)
    )  # so little that nearly all is spilled
    files = b"".join(part("files", f"{i}.jpg", RED_CIRCLE + bytes(20_000)) for i in range(60))
    with uploading(port) as upload:
        upload.send(files[:30_000])
        assert gate.entered.wait(WAIT_S)
        before = _spilled()
        upload.send(files[30_000:])
        upload.finish()
        wait_until(lambda: _spilled() > before)
        after = _spilled()
        gate.open.set()
        events = read_events(upload.answer())
    assert events[-1]["total_processed"] == 60
    assert after == before + 1


def test_a_client_that_leaves_stops_the_work(
    gate: Gate, service: Service, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    callers: list[Caller] = []
    make = service.caller_of

    def remember(**how: Any) -> Caller:
        callers.append(make(**how))
        return callers[-1]

    monkeypatch.setattr(service, "caller_of", remember)
    with uploading(port) as upload:
        upload.send(b"".join(part("files", f"{i}.jpg", RED_CIRCLE) for i in range(200)))
        assert gate.entered.wait(WAIT_S)
        assert callers
    wait_until(lambda: callers[0].cancelled)
    gate.open.set()
    wait_until(lambda: not service.load.now)
    assert gate.frames < 200


def test_bad_files_cost_one_line_each(upload: Upload) -> None:
    bad = {"text.jpg": TEXT, "cut.jpg": CUT, "film.mp4": VIDEO, "empty.png": b""}
    upload.send(part("files", "good.jpg", RED_CIRCLE))
    for name, data in bad.items():
        upload.send(part("files", name, data))
    upload.send(part("files", "last.png", BLUE_SQUARE))
    upload.finish()
    *lines, summary = read_events(upload.answer())
    assert names_of(lines) == ["good.jpg", *bad, "last.png"]
    assert [line.get("type") for line in lines] == [None, "error", "error", "error", "error", None]
    assert [line["progress"]["current"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert summary["total_processed"] == 2
    assert len(summary["errors"]) == 4


def test_too_many_files_end_the_stream_with_an_error(upload: Upload, service: Service, port: int) -> None:
    most = service.limits.stream_files
    rest = b"".join(part("files", "x", b"") for _ in range(most))
    upload.send(part("files", "a.jpg", RED_CIRCLE) + rest[:10])
    answer = upload.answer()
    first = read_event(answer)
    assert first is not None
    upload.send(rest[10:])
    upload.finish()
    *lines, error, summary = read_events(answer)
    assert len(lines) <= most
    assert error["type"] == "error"
    assert error["image"] is None
    assert "Too many files" in error["error"]
    assert summary["total_processed"] == 1
    assert summary["errors"][-1] == error["error"]


def test_a_body_that_is_declared_too_large_is_refused_at_once(service: Service, port: int) -> None:
    upload = Upload(port, PATH, length=service.limits.stream_bytes * 2)
    upload.connection.send(START + part("files", "a.jpg", RED_CIRCLE))
    answer = upload.answer()
    assert answer.status == 413
    assert answer.read() == b'{"detail":"Request too large. Maximum total size: 1000MB"}'
    upload.close()


@pytest.mark.parametrize(
    ("body", "status"),
    [(form_of("other", [("a.jpg", RED_CIRCLE)]), 422), (START + END, 422), (b"no form at all", 400)],
)
def test_a_form_without_files_has_a_status(port: int, body: bytes, status: int) -> None:
    upload = Upload(port, PATH, length=len(body))
    upload.send(body)
    answer = upload.answer()
    assert answer.status == status
    detail = json.loads(answer.read())["detail"]
    if status == 422:  # as from all endpoints, without what was sent
        assert detail == [{"type": "missing", "loc": ["body", "files"], "msg": "Field required"}]
    upload.close()


def test_a_form_that_ends_early_keeps_what_was_judged(upload: Upload) -> None:
    upload.send(part("files", "a.jpg", RED_CIRCLE) + part("files", "b.jpg", RED_CIRCLE)[:-20])
    answer = upload.answer()
    first = read_event(answer)
    assert first is not None
    upload.connection.send(b"0\r\n\r\n")
    error, summary = read_events(answer)
    assert error["error"] == "the form ended early"
    assert summary["total_processed"] == 1


def test_thousands_of_files_in_one_request(port: int) -> None:
    body = form_of("files", [(f"{i}.jpg", TEXT) for i in range(2498)] + [("a.jpg", RED_CIRCLE)] * 2)
    upload = Upload(port, PATH, length=len(body))
    upload.send(body)
    *lines, summary = read_events(upload.answer())
    assert len(lines) == 2500
    assert [line["progress"]["current"] for line in lines] == list(range(1, 2501))
    assert (summary["total_processed"], len(summary["errors"])) == (2, 2498)
    upload.close()
