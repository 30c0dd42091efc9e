"""No hub, no weights: what is missing is told in time, and nothing is judged without it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from socket import create_server, socket
from threading import Event, Thread

import pytest
from huggingface_hub import constants

from tests.end_to_end.command import SAMPLES, Command, Outcome
from tests.hub import black_hole, refusing_port
from tests.slowness import slowness

CAT = SAMPLES / "cat.png"
FALCONSAI = "hf:Falconsai/nsfw_image_detection"
PROMISE_S = 10
"""How soon an unreachable hub has to be told."""

Hole = Callable[[], AbstractContextManager[str]]


class Listener:
    """Takes connections, notes when the first came, and answers with a byte now and then, if at all."""

    def __init__(self, answer: bytes) -> None:
        self.first: float | None = None
        self._answer = answer
        self._over = Event()
        self._server = create_server(("127.0.0.1", 0), backlog=64)
        self.address = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        Thread(target=self._listen, daemon=True).start()

    def close(self) -> None:
        self._over.set()
        self._server.close()

    def _listen(self) -> None:
        while not self._over.is_set():
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self.first = self.first or time.monotonic()
            Thread(target=self._drip, args=(connection,), daemon=True).start()

    def _drip(self, connection: socket) -> None:
        with connection:
            for byte in self._answer:
                try:
                    connection.sendall(bytes([byte]))
                except OSError:
                    return
                if self._over.wait(0.2):
                    return
            self._over.wait()


@contextmanager
def listening(answer: bytes = b"") -> Iterator[Listener]:
    listener = Listener(answer)
    try:
        yield listener
    finally:
        listener.close()


@pytest.fixture
def point_at(clipmod: Command, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Point the hub's client, which reads its variables but once, at an address and an empty cache."""

    def point(endpoint: str) -> None:
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(clipmod.home / "hub"))

    return point


def assert_told(run: Outcome, address: str) -> None:
    """Look for what happened and every way out of it."""
    assert (run.code, run.stdout) == (4, b"")
    assert f"the hub at {address} cannot be reached" in run.stderr
    for way in ("HF_ENDPOINT", "--offline", "--models nudenet"):
        assert way in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize(
    "words",
    [("scan", CAT, "--models", "ensemble"), ("scan", CAT, "--models", FALCONSAI, "--policy", "nsfw"),
     ("models", "download", "ensemble")],
)  # fmt: skip
def test_a_hub_that_refuses(
    clipmod: Command, point_at: Callable[[str], None], words: tuple[str | Path, ...]
) -> None:
    with refusing_port() as address:
        point_at(address)
        assert_told(clipmod(*words), address)


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (("scan", CAT, "--models", FALCONSAI, "--policy", "nsfw"), b""),
        (
            ("models", "download", "ensemble"),
            b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b" " * 999,
        ),
    ],
)
def test_a_hub_that_keeps_one_waiting(
    clipmod: Command, point_at: Callable[[str], None], words: tuple[str | Path, ...], answer: bytes
) -> None:
    with listening(answer) as listener:
        point_at(listener.address)
        run = clipmod(*words)
        assert listener.first is not None
        assert time.monotonic() - listener.first < PROMISE_S * slowness()
        assert_told(run, listener.address)


def test_a_process_ends_with_the_message(clipmod: Command) -> None:
    with listening() as listener:
        run = clipmod.process("scan", CAT, "--models", "ensemble", env={"HF_ENDPOINT": listener.address})
        assert listener.first is not None
        assert time.monotonic() - listener.first < PROMISE_S * slowness()
        assert_told(run, listener.address)


@pytest.mark.parametrize("hole", [refusing_port, black_hole])
def test_the_doctor_tells_of_the_hub_and_of_what_works_without(
    clipmod: Command, point_at: Callable[[str], None], hole: Hole
) -> None:
    with hole() as address:
        point_at(address)
        run = clipmod("doctor", "--json")
    assert run.code == 0  # nudenet can judge
    report = json.loads(run.stdout)
    checks = {check["name"]: check for check in report["checks"]}
    assert report["ready"]
    assert checks["hub"]["state"] == "note"
    assert "cannot be reached" in checks["hub"]["detail"]
    assert checks["ViT-L-14"]["mend"].startswith("clipmod models download open_clip:ViT-L-14/")


@pytest.mark.parametrize(
    "words",
    [
        ("scan", CAT, "--offline", "--models", "ensemble"),
        ("scan", CAT, "--offline", "--models", FALCONSAI, "--policy", "nsfw"),
        ("models", "download", "--offline", "ensemble"),
    ],
)
def test_offline_asks_nobody(
    clipmod: Command, point_at: Callable[[str], None], words: tuple[str | Path, ...]
) -> None:
    with listening() as listener:
        point_at(listener.address)
        run = clipmod(*words)
        assert listener.first is None
    assert (run.code, run.stdout) == (4, b"")
    assert "offline" in run.stderr
    assert "clipmod models download" in run.stderr


def test_auto_takes_what_is_here_and_asks_nobody(clipmod: Command, point_at: Callable[[str], None]) -> None:
    with listening() as listener:
        point_at(listener.address)
        run = clipmod("scan", CAT)
        assert listener.first is None
    assert run.code == 0
    assert run.records[0]["models_used"] == ["open_nsfw", "nudenet"]
    assert not run.records[0]["degraded"]
    assert "auto took open_nsfw, nudenet" in run.stderr
    assert "The ensemble weighs" in run.stderr
    assert "GB" in run.stderr
