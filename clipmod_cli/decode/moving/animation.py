"""The sampled frames of an animation: GIF, APNG, WebP, AVIF, and the pages of a TIFF.

Unless only some are asked for, all frames are decoded and those that differ are taken.

Frames build upon each other, so most formats are decoded from the first to the last sampled frame.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageFile, PngImagePlugin

from clipmod_cli.decode.coverage import frames_that_fit, most_views
from clipmod_cli.decode.job import DecodeJob, PixelTest, Shot, any_picture
from clipmod_cli.decode.limits import MAX_SCORED_FRAMES, FrameSampling, check_size
from clipmod_cli.decode.moving.sampling import (
    THUMBNAIL_SIDE,
    FrameSelection,
    Room,
    Thumbnail,
    largest_gap,
    room_for,
)
from clipmod_cli.decode.moving.timeline import Timeline
from clipmod_cli.decode.stills.colour_spaces import read_colour_spaces
from clipmod_cli.decode.stills.losses import frame_loses_rows, png_frames
from clipmod_cli.decode.stills.mending import trim_webp
from clipmod_cli.decode.stills.opening import decoder_errors, open_picture
from clipmod_cli.decode.stills.pictures import decode_still, read_orientation
from clipmod_cli.decode.stills.planes import keep_premultiplied
from clipmod_cli.decode.stills.readings import read_picture
from clipmod_cli.decode.transforms import Pictures, Pixels
from clipmod_cli.decode.views import make_all_views
from clipmod_cli.errors import ItemError
from clipmod_cli.types import UnseenReason, ViewInputs


def decode_animation(job: DecodeJob, timeline: Timeline) -> Iterator[Shot]:
    """Yield the views of each sampled frame, then raise ItemError if any is lost."""
    media = job.media
    media.kind, media.duration_s, media.truncated = "animation", timeline.duration_s, timeline.cut
    data = job.data
    if job.format.name == "WEBP" and timeline.cut:  # refused unless its header has the cut length
        data = trim_webp(data, timeline.end)
    opened = open_picture(replace(job, data=data))
    media.frames_total, media.frames_sampling = len(timeline.starts), job.options.frames.mode
    has_pages = job.format.name == "TIFF"
    if job.options.frames.by_change and not has_pages:
        yield from _select(job, opened, timeline)
    else:
        yield from _decode_chosen(job, opened, timeline, has_pages=has_pages)
    if timeline.lost is not None:
        raise ItemError("decode_error", f"not all of this animation can be judged: {timeline.lost}")


def _decode_chosen(
    job: DecodeJob, opened: ImageFile.ImageFile, timeline: Timeline, *, has_pages: bool
) -> Iterator[Shot]:
    """Yield the views of frames that are chosen by time, or of all pages."""
    media, starts = job.media, timeline.starts
    chosen = _choose(job, opened.size, timeline)
    if not has_pages:
        _note_gap(job, largest_gap((starts[number], number) for number in chosen))
    for number, pictures in _pictures(job, opened, chosen):
        if number == 0:
            media.height, media.width = pictures.size
        most, wanted = job.options.limits.max_views // len(chosen), _is_wanted(job, number)
        for view in make_all_views(pictures, job.geometries, job.options, media, most=most, is_wanted=wanted):
            yield number, starts[number], view


@dataclass(frozen=True, slots=True)
class _HeldReadings:
    """The readings of a frame, to be used again after the next frame was decoded."""

    unseen: frozenset[UnseenReason]
    made: tuple[tuple[str, Pixels], ...]

    def __len__(self) -> int:
        return len(self.made)

    def __iter__(self) -> Iterator[tuple[str, Pixels]]:
        return iter(self.made)


def _select(job: DecodeJob, opened: ImageFile.ImageFile, timeline: Timeline) -> Iterator[Shot]:
    """Yield the views of the frames that differ, as many as there is room for."""
    room = _room_for(job, opened.size, timeline)
    most, problem = max(room.views // 2, 1), None

    def make_views(frame: tuple[int, Pictures]) -> list[ViewInputs]:
        wanted = _is_wanted(job, frame[0])
        return make_all_views(frame[1], job.geometries, job.options, job.media, most=most, is_wanted=wanted)

    selection: FrameSelection[tuple[int, Pictures]] = FrameSelection(
        room, make_views, lambda frame: make_thumbnail(pixels for _, pixels in frame[1].readings)
    )
    try:
        for number, pictures in _pictures(job, opened, range(len(timeline.starts))):
            if number == 0:
                job.media.height, job.media.width = pictures.size
            held = _HeldReadings(pictures.readings.unseen, tuple(pictures.readings))
            selection.offer(timeline.starts[number], number, (number, replace(pictures, readings=held)))
    except ItemError as error:
        problem = error
    chosen = selection.close()
    for kept in chosen:
        yield from ((kept.stamp or 0, kept.time_s, view) for view in kept.views)
    if problem is not None:
        raise problem
    _note_gap(job, largest_gap(selection.looks()))
    is_short = selection.is_short and len(chosen) < len(timeline.starts) <= MAX_SCORED_FRAMES
    if selection.has_unseen_scene or is_short:
        job.media.note_unseen("unsampled")


def _is_wanted(job: DecodeJob, number: int) -> PixelTest:
    """Return the function that is called with the readings of a frame; all frames are wanted.

    The first one is compared with others. It is not left out even if it shows what those show.
    """
    return (lambda pixels: job.is_wanted(pixels) or True) if number == 0 else any_picture


def _room_for(job: DecodeJob, size: tuple[int, int], timeline: Timeline) -> Room:
    """Return how much of an animation of this (width, height) is kept: all that differs, if it fits."""
    height_width, options = (size[1], size[0]), job.options
    fits = frames_that_fit(height_width, job.geometries, options.coverage, options.limits)
    room = room_for(
        timeline.duration_s,
        options.max_gap_s,
        fits=min(fits, MAX_SCORED_FRAMES),
        frames=MAX_SCORED_FRAMES,
        views=most_views(job.geometries, height_width, options.limits),
    )
    return replace(room, least_change=0.0, least_s=0.0)


def _note_gap(job: DecodeJob, gap_s: float) -> None:
    job.media.largest_gap_s = gap_s
    if gap_s > job.options.max_gap_s:
        job.media.note_unseen("unsampled")


def _pictures(
    job: DecodeJob, opened: ImageFile.ImageFile, chosen: Sequence[int]
) -> Iterator[tuple[int, Pictures]]:
    """Yield (number, readings) of the chosen frames; raises ItemError at the first that cannot be decoded."""
    sampled = chosen if isinstance(chosen, range) else frozenset(chosen)
    pieces = png_frames(job.data) if job.format.name == "PNG" else []
    for number in chosen if job.format.seekable else range(chosen[-1] + 1):
        try:
            pictures = _decode_frame(job, opened, number, sampled=number in sampled)
        except ItemError as error:
            if number == 0 and error.code == "decode_error":
                yield 0, decode_still(job)  # the part that is there may be enough to flag it
            raise
        if number < len(pieces) and frame_loses_rows(job.data, pieces[number]):
            job.media.truncated = True
        if pictures is not None:
            yield number, pictures


def _choose(job: DecodeJob, size: tuple[int, int], timeline: Timeline) -> Sequence[int]:
    """Return the frames that are sampled by time; notes where the budget of views allows fewer.

    `size` is (width, height).
    """
    options = job.options
    sampling = options.frames
    if job.format.name == "TIFF":  # its pages stay on the screen
        sampling = FrameSampling(mode="dense")
        if len(timeline.starts) > MAX_SCORED_FRAMES:
            job.media.note_unseen("unsampled")
    chosen = sampling.choose(timeline.starts)
    room = frames_that_fit((size[1], size[0]), job.geometries, options.coverage, options.limits)
    if len(chosen) <= room:
        return chosen
    job.media.note_unseen("unsampled")
    return sampling.choose(timeline.starts, room)


def _decode_frame(
    job: DecodeJob, opened: ImageFile.ImageFile, number: int, *, sampled: bool
) -> Pictures | None:
    limits = job.options.limits
    if time.perf_counter() - job.media.started > limits.max_seconds:
        raise ItemError(
            "decode_timeout", f"decoding this animation took more than {limits.max_seconds:g} seconds"
        )
    label = f"{job.format.name} (frame {number})"
    if number and _fills_canvas(opened, number):
        job.media.note_unseen("other_content")
    with decoder_errors(label):
        opened.seek(number)
    check_size(*opened.size, limits)
    with job.gate(opened.width * opened.height * job.format.memory_weight), decoder_errors(label):
        keep_premultiplied(opened)
        opened.load()
        if not sampled:
            return None
        readings = read_picture(opened, read_colour_spaces(opened, job.data, job.format.name))
    orientation = read_orientation(opened)
    return Pictures(readings=readings, size=orientation.store_size(readings.size), orientation=orientation)


def _fills_canvas(opened: ImageFile.ImageFile, number: int) -> bool:
    """Return whether Pillow draws this frame of an APNG on what it is not drawn on in a browser.

    It keeps a default image that is no frame, and fills with the first colour what is disposed of.
    """
    if not isinstance(opened, PngImagePlugin.PngImageFile):
        return False
    if number == 1 and opened.default_image:
        return True
    transparent = opened.info.get("transparency")
    first = transparent[:1] == b"\0" if isinstance(transparent, bytes) else transparent == 0
    clear = opened.mode in {"RGBA", "LA"} or (opened.mode == "P" and first)
    return opened.dispose_op == PngImagePlugin.Disposal.OP_BACKGROUND and not clear


def make_thumbnail(readings: Iterable[Pixels]) -> Thumbnail:
    """Return the whole picture as `(n, 32, 32, 3)`, one for each reading; each cell is a mean."""
    side = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    return np.stack(
        [np.asarray(Image.fromarray(one).resize(side, Image.Resampling.BOX), np.uint8) for one in readings]
    )
