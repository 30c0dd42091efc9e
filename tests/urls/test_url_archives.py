"""Archives by URL: what is in them comes in their place, within their limits, and leaves no file behind."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clipmod_cli.sources.base import Skipped
from clipmod_cli.sources.web.downloads import unpack
from clipmod_cli.types import Failure, Item
from tests.archives.making import COMPRESS, GIF, TEXT, make_tar, make_zip, picture
from tests.urls.server import Server, chunked, redirect, reply
from tests.urls.test_fetch import MP4
from tests.urls.test_urls import QUICK, code_of, downloads, item_of, items

SEVEN_ZIP = b"7z\xbc\xaf\x27\x1c" + bytes(40)
TWO = [("a.gif", picture(1)), ("b.txt", TEXT), ("c.pdf", b"%PDF-1.7"), (".d.gif", picture(2))]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def go(urls: Iterable[str], skipped: Skipped | None = None, **rules: int) -> list[Item | Failure]:
    """Return what URLs give, their archives unpacked."""
    line = downloads(items(urls), QUICK, archives=True, **rules)
    return list(unpack(line, skipped or Skipped()))


def key(result: Item | Failure) -> tuple[int, str | None, str]:
    """Return (index, member, code)."""
    item = item_of(result)
    return item.index, item.member, code_of(result)


@pytest.mark.parametrize(
    "data",
    [make_zip(TWO), make_tar(TWO), *(pack(make_tar(TWO)) for pack in COMPRESS.values())],
    ids=["zip", "tar", *COMPRESS],
)
def test_members_come_in_the_archives_place(server: Server, folder: Path, data: bytes) -> None:
    url, skipped = server.on("/x", reply(body=data, content_type="text/plain")), Skipped()
    results = go([url], skipped)
    assert [key(one) for one in results] == [(0, "a.gif", "ok"), (0, ".d.gif", "ok")]
    assert [one.data for one in results if isinstance(one, Item)] == [picture(1), picture(2)]
    assert {item_of(one).source for one in results} == {url}
    assert {item_of(one).spilled for one in results} == {None}
    assert skipped.reasons == {"other type": 1, "document": 1}
    assert files_in(folder) == []


def test_others_come_as_they_are(server: Server) -> None:
    archive = server.on("/x", chunked(make_zip(TWO)))
    urls = [server.on("/gif", reply(body=GIF)), archive, server.on("/none", reply(404)), archive]
    results = go([*urls, server.on("/film", reply(body=MP4))])
    assert sorted(key(one) for one in results if item_of(one).member is None) == [
        (0, None, "ok"), (2, None, "http_error"), (4, None, "ok")
    ]  # fmt: skip
    members = [(n, name, "ok") for n in (1, 3) for name in (".d.gif", "a.gif")]
    assert sorted(key(one) for one in results if item_of(one).member) == members
    (film,) = [one for one in results if isinstance(one, Item) and one.spilled]
    assert film.spilled is not None
    assert Path(film.spilled).read_bytes() == MP4
    Path(film.spilled).unlink()


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/photo.gif.gz", "photo.gif"),
        ("/a/ph%C3%B6to.gif.gz?size=3", "phöto.gif"),
        ("/photo", "photo"),
        ("/", "content"),
    ],
)
def test_what_a_compressed_file_holds_is_named_by_the_url(server: Server, path: str, name: str) -> None:
    server.on(path.partition("?")[0], reply(body=gzip.compress(GIF)))
    assert [key(one) for one in go([server.url(path)])] == [(0, name, "ok")]


def test_members_tell_where_redirects_led(server: Server) -> None:
    end = server.on("/end", reply(body=make_zip(TWO)))
    results = go([server.on("/here", redirect("/end"))])
    assert {item_of(one).final_url for one in results} == {end}


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        (make_zip([]), [(None, "archive_error")]),
        (make_zip([("a.txt", TEXT)]), [(None, "archive_error")]),
        (make_zip(TWO)[:60], [(None, "archive_error")]),
        (make_tar(TWO)[:1100], [("a.gif", "ok"), (None, "archive_error")]),
        (b"PK\x03\x04" + bytes(99), [(None, "archive_error")]),
        (gzip.compress(bytes(10_000_000)), [(None, "archive_error")]),
        (gzip.compress(GIF + bytes(90_000_000)), [("x", "archive_limit")]),
        (SEVEN_ZIP, [(None, "not_an_image")]),
        (make_zip([("a.7z", SEVEN_ZIP)]), [("a.7z", "not_an_image")]),
        (make_zip([("a.jpg", TEXT), ("b.gif", b"")]), [("a.jpg", "not_an_image"), ("b.gif", "ok")]),
    ],
)
def test_what_cannot_be_had_is_told(
    server: Server, folder: Path, data: bytes, keys: list[tuple[str | None, str]]
) -> None:
    results = go([server.on("/x", reply(body=data))])
    assert [key(one)[1:] for one in results] == keys
    assert files_in(folder) == []


def test_an_archive_that_is_too_large_is_not_kept(server: Server, folder: Path) -> None:
    url = server.on("/x", reply(body=make_zip([("a.gif", picture(1) + bytes(3000))], 0)))
    other = server.on("/y", chunked(make_zip([("a.gif", picture(1) + bytes(3000))], 0)))
    assert {code_of(one) for one in go([url, other], video_bytes=2000)} == {"download_too_large"}
    assert files_in(folder) == []


def test_what_a_server_has_packed_on_the_way_is_no_archive(server: Server) -> None:
    body = gzip.compress(make_tar(TWO))
    (result,) = go([server.on("/x", reply(body=body, content_encoding="gzip"))])
    assert isinstance(result, Failure)
    assert result.code == "not_an_image"
    assert "compressed (gzip)" in result.message


def test_archives_are_no_input_unless_somebody_unpacks_them(server: Server) -> None:
    results = list(downloads(items([server.on("/x", reply(body=make_zip(TWO)))])))
    assert [code_of(one) for one in results] == ["not_an_image"]


def test_leaving_in_the_midst_of_an_archive_leaves_no_file(server: Server, folder: Path) -> None:
    line = downloads(items([server.on("/x", reply(body=make_zip(TWO)))]), archives=True)
    results = unpack(line, Skipped())
    assert key(next(results))[1] == "a.gif"
    results.close()  # type: ignore[attr-defined]
    line.close()
    assert files_in(folder) == []


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(counts=st.lists(st.integers(0, 3), max_size=6))
def test_law_each_url_gives_its_members_or_one_failure(server: Server, counts: list[int]) -> None:
    urls = []
    for number, count in enumerate(counts):
        data = make_zip([(f"{name}.gif", picture(name)) for name in range(count)])
        urls.append(server.on(f"/{number}", reply(body=data)))
    found = sorted(key(one) for one in go(urls) if code_of(one) == "ok")
    lost = sorted(key(one) for one in go(urls) if code_of(one) != "ok")
    assert found == [(n, f"{name}.gif", "ok") for n, count in enumerate(counts) for name in range(count)]
    assert lost == [(n, None, "archive_error") for n, count in enumerate(counts) if not count]
