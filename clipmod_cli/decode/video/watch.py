"""An opened video → its sampled frames, and whether all of it could be sampled; in one pass.

Packets are decoded by `tracks`, frames chosen by `sampling`, pixels converted by `frames`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from clipmod_cli.decode.coverage import frames_that_fit
from clipmod_cli.decode.job import DecodeJob, Shot
from clipmod_cli.decode.limits import MAX_VIEWS
from clipmod_cli.decode.stills.readings import MOST_PAGES
from clipmod_cli.decode.video.frames import make_pictures, make_thumbnail, may_be_transparent
from clipmod_cli.decode.video.sampling import FrameSelection, KeptFrame, Thumbnail
from clipmod_cli.decode.video.tracks import SpanTrack, VideoTrack
from clipmod_cli.decode.views import make_all_views
from clipmod_cli.errors import ItemError
from clipmod_cli.types import ViewInputs

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

MOST_TRACKS = 4
"""Video streams of one file that are sampled: angles, a cover. Otherwise a second one could hide pictures."""

_SHORT_S, _SHORT_SHARE = 1.0, 0.05
"""How much earlier than its container says a film may end: sound often lasts a little longer."""

_GUESSED = frozenset({"MPEG-TS", "MPEG-PS", "OGG"})
"""Containers without a duration: FFmpeg guesses theirs from the bit rate."""

_FRAMES_IN_FLIGHT = 4
"""Reference frames that a decoder keeps; most films need no more."""

_MAX_REASON = 200
"""Characters of a decoder's message in ours."""

_ENCRYPTED_TAGS = frozenset({"encv", "drmi"})
"""What an encrypted stream is called in an MP4 (ISO/IEC 14496-12, 8.12, and an older practice)."""


def not_all(reason: str) -> ItemError:
    """Return the error of a video of which something was lost."""
    return ItemError("video_error", f"not all of this video can be judged: {reason}")


def check_time(job: DecodeJob) -> None:
    """Raise ItemError(`decode_timeout`) once the video took too long."""
    most = job.options.limits.max_video_seconds
    if time.perf_counter() - job.media.started > most:
        raise ItemError("decode_timeout", f"decoding this video took more than {most:g} seconds")


@contextmanager
def translated() -> Iterator[None]:
    """Translate errors of PyAV to ItemErrors, without our paths in the message."""
    try:
        yield
    except ItemError:
        raise
    except MemoryError as error:
        raise ItemError("out_of_memory", "there is not enough memory to decode this video") from error
    except Exception as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise ItemError("video_error", f"cannot be decoded as a video: {reason[:_MAX_REASON]}") from error


