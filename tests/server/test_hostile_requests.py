"""Requests that mean harm, over a real socket: too much, too slow, by another name, after other files."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from clipmod_cli.server.configuration import MB
from clipmod_cli.server.gate.middleware import BodyPaceMiddleware
from clipmod_cli.server.service import Service
from clipmod_cli.settings.reading import Resolved
from tests.server.classifier.making import only_tiny
from tests.server.conftest import opened
from tests.server.ensemble.pictures import RED_CIRCLE, TEXT
from tests.server.listening import (
    CONTENT_TYPE,
    END,
    START,
    WAIT_S,
    Upload,
    form_of,
    listening,
    part,
    read_event,
    read_events,
)

PIECE = 100_000
SOON_S = 0.3
"""How long a client of these tests may be silent."""

FORMS = (
    ("/predict/single", "file"),
    ("/predict/multi", "files"),
    ("/predict/streaming", "files"),
    ("/api/image-classification", "file"),
    ("/api/image-query-classification", "file"),
    ("/api/multi-image-classification", "files"),
    ("/api/multi-image-query-classification", "files"),
    ("/api/video-classification", "file"),
    ("/classify/", "image"),
)
"""Each endpoint that takes files, and their field."""

SCRIPT = "<script>alert(1)</script>.jpg"
LIMITS = {"max_image_mb": 1, "max_video_mb": 1, "max_multi_mb": 1, "max_stream_mb": 1}

Told = tuple[http.client.HTTPResponse, bytes]


@pytest.fixture(scope="module")
def resolved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Resolved]:
    """Settings of one tiny model with small limits."""
    with pytest.MonkeyPatch.context() as patch:
        yield only_tiny(tmp_path_factory.mktemp("home"), patch, access_log=False, **LIMITS)


@pytest.fixture(scope="module")
def service(resolved: Resolved) -> Iterator[Service]:
    """That service, open."""
    with opened(resolved) as one:
        yield one


@pytest.fixture(scope="module")
def port(service: Service, resolved: Resolved) -> Iterator[int]:
    """Where it listens; it is impatient."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BodyPaceMiddleware.__init__, "__defaults__", (SOON_S,))
        with listening(service, resolved.settings) as one:
            yield one


