"""What a request may bring: too much is refused with 413 while it comes, and a full service at once."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from clipmod_cli.server.configuration import MB
from clipmod_cli.settings.reading import Resolved
from tests.server.classifier.making import only_tiny, png
from tests.server.conftest import client_of, opened

BOUNDARY = "xxxx"


@pytest.fixture(scope="module")
def resolved(tmp_path_factory: pytest.TempPathFactory, allowed: tuple[str, ...]) -> Iterator[Resolved]:
    """Settings with small limits."""
    limits = {"max_image_mb": 1, "max_video_mb": 2, "max_multi_mb": 2, "max_requests": 2}
    with pytest.MonkeyPatch.context() as patch:
        yield only_tiny(tmp_path_factory.mktemp("home"), patch, classifier=allowed, **limits)


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/api/image-classification", "file"),
        ("/api/image-query-classification", "file"),
        ("/api/multi-image-classification", "files"),
        ("/api/multi-image-query-classification", "files"),
        ("/api/video-classification", "file"),
        ("/classify/", "image"),
    ],
)
@pytest.mark.parametrize("declared", [True, False])
def test_too_much_is_413_with_a_detail(client: TestClient, path: str, field: str, declared: bool) -> None:
    body = _form(field, b"\0" * (3 * MB))
    pieces = (body[at : at + 100_000] for at in range(0, len(body), 100_000))
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    answer = client.post(path, content=body if declared else pieces, headers=headers)
    assert answer.status_code == 413, answer.text
    assert "limit of" in answer.json()["detail"]


def test_one_large_picture_among_many_is_named(client: TestClient) -> None:
    sent = [("files", ("small.png", png("red"))), ("files", ("large.png", png("red") + b"\0" * MB))]
    answer = client.post("/api/multi-image-classification", files=sent)
    assert answer.status_code == 413
    assert answer.json()["detail"].startswith("large.png")


def test_thousands_of_parts_are_refused(client: TestClient) -> None:
    sent = [("files", (f"{number}.png", b"x")) for number in range(2000)]
    answer = client.post("/api/multi-image-classification", files=sent)
    assert answer.status_code == 400
    assert answer.json().keys() == {"detail"}


def test_a_full_service_says_so(resolved: Resolved) -> None:
    with opened(resolved) as service, client_of(service, resolved) as client:
        with service.load.one(), service.load.one():
            answer = client.post("/api/image-classification", files={"file": ("a.png", png("red"))})
        assert answer.status_code == 503
        assert answer.headers["Retry-After"]
        assert client.post("/api/image-classification", files={"file": ("a.png", png("red"))}).is_success


def _form(field: str, data: bytes) -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="a.bin"\r\n\r\n'
    return head.encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()


def test_a_name_never_becomes_a_path(client: TestClient, tmp_path: Path) -> None:
    named = f"{tmp_path}/../../../etc/passwd"
    answer = client.post("/api/image-classification", files={"file": (named, b"not a picture")})
    assert answer.status_code == 400
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/api/image-classification", "file"),
        ("/api/image-query-classification", "file"),
        ("/api/multi-image-classification", "files"),
        ("/api/multi-image-query-classification", "files"),
        ("/api/video-classification", "file"),
        ("/classify/", "image"),
    ],
)
def test_a_file_that_would_be_passed_over_refuses_the_request(
    client: TestClient, path: str, field: str
) -> None:
    blue, red = (field, ("blue.png", png("blue"))), ("red.png", png("red"))
    strays: list[tuple[str, tuple[str | None, bytes]]] = [("picture", red), (field, (None, b"red"))]
    if field != "files":
        strays.append((field, red))
    for stray in strays:
        answer = client.post(path, files=[stray, blue])
        assert answer.status_code == 400, answer.text
        assert repr(stray[0]) in answer.json()["detail"]


@pytest.mark.parametrize(("path", "field"), [("/api/image-classification", "file"), ("/classify/", "image")])
def test_a_full_temporary_folder_is_not_the_callers_fault(
    client: TestClient, path: str, field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_file: object, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "write", full)
    answer = client.post(path, files={field: ("red.png", png("red"))})
    assert (answer.status_code, "room" in answer.json()["detail"]) == (507, True)
