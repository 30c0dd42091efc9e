"""What is fuzzed: each target takes any bytes and fails if anything but what is promised comes of them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from clipmod_cli.decode.item import decode_item
from clipmod_cli.decode.limits import DecodeLimits, DecodeOptions
from clipmod_cli.decode.workers.child import write_result
from clipmod_cli.decode.workers.wire import read_result
from clipmod_cli.errors import ERROR_CODES, UsageError
from clipmod_cli.sources.archives.items import open_input, read_archive
from clipmod_cli.sources.archives.limits import ArchiveLimits
from clipmod_cli.sources.lists import read_urls
from clipmod_cli.sources.web.addresses import AddressRules, check_redirect, check_url, port_of
from clipmod_cli.sources.web.errors import FetchError
from clipmod_cli.types import Failure, Frame, Geometry, Item

GEOMETRY = Geometry(fit="squash", size=(8, 8), resample="lanczos")
"""Made without torch, which takes seconds to import."""

SMALL = DecodeLimits(
    max_pixels=250_000,
    max_header_pixels=1_000_000,
    max_walked_frames=50,
    max_seconds=5.0,
    max_video_seconds=5.0,
)
TIGHT = ArchiveLimits(
    max_entries=200, free_bytes=100_000, free_stream_bytes=1_000_000, max_total_bytes=5_000_000,
    max_member_bytes=1_000_000, max_seconds=5.0,
)  # fmt: skip
"""So that no input takes long: time is for many of them."""


@dataclass(frozen=True)
class Target:
    """Something that reads what strangers wrote.

    Attributes:
        feed: gives it the bytes; raises AssertionError, or what must never come.
        seeds: inputs to begin with.
        longest: in bytes.
    """

    feed: Callable[[bytes], None]
    seeds: Callable[[], Sequence[bytes]]
    longest: int


def feed_decoder(data: bytes) -> None:
    item = Item(source="fuzzed", index=0, data=data)
    options = DecodeOptions(limits=SMALL, heic=True)
    *before, end = decode_item(item, [GEOMETRY], options)
    assert all(isinstance(one, Frame) and not one.last for one in before)
    assert end.last
    for one in (*before, end):
        assert one.item is item
        if isinstance(one, Failure):
            assert one.code in ERROR_CODES, one.code
            assert one.code != "internal_error", one.message
        else:
            assert isinstance(one, Frame)
            assert one.inputs[GEOMETRY].shape == (8, 8, 3)


def feed_messages(data: bytes) -> None:
    header, *messages = data.split(b"\0\0\0")
    left = iter(messages)

    def receive(most: int) -> bytes:
        message = next(left, b"")
        return message.ljust(most, b"\1") if len(message) < most else message

    item = Item(source="fuzzed", index=0)
    try:
        result = read_result(header, receive, item, [GEOMETRY])
    except ValueError:
        return
    assert [one.last for one in result] == [*[False] * (len(result) - 1), True]
    assert all(one.inputs[GEOMETRY].shape == (8, 8, 3) for one in result if isinstance(one, Frame))


def feed_archives(data: bytes) -> None:
    with _written(data) as path:
        archive = open_input(path).archive
        if archive is None:
            return
        try:
            for one in read_archive(archive, limits=TIGHT):
                if one.error is not None:
                    assert one.error.code in ERROR_CODES, one.error.code
                    assert one.error.code != "internal_error", one.error.message
                else:
                    assert len(one.data) <= TIGHT.max_member_bytes
                assert one.name is None or "\0" not in one.name
        finally:
            archive.file.close()


def feed_addresses(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    assert AddressRules().allows(text) <= AddressRules(private=True).allows(text)
    here, _, location = text.partition("\n")
    url = _unless_refused(lambda: check_url(here), "invalid_url")
    if url is None:
        return
    assert url.scheme in {"http", "https"}
    assert not url.userinfo
    assert 0 < port_of(url) < 65536
    there = _unless_refused(lambda: check_redirect(url, location), "invalid_url", "blocked_address")
    if there is not None:
        assert not there.userinfo
        assert (url.scheme, there.scheme) != ("https", "http")


def _unless_refused(check: Callable[[], httpx2.URL], *codes: str) -> httpx2.URL | None:
    try:
        return check()
    except FetchError as e:
        if e.code not in codes:
            raise
    return None


def feed_lists(data: bytes) -> None:
    null = data[:1] == b"0"
    with _written(data[1:]) as path:
        try:
            urls = [one.url for one in read_urls([path], "url", null=null)]
        except UsageError:
            return
    assert all(url and url == url.strip() and not url.startswith("#") for url in urls)
    assert null or not any("\n" in url for url in urls)


@contextmanager
def _written(data: bytes) -> Iterator[str]:
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        yield file.name


def decoder_seeds() -> Sequence[bytes]:
    from tests.decode.samples import MOVING, STILLS
    from tests.decode.test_bombs import BOMBS
    from tests.decode.test_formats import KNOWN

    return [*STILLS.values(), *MOVING.values(), *BOMBS.values(), *KNOWN.values()]


def message_seeds() -> Sequence[bytes]:
    from tests.decode.samples import MOVING, STILLS

    seeds = []
    for data in (STILLS["PNG"], MOVING["GIF"], b"garbage"):
        sent: list[bytes] = []
        write_result(
            decode_item(Item(source="", index=0, data=data), [GEOMETRY], DecodeOptions()), sent.append
        )
        seeds.append(sent[0])
    return [*seeds, json.dumps({**json.loads(seeds[0]), "shared": True}).encode()]


def archive_seeds() -> Sequence[bytes]:
    from tests.archives.making import COMPRESS, ZIP_METHODS, make_tar, make_zip, picture
    from tests.archives.quines import gzip_quine, zip_quine
    from tests.archives.test_bombs import nest

    files = [("a.gif", picture(1)), ("b/c.gif", picture(2))]
    tars = [make_tar(files), make_tar([("é" * 200 + ".gif", picture(1))])]
    packed = [pack(tar) for pack in COMPRESS.values() for tar in tars[:1]]
    return [
        *(make_zip(files, method) for method in ZIP_METHODS),
        *tars,
        *packed,
        nest(3, 2),
        zip_quine(),
        gzip_quine(),
    ]


def address_seeds() -> Sequence[bytes]:
    return [
        b"https://example.org/a.jpg\n/b.jpg",
        b"http://user:word@example.org:8080/\nhttps://example.org",
        b"https://[::1]:443/\nhttp://127.0.0.1/",
        b"http://[fe80::1%25eth0]/",
        "https://bücher.example/\n//other.example".encode(),
        b"::ffff:127.0.0.1",
        b"64:ff9b::7f00:1",
        b"0x7f.1",
        b"10.0.0.1",
    ]


def list_seeds() -> Sequence[bytes]:
    return [
        b"1https://a.example/1.jpg\r\n# no\n\n  https://b.example \n",
        b"0https://a.example/1.jpg\0https://b.example/\n2\0",
        "1\ufeffhttps://a.example/\n".encode(),
        b"1\xff\xfe\n-\n",
    ]


TARGETS = {
    "decoder": Target(feed_decoder, decoder_seeds, 20_000),
    "messages": Target(feed_messages, message_seeds, 4_000),
    "archives": Target(feed_archives, archive_seeds, 20_000),
    "addresses": Target(feed_addresses, address_seeds, 300),
    "lists": Target(feed_lists, list_seeds, 1_000),
}


def write_seeds(target: Target, folder: Path) -> None:
    """Write the seeds of a target that are short enough, each as a file."""
    for number, seed in enumerate(target.seeds()):
        if len(seed) <= target.longest:
            (folder / f"seed-{number}").write_bytes(seed)
