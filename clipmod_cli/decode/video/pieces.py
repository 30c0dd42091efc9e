"""Whether the pieces (packets, pages, chunks) of a video file follow each other without a hole, to its end.

FFmpeg skips damaged pieces and plays a truncated file without an error. So pieces are walked here by their
headers: each must begin where the one before it ends, the last must be whole, and the file as long as it
declares. A stream that declares no length (MPEG-TS, MPEG-PS) and was cut between two packets cannot be
distinguished from a shorter one. Containers without a list of streams at their begin can have one that begins
later, which players show and FFmpeg's caller is not told of: the walks note these too. Decodes nothing.
"""

from __future__ import annotations

import math
import os
import re
import struct
import zlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.decode.formats import ASF_DATA, OGG_PICTURES, packet_layout
from clipmod_cli.decode.reading.boxes import is_box_type

_CHUNK_BYTES = 1 << 16
"""Read at once; frames are often smaller, so most headers are in the chunk of the one before."""


class PieceError(Exception):
    """A piece is missing or not whole."""


class Pieces(NamedTuple):
    """What a walk found: whether pieces are missing or damaged, and the IDs of streams of pictures.

    Only a transport or program stream has IDs; `LATE` stands for any that begins behind others' pictures.
    """

    has_hole: bool
    streams: frozenset[int] = frozenset()


LATE = -1


class FileChunks:
    """The bytes of a file, read in chunks.

    Attributes:
        streams: IDs of streams of pictures that the walk found.
    """

    def __init__(self, descriptor: int, length: int, check: Callable[[], None]) -> None:
        """Read from `descriptor`; `check` is called for each chunk, and may raise."""
        self.length = length
        self.streams: set[int] = set()
        self._descriptor, self._check = descriptor, check
        self._start, self._chunk = 0, b""

    def read(self, at: int, count: int) -> bytes:
        """Return `count` bytes; raises PieceError where the file does not have them."""
        offset = at - self._start
        if offset < 0 or offset + count > len(self._chunk):
            self._check()
            self._chunk = os.pread(self._descriptor, max(_CHUNK_BYTES, count), at)
            self._start, offset = at, 0
        if offset + count > len(self._chunk):
            raise PieceError
        return self._chunk[offset : offset + count]

    def skip(self, end: int) -> int:
        """Return where a piece ends; raises PieceError if the file ends before it."""
        if end > self.length:
            raise PieceError
        return end


def walk_pieces(descriptor: int, name: str, length: int, check: Callable[[], None]) -> Pieces:
    """Return what a walk through the file of `length` bytes finds."""
    pages = FileChunks(descriptor, length, check)
    try:
        if walk := _WALKS.get(name):
            walk(pages)
    except PieceError:
        return Pieces(has_hole=True)
    return Pieces(has_hole=False, streams=frozenset(pages.streams))


_MOST_BOXES = 10_000
"""Top-level boxes of an MP4 that are walked; a fragmented film of hours has fewer."""


def _walk_iso_media(pages: FileChunks) -> None:
    """Walk top-level boxes (ISO/IEC 14496-12, 4.2); the index of an MP4 says where each frame lies."""
    at, indexed = 0, False
    for _ in range(_MOST_BOXES):
        if at >= pages.length:
            return
        head = pages.read(at, min(16, pages.length - at))
        if indexed and not is_box_type(head[4:8]):
            return  # bytes behind the last box do not belong to it
        indexed = indexed or head[4:8] == b"moov"
        size = int.from_bytes(head[:4], "big")
        if size == 0:  # to the end of the file
            return
        if size == 1:
            size = int.from_bytes(head[8:16], "big")
        if size < 8 or len(head) < 8:
            raise PieceError
        at = pages.skip(at + size)


_EBML, _SEGMENT, _CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675
_MATROSKA_PIECES = frozenset(
    {0xEC, 0xBF}  # Void, CRC-32
    | {0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367}
    | {0xE7, 0x5854, 0xA7, 0xAB, 0xA3, 0xA0, 0xAF}
)
"""What a segment holds beside clusters, and what a cluster holds (RFC 9559, 5.1)."""

_MATROSKA_STARTS = frozenset({0x1A, 0x18, 0xEC})
"""How a header, a segment or a void begins: what stands outside of segments."""


def _walk_matroska(pages: FileChunks) -> None:
    at, ends, is_segment_over = 0, [pages.length], False
    while at < ends[-1]:
        if is_segment_over and pages.read(at, 1)[0] not in _MATROSKA_STARTS:
            return  # bytes after the segment do not belong to it
        ident, body, size = _element(pages, at)
        if ident in {_SEGMENT, _CLUSTER}:
            at = body
            ends.append(ends[-1] if size is None else pages.skip(body + size))  # unknown in a live stream
        elif size is not None and (ident in _MATROSKA_PIECES or (ident == _EBML and len(ends) == 1)):
            at = pages.skip(body + size)
        else:
            raise PieceError
        while len(ends) > 1 and at == ends[-1]:
            ends.pop()
            is_segment_over = len(ends) == 1
        if at > ends[-1]:
            raise PieceError


