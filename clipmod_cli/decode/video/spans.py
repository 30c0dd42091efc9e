"""A second, closer look at parts of a video stream: where a hit begins and ends.

Decodes only the groups of pictures that reach into those parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from clipmod_cli.decode.limits import FrameSampling
from clipmod_cli.decode.video.tracks import MAX_WAITING_BYTES, Timed, VideoTrack

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

LOOKS = 8
"""Frames that are looked at in a span between key frames: models cost more than decoding."""

STEPS_S = (0.1, 1.0)
"""The least and the greatest time between two looks. Nobody needs to know an edge better than the one.
A span is longer than ten seconds where nothing moves, and then most looks cost no model any time."""


class SpanTrack(VideoTrack):
    """A stream of which only spans are looked at, about `LOOKS` times each."""

    def __init__(
        self, stream: VideoStream, spans: Sequence[tuple[float, float]], start_s: float | None
    ) -> None:
        """Look at frames between the start and the end of each span, in seconds."""
        super().__init__(stream, FrameSampling(), 0.0, start_s)
        self._spans = spans
        self._next_s = 0.0

    def feed(self, packet: Packet[VideoStream]) -> Iterator[Timed]:
        """Yield the frames to look at that this packet brings about."""
        self.note(packet)
        if packet.is_keyframe:
            if self.running:
                yield from self._pick(self.drain())
            self.running, self.waiting, self.waiting_bytes = False, [], 0
        if self.running:
            yield from self._pick(self.decode(packet))
            return
        self.wait(packet)
        if self._reaches(packet) or self.waiting_bytes > MAX_WAITING_BYTES:
            yield from self._begin()

    def finish(self) -> Iterator[Timed]:
        """Yield what is left."""
        if self.running:
            yield from self._pick(self.drain())
        self.sort_stamps()

    def _begin(self) -> Iterator[Timed]:
        packets, self.waiting, self.waiting_bytes = self.waiting, [], 0
        self.running = True
        for packet in packets:
            yield from self._pick(self.decode(packet))

    def _reaches(self, packet: Packet[VideoStream]) -> bool:
        return packet.pts is None or self._span_at(self.clock.peek(packet.pts)) is not None

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
                self._next_s = time_s + min(max((span[1] - span[0]) / LOOKS, least), most)
                yield time_s, frame
