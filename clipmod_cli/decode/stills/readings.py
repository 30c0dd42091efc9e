"""The readings of a picture: what people see who look at it in different viewers, as 8-bit RGB.

Most pictures have one reading. Transparency shows the page behind it, which may have any colour; not all
viewers apply a colour profile or transparency; no float picture says which numbers are black and white.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from clipmod_cli.decode.stills.colour_spaces import ColourSpaces
from clipmod_cli.decode.stills.planes import Split, split_grey_pixels, split_pixels, splits
from clipmod_cli.decode.stills.profiles import (
    VISIBLE_LEVELS,
    Conversion,
    UnusableProfileError,
    conversions,
    from_lab,
)
from clipmod_cli.types import UnseenReason

Pixels: TypeAlias = NDArray[np.uint8]

STRIP_PIXELS = 1_000_000
"""Converted at once: the intermediates of a whole picture would take more memory than it and the result."""

_COMPARED_PIXELS = 100_000
"""Compared at once: most readings that differ do so within the first rows."""

VISIBLE_SHARE = 0.01
"""Readings differ if so large a part of a square on the picture's shorter side differs by more than
`VISIBLE_LEVELS`. Less is the edge of a logo or noise; models see long pictures in squares."""

_WHITE = 255
_BACKGROUNDS = {"white": 255, "black": 0, "grey": 128}
_NO_ALPHA = "no alpha"
MOST_PAGES = len(_BACKGROUNDS) + 1
"""Readings of a transparent picture without a profile."""

_MOST_PROFILES = 4
"""Of one file: honest ones have one or two."""

_THUMBNAIL = (64, 64)


class Reading(NamedTuple):
    """One reading: its name, and its pixels uint8 `(h, w, 3)`, contiguous and writable."""

    name: str
    pixels: Pixels


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A possible reading."""

    name: str
    split: Split
    conversion: Conversion | None = None
    background: int | None = None  # None: alpha is ignored

    def make(self, strip: Image.Image) -> Image.Image:
        """Return a strip of the picture as RGB."""
        planes = self.split(strip)
        if self.background is None:
            colours = planes.premultiplied or planes.colours
            return self._convert(colours)
        shown = self._convert(planes.colours)
        if planes.alpha is None:
            return shown
        page = Image.new("RGB", shown.size, (self.background,) * 3)
        page.paste(shown, mask=planes.alpha)
        return page

    def _convert(self, colours: Image.Image) -> Image.Image:
        if self.conversion is None:
            if colours.mode == "LAB":
                return from_lab()(colours)
            return colours if colours.mode == "RGB" else colours.convert("RGB")
        if colours.mode != self.conversion.mode:
            colours = colours.convert(self.conversion.mode)
        return self.conversion.apply(colours)


@dataclass(frozen=True, slots=True)
class Readings:
    """The readings of one picture, made one after the other so that only one is in memory.

    Attributes:
        names: of the readings, the one that most people see first; at least one.
        unseen: reasons why a person may see something that no reading shows: `colour`.
    """

    names: tuple[str, ...]
    unseen: frozenset[UnseenReason]
    _strips: _Strips
    _candidates: tuple[_Candidate, ...]

    def __iter__(self) -> Iterator[Reading]:
        for name, candidate in zip(self.names, self._candidates, strict=True):
            yield Reading(name, self._strips.convert(candidate, in_place=len(self) == 1))

    def __len__(self) -> int:
        return len(self.names)

    @property
    def size(self) -> tuple[int, int]:
        """Their (height, width)."""
        return self._strips.height, self._strips.width