def _element(pages: FileChunks, at: int) -> tuple[int, int, int | None]:
    """Return an element's (ID, start of its body, size of it or None where it is unknown) (RFC 8794, 4-6)."""
    first = pages.read(at, 1)[0]
    wide = 9 - first.bit_length()
    ident = int.from_bytes(pages.read(at, wide), "big") if wide <= 4 else 0
    at += wide
    first = pages.read(at, 1)[0]
    wide = 9 - first.bit_length()
    if not ident or not first:
        raise PieceError
    size = int.from_bytes(pages.read(at, wide), "big") - (1 << 7 * wide)
    return ident, at + wide, None if size == (1 << 7 * wide) - 1 else size


_FLV_TAG_BYTES = 11
_FLV_VIDEO = 9
_FLV_TAGS = frozenset({8, _FLV_VIDEO, 18})
"""Sound, pictures, data (FLV 10.1, E.4.1)."""

_FLV_HEAD_BYTES = 16_384
_FLV_FILE_SIZE = b"\0\x08filesize\0"


def _walk_flv(pages: FileChunks) -> None:
    """Walk tags; the first one's data may declare the file's size (FLV 10.1, E.5: AMF0 numbers)."""
    head = pages.read(0, min(_FLV_HEAD_BYTES, pages.length))
    number = head.partition(_FLV_FILE_SIZE)[2][:8]
    declared_end = struct.unpack(">d", number)[0] if len(number) == 8 else 0.0
    if math.isfinite(declared_end) and declared_end > pages.length:
        raise PieceError
    at = int.from_bytes(pages.read(5, 4), "big") + 4
    codecs: set[bytes] = set()
    while at < pages.length:
        head = pages.read(at, _FLV_TAG_BYTES)
        size = int.from_bytes(head[1:4], "big")
        if head[0] == _FLV_VIDEO and size:
            codecs.add(_flv_codec(pages.read(at + _FLV_TAG_BYTES, min(size, 5))))
            pages.streams |= {LATE} if len(codecs) > 1 else set()
        if head[0] & 0x1F not in _FLV_TAGS:
            raise PieceError
        at += _FLV_TAG_BYTES + size
        declared = int.from_bytes(pages.read(at, 4), "big")
        if declared not in {size + _FLV_TAG_BYTES, size + _FLV_TAG_BYTES - 1, size}:  # some writers miscount
            raise PieceError
        at += 4


def _flv_codec(body: bytes) -> bytes:
    """Return what the pictures of a tag are coded by: a number, or four letters (Enhanced RTMP v2)."""
    return body[1:5] if body[0] & 0x80 else bytes((body[0] & 0x0F,))


_PACK, _END = 0xBA, 0xB9
_FIRST_STREAM = 0xBB
_FIRST_PICTURES, _LAST_PICTURES = 0xE0, 0xEF
_PS_STREAM = 0x100
"""What FFmpeg adds to the number of a program stream's packets for the ID of their stream."""


def _walk_program_stream(pages: FileChunks) -> None:
    """Walk packs and packets (ISO/IEC 13818-1, 2.5.3; ISO/IEC 11172-1, 2.4.3)."""
    at = 0
    while at < pages.length:
        head = pages.read(at, 4)
        if head[:3] != b"\0\0\x01":
            if any(pages.read(at, min(pages.length - at, _CHUNK_BYTES))):
                raise PieceError
            return  # a disc's last sector is filled up
        if head[3] == _PACK:
            second = pages.read(at + 4, 1)[0] >> 6 == 1  # of MPEG-2
            at += 14 + (pages.read(at + 13, 1)[0] & 7) if second else 12
        elif head[3] == _END:
            at += 4
        elif head[3] >= _FIRST_STREAM:
            if _FIRST_PICTURES <= head[3] <= _LAST_PICTURES:
                pages.streams.add(_PS_STREAM + head[3])
            at += 6 + int.from_bytes(pages.read(at + 4, 2), "big")
        else:
            raise PieceError
        pages.skip(at)


_TS_SYNC, _TS_BYTES = 0x47, 188


