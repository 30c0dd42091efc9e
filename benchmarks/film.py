"""Makes a 1080p film such as people upload: textured pictures that move, cuts, H.264 by x264's own habits.

x264 sets key frames where it finds a cut, and one each `keyint` frames: nothing here says where.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT, RATE = 1920, 1080, 25

SCENE_S = (2.0, 14.0)
"""Scenes are this long, evenly drawn; a film's mean shot is four to eight seconds."""

MARGIN = 256
"""Pixels that a scene is larger than the screen, so that there is somewhere to pan to."""

SPEED = 6
"""Pixels that the picture moves in a frame at most, a second thing in it twice that."""

GRAIN = 2.0
"""Standard deviation of a camera's noise, in levels: new in each frame."""

SLOPE = 1.4
"""How steeply amplitude falls with frequency: key frames come out as large as those of photographs of
this size by the same encoder (60 to 410 KB for eight of scikit-image's), in the upper half of them."""

GRAINS = 8
"""Grain is drawn once and shifted; drawing it for each frame takes longer than encoding."""

Planes = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]


def write_part(path: Path, seconds: float, keyint: int, *, seed: int = 0, crf: int = 23) -> None:
    """Write a film of `seconds`, with a key frame at each cut that x264 finds and each `keyint` frames."""
    with av.open(str(path), "w") as film:
        options = {"preset": "veryfast", "crf": str(crf), "keyint": str(keyint)}
        stream: Any = film.add_stream("libx264", rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.gop_size = keyint
        for number, planes in zip(range(round(seconds * RATE)), _frames(seed), strict=False):
            frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
            for plane, values in zip(frame.planes, planes, strict=True):
                plane.update(_padded(values, plane.line_size))
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            film.mux(stream.encode(frame))
        film.mux(stream.encode())


def repeat(part: Path, path: Path, times: int) -> None:
    """Write a film that is `part` so many times over; nothing is encoded anew."""
    with av.open(str(part)) as read, av.open(str(path), "w") as film:
        source = read.streams.video[0]
        packets = [packet for packet in read.demux(source) if packet.size]
        unit = source.time_base or Fraction(1, RATE)
        stamps = [(packet.pts or 0, packet.dts or 0) for packet in packets]
        length = sum(packet.duration or 0 for packet in packets)
        target: Any = film.add_stream_from_template(source)
        for turn in range(times):
            for packet, (shown, decoded) in zip(packets, stamps, strict=True):
                packet.stream, packet.time_base = target, unit
                packet.pts, packet.dts = shown + turn * length, decoded + turn * length
                film.mux(packet)


def describe(path: Path) -> dict[str, float | int | str]:
    """Return a film's length, rate and key frames, as its packets tell them."""
    with av.open(str(path)) as film:
        stream = film.streams.video[0]
        packets = [packet for packet in film.demux(stream) if packet.size]
        keys = [packet for packet in packets if packet.is_keyframe]
        seconds = len(packets) / RATE
        return {
            "picture": f"{stream.width}x{stream.height} {stream.codec_context.name}, {RATE} frames a second",
            "seconds": seconds,
            "megabits_per_second": round(sum(packet.size for packet in packets) * 8e-6 / seconds, 2),
            "key_frames": len(keys),
            "seconds_between_key_frames": round(seconds / len(keys), 2),
            "kilobytes_of_a_key_frame": round(sum(packet.size for packet in keys) / len(keys) / 1e3),
        }


def _frames(seed: int) -> Iterator[Planes]:
    rng = np.random.default_rng(seed)
    grain = [rng.normal(0, GRAIN, (HEIGHT, WIDTH)).round().astype(np.int8) for _ in range(GRAINS)]
    for number in count():
        scene, thing = _draw(rng), _draw(rng)
        pan, run = (rng.integers(-limit, limit + 1, 2) for limit in (SPEED, 2 * SPEED))
        for step in range(round(rng.uniform(*SCENE_S) * RATE)):
            planes = _window(scene, pan * step)
            _put(planes, thing, run * step)
            shift = tuple(rng.integers(0, HEIGHT, 2).tolist())
            noisy = planes[0] + np.roll(grain[(number + step) % GRAINS], shift, (0, 1))
            yield np.clip(noisy, 16, 235).astype(np.uint8), planes[1], planes[2]


def _draw(rng: np.random.Generator) -> Planes:
    """Return a picture with the spectrum of photographs: amplitude falls with frequency."""
    height, width = HEIGHT + MARGIN, WIDTH + MARGIN
    luma = _pink(rng, height, width, 40.0) + 120
    chroma = [_pink(rng, height // 2, width // 2, 14.0) + 128 for _ in range(2)]
    made = [np.clip(plane, 16, 235).astype(np.uint8) for plane in (luma, *chroma)]
    return made[0], made[1], made[2]


def _pink(rng: np.random.Generator, height: int, width: int, spread: float) -> NDArray[np.float64]:
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    frequency[0, 0] = np.inf
    turned = np.exp(2j * np.pi * rng.random(frequency.shape)) / frequency**SLOPE
    plane = np.fft.irfft2(turned, (height, width))
    return np.asarray(plane * (spread / plane.std()))


def _window(scene: Planes, offset: NDArray[np.int64]) -> Planes:
    """Return what the screen shows of a scene; it is mirrored back and forth within its margin."""
    down, across = (MARGIN // 2 - abs(int(value) % MARGIN - MARGIN // 2) for value in offset)
    down, across = down & ~1, across & ~1
    luma, blue, red = scene
    small = slice(down // 2, (down + HEIGHT) // 2), slice(across // 2, (across + WIDTH) // 2)
    large = slice(down, down + HEIGHT), slice(across, across + WIDTH)
    return luma[large].copy(), blue[small].copy(), red[small].copy()


def _put(planes: Planes, thing: Planes, offset: NDArray[np.int64]) -> None:
    """Put a piece of another picture into the planes, a fifth of the screen's width."""
    side = WIDTH // 5 & ~1
    top, left = (
        int(value) % room & ~1 for value, room in zip(offset, (HEIGHT - side, WIDTH - side), strict=True)
    )
    for plane, piece, part in zip(planes, thing, (1, 2, 2), strict=True):
        size = side // part
        plane[top // part :, left // part :][:size, :size] = piece[:size, :size]


def _padded(values: NDArray[np.uint8], line_size: int) -> bytes:
    if values.shape[1] == line_size:
        return values.tobytes()
    padded = np.zeros((values.shape[0], line_size), np.uint8)
    padded[:, : values.shape[1]] = values
    return padded.tobytes()
