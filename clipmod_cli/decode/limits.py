"""The limits of decoding, and which frames of an animation are scored. Cheap to import."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

from clipmod_cli.errors import ItemError, SettingsError

MAX_SCORED_FRAMES = 256
"""Frames of one animation, and pages, that are scored at most."""

MAX_VIDEO_FRAMES = 1024
"""Frames of one video that are scored at most."""

KEY_FRAMES = 32
"""Frames that `key` takes of an animation. Most shared GIFs have fewer, so all of theirs are seen."""

MAX_VIEWS = 1024
"""Views of one input that are ever scored."""

COVERAGE_HELP = "full, centre or tiles=N"
MAX_TILES = 8

FRAMES_HELP = "auto, key, dense, fps=N or max=N"


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeLimits:
    """Limits on the cost of an input: a 38-byte WebP can declare 50 megapixels, which take 800 MB to decode.

    Attributes:
        max_file_bytes: of the encoded file.
        max_pixels: that are decoded; a JPEG counts after its DCT scaling.
        max_header_pixels: that a header may declare, whatever the scaling.
        max_side: of the declared width and height.
        max_walked_frames: of an animation or pages of a TIFF.
        max_seconds: that one animation may take; checked between its frames.
        pixels_in_flight: that all workers together may be decoding.
        max_video_bytes: of a video file, which is never held in memory.
        max_video_side: of its width and height.
        max_video_seconds: of wall time that one video may take.
        max_views: of one input that are scored, at most `MAX_VIEWS`; fewer frames, then fewer views of each.
        max_view_bytes: pixels of these views, for all geometries together.
    """

    max_file_bytes: int = 50_000_000
    max_pixels: int = 50_000_000
    max_header_pixels: int = 200_000_000
    max_side: int = 30_000
    max_walked_frames: int = 10_000
    max_seconds: float = 60.0
    pixels_in_flight: int = 200_000_000
    max_video_bytes: int = 10_000_000_000
    max_video_side: int = 8192
    max_video_seconds: float = 600.0
    max_views: int = MAX_VIEWS
    max_view_bytes: int = 256_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameSampling:
    """Which frames of an animation or video are scored; the first and the last always are.

    Attributes:
        mode: `auto` and `dense` take those that differ; of an animation `key` takes at most `KEY_FRAMES` and
            `max` at most `value`, evenly by time; `fps` takes `value` a second.
        value: None for `auto`, `key` and `dense`.
        until_hit: none is scored after the first hit.
    """

    mode: Literal["auto", "key", "fps", "dense", "max"] = "auto"
    value: float | None = None
    until_hit: bool = False

    @property
    def by_change(self) -> bool:
        """Whether all frames are decoded and compared."""
        return self.mode in {"auto", "dense"}

    def choose(self, starts: Sequence[float], most: int = MAX_SCORED_FRAMES) -> tuple[int, ...]:
        """Return the rising indices of at most `most` frames to score.

        `starts` are the times of all frames, in seconds.
        """
        if self.mode == "fps" and self.value is not None:
            ticks = math.floor(starts[-1] * self.value) + 1
            if ticks < most:
                shown = (_shown_at(starts, tick / self.value) for tick in range(ticks))
                return tuple(sorted({0, len(starts) - 1, *shown}))
        return _spread(starts, min(self.most, most))

    @property
    def most_of_video(self) -> int:
        """The number of frames of a video that are taken at most."""
        return int(self.value or 0) if self.mode == "max" else MAX_VIDEO_FRAMES

    @property
    def most(self) -> int:
        """The number of frames of an animation that are taken at most."""
        match self.mode:
            case "key":
                return KEY_FRAMES
            case "max":
                return min(int(self.value or KEY_FRAMES), MAX_SCORED_FRAMES)
            case "auto" | "fps" | "dense":
                return MAX_SCORED_FRAMES


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How much of each picture the models are shown.

    Attributes:
        full: all of it, by as many views as that needs; otherwise one view by each model's own transform,
            which mostly cuts out the middle.
        tiles: so many squares a side are added to the views.
    """

    full: bool = True
    tiles: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeOptions:
    """How pictures are decoded.

    Attributes:
        exact: each model's own transform to the bit, instead of scaled decoding and fast resize.
        heic: whether HEIC is accepted (it also needs the `heic` extra).
        max_gap_s: the longest time of a video or animation without a look, in seconds; `key` fills key frames
            that are further apart with others.
        spans: only these parts of a video are sampled, more densely: rising (start, end) in seconds.
        coverage: how much of each picture the models are shown.
        pdq: make the PDQ hash of a still, from all of its pixels.
    """

    exact: bool = False
    limits: DecodeLimits = field(default_factory=DecodeLimits)
    frames: FrameSampling = field(default_factory=FrameSampling)
    heic: bool = False
    max_gap_s: float = 10.0
    spans: tuple[tuple[float, float], ...] = ()
    coverage: Coverage = field(default_factory=Coverage)
    pdq: bool = False


