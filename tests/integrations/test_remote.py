"""A guard that asks a service: anything but a whole answer of Safe is a refusal."""

from __future__ import annotations

import io
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from clipmod_cli.errors import SettingsError
from clipmod_cli.integrations.guard import UploadGuard
from tests.end_to_end.command import TINY_L
from tests.integrations.test_guard import truncated
from tests.server.classifier.making import only_tiny
from tests.server.conftest import opened
from tests.server.ensemble.pictures import BLUE_SQUARE, RED_CIRCLE, TEXT
from tests.server.listening import listening

KEY = "a-key-of-the-application"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real service that answers Safe also for what was not wholly seen, with keys."""
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("home")
        resolved = only_tiny(
            home, patch, models=(TINY_L,), unseen="safe", max_image_mb=1, api_keys=(KEY,), access_log=False
        )
        with opened(resolved) as service, listening(service, resolved.settings) as port:
            yield f"http://127.0.0.1:{port}"


def outcome(guard: UploadGuard, data: bytes) -> str:
    file = io.BytesIO(data)
    file.read(3)
    check = guard.check(file, 'a"b.jpg')
    assert file.read() == data
    return check.outcome


@contextmanager
def asking(url: str, **options: Any) -> Iterator[UploadGuard]:
    guard = UploadGuard(url=url, **options)
    try:
        yield guard
    finally:
        guard.close()


def test_a_service_judges(url: str) -> None:
    with asking(url, key=KEY, policy="shapes") as guard:
        guard.warm()
        assert outcome(guard, BLUE_SQUARE) == "clean"
        assert outcome(guard, RED_CIRCLE) == "flagged"
        assert outcome(guard, TEXT) == "unreadable"
        assert outcome(guard, truncated()) == "unreadable"
        assert outcome(guard, BLUE_SQUARE + bytes(2_000_000)) == "too_large"


def test_a_service_that_does_not_answer_passes_nothing(url: str) -> None:
    with asking(url, key="another") as guard:
        assert outcome(guard, BLUE_SQUARE) == "unavailable"
    with asking(url, key=KEY, policy="nsfw") as guard:
        assert outcome(guard, BLUE_SQUARE) == "unavailable"
    with asking("http://127.0.0.1:9") as guard:
        assert outcome(guard, BLUE_SQUARE) == "unavailable"
        with pytest.raises(SettingsError, match="not ready"):
            guard.warm()


SAFE = {"final_decision": "Safe", "needs_review": False, "review_reasons": [], "policy": "nsfw"}


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, json.dumps(SAFE), "clean"),
        (200, json.dumps({**SAFE, "review_reasons": ["coverage"]}), "unreadable"),
        (200, json.dumps({"final_decision": "Safe"}), "unavailable"),
        (200, json.dumps({**SAFE, "review_reasons": None}), "unavailable"),
        (200, json.dumps([SAFE]), "unavailable"),
        (200, "<html>Safe</html>", "unavailable"),
        (200, "", "unavailable"),
        (204, "", "unavailable"),
        (302, json.dumps(SAFE), "unavailable"),
        (400, json.dumps({"detail": "no"}), "unreadable"),
        (401, json.dumps(SAFE), "unavailable"),
        (413, json.dumps(SAFE), "too_large"),
        (429, json.dumps(SAFE), "unavailable"),
        (500, json.dumps(SAFE), "unavailable"),
        (503, json.dumps(SAFE), "unavailable"),
        (504, json.dumps(SAFE), "unavailable"),
    ],
)
def test_only_a_whole_answer_of_safe_is_clean(status: int, body: str, expected: str) -> None:
    class Canned(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Location", "/elsewhere")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Canned) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            with asking(f"http://127.0.0.1:{server.server_port}") as guard:
                assert outcome(guard, BLUE_SQUARE) == expected
        finally:
            server.shutdown()
            thread.join()


def test_a_service_that_is_silent_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with asking(url, deadline_s=0.2) as guard:
            assert outcome(guard, BLUE_SQUARE) == "unavailable"
