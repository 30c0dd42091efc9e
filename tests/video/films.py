"""Small films made by code: blue squares, with a scene of a red circle where a test wants to find it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from clipmod_cli.decode.item import decode_item
from clipmod_cli.decode.limits import Coverage, DecodeLimits, DecodeOptions, parse_frames
from clipmod_cli.results import Settled
from clipmod_cli.types import Failure, Frame, Geometry, Item
from tests.decode.pictures import CENTRE, check_law
from tests.tiny.shapes import draw_clear

RATE = 10
"""Frames a second, unless a test says otherwise: enough for times, and quick to encode."""

SIZE = (96, 64)
WHOLE = Geometry(fit="whole", size=(0, 0))

KINDS: dict[str, tuple[str, str]] = {
    "mp4": ("mp4", "libx264"),
    "mov": ("mov", "libx264"),
    "mkv": ("matroska", "libx264"),
    "webm": ("webm", "libvpx-vp9"),
    "avi": ("avi", "mpeg4"),
    "ts": ("mpegts", "libx264"),
    "mpg": ("mpeg", "mpeg2video"),
    "flv": ("flv", "libx264"),
    "wmv": ("asf", "wmv2"),
    "m2ts": ("mpegts", "libx264"),
    "ogv": ("ogg", "libvpx"),
}
"""By extension: FFmpeg's name of the container, and a codec that is usual in it."""

FORMATS = {
    "mp4": "MP4",
    "mov": "MOV",
    "mkv": "MATROSKA",
    "webm": "MATROSKA",
    "avi": "AVI",
    "ts": "MPEG-TS",
    "mpg": "MPEG-PS",
    "flv": "FLV",
    "wmv": "ASF",
    "m2ts": "MPEG-TS",
    "ogv": "OGG",
}


@cache
def picture(name: str, size: tuple[int, int] = SIZE) -> Image.Image:
    """Return the plainest picture of a shape, such as "red circle"."""
    colour, shape = name.split()
    return draw_clear(colour, shape, size)


def scene(frames: int, red: Collection[int] = (), size: tuple[int, int] = SIZE) -> list[Image.Image]:
    """Return blue squares, and red circles where `red` says so."""
    names = ("red circle" if number in red else "blue square" for number in range(frames))
    return [picture(name, size) for name in names]


def moving(pictures: Sequence[Image.Image]) -> list[Image.Image]:
    """Return the pictures with something in a corner that is elsewhere in each."""
    marked = [one.copy() for one in pictures]
    for number, one in enumerate(marked):
        left = number * 7 % (one.width - 8)
        one.paste((0, 120, 0), (left, 0, left + 8, 8))
    return marked


def write_film(
    path: Path,
    pictures: Sequence[Image.Image],
    *,
    keys: Collection[int] = (),
    gop: int = 1000,
    rate: int = RATE,
    codec: str | None = None,
    pix_fmt: str = "yuv420p",
    times: Sequence[float] | None = None,
    rotation: int = 0,
    sound: bool = False,
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
) -> Path:
    """Write a film with key frames at 0, each `gop` and `keys`; return its path."""
    form, usual = KINDS[path.suffix[1:]]
    name = codec or usual
    own = {"crf": "10", "forced-idr": "1", "sc_threshold": "0"} if name == "libx264" else {}
    with av.open(str(path), "w", form, container_options=container or {}) as film:
        stream: Any = film.add_stream(name, rate=rate, options={**own, **(options or {})})
        stream.width, stream.height = pictures[0].size
        stream.pix_fmt = pix_fmt
        stream.gop_size = gop
        stream.bit_rate = 2_000_000
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        if sound:
            _add_sound(film, len(pictures) / rate)
        for number, one in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.asarray(one.convert("RGB")), format="rgb24")
            frame.pts = number if times is None else round(times[number] * 1000)
            frame.time_base = Fraction(1, rate) if times is None else Fraction(1, 1000)
            if number in keys:
                frame.pict_type = av.video.frame.PictureType.I
            film.mux(stream.encode(frame))
        film.mux(stream.encode())
    return path


def _add_sound(film: Any, seconds: float) -> None:
    stream: Any = film.add_stream("pcm_s16le", rate=8000, layout="mono")
    frame = av.AudioFrame.from_ndarray(np.zeros((1, int(8000 * seconds)), np.int16), layout="mono")
    frame.sample_rate = 8000
    film.mux([*stream.encode(frame), *stream.encode()])


def watch(
    source: Path | bytes,
    frames: str = "key",
    *,
    geometries: Sequence[Geometry] = (WHOLE,),
    limits: DecodeLimits | None = None,
    max_gap_s: float = 10.0,
    coverage: Coverage = CENTRE,
) -> list[Frame | Settled]:
    """Return what decoding a video gives, by default one view a frame; checks the law of all results."""
    data = source if isinstance(source, bytes) else None
    item = Item(source="film" if data is not None else str(source), index=0, data=data)
    options = DecodeOptions(
        frames=parse_frames(frames),
        limits=limits or DecodeLimits(),
        max_gap_s=max_gap_s,
        coverage=coverage,
    )
    found = decode_item(item, geometries, options)
    check_law(item, found)
    return found


def seen(source: Path | bytes, frames: str = "key", **how: Any) -> list[Frame]:
    """Return the frames of a video that can wholly be watched."""
    found = watch(source, frames, **how)
    assert not isinstance(found[-1], Failure), found[-1].message
    return [one for one in found if isinstance(one, Frame)]


def lost(source: Path | bytes, frames: str = "key", **how: Any) -> Failure:
    """Return the failure of a video that cannot wholly be watched."""
    end = watch(source, frames, **how)[-1]
    assert isinstance(end, Failure), "all of it was watched"
    return end


def is_red(frame: Frame) -> bool:
    """Return whether a frame shows the red circle: red beats blue in the middle of it."""
    pixels = next(iter(frame.inputs.values()))
    height, width = pixels.shape[0], pixels.shape[1]
    red, _, blue = pixels[height // 2, width // 2].tolist()
    return bool(red > blue)


def red_times(frames: Sequence[Frame]) -> list[float]:
    """Return when the frames with the red circle are shown, in seconds."""
    return [frame.time_s for frame in frames if is_red(frame)]


def times(frames: Sequence[Frame]) -> list[float]:
    return [frame.time_s for frame in frames]
