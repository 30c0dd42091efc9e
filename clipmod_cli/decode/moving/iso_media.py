"""The frame times of an AVIF sequence, from the boxes of its container (ISO/IEC 14496-12).

Pillow tells a frame's time only once it has decoded it.
"""

from __future__ import annotations

from collections.abc import Iterator

_TO_TIMES = (b"moov", b"trak", b"mdia")
_TO_SAMPLES = (b"minf", b"stbl", b"stts")


def frame_durations(data: bytes, most: int) -> list[float]:
    """Return how long each frame of the first track lasts, in seconds; empty if it cannot be read.

    At most `most` durations are returned.
    """
    media = _find(data, _TO_TIMES, (0, len(data)))
    header = media and _find(data, (b"mdhd",), media)
    samples = media and _find(data, _TO_SAMPLES, media)
    if not header or not samples:
        return []
    at = header[0] + (20 if data[header[0]] == 1 else 12)  # version 1 has 64-bit dates before it
    timescale = int.from_bytes(data[at : at + 4], "big")
    return _expand(data, samples, timescale, most) if timescale else []


def _expand(data: bytes, samples: tuple[int, int], timescale: int, most: int) -> list[float]:
    """Return the durations of a `stts` box: runs of (number of frames, duration of each)."""
    start, end = samples
    runs = int.from_bytes(data[start + 4 : start + 8], "big")
    durations: list[float] = []
    for at in range(start + 8, min(start + 8 + 8 * runs, end - 7), 8):
        count = int.from_bytes(data[at : at + 4], "big")
        seconds = int.from_bytes(data[at + 4 : at + 8], "big") / timescale
        durations += [seconds] * min(count, most - len(durations))
        if len(durations) >= most:
            break
    return durations


def _find(data: bytes, path: tuple[bytes, ...], within: tuple[int, int]) -> tuple[int, int] | None:
    """Return (start, end) of the body of the first box at `path`, or None."""
    for kind in path:
        found = next((span for name, span in _boxes(data, *within) if name == kind), None)
        if found is None:
            return None
        within = found
    return within


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, tuple[int, int]]]:
    """Yield (type, (start, end) of the body) of the boxes that lie between two offsets."""
    while start + 8 <= end:
        size, body = int.from_bytes(data[start : start + 4], "big"), start + 8
        if size == 1:
            size, body = int.from_bytes(data[body : body + 8], "big"), body + 8
        stop = start + size if size else end
        if stop < body or stop > end:
            return
        yield data[start + 4 : start + 8], (body, stop)
        start = stop
