"""One URL from servers that err, lie, stall and mean harm."""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from clipmod_cli import __version__
from clipmod_cli.errors import is_retryable
from clipmod_cli.sources.web.addresses import AddressRules, FetchRules
from tests.urls.kit import PRIVATE, PUBLIC, Detour, Resolver, fail, fetch, fetch_all, guarded, picture
from tests.urls.server import (
    Answer,
    Server,
    broken,
    chunked,
    drip,
    endless,
    raw,
    reply,
)

SHORT = {"total_s": 0.6}
"""So that no test waits for long; the code must be right, not the time."""

MP4 = b"\0\0\0\x18ftypisom\0\0\0\0isomavc1" + bytes(5000)


def test_a_picture_comes_as_it_is(server: Server) -> None:
    body = fetch(server.on("/a", reply(body=picture(), content_type="text/html")))
    assert body.data == picture()
    assert (body.size, body.spilled, body.final_url) == (len(picture()), None, None)


def test_what_is_sent(server: Server) -> None:
    server.on("/%C3%A4%20b", reply(body=picture()))
    fetch(server.url("/ä b?q=é#part"), headers=(("X-Token", "s3cret"), ("user-agent", "mine")))
    (request,) = server.asked
    assert request.path == "/%C3%A4%20b?q=%C3%A9"
    assert request.headers["host"] == f"localhost:{server.port}"
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["x-token"] == "s3cret"
    assert request.headers["user-agent"] == "mine"
    assert not set(request.headers) & {"cookie", "authorization", "referer", "range"}


def test_the_user_agent_names_us(server: Server) -> None:
    fetch(server.on("/a", reply(body=picture())))
    assert server.asked[0].headers["user-agent"].startswith(f"clipmod/{__version__} ")


def test_cookies_are_not_kept(server: Server) -> None:
    url = server.on("/a", reply(body=picture(), set_cookie="id=1; Path=/"))
    fetch_all([url, url])
    assert all("cookie" not in request.headers for request in server.asked)


def test_connections_are_used_again(server: Server) -> None:
    url = server.on("/a", reply(body=picture()))
    server.on("/none", reply(404, b"none here"))
    server.on("/page", reply(body=b"<html>" + bytes(2000)))
    backend = Detour(server.port)
    urls = ["/a", "/none", "/page", "/a", "/a"]
    outcomes = fetch_all(
        [url.replace("localhost", "public.test").replace("/a", path) for path in urls],
        backend=guarded(PRIVATE, Resolver(public_test=[[PUBLIC]]), backend),
    )
    assert [getattr(outcome, "code", "ok") for outcome in outcomes] == [
        "ok",
        "http_error",
        "not_an_image",
        "ok",
        "ok",
    ]
    assert len(backend.connected) == 1


def test_a_connection_that_the_server_closed_meanwhile_is_not_a_fault(server: Server) -> None:
    def once(connection: Any) -> bool:
        reply(body=picture())(connection)
        return False

    url = server.on("/a", once)
    assert [getattr(outcome, "size", None) for outcome in fetch_all([url] * 3)] == [len(picture())] * 3


def test_nor_is_one_that_it_closes_at_the_next_request(server: Server) -> None:
    url = server.on("/a", reply(body=picture()))
    server.on("/b", raw(b""), reply(body=picture()))
    server.on("/c", raw(b""))
    first, second, third, fourth = fetch_all([url, server.url("/b"), server.url("/c"), server.url("/c")])
    assert [getattr(outcome, "size", None) for outcome in (first, second)] == [len(picture())] * 2
    assert [getattr(outcome, "code", None) for outcome in (third, fourth)] == ["read_error"] * 2
    assert server.paths() == ["/a", "/b", "/b", "/c", "/c", "/c"]


@pytest.mark.parametrize(
    ("status", "again", "retryable"),
    [(201, False, False), (202, False, False), (204, False, False), (206, False, False), (300, False, False),
     (304, False, False), (301, False, False), (400, False, False), (401, False, False), (403, False, False),
     (404, False, False), (408, False, True), (410, False, False), (418, False, False), (425, False, True),
     (429, True, True), (500, True, True), (502, True, True), (503, True, True), (599, True, True),
     (699, False, False)],
)  # fmt: skip
def test_other_statuses_are_errors(server: Server, status: int, again: bool, retryable: bool) -> None:
    error = fail(server.on("/a", reply(status, picture())))
    assert (error.code, error.status, error.again) == ("http_error", status, again)
    assert is_retryable(error.code, error.status) == retryable
    assert str(status) in error.message


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("2", 2), ("100000", 60), ("-5", None), ("soon", None), ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
     ("Thu, 01 Jan 2970 00:00:00 GMT", 60), ("9" * 400, 60), ("1.5", None), ("", None), ("²", None)],
)  # fmt: skip
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after(server: Server, status: int, text: str, seconds: float | None) -> None:
    assert fail(server.on("/a", reply(status, retry_after=text))).retry_after_s == seconds


