"""The readings of a picture: what people see who look at it in different viewers, as 8-bit RGB.

Most pictures have one reading. Transparency shows the page behind it, which may have any colour; not all
viewers apply a colour profile or transparency; no float picture says which numbers are black and white.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from clipmod_cli.decode.stills.colour_spaces import ColourSpaces
from clipmod_cli.decode.stills.profiles import (
    VISIBLE_LEVELS,
    Conversion,
    UnusableProfileError,
    conversions,
    from_lab,
)

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

_PLAIN_MODES = frozenset({"RGB", "L", "CMYK", "LAB"})
_DEEP_GREY = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})
_PREMULTIPLIED = "clipmod_premultiplied"
"""In the `info` of a picture whose colours are already multiplied by alpha."""

_THUMBNAIL = (64, 64)
_BITS_PER_SAMPLE = 258
_PHOTOMETRIC = 262
_EXTRA_SAMPLES = 338
_WHITE_IS_ZERO = 0

_SAMPLE_VALUES = 1_000_000
_LOW_PERCENT, _HIGH_PERCENT = 1, 99
_USUAL_TOPS = (1.0, 255.0, 65535.0)


class Reading(NamedTuple):
    """One reading: its name, and its pixels uint8 `(h, w, 3)`, contiguous and writable."""

    name: str
    pixels: Pixels


class _Planes(NamedTuple):
    """A part of a picture: its colours (L, RGB, CMYK or LAB), and alpha (L) if it has it."""

    colours: Image.Image
    alpha: Image.Image | None
    premultiplied: Image.Image | None = None


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A possible reading."""

    name: str
    split: Callable[[Image.Image], _Planes]
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
    unseen: frozenset[str]
    _strips: _Strips
    _candidates: tuple[_Candidate, ...]

    def __iter__(self) -> Iterator[Reading]:
        for name, candidate in zip(self.names, self._candidates, strict=True):
            yield Reading(name, self._strips.convert(candidate, in_place=len(self) == 1))

    def __len__(self) -> int:
        return len(self.names)


class _Strips:
    """A picture of Pillow or an array of pixels, in strips of whole rows."""

    def __init__(self, picture: Image.Image | Pixels) -> None:
        self.picture = picture
        if isinstance(picture, Image.Image):
            self.width, self.height = picture.size
        else:
            self.height, self.width = picture.shape[:2]

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
    if picture.mode in {"I", "F"}:
        splits = {
            name: partial(_split_numbers, low=low, high=high)
            for name, (low, high) in _windows(picture, strips).items()
        }
        return _choose(strips, splits, "L", spaces)
    split = _splitter(picture)
    mode = picture.mode if picture.mode in _PLAIN_MODES else split(strips.thumbnail()).colours.mode
    return _choose(strips, {"": split}, mode, spaces)


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
    split = _split_grey_pixels if grey else _split_pixels
    return _choose(_Strips(pixels), {"": split}, "L" if grey else "RGB", spaces)


def needs_every_pixel(spaces: ColourSpaces, mode: str) -> bool:
    """Return whether a picture (of mode L, RGB or CMYK) must not be scaled before it is converted.

    Under an odd profile the mean of two pixels is no colour between theirs.
    """
    found, _ = _conversions(spaces, mode)
    return any(conversion.odd for conversion in found)


def keep_premultiplied(opened: Image.Image) -> None:
    """Make sure that an opened TIFF's colours are loaded as they are stored; call it before they are.

    Pillow divides colours by their alpha (associated alpha) and makes all black where that is 0, or skips an
    unspecified fourth channel, which libtiff's own viewers take for alpha.
    """
    tags: Any = getattr(opened, "tag_v2", None)
    if tags is None or opened.mode not in {"RGB", "RGBA"}:
        return
    extra = tags.get(_EXTRA_SAMPLES, ())
    if not extra or extra[0] not in {0, 1}:
        return
    tiles: Any = getattr(opened, "tile", [])
    if not all(tile.args[0].startswith(("RGBa", "RGBX")) for tile in tiles):
        return
    opened.tile = [tile._replace(args=("RGBA" + tile.args[0][4:], *tile.args[1:])) for tile in tiles]  # type: ignore[attr-defined]
    opened._mode = "RGBA"  # noqa: SLF001 — what the tiles are loaded into
    opened.info[_PREMULTIPLIED] = True


