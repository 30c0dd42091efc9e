"""The sampled frames of an animation: GIF, APNG, WebP, AVIF, and the pages of a TIFF.

Which frames is `limits.FrameSampling`'s answer, when they are shown `timeline`'s. Frames build upon
each other, so most formats are decoded from the first to the last frame whatever is sampled.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

from PIL import ImageFile

from clipmod_cli.decode.formats import load
from clipmod_cli.decode.job import DecodeJob
from clipmod_cli.decode.limits import check_size
from clipmod_cli.decode.moving.timeline import (
    SUBSTITUTE_DELAY_S,
    Timeline,
    frame_durations,
    make_timeline,
    seen_delay,
)
from clipmod_cli.decode.stills.colours import to_pixels
from clipmod_cli.decode.stills.mending import trim_webp
from clipmod_cli.decode.stills.opening import decoder_errors, open_picture
from clipmod_cli.decode.stills.pictures import decode_still, read_orientation
from clipmod_cli.decode.views import Picture
from clipmod_cli.errors import ItemError


def find_timeline(job: DecodeJob) -> Timeline | None:
    """Return the timeline of a file that may be an animation (see `Timeline.moves`), else None."""
    timeline: Timeline | None = load(job.format.timeline)(job) if job.format.timeline is not None else None
    return timeline


def decode_animation(job: DecodeJob, timeline: Timeline) -> Iterator[tuple[int, float, Picture]]:
    """Yield (number, time in seconds, picture) of each sampled frame, then raise ItemError if any is lost."""
    media = job.media
    media.kind, media.duration_s, media.truncated = "animation", timeline.duration_s, timeline.cut
    opened = open_picture(replace(job, data=_usable(job, timeline)))
    chosen = job.options.frames.choose(timeline.starts)
    steps = chosen if job.format.seekable else range(chosen[-1] + 1)
    wanted = frozenset(chosen)
    for number in steps:
        try:
            picture = _decode_frame(job, opened, number, wanted=number in wanted)
        except ItemError as error:
            if number == 0 and error.code == "decode_error":
                yield 0, 0.0, decode_still(job)  # what is there of it may be reason enough to flag it
            raise
        if picture is not None:
            if number == 0:
                media.height, media.width = picture.size
            yield number, timeline.starts[number], picture
    if timeline.lost is not None:
        raise ItemError("decode_error", f"not all of this animation can be judged: {timeline.lost}")


def _decode_frame(
    job: DecodeJob, opened: ImageFile.ImageFile, number: int, *, wanted: bool
) -> Picture | None:
    limits = job.options.limits
    if time.perf_counter() - job.media.started > limits.max_seconds:
        raise ItemError(
            "decode_timeout", f"decoding this animation took more than {limits.max_seconds:g} seconds"
        )
    label = f"{job.format.name} (frame {number})"
    with decoder_errors(label):
        opened.seek(number)
    check_size(*opened.size, limits)
    with job.gate(opened.width * opened.height * job.format.memory_weight), decoder_errors(label):
        opened.load()
        pixels = to_pixels(opened) if wanted else None
    if pixels is None:
        return None
    orientation = read_orientation(opened)
    size = orientation.store_size((pixels.shape[0], pixels.shape[1]))
    return Picture(pixels=pixels, size=size, orientation=orientation)


def _usable(job: DecodeJob, timeline: Timeline) -> bytes:
    """Return bytes that the decoder opens: a cut WebP is refused unless its header says how long it is."""
    return trim_webp(job.data, timeline.end) if job.format.name == "WEBP" and timeline.cut else job.data


def avif_timeline(job: DecodeJob) -> Timeline | None:
    """Return the timeline of an AVIF; None if it cannot be opened. Only the decoder knows its frames."""
    most = job.options.limits.max_walked_frames
    try:
        with decoder_errors("AVIF"):
            frames = min(int(getattr(open_picture(job), "n_frames", 1)), most + 1)
    except ItemError:
        return None  # decoding it as a still reports the error
    durations = [seen_delay(seconds) for seconds in frame_durations(job.data, frames)]
    missing = frames - len(durations)
    return make_timeline([*durations, *[SUBSTITUTE_DELAY_S] * missing], most)