def test_retry_after_of_other_statuses_is_nobodys_business(server: Server) -> None:
    assert fail(server.on("/a", reply(500, retry_after="5"))).retry_after_s is None


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (reply(body=b""), "empty_file"),
        (chunked(), "empty_file"),
        (reply(body=b"<!doctype html><p>sign in", content_type="image/png"), "not_an_image"),
        (reply(body=b"<svg xmlns='http://www.w3.org/'/>", content_type="image/svg+xml"), "not_an_image"),
        (reply(body=b"%PDF-1.7"), "not_an_image"),
        (reply(body=b"PK\x03\x04" + bytes(99)), "not_an_image"),
        (reply(body=bytes(5000)), "not_an_image"),
        (reply(body=gzip.compress(picture()), content_encoding="gzip"), "not_an_image"),
        (reply(body=zlib.compress(picture()), content_encoding="deflate"), "not_an_image"),
        (reply(body=gzip.compress(bytes(20_000_000)), content_encoding="gzip"), "not_an_image"),
        (endless(b"", b"never a picture " * 4096), "not_an_image"),
        (reply(body=picture(), length=len(picture()) + 10), "read_error"),
        (chunked(picture()[:50], end=False), "read_error"),
        (broken(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + picture()[:100]), "read_error"),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n"), "read_error"),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n"), "read_error"),
        (raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n"), "read_error"),
        (raw(b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 300_000 + b"\r\n\r\n"), "read_error"),
        (raw(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 60_000 + b"\r\n"), "read_error"),
        (raw(b"SSH-2.0-OpenSSH_9.6\r\n"), "read_error"),
        (raw(b"\0" * 100), "read_error"),
        (raw(b""), "read_error"),
        (broken(b""), "read_error"),
        (raw(b"HTTP/1.1 200"), "read_error"),
    ],
)  # fmt: skip
def test_bad_answers(server: Server, answer: Answer, code: str) -> None:
    error = fail(server.on("/a", answer))
    assert error.code == code, error.message
    assert error.status is None
    assert "localhost" not in error.message
    assert "127.0.0.1" not in error.message


def test_the_message_tells_of_compression_and_of_types_but_quotes_no_nonsense(server: Server) -> None:
    page = b"<html>"
    assert "gzip" in fail(server.on("/a", reply(body=gzip.compress(page), content_encoding="gzip"))).message
    assert "text/html" in fail(server.on("/a", reply(body=page, content_type="text/html; charset=x"))).message
    for hostile in ("\x1b[31mred/x", "a" * 500 + "/b", "<script>/x"):
        message = fail(
            server.on("/a", reply(body=page, content_type=hostile, content_encoding=hostile))
        ).message
        assert hostile[:9] not in message


@pytest.mark.parametrize("chunk", [1, 7, 1023, 1024, 5000])
def test_a_picture_in_pieces_is_whole(server: Server, chunk: int) -> None:
    data = picture(64)
    parts = [data[at : at + chunk] for at in range(0, len(data), chunk)]
    assert fetch(server.on("/a", chunked(*parts))).data == data


def test_a_length_that_is_too_short_gives_so_much(server: Server) -> None:
    """The decoder then sees a truncated picture, which is never Safe without a review."""
    body = fetch(server.on("/a", reply(body=picture(), length=60)))
    assert body.data == picture()[:60]


@pytest.mark.parametrize("size", [999, 1000, 1001, 20_000])
@pytest.mark.parametrize("told", [True, False])
def test_the_limit_of_bytes(server: Server, size: int, told: bool) -> None:
    data = picture().ljust(size, b"\0")
    url = server.on("/a", reply(body=data) if told else chunked(data))
    if size <= 1000:
        assert fetch(url, max_bytes=1000).data == data
    else:
        assert fail(url, max_bytes=1000).code == "download_too_large"


def test_a_download_without_end_is_cut_off(server: Server) -> None:
    url = server.on("/a", endless(picture(), bytes(65536)))
    assert fail(url, max_bytes=2_000_000).code == "download_too_large"


def test_a_length_beyond_the_limit_is_believed_before_anything_is_read(server: Server) -> None:
    url = server.on("/a", reply(body=picture(), length=50_000_001))
    assert fail(url).code == "download_too_large"


