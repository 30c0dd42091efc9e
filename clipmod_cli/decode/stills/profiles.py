"""ICC profiles: converts a picture's numbers to sRGB, and tells ordinary profiles from odd ones.

Does not read files: `colour_spaces` finds or makes the profile of a picture.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

VISIBLE_LEVELS = 8
"""Two colours differ visibly if a channel differs by more levels (of 255) than this. The alpha planes and
colours of lossy formats are off by up to about as much; a picture of less contrast is hardly seen."""

ORDINARY_LEVELS = 96
"""The same for a picture with an ordinary profile, beside its numbers without it. Measured: docs/adr/0006."""

_NEVER = 255
"""No level is further away."""

MAX_PROFILE_BYTES = 4_000_000
"""Those of printing presses have up to 3 MB."""

_TAG_TABLE = 128
_TAG_BYTES = 12

_FLAGS = {"L": 0x0411, "RGB": 0x0411, "LAB": 0x0100, "CMYK": 0x0011}
"""Little CMS's CLUT_PRE_LINEARIZATION and CLUT_POST_LINEARIZATION, and HIGHRESPRECALC: where it computes a
table of its own, the profile's curves stay outside of it, since a table would smooth them.
NOOPTIMIZE: without one."""

_SAMPLES = 4096
_GREYS = slice(0, 256)
_PRIMARIES = (511, 767, 1023)
"""Where in the sample the grey ramp and the full red, green and blue are."""

_MOST_GREY_SHIFT = 28
_MOST_TINT = 12
_LEAST_CHROMA = 64
_STEP, _LEAST_RISE = 16, 6
"""What makes a profile ordinary: greys stay grey and move by at most so many levels, in their order and with
at least a third of their contrast; full red, green and blue stay what they are by so many levels."""

_INKS = np.array(
    # without, and with black; the columns are none, C, M, CM, Y, CY, MY, CMY
    [
        [[255, 255, 255], [0, 160, 225], [232, 0, 134], [46, 48, 146]],
        [[255, 240, 0], [0, 162, 78], [232, 28, 36], [54, 52, 54]],
        [[35, 31, 32], [0, 18, 28], [28, 0, 6], [4, 0, 12]],
        [[28, 26, 0], [0, 16, 4], [24, 2, 0], [0, 0, 0]],
    ],
    np.float64,
).reshape(2, 2, 2, 2, 3)
"""sRGB of offset printing's solid inks `(K, Y, M, C, 3)`, between which others are interpolated."""

_USUAL_INK_SHIFT, _MOST_INK_SHIFT = 64, 96
"""Levels by which a press's profile may differ from this estimate: in 99 % of the colours, and in any."""

Colours = NDArray[np.uint8]


class UnusableProfileError(ValueError):
    """A profile that cannot be applied to the picture."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """One way to read a picture's numbers as sRGB colours.

    Attributes:
        apply: converts an image of mode `mode` to RGB of the same size.
        mode: L, RGB, CMYK or LAB.
        levels: by how many levels a channel of the result must differ from the plain numbers for both
            to be looked at; `VISIBLE_LEVELS` for an odd profile.
    """

    apply: Callable[[Image.Image], Image.Image]
    mode: str
    levels: int

    @property
    def odd(self) -> bool:
        """Whether the result may have little in common with the plain numbers."""
        return self.levels == VISIBLE_LEVELS


@lru_cache(maxsize=8)
def conversions(profile: bytes, mode: str) -> tuple[Conversion, ...]:
    """Return how viewers read a picture of mode L, RGB, CMYK or LAB with this profile.

    None if it leaves colours as they are. One for an ordinary profile; an odd one may have several, since
    a profile can hold several tables, of which each viewer takes another.

    Raises:
        UnusableProfileError: it is damaged, too large, or for another kind of picture.
    """
    if len(profile) > MAX_PROFILE_BYTES:
        raise UnusableProfileError(f"a profile of {len(profile):,} bytes")
    space = profile[16:20]
    source = {b"GRAY": "L", b"RGB ": "RGB", b"CMYK": "CMYK", b"Lab ": "LAB"}.get(space)
    if source is None or (source != mode and (source, mode) != ("RGB", "L")):
        raise UnusableProfileError(f"a profile for {space!r} in a picture of mode {mode}")
    sample = _sample(source)
    has_tables = any(tag[:3] in {b"A2B", b"D2B"} for tag in _tags(profile))
    found: list[tuple[Colours, ImageCms.ImageCmsTransform]] = []
    for variant, intent in _variants(profile, has_tables=has_tables):
        transform = _transform(variant, source, intent)
        colours = np.asarray(transform.apply(Image.fromarray(sample[None], source)))[0]
        if not any(_distance(colours, other[0]) <= VISIBLE_LEVELS for other in found):
            found.append((colours, transform))
    levels = [_levels(sample, colours, source, has_tables=has_tables) for colours, _ in found]
    if max(levels) == 0:
        return ()
    if VISIBLE_LEVELS not in levels:  # all ordinary
        return (_conversion(found[0][1], source, mode, levels[0]),)
    return tuple(_conversion(transform, source, mode, VISIBLE_LEVELS) for _, transform in found)


def _tags(profile: bytes) -> Iterator[bytes]:
    count = int.from_bytes(profile[_TAG_TABLE : _TAG_TABLE + 4], "big")
    for number in range(min(count, len(profile) // _TAG_BYTES)):
        at = _TAG_TABLE + 4 + _TAG_BYTES * number
        yield profile[at : at + 4]


def _variants(profile: bytes, *, has_tables: bool) -> Iterator[tuple[bytes, ImageCms.Intent]]:
    """Yield the profile's parts that a viewer may take: the tables of each intent, or its curves."""
    if not has_tables:  # the perceptual intent would move black
        yield profile, ImageCms.Intent.RELATIVE_COLORIMETRIC
        return
    yield profile, ImageCms.Intent.PERCEPTUAL
    yield profile, ImageCms.Intent.RELATIVE_COLORIMETRIC
    yield profile, ImageCms.Intent.SATURATION
    tags = frozenset(_tags(profile))
    for kinds in ((b"D2B",), (b"A2B", b"D2B")):
        left = [tag for tag in tags if tag[:3] not in kinds]
        if len(left) < len(tags) and any(tag[:3] == b"A2B" or tag in {b"rTRC", b"kTRC"} for tag in left):
            yield _hide(profile, kinds), ImageCms.Intent.RELATIVE_COLORIMETRIC