class VideoWatcher:
    """Reads a video once, and keeps its sampled frames."""

    def __init__(self, container: InputContainer, job: DecodeJob) -> None:
        """Find the streams; raises ItemError if none can be decoded."""
        from av.video.reformatter import VideoReformatter

        self._container, self._job = container, job
        self._large, self._small = VideoReformatter(), VideoReformatter()
        streams = _find_streams(container, job)
        self._lost = (
            f"only its first {MOST_TRACKS} video streams are scored" if len(streams) > MOST_TRACKS else None
        )
        streams = streams[:MOST_TRACKS]
        largest = max(((each.height, each.width) for each in streams), key=min)
        room = frames_that_fit(largest, job.geometries, job.options.coverage)
        if any(may_be_transparent(each.format) for each in streams):
            room = max(room // MOST_PAGES, 1)
        most = max(min(job.options.frames.most_of_video, room) // len(streams), 1)
        self._most_views = MAX_VIEWS // (most * len(streams))
        start_s = _start_of(container, job)
        self._tracks = {stream.index: _make_track(stream, job, start_s) for stream in streams}
        self._selections = {
            index: FrameSelection(most, self._make_views, self._make_thumbnail) for index in self._tracks
        }

    def run(self) -> tuple[ItemError | None, list[Shot]]:
        """Return (why not all of it could be sampled, the sampled frames in order)."""
        pixels = sum(track.stream.width * track.stream.height for track in self._tracks.values())
        problem, shots = None, []
        with self._job.gate(_FRAMES_IN_FLIGHT * pixels):
            try:
                with translated():
                    self._watch()
            except ItemError as error:
                problem = error
            try:
                with translated():
                    shots = self._collect()
            except ItemError as error:
                problem = problem or error
        lost = self._lost or next((track.lost for track in self._tracks.values() if track.lost), None)
        if lost is not None:
            problem = problem or not_all(lost)
        elif not shots:
            problem = problem or ItemError("video_error", "this video has no frames")
        return problem, shots

    def _watch(self) -> None:
        """Decode all packets, then the frames that the decoders still hold."""
        import av

        try:
            for packet in self._container.demux(tuple(track.stream for track in self._tracks.values())):
                check_time(self._job)
                if packet.size:
                    self._take(packet)
        except MemoryError:
            raise
        except av.error.FFmpegError as error:
            self._lost = self._lost or f"it cannot be read to its end ({error.strerror})"
        for index, track in self._tracks.items():
            for time_s, frame in track.finish():
                self._offer(index, time_s, frame)

    def _take(self, packet: Packet[VideoStream]) -> None:
        index = packet.stream_index
        if packet.is_keyframe and packet.has_sidedata("encryption_info"):
            raise ItemError("encrypted", "this video is encrypted")
        for time_s, frame in self._tracks[index].feed(packet):
            self._offer(index, time_s, frame)

    def _offer(self, index: int, time_s: float, frame: VideoFrame) -> None:
        limits = self._job.options.limits
        if max(frame.width, frame.height) > limits.max_video_side:
            raise ItemError("too_many_pixels", _too_large(frame.width, frame.height, limits.max_video_side))
        check_time(self._job)
        self._selections[index].offer(time_s, frame.pts, frame)

    def _make_views(self, frame: VideoFrame) -> list[ViewInputs]:
        job = self._job
        pictures = make_pictures(frame, self._large)
        if job.media.width is None:
            job.media.height, job.media.width = pictures.size
        return make_all_views(pictures, job.geometries, job.options, job.media, most=self._most_views)

    def _make_thumbnail(self, frame: VideoFrame) -> Thumbnail:
        return make_thumbnail(frame, self._small)

    def _collect(self) -> list[Shot]:
        """Return the kept frames in the order of their times; numbers rise."""
        kept: list[tuple[float, int, KeptFrame]] = [
            (one.time_s, index, one) for index, chosen in self._selections.items() for one in chosen.close()
        ]
        shots: list[Shot] = []
        for time_s, index, one in sorted(kept, key=lambda each: each[:2]):
            least = shots[-1][0] + 1 if shots else 0
            number = max(self._tracks[index].number(one.stamp), least)
            shots += [(number, time_s, view) for view in one.views]
        if shots:
            end_s = max(track.end_s for track in self._tracks.values())
            self._job.media.duration_s = max(end_s, shots[-1][1])
            if self._ends_too_soon(end_s):
                self._job.media.truncated = True
        return shots

    def _ends_too_soon(self, end_s: float) -> bool:
        """Return whether the video is much shorter than its container declares, without an error."""
        if self._job.options.spans or self._job.format.name in _GUESSED:
            return False
        whole = self._container.duration
        declared = max(_duration_of(track.stream, whole) for track in self._tracks.values())
        return declared - end_s > max(_SHORT_S, _SHORT_SHARE * declared)


def _make_track(stream: VideoStream, job: DecodeJob, start_s: float | None) -> VideoTrack:
    options = job.options
    if options.spans:
        return SpanTrack(stream, options.spans, start_s)
    return VideoTrack(stream, options.frames, options.max_gap_s, start_s)


def _duration_of(stream: VideoStream, whole: int | None) -> float:
    """Return the declared duration of a stream, else of its container, in seconds; 0 if there is none."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return whole / 1e6 if whole is not None else 0.0


def _start_of(container: InputContainer, job: DecodeJob) -> float | None:
    """Return the container's declared start in seconds; None to start with the first frame.

    Not an MP4's, which holds after its edit list; that is ignored.
    """
    start = cast("int | None", container.start_time)
    return None if start is None or job.format.name in {"MP4", "MOV"} else start / 1e6


def _find_streams(container: InputContainer, job: DecodeJob) -> list[VideoStream]:
    """Return the video streams; raises ItemError if none can be decoded."""
    streams = list(container.streams.video)
    if not streams:
        raise ItemError("video_error", "this file has no video stream, only sound or data")
    limits = job.options.limits
    for stream in streams:
        if stream.codec_context is None:
            raise ItemError("video_error", "no decoder for this video's codec")
        if stream.codec_context.codec_tag in _ENCRYPTED_TAGS:
            raise ItemError("encrypted", "this video is encrypted")
        if max(stream.width, stream.height) > limits.max_video_side:
            raise ItemError("too_many_pixels", _too_large(stream.width, stream.height, limits.max_video_side))
        if stream.metadata.get("alpha_mode") == "1":  # of VP8 or VP9: FFmpeg's own decoders leave it out
            job.media.note_unseen("other_content")
        stream.codec_context.thread_count = 1
        stream.codec_context.options = {"max_pixels": str(limits.max_video_side**2)}
    return streams


def _too_large(width: int, height: int, most: int) -> str:
    return f"a side of {width} x {height} is over the limit of {most} pixels"
