"""An opened video → its sampled frames, and whether all of it could be sampled; in one pass.

Packets are decoded by `tracks`, frames chosen by `moving.sampling`, pixels converted by `frames`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from clipmod_cli.decode.coverage import frames_that_fit, most_views
from clipmod_cli.decode.job import DecodeJob, Shot
from clipmod_cli.decode.moving.sampling import (
    NO_STAMP,
    FrameSelection,
    KeptFrame,
    Room,
    Thumbnail,
    largest_gap,
    room_for,
)
from clipmod_cli.decode.stills.readings import MOST_PAGES
from clipmod_cli.decode.video.frames import (
    SQUARE,
    displayed_size,
    make_pictures,
    make_thumbnail,
    may_be_transparent,
)
from clipmod_cli.decode.video.subtitles import are_pictures, draws, may_draw
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

_USUAL_SIZE = 1920, 1080
"""Of a stream whose size is not known before its first frame is decoded."""

_HURRY_SHARE = 0.6
"""Of the time that a video may take; when it is gone, only key frames are decoded from then on."""

_NEARLY_SQUARE = (Fraction(2, 3), Fraction(3, 2))
"""Pixels of any other shape are also shown to the models as square: some viewers ignore their shape."""

_SAME_RATIO = 0.02
"""Two sample aspect ratios that differ by a smaller share are taken as one."""

_MOST_RATIOS = 4
"""Sample aspect ratios that a stream declares at different places; what is shown depends on the player."""

_GAP_TOLERANCE_S = 1e-3

MAX_READING = 32
"""Characters of a reading's name."""

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
        self._scripts = {one.index: one for one in container.streams.subtitles if may_draw(one)}
        for script in self._scripts.values():
            self._note_drawing(script.codec_context.extradata or b"")
        if any(map(are_pictures, container.streams.subtitles)):
            job.media.note_unseen("other_content")
        self._lost = (
            f"only its first {MOST_TRACKS} video streams are scored" if len(streams) > MOST_TRACKS else None
        )
        streams = streams[:MOST_TRACKS]
        start_s = _start_of(container, job)
        self._tracks = {stream.index: _make_track(stream, job, start_s) for stream in streams}
        self._ratios: dict[int, list[Fraction]] = {index: [] for index in self._tracks}
        self._room = _room_for(container, streams, job)
        self._selections = {
            index: FrameSelection(self._room, partial(self._make_views, index), self._make_thumbnail)
            for index in self._tracks
        }
        self._hurries = False
        job.media.frames_sampling = job.options.frames.mode

    def run(self) -> tuple[ItemError | None, list[Shot]]:
        """Return (why not all of it could be sampled, the sampled frames in order)."""
        pixels = sum(math.prod(_size_of(track.stream)) for track in self._tracks.values())
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
        if any(track.hides_pictures for track in self._tracks.values()):
            self._job.media.note_unseen("other_content")
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
            films = (track.stream for track in self._tracks.values())
            for packet in self._container.demux((*films, *self._scripts.values())):
                check_time(self._job)
                self._hurry_if_late()
                if packet.size:
                    self._take(packet)
        except MemoryError:
            raise
        except (
            IndexError
        ):  # PyAV knows the streams that were there at first, and flushes those that came later
            self._job.media.note_unseen("other_content")
        except av.error.FFmpegError as error:
            self._lost = self._lost or f"it cannot be read to its end ({error.strerror})"
        for index, track in self._tracks.items():
            for time_s, frame in track.finish():
                self._offer(index, time_s, frame)

    def _note_drawing(self, script: bytes) -> None:
        if draws(script):
            self._job.media.note_unseen("other_content")

    def _hurry_if_late(self) -> None:
        """Decode key frames alone once most of the time is gone."""
        job = self._job
        share = (time.perf_counter() - job.media.started) / job.options.limits.max_video_seconds
        if share > _HURRY_SHARE and not self._hurries:
            self._hurries = True
            for track in self._tracks.values():
                if track.take_key_frames():
                    job.media.frames_sampling = f"{job.options.frames.mode}, key"

    def _take(self, packet: Packet[Any]) -> None:
        index = packet.stream_index
        if index in self._scripts:
            self._note_drawing(bytes(packet))
            return
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

    def _make_views(self, index: int, frame: VideoFrame) -> list[ViewInputs]:
        """Return the views of a frame, in each shape that a player may give it."""
        job = self._job
        ratios = self._find_ratios(index)
        most = max(self._room.views // (2 * len(ratios)), 1)
        views: list[ViewInputs] = []
        for ratio in ratios:
            pictures = make_pictures(frame, self._large, ratio)
            if job.media.width is None:
                job.media.height, job.media.width = pictures.size
            made = make_all_views(pictures, job.geometries, job.options, job.media, most=most)
            views += [_name_shape(one, ratio) for one in made] if views else made
        return views

    def _find_ratios(self, index: int) -> list[Fraction]:
        """Return the sample aspect ratios of a stream so far, the container's first."""
        stream, known = self._tracks[index].stream, self._ratios[index]
        declared = (stream.sample_aspect_ratio, stream.codec_context.sample_aspect_ratio)
        named = [ratio for ratio in declared if ratio is not None and ratio > 0] or [SQUARE]
        least, most = _NEARLY_SQUARE
        for ratio in [*named, *(SQUARE for ratio in named if not least <= ratio <= most)]:
            if all(abs(ratio / one - 1) > _SAME_RATIO for one in known):
                known.append(ratio)
        if len(known) > _MOST_RATIOS:
            self._job.media.note_unseen("unsampled")
        return known[:_MOST_RATIOS]

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
            shots += [(number, max(time_s, 0.0), view) for view in one.views]
        if shots:
            end_s = max(track.end_s for track in self._tracks.values())
            self._job.media.duration_s = max(end_s, shots[-1][1])
            if self._ends_too_soon(end_s):
                self._job.media.truncated = True
            self._note_gaps()
        return shots

    def _note_gaps(self) -> None:
        """Note how long nothing was looked at, and whether that is too long."""
        media = self._job.media
        media.frames_total = sum(len(track.stamps) for track in self._tracks.values())
        media.largest_gap_s = max(self._largest_gap(index) for index in self._tracks)
        is_unseen = any(selection.has_unseen_scene for selection in self._selections.values())
        if is_unseen or media.largest_gap_s > self._job.options.max_gap_s + _GAP_TOLERANCE_S:
            media.note_unseen("unsampled")

    def _largest_gap(self, index: int) -> float:
        looks = self._selections[index].looks()
        if any(stamp == NO_STAMP for _, stamp in looks):
            return largest_gap((time_s, 2 * place) for place, (time_s, _) in enumerate(looks))
        return largest_gap((time_s, self._tracks[index].number(stamp)) for time_s, stamp in looks)

    def _ends_too_soon(self, end_s: float) -> bool:
        """Return whether the video is much shorter than its container declares, without an error."""
        if self._job.options.spans or self._job.format.name in _GUESSED:
            return False
        whole = self._container.duration
        declared = max(_duration_of(track.stream, whole) for track in self._tracks.values())
        end_s -= min(0.0, *(track.first_s for track in self._tracks.values()))  # what players skip
        return declared - end_s > max(_SHORT_S, _SHORT_SHARE * declared)


def _room_for(container: InputContainer, streams: Sequence[VideoStream], job: DecodeJob) -> Room:
    """Return how many frames and views of each stream are kept."""
    options, count = job.options, len(streams)
    largest = max((_size_of(stream)[::-1] for stream in streams), key=min)
    frames = max(options.frames.most_of_video // count, 1)
    views = max(most_views(job.geometries, largest, options.limits) // count, 1)
    if options.frames.mode != "auto" or options.spans:
        return Room(frames=frames, views=views)
    pages = MOST_PAGES if any(may_be_transparent(stream.format) for stream in streams) else 1
    fits = frames_that_fit(largest, job.geometries, options.coverage, options.limits) // (count * pages)
    is_known = job.format.name not in _GUESSED
    duration_s = max(_duration_of(stream, container.duration) for stream in streams) if is_known else 0.0
    return room_for(duration_s, options.max_gap_s, fits=min(fits, frames), frames=frames, views=views)


def _name_shape(made: ViewInputs, ratio: Fraction) -> ViewInputs:
    """Return a view whose reading names the shape of the pixels."""
    plain, shape = made.view.reading == "plain", f"pixels {ratio.numerator} to {ratio.denominator}"
    reading = shape if plain else f"{made.view.reading} {shape}"
    return made._replace(view=replace(made.view, reading=reading[:MAX_READING]))


def _size_of(stream: VideoStream) -> tuple[int, int]:
    """Return (width, height) as the container declares them to be displayed; a usual size if it does not."""
    if not stream.width or not stream.height:
        return _USUAL_SIZE
    ratio = stream.sample_aspect_ratio
    return displayed_size(stream.width, stream.height, ratio if ratio and ratio > 0 else SQUARE)


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
    """Return when players start, in the container's time and in seconds; None to start with the first frame.

    What an MP4's edit list skips lies before 0.
    """
    start = cast("int | None", container.start_time)
    if start is None:
        return None
    return max(start / 1e6, 0.0) if job.format.open == "mov" else start / 1e6


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