@pytest.mark.parametrize(
    "answer",
    [
        drip(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + bytes(5000), 0.05),
        drip(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 500, 0.05),
        drip(b"HTTP/1.1 100 Continue\r\n\r\n" * 99, 0.01),
        drip((b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + picture())[:100] + bytes(5000), 0.01),
    ],
    ids=["body", "headers", "continue", "picture"],
)
def test_drips_outlive_no_total(server: Server, answer: Answer) -> None:
    assert fail(server.on("/a", answer), **SHORT).code == "timeout"


def test_drips_over_redirects_outlive_no_total_either(server: Server) -> None:
    slow = drip(b"HTTP/1.1 302 X\r\nContent-Length: 0\r\nLocation: /a\r\n\r\n", 0.01)
    assert fail(server.on("/a", slow), **SHORT).code == "timeout"
    assert len(server.asked) < 4


def test_silence(server: Server) -> None:
    silent = drip(b"HTTP", 2)
    error = fail(server.on("/a", silent), read_s=0.2)
    assert (error.code, error.again) == ("timeout", False)


def test_a_server_that_never_shakes_hands(server: Server) -> None:
    """Plain HTTP where TLS was wanted, and then nothing."""
    error = fail(server.url("/a").replace("http:", "https:"), connect_s=0.3)
    assert error.code in ("timeout", "tls_error")


def test_tls_with_nobody_we_trust(secure: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    import ssl

    from tests.urls import kit

    monkeypatch.setattr(kit, "trusting", ssl.create_default_context)
    error = fail(secure.on("/a", reply(body=picture())))
    assert (error.code, error.again) == ("tls_error", False)
    assert "certificate" in error.message


def test_a_reset_within_tls_is_a_broken_connection(secure: Server) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"
    assert fail(secure.on("/a", broken(head + picture()[:100]))).code == "read_error"


def test_nobody_listens() -> None:
    error = fail("http://127.0.0.1:1/a")
    assert (error.code, error.again) == ("connect_error", True)
    assert "refused" in error.message


@pytest.mark.parametrize(
    ("answer", "again"),
    [
        (raw(b""), True),
        (broken(b""), True),
        (raw(b"SSH-2.0\r\n\r\n"), False),
        (broken(b"HTTP/1.1 200 OK\r\n\r\nx"), False),
    ],
)
def test_only_what_failed_before_the_answer_is_tried_again(
    server: Server, answer: Answer, again: bool
) -> None:
    assert fail(server.on("/a", answer)).again == again


def test_a_video_goes_to_a_file(server: Server) -> None:
    body = fetch(server.on("/a", reply(body=MP4)), max_bytes=1000)
    assert body.data is None
    assert body.spilled is not None
    assert (Path(body.spilled).read_bytes(), body.size) == (MP4, len(MP4))
    Path(body.spilled).unlink()


@pytest.mark.parametrize(
    ("answer", "rules", "code"),
    [
        (reply(body=MP4), {"video_bytes": 4000}, "download_too_large"),
        (chunked(MP4[:3000], MP4[3000:]), {"video_bytes": 4000}, "download_too_large"),
        (endless(MP4, bytes(65536)), {"video_bytes": 1_000_000}, "download_too_large"),
        (reply(body=MP4, length=9999), {}, "read_error"),
        (drip(b"HTTP/1.1 200 OK\r\n\r\n" + MP4, 0.001), {"video_s": 0.1, "max_bytes": 1000}, "timeout"),
    ],
)
def test_videos_have_limits_too_and_leave_nothing(
    server: Server,
    answer: Answer,
    rules: dict[str, Any],
    code: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert fail(server.on("/a", answer), **rules).code == code
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_full_disk_is_our_fault(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    error = fail(server.on("/a", reply(body=MP4)))
    assert error.code == "internal_error"
    assert "temporary folder" in error.message


def test_every_format_of_pictures_is_taken(server: Server) -> None:
    for name in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"):
        buffer = io.BytesIO()
        Image.new("RGB", (16, 16), "red").save(buffer, name)
        assert fetch(server.on("/a", reply(body=buffer.getvalue()))).data == buffer.getvalue()


def test_invalid_urls_are_asked_of_nobody(server: Server) -> None:
    bad = [server.url("/").replace("//", "//user:pw@"), "file:///etc/passwd", "x", ""]
    assert {getattr(outcome, "code", None) for outcome in fetch_all(bad)} == {"invalid_url"}
    assert server.asked == []


def test_secrets_are_not_shown() -> None:
    assert "s3cret" not in repr(FetchRules(access=AddressRules(), headers=(("Authorization", "s3cret"),)))