def _walk_transport_stream(pages: FileChunks) -> None:
    """Look at each packet's first byte; FFmpeg itself counts the packets (ISO/IEC 13818-1, 2.4.3)."""
    head = pages.read(0, min(pages.length, 1024))
    size, offset = packet_layout(head) or (188, 0)
    block = size * (_CHUNK_BYTES // size)
    at = 0
    while at < pages.length:
        packets = pages.read(at, min(block, pages.length - at))
        at += len(packets)
        syncs = packets[offset::size]
        if syncs.count(_TS_SYNC) != len(syncs) or len(packets) % size:
            raise PieceError
        rows = np.frombuffer(packets, np.uint8).reshape(-1, size)
        pages.streams |= _picture_pids(rows[:, offset : offset + _TS_BYTES])


def _picture_pids(packets: NDArray[np.uint8]) -> set[int]:
    """Return the PIDs of packets `(n, 188)` in which a picture begins (ISO/IEC 13818-1, 2.4.3)."""
    begins = packets[packets[:, 1] & 0x40 > 0]
    adaptation = begins[:, 4].astype(np.int64) + 1
    at = 4 + np.where(begins[:, 3] & 0x20, adaptation, 0)
    begins, at = begins[at <= _TS_BYTES - 4], at[at <= _TS_BYTES - 4]
    head = begins[np.arange(len(begins))[:, None], at[:, None] + np.arange(4)]
    shows = (head[:, :3] == (0, 0, 1)).all(axis=1) & (head[:, 3] >> 4 == _FIRST_PICTURES >> 4)
    pids = (begins[:, 1].astype(np.int64) & 0x1F) << 8 | begins[:, 2]
    return {int(pid) for pid in np.unique(pids[shows])}


_RIFF_LISTS = frozenset({b"movi", b"rec "})
_RIFF_HEADS = frozenset({b"AVI ", b"AVIX"})
_RIFF_NAME = re.compile(rb"[0-9A-Za-z]{3}[0-9A-Za-z ]")


def _walk_avi(pages: FileChunks) -> None:
    """Walk chunks; those with frames lie in lists within lists (AVI RIFF file reference)."""
    at = 0
    while at + 8 <= pages.length:
        head = pages.read(at, 8)
        name, size = head[:4], int.from_bytes(head[4:], "little")
        within = name in {b"RIFF", b"LIST"} and pages.read(at + 8, 4) in _RIFF_LISTS | _RIFF_HEADS
        if not _RIFF_NAME.fullmatch(name) or (at == 0 and size + 8 > pages.length):
            raise PieceError
        at += 12 if within else pages.skip(at + 8 + size) - at
        at += 0 if within else size & 1


_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_DATA_HEAD_BYTES = 50
_ASF_PACKET = b"\x82\0\0"
"""Error correction data of two bytes, as every writer begins a packet."""


def _walk_asf(pages: FileChunks) -> None:
    """Look at the begin of each data packet; all are of one size (ASF specification 1.20.03, 3.2 and 5)."""
    at = int.from_bytes(pages.read(16, 8), "little")
    head = pages.read(0, min(at, _CHUNK_BYTES, pages.length))
    properties = head.partition(_ASF_PROPERTIES)[2]  # of their object: from its byte 16 on
    size = int.from_bytes(properties[76:80], "little")
    data = pages.read(at, _ASF_DATA_HEAD_BYTES)
    if not size or data[:16] != ASF_DATA:
        raise PieceError
    if not properties[72] & 1:  # not a live stream, so it declares the file's size
        pages.skip(int.from_bytes(properties[24:32], "little"))
    at += _ASF_DATA_HEAD_BYTES
    for number in range(int.from_bytes(data[40:48], "little")):
        if pages.read(at + number * size, len(_ASF_PACKET)) != _ASF_PACKET:
            raise PieceError
        pages.skip(at + (number + 1) * size)


_OGG_HEAD_BYTES = 27
_OGG_BEGINS, _OGG_ENDS = 2, 4
_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))


def _walk_ogg(pages: FileChunks) -> None:
    """Walk pages: each stream counts its own and marks the last one (RFC 3533, 6)."""
    at = 0
    following: dict[bytes, int | None] = {}  # by stream; None once it has ended
    are_begun = False
    while at < pages.length:
        head = pages.read(at, _OGG_HEAD_BYTES)
        sizes = pages.read(at + _OGG_HEAD_BYTES, head[26])
        page = pages.read(at, _OGG_HEAD_BYTES + len(sizes) + sum(sizes))
        stream, number = head[14:18], int.from_bytes(head[18:22], "little")
        if head[:4] != b"OggS" or following.get(stream, number) != number or not _checksum_is_right(page):
            raise PieceError
        is_first = bool(head[5] & _OGG_BEGINS)
        are_begun = are_begun or not is_first
        if is_first and are_begun and any(mark in page for mark in OGG_PICTURES):
            pages.streams.add(LATE)
        following[stream] = None if head[5] & _OGG_ENDS else number + 1
        at += len(page)
    if any(number is not None for number in following.values()):
        raise PieceError


def _checksum_is_right(page: bytes) -> bool:
    """Return whether an Ogg page has its checksum: CRC-32 with the bits the other way round than zlib's."""
    told = page[22:26]
    bare = (page[:22] + bytes(4) + page[26:]).translate(_REVERSED)
    return (zlib.crc32(bare, 0xFFFFFFFF) ^ 0xFFFFFFFF).to_bytes(4, "big").translate(_REVERSED) == told


_WALKS: dict[str, Callable[[FileChunks], None]] = {
    "MP4": _walk_iso_media,
    "MOV": _walk_iso_media,
    "MATROSKA": _walk_matroska,
    "FLV": _walk_flv,
    "MPEG-PS": _walk_program_stream,
    "MPEG-TS": _walk_transport_stream,
    "AVI": _walk_avi,
    "ASF": _walk_asf,
    "OGG": _walk_ogg,
}
