"""Makes archives that contain themselves, as Russ Cox's "Zip Files All The Way Down" explains.

A deflate stream is written in units of five bytes: `literal(n)` says that n bytes follow, `repeat(n)`
repeats the last n bytes. The checksum of the whole stands in the whole; it is found by linear
algebra, for a CRC is an affine function of the bits that it is taken of.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator

UNIT = 5
LAST = b"\x01\x00\x00\xff\xff"
"""An empty block that ends the stream."""

LENGTHS = (
    *range(3, 11), 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258
)  # fmt: skip
LENGTH_EXTRA = (0,) * 8 + tuple(n for n in (1, 2, 3, 4, 5) for _ in range(4)) + (0,)
DISTANCES = (1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257)
DISTANCE_EXTRA = (0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7)
CRC_BITS = 32


def literal(count: int) -> bytes:
    """Return what says that `count` bytes follow as they are."""
    return struct.pack("<BHH", 0, count, count ^ 0xFFFF)


def repeat(count: int) -> bytes:
    """Return what repeats the last `count` bytes, in exactly one unit."""
    for first in range(count, 2, -1):
        parts = [first, count - first] if first < count else [first]
        if min(parts) < 3 or max(parts) > LENGTHS[-1]:
            continue
        for empty_blocks in range(4):
            bits = (
                "".join(("010", *(_match(part, count) for part in parts), "0" * 7))
                + "0100000000" * empty_blocks
            )
            if len(bits) == 8 * UNIT:
                return bytes(int(bits[at : at + 8][::-1], 2) for at in range(0, len(bits), 8))
    raise ValueError(f"{count} bytes cannot be repeated in one unit")


def _match(length: int, distance: int) -> str:
    """Return the bits, first one first, of the fixed Huffman code."""
    at = max(i for i, least in enumerate(LENGTHS) if least <= length)
    code = f"{at + 1:07b}" if at < 23 else f"{at - 23 + 0xC0:08b}"
    to = max(i for i, least in enumerate(DISTANCES) if least <= distance)
    extra = _little(length - LENGTHS[at], LENGTH_EXTRA[at])
    return code + extra + f"{to:05b}" + _little(distance - DISTANCES[to], DISTANCE_EXTRA[to])


def _little(value: int, width: int) -> str:
    return f"{value:0{width}b}"[::-1] if width else ""


def body(prefix: bytes, suffix: bytes) -> bytes:
    """Return the stream that decompresses to prefix + itself + suffix; the suffix begins with LAST."""
    around = literal(len(prefix) + UNIT)
    before = repeat(len(prefix) + UNIT)
    one, four, none = literal(UNIT), literal(4 * UNIT), literal(0)
    again = repeat(4 * UNIT)
    tail = literal(len(suffix) + UNIT)
    after = repeat(len(suffix) + UNIT)
    return b"".join(
        (
            around, prefix, around, before, one, before, one, one, four, before, one, one, four, again,
            four, again, four, again, four, again, four, again, none, none, tail, again,
            none, none, tail, after, suffix, after,
        )
    )  # fmt: skip


def solve(make: Callable[[int], bytes]) -> bytes:
    """Return `make(crc)` for the crc that is its own checksum.

    Raises:
        ValueError: if there is none.
    """
    base = zlib.crc32(make(0))
    # crc(make(x)) = base ^ M x, so (M ^ identity) x = base; each row is a column's bits and its origin.
    columns = [zlib.crc32(make(1 << bit)) ^ base ^ (1 << bit) for bit in range(CRC_BITS)]
    basis: dict[int, tuple[int, int]] = {}
    for bit, column in enumerate(columns):
        value, origin = _reduce(column, 1 << bit, basis)
        if value:
            basis[value.bit_length()] = (value, origin)
    rest, chosen = _reduce(base, 0, basis)
    if rest:
        raise ValueError("no checksum fits")
    return make(chosen)


def _reduce(value: int, origin: int, basis: dict[int, tuple[int, int]]) -> tuple[int, int]:
    while value and (known := basis.get(value.bit_length())):
        value, origin = value ^ known[0], origin ^ known[1]
    return value, origin


def first_that_fits(candidates: Iterator[Callable[[int], bytes]]) -> bytes:
    """Return the quine of the first maker for which there is one."""
    for make in candidates:
        try:
            return solve(make)
        except ValueError:
            continue
    raise ValueError("none fits")


def gzip_quine() -> bytes:
    """Return a gzip file that decompresses to itself."""

    def maker(name: bytes) -> Callable[[int], bytes]:
        prefix = b"\x1f\x8b\x08\x08\0\0\0\0\0\xff" + name + b"\0"

        def make(crc: int) -> bytes:
            size = len(prefix) + len(body(prefix, LAST + bytes(8))) + len(LAST) + 8
            suffix = LAST + struct.pack("<LL", crc, size)
            return prefix + body(prefix, suffix) + suffix

        return make

    return first_that_fits(maker(b"q%03d" % n) for n in range(1000))


def zip_quine() -> bytes:
    """Return a zip archive whose only member is itself."""

    def maker(name: bytes) -> Callable[[int], bytes]:
        def make(crc: int) -> bytes:
            sizes = (0, 0)
            for _ in range(2):
                prefix = struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 8, 0, 0, crc, *sizes, len(name), 0) + name
                suffix = LAST + _zip_end(name, crc, sizes, len(prefix))
                stream = body(prefix, suffix)
                sizes = (len(stream) + len(LAST), len(prefix) + len(stream) + len(suffix))
            return prefix + stream + suffix

        return make

    return first_that_fits(maker(b"%026d.zip" % n) for n in range(1000))


SUFFIX_BYTES = 253
"""With a unit more it is the longest match, which takes exactly one unit."""


def _zip_end(name: bytes, crc: int, sizes: tuple[int, int], header: int) -> bytes:
    record = struct.pack(
        "<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 8, 0, 0, crc, *sizes, len(name), 0, 0, 0, 0, 0, 0
    ) + name  # fmt: skip
    room = SUFFIX_BYTES - len(LAST) - len(record) - 22
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(record), header + sizes[0], room)
    return record + end + b"." * room
