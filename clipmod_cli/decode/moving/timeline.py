"""When each frame of an animation is shown, read from the container without decoding.

Not by Pillow, which takes a file that ends between two frames for a shorter animation, counts without
bound, and knows some times only after decoding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from clipmod_cli.decode.job import DecodeJob
from clipmod_cli.decode.reading.boxes import find
from clipmod_cli.decode.stills.mending import colour_table_bytes, png_chunks, riff_chunks, skip_sub_blocks
from clipmod_cli.decode.stills.opening import decoder_errors, open_picture
from clipmod_cli.errors import ItemError

SHORTEST_DELAY_S = 0.010
SUBSTITUTE_DELAY_S = 0.100
"""Browsers show a frame with a delay of 10 ms or less for 100 ms. `persistence_s` and segments are about
the time that a person sees a frame."""

PAGE_S = 1.0
"""The pages of a TIFF have no time: each counts as a second, so that they are sampled evenly."""

_PNG_CHECKSUM_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """The frames that are in a file.

    Attributes:
        starts: of each frame, in seconds.
        duration_s: of the whole.
        cut: the file ends before the container says it does.
        lost: why some frames cannot be decoded; None if all can.
        end: where the last whole frame ends, in bytes (WebP only).
    """

    starts: tuple[float, ...]
    duration_s: float
    cut: bool = False
    lost: str | None = None
    end: int = 0

    @property
    def moves(self) -> bool:
        """Whether there is or was more than one frame."""
        return len(self.starts) > 1 or (bool(self.starts) and self.lost is not None)


def make_timeline(
    durations: Sequence[float], most: int, *, cut: bool = False, lost: str | None = None, end: int = 0
) -> Timeline:
    """Return the timeline of frames that last `durations` seconds, one after the other."""
    if len(durations) > most:
        lost = f"only its first {most} frames are scored"
    shown = durations[:most]
    ends = [round(seconds, 6) for seconds in accumulate(shown)]
    starts = (0.0, *ends[:-1]) if ends else ()
    return Timeline(starts=starts, duration_s=ends[-1] if ends else 0.0, cut=cut, lost=lost, end=end)


def shown_delay(seconds: float) -> float:
    """Return for how long browsers show a frame with a delay of `seconds`."""
    return seconds if seconds > SHORTEST_DELAY_S else SUBSTITUTE_DELAY_S


def gif_timeline(job: DecodeJob) -> Timeline:
    """Walk the blocks of a GIF (GIF89a specification, sections 15 to 27)."""
    data, most = job.data, job.options.limits.max_walked_frames
    at = 13 + colour_table_bytes(data[10] if len(data) > 10 else 0)
    durations: list[float] = []
    delay = 0.0
    while at < len(data) and len(durations) <= most:
        kind = data[at]
        if kind == 0x3B:
            return make_timeline(durations, most)
        if kind == 0x21:  # an extension; 0xF9 is the one with the delay, in hundredths
            if data[at + 1 : at + 2] == b"\xf9":
                delay = int.from_bytes(data[at + 4 : at + 6], "little") / 100
            at = skip_sub_blocks(data, at + 2)
        elif kind == 0x2C:  # an image: its place and size, flags, perhaps a palette, then its data
            if at + 10 >= len(data):
                at = len(data)
                break
            at = skip_sub_blocks(data, at + 11 + colour_table_bytes(data[at + 9]))
            durations.append(shown_delay(delay))
            delay = 0.0
        else:
            at += 1  # decoders look for the next block they know
    return make_timeline(durations, most, cut=at >= len(data))


def apng_timeline(job: DecodeJob) -> Timeline | None:
    """Walk the chunks of a PNG; None if it is not animated (APNG specification 1.0)."""
    data, declared = job.data, 0
    durations: list[float] = []
    kind, end = b"", 0
    for kind, start, end in png_chunks(data):
        if kind == b"acTL" and not declared:
            declared = int.from_bytes(data[start : start + 4], "big")
        elif kind == b"IDAT" and not declared:
            return None
        elif kind == b"IDAT" and not durations:  # a default image beside the animation: other viewers show it
            declared += 1
            durations.append(0.0)
        elif kind == b"fcTL":
            durations.append(_fctl_delay(data[start:end]))
        elif kind == b"IEND":
            break
    if not declared:
        return None
    cut = kind != b"IEND"
    incomplete = cut and end + _PNG_CHECKSUM_BYTES > len(data)
    lost = f"of its {declared} frames only {len(durations)} are in the file"
    return make_timeline(
        durations[:declared],
        job.options.limits.max_walked_frames,
        cut=cut,
        lost=lost if incomplete or len(durations) < declared else None,
    )


def _fctl_delay(body: bytes) -> float:
    numerator, denominator = int.from_bytes(body[20:22], "big"), int.from_bytes(body[22:24], "big")
    return shown_delay(numerator / (denominator or 100))


def webp_timeline(job: DecodeJob) -> Timeline | None:
    """Walk the chunks of a WebP; None if it has no frames (WebP container specification)."""
    data, most = job.data, job.options.limits.max_walked_frames
    declared_end = 8 + int.from_bytes(data[4:8], "little")
    durations: list[float] = []
    moves = False
    whole_end = 12
    for kind, start, end in riff_chunks(data[:declared_end]):
        moves = moves or kind == b"ANMF"
        if end > len(data):
            break
        whole_end = end + (end & 1)
        if kind == b"ANMF":
            durations.append(shown_delay(int.from_bytes(data[start + 12 : start + 15], "little") / 1000))
    if not moves:
        return None
    cut = declared_end > len(data)
    lost = f"the file ends after {len(durations)} whole frames" if cut else None
    return make_timeline(durations, most, cut=cut, lost=lost, end=min(whole_end, len(data)))


def tiff_timeline(job: DecodeJob) -> Timeline:
    """Follow a TIFF's chain of pages (TIFF 6.0, section 2, and BigTIFF)."""
    data, most = job.data, job.options.limits.max_walked_frames
    order: Literal["little", "big"] = "little" if data[:2] == b"II" else "big"
    big = int.from_bytes(data[2:4], order) == 43  # BigTIFF's version
    count_bytes, entry_bytes, offset_bytes = (8, 20, 8) if big else (2, 12, 4)
    at = int.from_bytes(data[8:16] if big else data[4:8], order)
    seen: set[int] = set()
    cut = False
    while at and at not in seen and len(seen) <= most:
        entries = int.from_bytes(data[at : at + count_bytes], order)
        link = at + count_bytes + entries * entry_bytes
        cut = not entries or link > len(data)
        if cut:
            break
        seen.add(at)
        at = int.from_bytes(data[link : link + offset_bytes], order)
    lost = f"the file ends after {len(seen)} whole pages" if cut else None
    return make_timeline([PAGE_S] * len(seen), most, cut=cut, lost=lost)