def _hide(profile: bytes, kinds: tuple[bytes, ...]) -> bytes:
    changed = bytearray(profile)
    for number, tag in enumerate(_tags(profile)):
        if tag[:3] in kinds:
            at = _TAG_TABLE + 4 + _TAG_BYTES * number
            changed[at : at + 4] = b"zz" + number.to_bytes(2, "big")
    return bytes(changed)


def _transform(profile: bytes, mode: str, intent: ImageCms.Intent) -> ImageCms.ImageCmsTransform:
    try:
        return ImageCms.ImageCmsTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")),
            mode,
            "RGB",
            intent,
            flags=ImageCms.Flags(_FLAGS[mode]),
        )
    except MemoryError:
        raise
    except Exception as error:
        raise UnusableProfileError(str(error)) from error


@lru_cache(maxsize=1)
def from_lab() -> Callable[[Image.Image], Image.Image]:
    """Return what converts CIE L*a*b* to sRGB."""
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    return _conversion(_transform(lab, "LAB", ImageCms.Intent.PERCEPTUAL), "LAB", "LAB", 0).apply


def _conversion(transform: ImageCms.ImageCmsTransform, source: str, mode: str, levels: int) -> Conversion:
    def convert(image: Image.Image) -> Image.Image:
        result = Image.new("RGB", image.size)
        transform.transform.apply(image.getim(), result.getim())
        return result

    if mode != "L":
        return Conversion(convert, mode, levels)
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    tables = [[*channel.get_flattened_data()] for channel in convert(ramp.convert(source)).split()]
    return Conversion(lambda image: Image.merge("RGB", [image.point(table) for table in tables]), "L", levels)


def _sample(mode: str) -> Colours:
    """Return colours `(n, channels)`: ramps of grey and of each channel, then some drawn by a fixed seed."""
    ramp = np.arange(256, dtype=np.uint8)
    if mode == "L":
        return ramp
    channels = len(mode)
    grey = np.repeat(ramp[:, None], channels, axis=1)
    ramps = [grey, *(grey * (np.arange(channels) == channel).astype(np.uint8) for channel in range(channels))]
    drawn = np.random.default_rng(5).integers(0, 256, (_SAMPLES, channels), dtype=np.uint8)
    return np.concatenate([*ramps, drawn])


def _distance(first: Colours, second: Any) -> float:
    return float(np.abs(first.astype(np.int16) - second).max())


def _levels(sample: Colours, colours: Colours, source: str, *, has_tables: bool) -> int:
    """Return a conversion's `levels` by what it makes of the sample; 0 if it leaves colours as they are."""
    if source == "CMYK":
        shift = np.abs(colours - _print(sample)).max(axis=1)
        usual = np.percentile(shift, 99) <= _USUAL_INK_SHIFT and shift.max() <= _MOST_INK_SHIFT
        return _NEVER if usual else VISIBLE_LEVELS
    plain = sample if source == "RGB" else np.repeat(sample[:, None], 3, axis=1)
    if source == "LAB":
        plain = np.asarray(from_lab()(Image.fromarray(sample[None], "LAB")))[0]
        return 0 if _distance(colours, plain) <= VISIBLE_LEVELS else VISIBLE_LEVELS
    if has_tables and source == "RGB":  # the sample may miss what a table does between its points
        return VISIBLE_LEVELS
    if _distance(colours, plain) <= VISIBLE_LEVELS:
        return 0
    return ORDINARY_LEVELS if _is_ordinary(colours.astype(np.int16), source) else VISIBLE_LEVELS


def _is_ordinary(colours: NDArray[np.int16], source: str) -> bool:
    greys = colours[_GREYS]
    tint = np.ptp(greys, axis=1).max()
    shift = np.abs(greys - np.arange(256)[:, None]).max()
    rise = (greys[_STEP:] - greys[:-_STEP]).min()
    if tint > _MOST_TINT or shift > _MOST_GREY_SHIFT or rise < _LEAST_RISE:
        return False
    if source == "L":
        return True
    primaries = colours[[*_PRIMARIES]]
    others = np.where(np.eye(3, dtype=bool), -255, primaries).max(axis=1)
    return bool((primaries.diagonal() - others).min() >= _LEAST_CHROMA)


def _print(inks: Colours) -> NDArray[np.float64]:
    """Return about what inks `(n, 4)` look like in offset printing, sRGB `(n, 3)`.

    The Neugebauer equations: solid overprints, weighed by the share of paper that each covers. The dots'
    growth in print and the curve of sRGB about cancel out.
    """
    cyan, magenta, yellow, black = inks.T / 255.0

    def weights(share: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.stack([1 - share, share])

    shown: NDArray[np.float64] = np.einsum(
        "kn,yn,mn,cn,kymcd->nd", weights(black), weights(yellow), weights(magenta), weights(cyan), _INKS
    )
    return shown