def _choose(
    strips: _Strips, splits: Mapping[str, Callable[[Image.Image], _Planes]], mode: str, spaces: ColourSpaces
) -> Readings:
    """Return those readings that differ visibly, the first always."""
    found, usable = _conversions(spaces, mode)
    unseen = frozenset[str]() if usable and not spaces.unusable else frozenset({"colour"})
    split = next(iter(splits.values()))
    if found and not found[0].odd and not _changes_visibly(strips, split, found[0]):
        found = []
    colours: list[tuple[str, Conversion | None]] = [("", None)]
    if found:
        names = ["profile", *(f"profile {number}" for number in range(2, len(found) + 1))]
        colours = [*zip(names, found, strict=True), ("no profile", None)]
    pages = _pages(strips, split)
    candidates = [
        _Candidate(" ".join(filter(None, (numbers, colour, page))) or "plain", split, conversion, background)
        for numbers, split in splits.items()
        for colour, conversion in colours
        for page, background in pages.items()
    ]
    levels = found[0].levels if found else VISIBLE_LEVELS
    given: list[_Candidate] = []
    for candidate in candidates:
        if _differs(strips, candidate, given, levels):
            given.append(candidate)
    return Readings(tuple(one.name for one in given), unseen, strips, tuple(given))


def _conversions(spaces: ColourSpaces, mode: str) -> tuple[list[Conversion], bool]:
    """Return (how viewers read the numbers, whether all profiles can be applied).

    Where all profiles are ordinary, the first counts.
    """
    found: list[Conversion] = []
    usable = True
    for profile in spaces.profiles:
        try:
            found += conversions(profile, mode)
        except UnusableProfileError:
            usable = False
    odd = any(conversion.odd for conversion in found)
    if not odd:
        return found[:1], usable
    return sorted(found, key=lambda conversion: not conversion.odd), usable


def _changes_visibly(
    strips: _Strips, split: Callable[[Image.Image], _Planes], conversion: Conversion
) -> bool:
    """Return whether a conversion changes the thumbnail at all."""
    thumbnail = strips.thumbnail()
    plain, converted = _Candidate("", split), _Candidate("", split, conversion)
    changed = _count_different(plain.make(thumbnail), converted.make(thumbnail), VISIBLE_LEVELS)
    return changed >= VISIBLE_SHARE * thumbnail.width * thumbnail.height


def _pages(strips: _Strips, split: Callable[[Image.Image], _Planes]) -> dict[str, int | None]:
    """Return the backgrounds to compose the picture on: one where it is all but opaque."""
    if split(strips.thumbnail()).alpha is None:
        return {"": None}
    transparent, enough = 0, _enough(strips)
    for _, _, strip in strips.cut(STRIP_PIXELS):
        alpha = strip.getchannel("A") if strip.mode in {"RGBA", "LA"} else split(strip).alpha
        transparent += sum(alpha.histogram()[: _WHITE - VISIBLE_LEVELS]) if alpha else 0
        if transparent >= enough:
            return {**_BACKGROUNDS, _NO_ALPHA: None}
    return {"": _WHITE}


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


def _splitter(picture: Image.Image) -> Callable[[Image.Image], _Planes]:
    """Return the function that splits a part of the picture into colours and alpha."""
    if picture.mode in _DEEP_GREY:
        tags: Any = getattr(picture, "tag_v2", {})
        return partial(
            _split_deep_grey, depth=tags.get(_BITS_PER_SAMPLE, (16,))[0], kind=tags.get(_PHOTOMETRIC)
        )
    if picture.mode in {"RGBa", "La"} or picture.info.get(_PREMULTIPLIED):
        return _split_premultiplied
    return _split_transparent if picture.has_transparency_data else _split_opaque


def _split_opaque(strip: Image.Image) -> _Planes:
    if strip.mode in _PLAIN_MODES:
        return _Planes(strip, None)
    return _Planes(strip.convert("L" if strip.mode == "1" else "RGB"), None)


def _split_transparent(strip: Image.Image) -> _Planes:
    if strip.mode in {"LA", "L", "1"}:
        grey, alpha = strip.convert("LA").split()
        return _Planes(grey, alpha)
    strip = strip.convert("RGBA")
    return _Planes(strip.convert("RGB"), strip.getchannel("A"))


