"""Videos made to hurt: no other file and no server is ever asked, limits hold, nothing is left behind."""

from __future__ import annotations

import http.server
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from clipmod_cli.decode.item import decode_item
from clipmod_cli.decode.limits import MAX_VIDEO_FRAMES, Coverage, DecodeLimits, DecodeOptions
from clipmod_cli.types import Failure, Frame, Geometry, Item
from tests.decode.pictures import CENTRE, media
from tests.video.films import RATE, WHOLE, is_red, lost, scene, seen, watch, write_film


@pytest.fixture
def canary() -> Iterator[tuple[str, list[str]]]:
    """A server's address, and the paths that it was asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *words: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def _atom(kind: bytes, body: bytes) -> bytes:
    return (len(body) + 8).to_bytes(4, "big") + kind + body


FTYP = _atom(b"ftyp", b"isom\0\0\2\0isomiso2mp41")


@pytest.mark.parametrize("disguise", [b"", FTYP, b"FLV\x01", b"\x1a\x45\xdf\xa3", b"\0\0\x01\xba"])
def test_no_playlist_is_followed(tmp_path: Path, canary: tuple[str, list[str]], disguise: bytes) -> None:
    address, asked = canary
    secret = write_film(tmp_path / "secret.mp4", scene(5))
    for target in (f"{address}/x.ts", str(secret)):
        scripts = [
            f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{target}\n#EXT-X-ENDLIST\n",
            f"ffconcat version 1.0\nfile '{target}'\n",
            f'<?xml version="1.0"?><MPD><BaseURL>{target}</BaseURL></MPD>',
            f"[playlist]\nFile1={target}\n",
        ]
        for number, script in enumerate(scripts):
            path = tmp_path / f"film{number}.mp4"
            path.write_bytes(disguise + script.encode())
            found = watch(path)
            assert isinstance(found[-1], Failure)
            assert len(found) == 1
            assert found[-1].code in {"unsupported_format", "video_error"}
    assert asked == []


@pytest.mark.parametrize("kind", [b"url ", b"alis", b"rsrc"])
def test_no_data_is_read_from_another_file(
    tmp_path: Path, canary: tuple[str, list[str]], kind: bytes
) -> None:
    address, asked = canary
    other = write_film(tmp_path / "other.mp4", scene(10, range(10)))
    data = write_film(tmp_path / "film.mp4", scene(10), container={"movflags": "+faststart"}).read_bytes()
    for target in (f"{address}/x.mp4", f"file:{other}", "other.mp4"):
        start = data.index(b"dref") - 4
        own = int.from_bytes(data[start : start + 4], "big")
        entry = _atom(kind, b"\0\0\0\0" + target.encode() + b"\0")
        reference = _atom(b"dref", b"\0\0\0\0\0\0\0\1" + entry)
        changed = data[:start] + reference + data[start + own :]
        for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
            at = changed.index(box) - 4
            size = int.from_bytes(changed[at : at + 4], "big") + len(reference) - own
            changed = changed[:at] + size.to_bytes(4, "big") + changed[at + 4 :]
        path = tmp_path / "referring.mp4"
        path.write_bytes(changed)
        assert not any(is_red(one) for one in watch(path) if isinstance(one, Frame))
    assert asked == []


def test_a_name_is_a_path_and_never_a_url(
    tmp_path: Path, canary: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, asked = canary
    film = write_film(tmp_path / "film.mp4", scene(5)).read_bytes()
    monkeypatch.chdir(tmp_path)
    for name in (address, "concat:film.mp4|film.mp4", "-", "pipe:0"):
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(film)
        item = Item(source=name, index=0)
        assert not isinstance(decode_item(item, [WHOLE], DecodeOptions(coverage=CENTRE))[-1], Failure)
    assert asked == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no FIFOs")
def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "film.mp4")
    assert lost(tmp_path / "film.mp4").code == "not_a_regular_file"
    assert lost(tmp_path).code == "not_a_regular_file"
    assert lost(tmp_path / "none.mp4").code == "not_found"


def test_limits_hold(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", scene(20))
    assert lost(film, limits=DecodeLimits(max_video_bytes=1000)).code == "file_too_large"
    assert lost(film, limits=DecodeLimits(max_video_side=95)).code == "too_many_pixels"
    slow = lost(film, limits=DecodeLimits(max_video_seconds=0))
    assert slow.code == "decode_timeout"
    assert slow.retryable
    assert seen(film, limits=DecodeLimits(max_file_bytes=1000)), "the limit of pictures is not that of videos"


def test_a_film_gives_at_most_1024_frames_and_says_what_was_left_out(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mkv", scene(1500, range(0, 1500, 2)), rate=1, gop=1)
    for frames in ("auto", "key", "dense", "fps=1"):
        found = seen(film, frames)
        assert len(found) == MAX_VIDEO_FRAMES
        assert (found[0].time_s, found[-1].time_s) == (0, 1499)
        assert media(found[0]).frames_total == 1500
        assert (media(found[0]).largest_gap_s or 0) <= 10
        assert media(found[0]).unseen == ("unsampled",)
    assert len(seen(film, "max=9")) == 9


def test_a_second_stream_of_pictures_cannot_hide(tmp_path: Path) -> None:
    import av

    path = tmp_path / "film.mkv"
    with av.open(str(path), "w") as film:
        streams = [film.add_stream("mpeg4", rate=RATE) for _ in range(2)]
        for stream in streams:
            stream.width, stream.height = 96, 64
            stream.bit_rate = 1_000_000
        for number in range(10):
            for stream, name in zip(streams, scene(2, [1]), strict=True):
                frame = av.VideoFrame.from_ndarray(np.asarray(name), format="rgb24")
                frame.pts = number
                film.mux(stream.encode(frame))
        for stream in streams:
            film.mux(stream.encode())
    assert any(is_red(frame) for frame in seen(path))


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_film(tmp_path / "film.mp4", scene(10)).read_bytes()
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    assert len(seen(data)) == 2
    assert lost(data[:2000]).code == "video_error"
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("whole", [True, False])
def test_a_download_is_read_from_its_own_file(tmp_path: Path, whole: bool) -> None:
    data = write_film(tmp_path / "film.mp4", scene(10)).read_bytes()
    spilled = tmp_path / "download"
    spilled.write_bytes(data if whole else data[:2000])
    item = Item(source="https://example.com/film", index=0, spilled=str(spilled))
    end = decode_item(item, [WHOLE], DecodeOptions(coverage=CENTRE))[-1]
    assert isinstance(end, Failure) != whole
    assert media(end).bytes == (len(data) if whole else 2000)
    assert media(end).mtime_ns is None


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = write_film(tmp_path / "film.mp4", scene(20), gop=5).read_bytes()
    watch(bytes([*data[:200], *bytes(400), *data[600:]]))
    watch(data[:-100])
    assert capfd.readouterr() == ("", "")


def test_a_film_that_tells_its_size_late_is_watched(tmp_path: Path) -> None:
    """Its header says 0 x 0, and half a minute passes before the first frame that can be decoded."""
    film = write_film(tmp_path / "film.avi", scene(400, [350]), gop=300)
    data = bytearray(film.read_bytes())
    for box, size_at in ((b"avih", 40), (b"strf", 12)):
        at = data.index(box) + size_at
        data[at : at + 8] = bytes(8)
    at = data.index(b"movi") + 4
    for _ in range(300):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        data[at + 8 : at + 8 + length] = bytes(length)
        at += 8 + length + length % 2
    film.write_bytes(data)
    square = Geometry(fit="shortest", size=(32, 32), crop=(32, 32))
    *found, end = watch(film, "auto", geometries=[square], coverage=Coverage())
    assert isinstance(end, Failure)
    assert "cannot be decoded" in end.message
    assert any(is_red(one) for one in found if isinstance(one, Frame))