def avif_timeline(job: DecodeJob) -> Timeline | None:
    """Return the timeline of an AVIF; None if it cannot be opened. Only the decoder knows its frames."""
    most = job.options.limits.max_walked_frames
    try:
        with decoder_errors("AVIF"):
            frames = min(int(getattr(open_picture(job), "n_frames", 1)), most + 1)
    except ItemError:
        return None  # decoding it as a still reports the error
    durations = [shown_delay(seconds) for seconds in frame_durations(job.data, frames)]
    missing = frames - len(durations)
    return make_timeline([*durations, *[SUBSTITUTE_DELAY_S] * missing], most)


def frame_durations(data: bytes, most: int) -> list[float]:
    """Return how long each frame of the first track lasts, in seconds; empty if it cannot be read.

    At most `most` durations are returned.
    """

    def read(at: int, count: int) -> bytes:
        return data[at : at + count]

    media = find(read, 0, len(data), b"moov", b"trak", b"mdia")
    header = media and find(read, media.body, media.end, b"mdhd")
    samples = media and find(read, media.body, media.end, b"minf", b"stbl", b"stts")
    if not header or not samples:
        return []
    has_long_dates = data[header.body : header.body + 1] == b"\1"  # in version 1, before the unit of time
    at = header.body + (20 if has_long_dates else 12)
    timescale = int.from_bytes(data[at : at + 4], "big")
    return _expand(data, (samples.body, samples.end), timescale, most) if timescale else []


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