def _split_premultiplied(strip: Image.Image) -> _Planes:
    numbers = np.asarray(strip)
    stored = Image.fromarray(np.ascontiguousarray(numbers[..., :3]))
    if numbers.shape[2] == 2:
        stored = Image.fromarray(np.ascontiguousarray(numbers[..., 0]))
        straight, alpha = strip.convert("LA").split()
        return _Planes(straight, alpha, stored)
    divided = Image.frombytes("RGBa", strip.size, strip.tobytes()).convert("RGBA")
    return _Planes(divided.convert("RGB"), divided.getchannel("A"), stored)


def _split_pixels(strip: Image.Image) -> _Planes:
    return _split_transparent(strip) if strip.mode == "RGBA" else _Planes(strip, None)


def _split_grey_pixels(strip: Image.Image) -> _Planes:
    return _Planes(strip.getchannel(0), None)


def _split_deep_grey(strip: Image.Image, depth: int, kind: int | None) -> _Planes:
    """Return 16-bit (or a TIFF's 12-bit) grey scaled to 8 bit, where Pillow alone would clip it.

    The low byte is dropped, as Pillow does with 16-bit RGB.
    """
    grey = np.asarray(strip).astype(np.uint16)
    eight_bit = (grey >> max(depth - 8, 0)).clip(0, _WHITE).astype(np.uint8)
    if kind == _WHITE_IS_ZERO:
        eight_bit = _WHITE - eight_bit
    transparent = strip.info.get("transparency")
    if not isinstance(transparent, int):
        return _Planes(Image.fromarray(eight_bit), None)
    alpha = np.where(grey == transparent, 0, _WHITE).astype(np.uint8)
    return _Planes(Image.fromarray(eight_bit), Image.fromarray(alpha))


def _windows(picture: Image.Image, strips: _Strips) -> dict[str, tuple[float, float]]:
    """Return the numbers of a 32-bit integer or float picture that may be black and white.

    Files do not declare them. 0..1 is usual for floats, 0..255 and 0..65535 are widened bytes and words;
    other ranges are stretched: from the 1st to the 99th percentile, since a single pixel can be far outside,
    and from the least to the greatest number, as some viewers do.
    """
    low, high = np.inf, -np.inf
    kept = []
    drawn = np.random.default_rng(7)
    share = min(1.0, _SAMPLE_VALUES / max(strips.width * strips.height, 1))
    for _, _, strip in strips.cut(STRIP_PIXELS):
        values = np.asarray(strip, dtype=np.float64).ravel()
        finite = values[np.isfinite(values)]
        low, high = float(finite.min(initial=low)), float(finite.max(initial=high))
        kept.append(finite if share == 1.0 else finite[drawn.random(finite.size) < share])
    sample = np.concatenate(kept)
    if not sample.size:
        return {"": (0.0, 0.0)}
    inner_low, middle, inner_high = np.percentile(sample, (_LOW_PERCENT, 50, _HIGH_PERCENT))
    windows = {"": _widen(float(inner_low), float(inner_high)), "full range": _widen(low, high)}
    tops = _USUAL_TOPS if picture.mode == "F" else _USUAL_TOPS[1:]
    windows |= {f"0 to {top:g}": (0.0, top) for top in tops if 0 < middle <= top < high}
    first = dict(reversed([(window, name) for name, window in windows.items()]))
    return {name: window for name, window in windows.items() if first[window] == name}


def _widen(low: float, high: float) -> tuple[float, float]:
    if low >= 0:
        return 0.0, next((top for top in _USUAL_TOPS if high <= top), high)
    return low, high


def _split_numbers(strip: Image.Image, low: float, high: float) -> _Planes:
    """Return 32-bit integer or float grey with `low` as black; NaN and infinity become black and white."""
    values = np.asarray(strip, dtype=np.float64)
    span = (high - low) or 1.0
    shares = np.nan_to_num((values - low) / span, nan=0.0, posinf=1.0, neginf=0.0)
    return _Planes(Image.fromarray(np.rint(shares * _WHITE).clip(0, _WHITE).astype(np.uint8)), None)
