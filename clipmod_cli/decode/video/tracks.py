"""One video stream: its packets → the frames that may be sampled, in the order they are shown.

Decodes as little as the sampling allows: `key` decodes key frames alone, and whole groups of pictures only
where key frames are too far apart, at the end, and at the start if the key frame is not shown first. Notes
what could not be decoded.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

from clipmod_cli.decode.limits import FrameSampling
from clipmod_cli.decode.video.motion_jpeg import hides_pictures
from clipmod_cli.errors import ItemError

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

    VideoPacket: TypeAlias = Packet[VideoStream]


Timed: TypeAlias = "tuple[float, VideoFrame]"
"""(time in seconds since the video's start, frame)."""

MAX_PACKETS = 10_000_000
"""Of a stream: two days at 60 frames a second. Tiny packets would otherwise fill the memory."""

MAX_WAITING_BYTES = 64_000_000
"""Of packets that wait until the next key frame is known to be near; beyond it they are decoded at once."""

_TOLERANCE_S = 1e-6


class VideoTrack:
    """A stream that is being decoded.

    Attributes:
        lost: why not all could be sampled; None if it could.
        stamps: the presentation timestamps of all packets so far.
        first_s: when the first known frame is shown, in seconds; below 0 where players skip it.
        end_s: when the last known frame ends, in seconds.
        clock: turns timestamps into times.
        waiting: packets of a group that may not be needed, and how many bytes they are.
        running: all packets of this group are decoded.
        hides_pictures: packets have pictures beside those that were decoded.
    """

    def __init__(
        self, stream: VideoStream, sampling: FrameSampling, max_gap_s: float, start_s: float | None
    ) -> None:
        """Decode `stream` as `sampling` says; key frames further apart than `max_gap_s` are filled."""
        self.stream = stream
        self.lost: str | None = None
        self.hides_pictures = False
        self.stamps = array("q")
        self._is_sorted = False
        self.first_s, self.end_s = math.inf, 0.0
        self._last_stamp: int | None = None
        self._unit_s = float(stream.time_base or 1)
        self._usual_s = float(1 / stream.average_rate) if stream.average_rate else 0.0
        self.clock = StreamClock(self._unit_s, start_s)
        self._all = sampling.by_change or sampling.mode == "fps"
        self._rate = sampling.value if sampling.mode == "fps" else None
        self._max_gap_s = max_gap_s
        self.waiting: list[VideoPacket] = []
        self.waiting_bytes = 0
        self.running = self._all
        self._skip_to: float | None = None
        self._held: Timed | None = None
        self._sampled_s: float | None = None
        self._first: VideoPacket | None = None

    def take_key_frames(self) -> bool:
        """Decode from the next key frame on as little as `key` does; returns whether that is less."""
        was_all, self._all = self._all, False
        return was_all

    def feed(self, packet: VideoPacket) -> Iterator[Timed]:
        """Yield the frames to sample that this packet completes."""
        self.note(packet)
        if self._first is not None:
            yield from self._start(packet)
        if self._all:
            yield from self._thin(self.decode(packet))
        elif packet.is_keyframe and len(self.stamps) == 1:
            self._first = packet
        elif packet.is_keyframe:
            yield from self._start_group(packet)
        elif self.running:
            yield from self._fill(self.decode(packet))
        else:
            self.wait(packet)
            if self._gap_to(packet) > self._max_gap_s or self.waiting_bytes > MAX_WAITING_BYTES:
                yield from self._run()

    def finish(self) -> Iterator[Timed]:
        """Yield what is left, the last frame of all at its end."""
        if self._first is not None:
            yield from self._start(None)
        if self._all:
            yield from self._thin(self.drain())
        else:
            if not self.running:
                yield from self._run(self._find_last())
            yield from self._fill(self.drain())
        if self._held is not None:
            yield self._sample(*self._held)
        index = self.stream.index_entries
        if len(index) and self._last_stamp is not None and index[-1].timestamp > self._last_stamp:
            self.lose("its end is missing")

    def number(self, stamp: int | None) -> int:
        """Return the index of the frame with this timestamp, from 0; only after `finish`."""
        if not self._is_sorted:
            self.stamps, self._is_sorted = array("q", sorted(self.stamps)), True
        return bisect_left(self.stamps, stamp) if stamp is not None else 0

    def lose(self, reason: str) -> None:
        """Note that a part could not be sampled; the first reason stays."""
        self.lost = self.lost or reason

    def note(self, packet: VideoPacket) -> None:
        """Note the timestamps and damage of a packet."""
        if len(self.stamps) >= MAX_PACKETS:
            raise ItemError("video_error", f"the video has more than {MAX_PACKETS:,} frames")
        stamp = packet.pts if packet.pts is not None else packet.dts
        self.stamps.append(stamp if stamp is not None else len(self.stamps))
        decoding = packet.dts if packet.dts is not None else stamp
        if decoding is not None:
            self._last_stamp = max(decoding, self._last_stamp if self._last_stamp is not None else decoding)
        if packet.is_corrupt:
            self.lose("a part of it is damaged or missing")

    def wait(self, packet: VideoPacket) -> None:
        """Keep a packet until it is known whether its group is needed."""
        self.waiting.append(packet)
        self.waiting_bytes += packet.size

    def _gap_to(self, packet: VideoPacket) -> float:
        if packet.pts is None:
            return 0.0
        return self.clock.peek(packet.pts) - (self._sampled_s or 0.0)

    def _start(self, second: VideoPacket | None) -> Iterator[Timed]:
        """Decode the first key frame; all of its group if the next packet's frame is shown before it."""
        first, self._first = self._first, None
        if first is None:
            return
        if second is None or second.pts is None or first.pts is None or second.pts >= first.pts:
            yield from self._start_group(first)
        else:
            self.running = True
            yield from self._fill(self.decode(first))

    def _start_group(self, packet: VideoPacket) -> Iterator[Timed]:
        """Decode a key frame alone, the group before it being over."""
        if self.running:
            yield from self._fill(self.drain())
            if self._held is not None and self._gap_to(packet) > self._max_gap_s:
                yield self._sample(*self._held)
        self._held, self.running = None, False
        self.waiting, self.waiting_bytes = [packet], packet.size
        frames = [*self.decode(packet), *self.drain()]
        if not frames:
            self.lose("a key frame cannot be decoded")
        for frame in frames[:1]:
            yield self._sample(self._read(frame), frame)

    def _find_last(self) -> VideoPacket | None:
        """Return which of the packets that wait is shown last; None if not all say when they are."""
        if any(packet.pts is None for packet in self.waiting):
            return None
        return max(self.waiting, key=lambda packet: packet.pts or 0, default=None)

    def _run(self, last: VideoPacket | None = None) -> Iterator[Timed]:
        """Decode the group that waits from its key frame on, and what follows of it as it comes.

        With `last` only that frame is needed: frames that no other refers to are skipped, but for the
        packet at the very end, which may be incomplete.
        """
        packets, self.waiting, self.waiting_bytes = self.waiting, [], 0
        self.running, self._skip_to = True, self._sampled_s
        context = self.stream.codec_context
        for packet in packets:
            spare = last is not None and packet not in (packets[0], last, packets[-1])
            context.skip_frame = "NONREF" if spare else "DEFAULT"
            yield from self._fill(self.decode(packet))
        context.skip_frame = "DEFAULT"

    def _fill(self, frames: list[VideoFrame]) -> Iterator[Timed]:
        """Yield the frames of a group that leave no gap; hold the latest, it may be the last."""
        for frame in frames:
            if self._skip_to is not None and frame.pts is not None:
                if self.clock.peek(frame.pts) <= self._skip_to + _TOLERANCE_S:
                    continue  # the key frame again, or one shown before it
                self._skip_to = None
            time_s = self._read(frame)
            if self._sampled_s is None or frame.key_frame:
                yield self._sample(time_s, frame)
                continue
            if self._held is not None and time_s - self._sampled_s > self._max_gap_s + _TOLERANCE_S:
                yield self._sample(*self._held)
            self._held = time_s, frame

    def _thin(self, frames: list[VideoFrame]) -> Iterator[Timed]:
        """Yield all frames, or of `fps=N` the first of each Nth of a second; hold the latest."""
        for frame in frames:
            time_s = self._read(frame)
            self._held = time_s, frame
            rate, before_s = self._rate, self._sampled_s
            if rate is None or before_s is None or int(time_s * rate + 1e-4) > int(before_s * rate + 1e-4):
                yield self._sample(time_s, frame)

    def _sample(self, time_s: float, frame: VideoFrame) -> Timed:
        self._sampled_s = time_s
        self._held = None
        return time_s, frame

    def _read(self, frame: VideoFrame) -> float:
        time_s = self.clock.read(frame.pts)
        if frame.is_corrupt:
            self.lose(f"the frame at {time_s:.2f} s is damaged")
        self.first_s = min(self.first_s, time_s)
        lasts = frame.duration * self._unit_s if frame.duration else self._usual_s
        self.end_s = max(self.end_s, round(time_s + lasts, 6))
        return time_s

    def decode(self, packet: VideoPacket) -> list[VideoFrame]:
        """Return the frames that a packet completes; note it if it cannot be decoded."""
        import av

        try:
            frames = list(packet.decode())
        except MemoryError:
            raise
        except av.error.FFmpegError as error:
            self.lose(f"a frame cannot be decoded ({error.strerror})")
            return []
        self.hides_pictures = self.hides_pictures or any(hides_pictures(packet, one) for one in frames)
        return frames

    def drain(self) -> list[VideoFrame]:
        """Return the frames that the decoder still holds, and make it ready for a new group."""
        import av

        try:
            return list(self.stream.decode(None))
        except av.error.EOFError:
            return []
        except MemoryError:
            raise
        except av.error.FFmpegError as error:
            self.lose(f"a frame cannot be decoded ({error.strerror})")
            return []
        finally:
            self.stream.codec_context.flush_buffers()


_USUAL_STEP_S = 0.04
"""Between frames without timestamps: that of 25 a second."""

_FAR_S = 10.0
"""A declared start longer than this before the first frame is ignored."""

_LEAST_STEP_S = 0.001
_SPLICE_S = 1.0
"""Where time goes back by more, two recordings were joined: the second one continues where the first
one ended. Less is an inaccurate container."""


class StreamClock:
    """Turns timestamps into seconds from the start that never go back; below 0 before a player's start."""

    def __init__(self, unit_s: float, start_s: float | None) -> None:
        """Count in units of `unit_s` from `start_s`, by default the first timestamp read."""
        self._unit_s = unit_s
        self._start_s = start_s
        self._read_one = False
        self._last_s: float | None = None

    def read(self, stamp: int | None) -> float:
        """Return the time of the next frame shown, in seconds."""
        if stamp is None:
            seconds = 0.0 if self._last_s is None else self._last_s + _USUAL_STEP_S
        else:
            seconds = self.peek(stamp)
        if self._last_s is not None and seconds <= self._last_s:
            if self._last_s - seconds > _SPLICE_S:
                self._start_s = (self._start_s or 0.0) - (self._last_s - seconds) - _USUAL_STEP_S
            seconds = self._last_s + _LEAST_STEP_S
        self._last_s = seconds
        return round(seconds, 6)

    def peek(self, stamp: int) -> float:
        """Return the time of a timestamp, without advancing."""
        if self._start_s is None or (not self._read_one and stamp * self._unit_s - self._start_s > _FAR_S):
            self._start_s = stamp * self._unit_s
        self._read_one = True
        return stamp * self._unit_s - self._start_s


SPAN_SAMPLES = 8
"""Frames that are sampled in a span between key frames: models cost more than decoding."""

STEPS_S = (0.1, 1.0)
"""The least and the greatest time between two samples. A span is longer than ten seconds where nothing moves;
then most samples are duplicates."""


class SpanTrack(VideoTrack):
    """A stream of which only spans are sampled, about `SPAN_SAMPLES` times each."""

    def __init__(
        self, stream: VideoStream, spans: Sequence[tuple[float, float]], start_s: float | None
    ) -> None:
        """Sample between the start and the end of each span, in seconds."""
        super().__init__(stream, FrameSampling(mode="key"), 0.0, start_s)
        self._spans = spans
        self._next_s = 0.0

    def feed(self, packet: Packet[VideoStream]) -> Iterator[Timed]:
        """Yield the frames to sample that this packet completes."""
        self.note(packet)
        if packet.is_keyframe:
            if self.running:
                yield from self._pick(self.drain())
            self.running, self.waiting, self.waiting_bytes = False, [], 0
        if self.running:
            yield from self._pick(self.decode(packet))
            return
        self.wait(packet)
        in_span = packet.pts is None or self._span_at(self.clock.peek(packet.pts)) is not None
        if in_span or self.waiting_bytes > MAX_WAITING_BYTES:
            packets, self.waiting, self.waiting_bytes = self.waiting, [], 0
            self.running = True
            for waiting in packets:
                yield from self._pick(self.decode(waiting))

    def finish(self) -> Iterator[Timed]:
        """Yield what is left."""
        if self.running:
            yield from self._pick(self.drain())

    def _span_at(self, time_s: float) -> tuple[float, float] | None:
        return next((span for span in self._spans if span[0] < time_s < span[1]), None)

    def _pick(self, frames: list[VideoFrame]) -> Iterator[Timed]:
        for frame in frames:
            if frame.pts is None:
                continue
            time_s = round(self.clock.peek(frame.pts), 6)
            span = self._span_at(time_s)
            if span is not None and time_s >= self._next_s:
                least, most = STEPS_S
                self._next_s = time_s + min(max((span[1] - span[0]) / SPAN_SAMPLES, least), most)
                yield time_s, frame