def parse_frames(text: str) -> FrameSampling:
    """Return the sampling that `auto`, `key`, `dense`, `fps=N` or `max=N` names; raises SettingsError."""
    match text.strip().partition("="):
        case "auto", "", "":
            return FrameSampling(mode="auto")
        case "key", "", "":
            return FrameSampling(mode="key")
        case "dense", "", "":
            return FrameSampling(mode="dense")
        case "fps", "=", number:
            with suppress(ValueError):
                if math.isfinite(rate := float(number)) and rate > 0:
                    return FrameSampling(mode="fps", value=rate)
            raise SettingsError(f"--frames fps={number} needs a number above 0, as fps=2 or fps=0.5")
        case "max", "=", number:
            if number.isascii() and number.isdigit() and 2 <= int(number) <= MAX_VIDEO_FRAMES:
                return FrameSampling(mode="max", value=int(number))
            raise SettingsError(
                f"--frames max={number} needs a whole number from 2 (the first and the last frame are always"
                f" scored) to {MAX_VIDEO_FRAMES}"
            )
        case _:
            raise SettingsError(f"--frames must be {FRAMES_HELP}, not {text!r}")


def parse_coverage(text: str) -> Coverage:
    """Return the coverage that `full`, `centre` or `tiles=N` names; raises SettingsError."""
    match text.strip().partition("="):
        case ("full" | "centre") as mode, "", "":
            return Coverage(full=mode == "full")
        case "tiles", "=", number:
            count = int(number) if number.isascii() and number.isdigit() else 0
            if not 2 <= count <= MAX_TILES:
                raise SettingsError(f"--coverage tiles={number} needs a whole number from 2 to {MAX_TILES}")
            return Coverage(tiles=count)
        case _:
            raise SettingsError(f"--coverage must be {COVERAGE_HELP}, not {text!r}")


def check_size(width: int, height: int, limits: DecodeLimits, *, scale: int = 1) -> None:
    """Raise ItemError(`too_many_pixels`) for a header beyond the limits.

    Args:
        width: as the header declares it, in pixels.
        height: likewise.
        limits: what is allowed.
        scale: both sides are divided by this while decoding (a JPEG's DCT scaling).
    """
    decoded = math.ceil(width / scale) * math.ceil(height / scale)
    if max(width, height) > limits.max_side:
        problem = f"a side of {width} x {height} is over the limit of {limits.max_side} pixels"
    elif width * height > limits.max_header_pixels:
        problem = f"{width} x {height} is over the limit of {limits.max_header_pixels / 1e6:g} megapixels"
    elif decoded > limits.max_pixels:
        most = limits.max_pixels / 1e6
        problem = f"{width} x {height} is over the limit of {most:g} megapixels to be decoded"
    else:
        return
    raise ItemError("too_many_pixels", problem)


def _spread(starts: Sequence[float], most: int) -> tuple[int, ...]:
    """Return at most `most` frames: evenly by time, then the rest evenly by number.

    By time alone, a hundred short frames beside one of a minute would hardly be sampled.
    """
    last = len(starts) - 1
    if last < most:
        return tuple(range(last + 1))
    chosen = {0, last}
    for step in range(most):
        if len(chosen) < most:
            chosen.add(_shown_at(starts, starts[-1] * step / (most - 1)))
    rest = [number for number in range(last + 1) if number not in chosen]
    left_over = most - len(chosen)
    chosen |= {rest[len(rest) * step // left_over] for step in range(left_over)}
    return tuple(sorted(chosen))


def _shown_at(starts: Sequence[float], seconds: float) -> int:
    """Return the frame that is shown at a time; sums of delays are off by less than a microsecond."""
    return bisect_right(starts, seconds + 1e-6) - 1
