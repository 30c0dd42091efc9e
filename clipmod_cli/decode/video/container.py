"""Whether a video file is as long as its headers say. Reads headers only.

FFmpeg plays a truncated file without an error. A stream without a declared length (MPEG-TS, MPEG-PS) that was
cut between two packets cannot be distinguished from a shorter one. Holes inside a file are found by `pieces`.
"""

from __future__ import annotations

import math
import os
import struct

_MOST_BOXES = 10_000
"""Top-level boxes of an MP4 that are walked; a fragmented film of hours has fewer."""

_SEGMENT = b"\x18\x53\x80\x67"
_EBML_HEAD_BYTES = 4096
_FLV_HEAD_BYTES = 16_384
_FLV_FILE_SIZE = b"\0\x08filesize\0"
_ASF_FILE_PROPERTIES = b"\xa1\xdc\xab\x8c\x47\xa9\xcf\x11\x8e\xe4\x00\xc0\x0c\x20\x53\x65"


def ends_early(descriptor: int, name: str, length: int) -> bool:
    """Return whether the file of `length` bytes ends before its container says it does."""
    match name:
        case "MP4" | "MOV":
            return _iso_media_end(descriptor, length) > length
        case "MATROSKA":
            return _matroska_end(os.pread(descriptor, _EBML_HEAD_BYTES, 0)) > length
        case "AVI":
            return int.from_bytes(os.pread(descriptor, 4, 4), "little") + 8 > length
        case "ASF":
            return _asf_end(os.pread(descriptor, _EBML_HEAD_BYTES, 0)) > length
        case "FLV":
            return _flv_end(os.pread(descriptor, _FLV_HEAD_BYTES, 0)) > length
        case _:
            return False


def _iso_media_end(descriptor: int, length: int) -> int:
    """Return where the last top-level box ends (ISO/IEC 14496-12, 4.2)."""
    at = 0
    for _ in range(_MOST_BOXES):
        if at >= length:
            break
        head = os.pread(descriptor, 16, at)
        size = int.from_bytes(head[:4], "big")
        if size == 1:
            size = int.from_bytes(head[8:16], "big")
        if size == 0:  # to the end of the file
            return length
        if size < 8 or len(head) < 8:
            return length if not any(head) else length + 1
        at += size
    return at


def _matroska_end(head: bytes) -> int:
    """Return where the segment ends, or 0 where it does not say (RFC 8794, 4 and 6)."""
    at = head.find(_SEGMENT)
    if at < 0 or at + 5 > len(head) or not head[at + 4]:
        return 0
    width = 9 - head[at + 4].bit_length()
    size = int.from_bytes(head[at + 4 : at + 4 + width], "big") - (1 << 7 * width)
    unknown = (1 << 7 * width) - 1
    return 0 if size == unknown else at + 4 + width + size


def _asf_end(head: bytes) -> int:
    """Return the file size in the file properties object, or 0 (ASF specification 1.20.03, 3.2)."""
    at = head.find(_ASF_FILE_PROPERTIES)
    if at < 0 or len(head) < at + 104:
        return 0
    broadcast = head[at + 88] & 1
    return 0 if broadcast else int.from_bytes(head[at + 40 : at + 48], "little")


def _flv_end(head: bytes) -> float:
    """Return the file size that the first tag's data tells, or 0 (FLV 10.1, E.5: AMF0 numbers)."""
    at = head.find(_FLV_FILE_SIZE)
    number = head[at + len(_FLV_FILE_SIZE) :][:8]
    told = struct.unpack(">d", number)[0] if at >= 0 and len(number) == 8 else 0.0
    return told if math.isfinite(told) else 0.0