def ask(port: int, method: str, target: str, body: Any = None, **headers: str) -> Told:
    """Return the answer to a request whose target is sent as it is, dots and all."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
    try:
        connection.request(method, target, body, {k.replace("_", "-"): v for k, v in headers.items()})
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


def send(port: int, path: str, body: bytes, *, declared: bool = True) -> Told:
    """Return the answer to a form, its length told beforehand or not."""
    pieces = (body[at : at + PIECE] for at in range(0, len(body), PIECE))
    length = {"Content_Length": str(len(body))} if declared else {}
    return ask(port, "POST", path, pieces, Content_Type=CONTENT_TYPE, **length)


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize(("path", "field"), FORMS)
def test_a_body_over_the_limit_is_413(port: int, path: str, field: str, declared: bool) -> None:
    answer, text = send(port, path, form_of(field, [("a.jpg", bytes(20 * MB))]), declared=declared)
    assert answer.status == 413
    assert "limit of" in text.decode() or "Maximum" in text.decode()


@pytest.mark.parametrize(("path", "field"), FORMS)
def test_a_body_declared_too_large_is_refused_before_it_is_sent(port: int, path: str, field: str) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as client:
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {CONTENT_TYPE}\r\n"
        client.sendall(f"{head}Expect: 100-continue\r\nContent-Length: {20 * MB}\r\n\r\n".encode())
        answer = http.client.HTTPResponse(client)
        answer.begin()
        assert (answer.status, answer.headers["connection"]) == (413, "close")
        answer.read()
        assert client.recv(1) == b""


def test_a_broken_chunk_ends_a_stream_with_an_error(port: int) -> None:
    upload = Upload(port, "/predict/streaming")
    upload.send(part("files", "a.png", RED_CIRCLE) + b"\r\n")
    answer = upload.answer()
    first = read_event(answer)
    assert first is not None
    assert first["image"] == "a.png"
    upload.connection.send(b"zz\r\n")
    error, summary = read_events(answer)
    assert (error["type"], "not valid HTTP" in error["error"]) == ("error", True)
    assert (summary["type"], summary["total_processed"]) == ("summary", 1)
    upload.close()


@pytest.mark.parametrize("declared", [True, False])
def test_a_list_of_urls_over_the_limit_is_413(port: int, declared: bool) -> None:
    body = json.dumps({"urls": ["https://example.com/" + "a" * 20 * MB]}).encode()
    pieces = (body[at : at + PIECE] for at in range(0, len(body), PIECE))
    length = {"Content_Length": str(len(body))} if declared else {}
    answer, text = ask(port, "POST", "/predict/urls", pieces, Content_Type="application/json", **length)
    assert (answer.status, list(json.loads(text))) == (413, ["detail"])


@pytest.mark.parametrize("name", ["a.jpg", None])
@pytest.mark.parametrize(("path", "field"), FORMS)
def test_ten_thousand_parts_are_refused(port: int, path: str, field: str, name: str | None) -> None:
    one = part(field, name or "", b"x")
    if name is None:
        one = one.replace(b'; filename=""', b"")
    answer, text = send(port, path, START + one * 10_000 + END)
    if answer.status == 200:
        assert (path, name) == ("/predict/streaming", "a.jpg")  # its answer may begin before they are counted
        error, summary = (json.loads(line[6:]) for line in text.decode().split("\n\n")[-3:-1])
        assert (error["type"], "Too many files" in error["error"]) == ("error", True)
        assert (summary["type"], summary["total_processed"]) == ("summary", 0)
    else:
        assert answer.status in {400, 408, 413, 422}, text  # 408 on a machine that is too busy to send it
        assert b"detail" in text


@pytest.mark.parametrize(("path", "field"), FORMS)
def test_a_body_that_stops_coming_is_408_or_the_end_of_the_connection(
    port: int, path: str, field: str
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
    connection.putrequest("POST", path)
    connection.putheader("Content-Type", CONTENT_TYPE)
    connection.putheader("Content-Length", "5000")
    connection.endheaders(START + part(field, "a.jpg", RED_CIRCLE)[:200])
    answer = connection.getresponse()
    assert (answer.status, b"too slowly" in answer.read()) == (408, True)
    assert connection.sock is None or connection.sock.recv(1) == b""
    connection.close()


@pytest.mark.parametrize("path", ["/", "/health", "/ui", "/docs", "/openapi.json", "/metrics", "/stats"])
def test_under_a_name_that_is_not_its_own_it_tells_nothing(port: int, path: str) -> None:
    for headers in ({"Host": "evil.example"}, {"Host": "127.0.0.1.evil.example:8000"}):
        answer, text = ask(port, "GET", path, **headers)
        assert (answer.status, list(json.loads(text))) == (400, ["detail"])


def test_links_follow_no_name_that_was_merely_forwarded(port: int) -> None:
    body = form_of("file", [("a.jpg", RED_CIRCLE)])
    answer, text = ask(
        port, "POST", "/predict/single", body,
        Content_Type=CONTENT_TYPE,
        X_Forwarded_Host="evil.example",
        X_Forwarded_Proto="https",
        Forwarded="host=evil.example;proto=https",
    )  # fmt: skip
    assert answer.status == 200
    assert json.loads(text)["image_url"].startswith(f"http://127.0.0.1:{port}/image/")


@pytest.mark.parametrize("folder", ["/image", "/ui", "/docs", "/login"])
@pytest.mark.parametrize(
    "way",
    [
        "../../../../etc/passwd", "../../etc/passwd", "..%2f..%2f..%2f..%2fetc%2fpasswd",
        "%2e%2e/%2e%2e/etc/passwd",
        "..%252f..%252fetc%252fpasswd", "..%5c..%5cetc%5cpasswd", "%2fetc%2fpasswd", "/etc/passwd", "%00",
        "a%00.png", "....//....//etc/passwd", "%c0%ae%c0%ae/etc/passwd", "predictions", ".", "..",
    ],
)  # fmt: skip
def test_no_path_leads_to_another_file(port: int, folder: str, way: str) -> None:
    answer, text = ask(port, "GET", f"{folder}/{way}")
    assert answer.status in {307, 400, 404, 405}
    assert b"root:" not in text


@pytest.mark.parametrize(("path", "field"), FORMS)
@pytest.mark.parametrize("data", [RED_CIRCLE, TEXT])
def test_script_in_a_file_name_is_never_a_page(port: int, path: str, field: str, data: bytes) -> None:
    answer, text = send(port, path, form_of(field, [(SCRIPT, data)]))
    assert answer.status < 500 or answer.status == 503  # the default classifier is not on this machine
    assert answer.headers["content-type"].split(";")[0] in {"application/json", "text/plain"}
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "script-src" in answer.headers["content-security-policy"] or (
        "default-src 'none'" in answer.headers["content-security-policy"]
    )
    if path == "/predict/single" and data == RED_CIRCLE:
        told = json.loads(text)
        assert told["image"] == SCRIPT
        assert "<" not in told["image_url"] + told["prediction_file"]
