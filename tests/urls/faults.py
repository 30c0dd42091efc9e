"""A list of URLs of which so many have each kind of fault, and what must become of each.

The end-to-end test and `benchmarks.urls` ask the same list. Everything is on loopback; each port of it
counts as a host of its own.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import socket
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from tests.urls.server import (
    Answer,
    Server,
    broken,
    chunked,
    drip,
    endless,
    raw,
    redirect,
    reply,
)

SAMPLES = Path(__file__).parent.parent.parent / "sample_images"
PHOTOGRAPHS = ("astronaut.jpg", "cat.png", "color-chart.png")
SIZE = (500, 375)
QUALITY = 85

DRIP_S = 0.2
"""Between two bytes of a picture: each comes well within the time for the next bytes, all of them never."""

TOO_LARGE = 60_000_000
"""Over the limit of 50 MB."""

BOMB_BYTES = 30_000_000
"""Of zeros: 30 KB when compressed."""

PART = bytes(1 << 18)


@dataclass(frozen=True, slots=True)
class Asked:
    """A URL, and what must become of it.

    Attributes:
        kind: what is wrong with it; `fine` if nothing is.
        code: that of its error, `ok` if it is judged.
        status: that of the answer, if the record has to have one.
        truncated: the picture must be told to be cut.
        member: the name in the archive that the URL gives.
    """

    url: str
    kind: str
    code: str
    status: int | None = None
    truncated: bool = False
    member: str | None = None


@dataclass(frozen=True, slots=True)
class Kind:
    """What is wrong: the server's answers, or a URL that no server of ours is asked for.

    Attributes:
        answers: of a path, by its number; None where `url` says it all.
        url: by its number and the server's own URL of that path.
    """

    code: str
    answers: Callable[[int], Sequence[Answer]] | None = None
    url: Callable[[int, str], str] = lambda _, own: own
    status: int | None = None
    truncated: bool = False
    member: str | None = None


@cache
def _photographs() -> tuple[bytes, ...]:
    pictures = []
    for name in PHOTOGRAPHS:
        buffer = io.BytesIO()
        with Image.open(SAMPLES / name) as picture:
            picture.convert("RGB").resize(SIZE).save(buffer, "JPEG", quality=QUALITY)
        pictures.append(buffer.getvalue())
    return tuple(pictures)


def photograph(number: int) -> bytes:
    """Return a JPEG whose bytes no other number has: a comment holds it."""
    base = _photographs()[number % len(PHOTOGRAPHS)]
    comment = b"\xff\xfe\x00\x0a%08d" % number
    return base[:2] + comment + base[2:]


def _fine(number: int) -> Answer:
    """Answer with a photograph that is made when it is asked for."""

    def answer(connection: socket.socket) -> bool:
        return reply(body=photograph(number), content_type="image/jpeg")(connection)

    return answer


def _cut(body: bytes, declared: int) -> Answer:
    return reply(body=body, length=declared, content_type="image/jpeg")


@cache
def _zip(number: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("inside.jpg", photograph(number))
    return buffer.getvalue()


@cache
def _bomb() -> bytes:
    return gzip.compress(bytes(BOMB_BYTES))


KINDS: Mapping[str, Kind] = {
    "missing": Kind("http_error", lambda _: [reply(404, b"no such page")], status=404),
    "gone": Kind("http_error", lambda _: [reply(410)], status=410),
    "always_500": Kind("http_error", lambda _: [reply(500)], status=500),
    "503_then_fine": Kind("ok", lambda n: [reply(503), _fine(n)]),
    "429_then_fine": Kind("ok", lambda n: [reply(429, retry_after="1"), _fine(n)]),
    "reset": Kind("read_error", lambda n: [broken(b"HTTP/1.1 200 OK\r\n\r\n" + photograph(n)[:5000])]),
    "reset_at_once": Kind("read_error", lambda _: [broken(b"")]),
    "drip": Kind("timeout", lambda n: [drip(b"HTTP/1.1 200 OK\r\n\r\n" + photograph(n), DRIP_S)]),
    "length_too_long": Kind("read_error", lambda n: [_cut(photograph(n), 1_000_000)]),
    "length_too_short": Kind("ok", lambda n: [_cut(photograph(n), 9_000)], truncated=True),
    "cut_chunks": Kind("read_error", lambda n: [chunked(photograph(n)[:9_000], end=False)]),
    "cut_picture": Kind("ok", lambda n: [reply(body=photograph(n)[:9_000])], truncated=True),
    "encoded_bomb": Kind("not_an_image", lambda _: [reply(body=_bomb(), content_encoding="gzip")]),
    "bare_bomb": Kind("archive_error", lambda _: [reply(body=_bomb())]),
    "endless": Kind("download_too_large", lambda n: [endless(photograph(n), PART)]),
    "endless_headers": Kind("read_error", lambda _: [endless(b"X: ", b"x" * len(PART), in_body=False)]),
    "page_called_picture": Kind(
        "not_an_image", lambda _: [reply(body=b"<!DOCTYPE html><html>", content_type="image/jpeg")]
    ),
    "picture_called_page": Kind("ok", lambda n: [reply(body=photograph(n), content_type="text/html")]),
    "moved": Kind("ok", lambda n: [redirect(f"/fine/{n}")]),
    "loop": Kind("too_many_redirects", lambda n: [redirect(f"/loop/{n}")]),
    "to_the_cloud": Kind("blocked_address", lambda _: [redirect("http://169.254.169.254/latest/meta-data/")]),
    "to_a_file": Kind("invalid_url", lambda _: [redirect("file:///etc/passwd")]),
    "bad_url": Kind("invalid_url", url=lambda n, _: f"htp:/pictures/{n}.jpg"),
    "password": Kind("invalid_url", url=lambda n, _: f"http://me:secret@127.0.0.1/{n}"),
    "unknown_name": Kind("dns_error", url=lambda n, _: f"http://nowhere.invalid/{n}.jpg"),
    "nobody_listens": Kind("connect_error", url=lambda n, _: f"http://127.0.0.1:1/{n}.jpg"),
    "no_tls": Kind(
        "tls_error", lambda _: [reply(404)], url=lambda _, own: "https" + own.removeprefix("http")
    ),
    "too_large": Kind("download_too_large", lambda n: [_cut(photograph(n), TOO_LARGE)]),
    "empty": Kind("empty_file", lambda _: [reply(content_type="image/jpeg")]),
    "no_http": Kind("read_error", lambda _: [raw(b"220 mail.example.com ESMTP\r\n")]),
    "part": Kind("http_error", lambda n: [reply(206, photograph(n))], status=206),
    "no_pixels": Kind("decode_error", lambda n: [reply(body=photograph(n)[:200])]),
    "zip": Kind("ok", lambda n: [reply(body=_zip(n), content_type="application/zip")], member="inside.jpg"),
    "cut_zip": Kind("archive_error", lambda n: [reply(body=_zip(n)[:9_000])]),
}
"""By name. A picture that is cut is judged, but never without a person being told."""


def lay(servers: Sequence[Server], count: int, each: int) -> list[Asked]:
    """Let the servers answer for `count` URLs, `each` of them of every kind of fault; return them mixed.

    The order is the same each time.
    """
    kinds = [name for name in KINDS for _ in range(each)]
    kinds += ["fine"] * (count - len(kinds))
    random.Random(0).shuffle(kinds)
    asked = []
    for number, name in enumerate(kinds):
        server = servers[number % len(servers)]
        fine = server.on(f"/fine/{number}", _fine(number))
        asked.append(Asked(fine, name, "ok") if name == "fine" else _lay_fault(server, name, number))
    return asked


def _lay_fault(server: Server, name: str, number: int) -> Asked:
    kind = KINDS[name]
    path = f"/{name}/{number}"
    own = server.url(path, "127.0.0.1")
    if kind.answers is not None:
        server.on(path, *kind.answers(number))
    return Asked(kind.url(number, own), name, kind.code, kind.status, kind.truncated, kind.member)


def find_wrong(asked: Sequence[Asked], records: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield what is not as it must be: one record for each URL, with the right code and no other."""
    seen: Counter[int] = Counter()
    for record in records:
        seen[record["index"]] += 1
        one = asked[record["index"]]
        if (difference := _difference(one, record)) is not None:
            yield f"{one.kind}: {one.url}: {difference}"
    for index, one in enumerate(asked):
        if seen[index] != 1:
            yield f"{one.kind}: {one.url}: {seen[index]} records"


def _difference(one: Asked, record: Mapping[str, Any]) -> str | None:
    error = record["error"] or {}
    wanted = (one.url, one.code, one.status, one.truncated, one.member)
    found = (
        record["source"],
        error.get("code", "ok"),
        error.get("http_status"),
        bool(record["truncated"] and record["needs_review"]),
        record["member"],
    )
    decided = record["final_decision"] is not None
    if wanted == found and decided == (one.code == "ok"):
        return None
    return f"wanted {wanted[1:]}, found {json.dumps(found[1:])} and decision {record['final_decision']}"