class _Strips:
    """A picture of Pillow or an array of pixels, in strips of whole rows."""

    def __init__(self, picture: Image.Image | Pixels) -> None:
        self.picture = picture
        if isinstance(picture, Image.Image):
            self.width, self.height = picture.size
            self.plain = picture.mode == "RGB" and not picture.has_transparency_data
        else:
            self.height, self.width, channels = picture.shape
            self.plain = channels == 3

    def cut(self, most: int) -> Iterator[tuple[int, int, Image.Image]]:
        """Yield (top, bottom, rows between them) of about `most` pixels, from the first row to the last."""
        rows = max(1, most // max(self.width, 1))
        for top in range(0, self.height, rows):
            bottom = min(top + rows, self.height)
            if not isinstance(self.picture, Image.Image):
                yield top, bottom, Image.fromarray(self.picture[top:bottom])
            elif (top, bottom) == (0, self.height):
                yield top, bottom, self.picture
            else:
                yield top, bottom, self.picture.crop((0, top, self.width, bottom))

    def thumbnail(self) -> Image.Image:
        """Return up to 64 x 64 of the pixels, none of them mixed: mixed noise would be grey."""
        if isinstance(self.picture, Image.Image):
            return self.picture.resize(_THUMBNAIL, Image.Resampling.NEAREST)
        down, across = -(-self.height // _THUMBNAIL[1]), -(-self.width // _THUMBNAIL[0])
        return Image.fromarray(np.ascontiguousarray(self.picture[::down, ::across]))

    def convert(self, candidate: _Candidate, *, in_place: bool) -> Pixels:
        """Return the whole picture as RGB, if possible in the array that it is already."""
        source = self.picture if isinstance(self.picture, np.ndarray) else None
        if source is not None and source.shape[2] == 3 and (in_place or candidate.conversion is None):
            pixels = source
            if candidate.conversion is None:
                return pixels
        elif self.width * self.height <= STRIP_PIXELS:
            ((_, _, strip),) = self.cut(STRIP_PIXELS)
            return np.array(candidate.make(strip))
        else:
            pixels = np.empty((self.height, self.width, 3), np.uint8)
        for top, bottom, strip in self.cut(STRIP_PIXELS):
            pixels[top:bottom] = np.asarray(candidate.make(strip))
        return pixels


def read_picture(picture: Image.Image, spaces: ColourSpaces = ColourSpaces()) -> Readings:  # noqa: B008 — frozen
    """Return the readings of a loaded picture of any mode, whose file says `spaces` of its colours.

    A picture without alpha and profile costs no more than its conversion to RGB.
    """
    strips = _Strips(picture)
    ways = splits(picture, (strip for _, _, strip in strips.cut(STRIP_PIXELS)))
    mode = picture.mode
    if spaces.profiles and mode not in {"RGB", "CMYK"}:
        mode = next(iter(ways.values()))(strips.thumbnail()).colours.mode
    return _choose(strips, ways, mode, spaces)


def read_pixels(
    pixels: Pixels,
    spaces: ColourSpaces = ColourSpaces(),  # noqa: B008 — frozen
    *,
    grey: bool = False,
) -> Readings:
    """Return the readings of decoded pixels uint8 `(h, w, 3)` RGB or `(h, w, 4)` RGBA.

    Args:
        pixels: themselves the reading where nothing has to be converted; overwritten by the converted
            colours where those are the only reading.
        spaces: what the file says of their colours.
        grey: whether the file holds grey only, so that a profile for grey applies.
    """
    split = split_grey_pixels if grey else split_pixels
    return _choose(_Strips(pixels), {"": split}, "L" if grey else "RGB", spaces)


def needs_every_pixel(spaces: ColourSpaces, mode: str) -> bool:
    """Return whether a picture (of mode L, RGB or CMYK) must not be scaled before it is converted.

    Under an odd profile the mean of two pixels is no colour between theirs.
    """
    found, _ = _conversions(spaces, mode)
    return any(conversion.odd for conversion in found)


def _choose(strips: _Strips, ways: Mapping[str, Split], mode: str, spaces: ColourSpaces) -> Readings:
    """Return those readings that differ visibly, the first always."""
    found, usable = _conversions(spaces, mode)
    unseen: frozenset[UnseenReason] = frozenset(() if usable and not spaces.unusable else ("colour",))
    split = next(iter(ways.values()))
    if strips.plain and not found:  # most pictures
        return Readings(("plain",), unseen, strips, (_Candidate("plain", split),))
    if found and not found[0].odd and not _changes_visibly(strips, split, found[0]):
        found = []
    colours: list[tuple[str, Conversion | None]] = [("", None)]
    if found:
        names = ["profile", *(f"profile {number}" for number in range(2, len(found) + 1))]
        colours = [*zip(names, found, strict=True), ("no profile", None)]
    pages = _pages(strips, split)
    candidates = [
        _Candidate(" ".join(filter(None, (numbers, colour, page))) or "plain", split, conversion, background)
        for numbers, split in ways.items()
        for colour, conversion in colours
        for page, background in pages.items()
    ]
    levels = found[0].levels if found else VISIBLE_LEVELS
    given: list[_Candidate] = []
    for candidate in candidates:
        if _differs(strips, candidate, given, levels):
            given.append(candidate)
    given[0].make(strips.thumbnail())  # fails now, if ever
    return Readings(tuple(one.name for one in given), unseen, strips, tuple(given))


def _conversions(spaces: ColourSpaces, mode: str) -> tuple[list[Conversion], bool]:
    """Return (how viewers read the numbers, whether all profiles can be applied).

    Where all profiles are ordinary, the first counts.
    """
    found: list[Conversion] = []
    usable = len(spaces.profiles) <= _MOST_PROFILES
    for profile in spaces.profiles[:_MOST_PROFILES]:
        try:
            found += conversions(profile, mode)
        except UnusableProfileError:
            usable = False
    odd = any(conversion.odd for conversion in found)
    if not odd:
        return found[:1], usable
    return sorted(found, key=lambda conversion: not conversion.odd), usable


def _changes_visibly(strips: _Strips, split: Split, conversion: Conversion) -> bool:
    """Return whether a conversion changes the thumbnail at all."""
    thumbnail = strips.thumbnail()
    plain, converted = _Candidate("", split), _Candidate("", split, conversion)
    changed = _count_different(plain.make(thumbnail), converted.make(thumbnail), VISIBLE_LEVELS)
    return changed >= VISIBLE_SHARE * thumbnail.width * thumbnail.height


def _pages(strips: _Strips, split: Split) -> dict[str, int | None]:
    """Return the backgrounds to compose the picture on: one where it is all but opaque."""
    if split(strips.thumbnail()).alpha is None:
        return {"": None}
    transparent, opaque, enough = 0, True, _enough(strips)
    for _, _, strip in strips.cut(STRIP_PIXELS):
        alpha = strip.getchannel("A") if strip.mode in {"RGBA", "LA"} else split(strip).alpha
        levels = alpha.histogram() if alpha else [0]
        opaque = opaque and not any(levels[:_WHITE])
        transparent += sum(levels[: _WHITE - VISIBLE_LEVELS])
        if transparent >= enough:
            return {**_BACKGROUNDS, _NO_ALPHA: None}
    return {"": None if opaque else _WHITE}


def _enough(strips: _Strips) -> float:
    return max(1.0, VISIBLE_SHARE * min(strips.width, strips.height) ** 2)


def _differs(strips: _Strips, candidate: _Candidate, given: list[_Candidate], levels: int) -> bool:
    """Return whether a candidate differs visibly from all readings that are given already.

    Two conversions of the same numbers must be more than `levels` apart.
    """
    left = dict.fromkeys(range(len(given)), 0)
    enough = _enough(strips)
    for _, _, strip in strips.cut(_COMPARED_PIXELS):
        if not left:
            break
        made = candidate.make(strip)
        for position in [*left]:
            other = given[position]
            apart = VISIBLE_LEVELS if other.conversion is candidate.conversion else levels
            left[position] += _count_different(made, other.make(strip), apart)
            if left[position] >= enough:
                del left[position]
    return not left


def _count_different(first: Image.Image, second: Image.Image, levels: int) -> int:
    """Return how many pixels of two RGB images differ by more levels in a channel."""
    red, green, blue = ImageChops.difference(first, second).split()
    most = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    return sum(most.histogram()[levels + 1 :])
