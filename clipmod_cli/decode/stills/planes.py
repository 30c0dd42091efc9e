"""Splits a picture of any mode into 8-bit colours and alpha.

Does not compose them, and does not convert colours to sRGB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from PIL import Image

_WHITE = 255
_PLAIN_MODES = frozenset({"RGB", "L", "CMYK", "LAB"})
_DEEP_GREY = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})
_PREMULTIPLIED = "clipmod_premultiplied"
"""In the `info` of a picture whose colours are already multiplied by alpha."""

_BITS_PER_SAMPLE = 258
_PHOTOMETRIC = 262
_EXTRA_SAMPLES = 338
_WHITE_IS_ZERO = 0

_SAMPLE_VALUES = 1_000_000
_LOW_PERCENT, _HIGH_PERCENT = 1, 99
_USUAL_TOPS = (1.0, 255.0, 65535.0)


class Planes(NamedTuple):
    """A part of a picture: its colours (L, RGB, CMYK or LAB), and alpha (L) if it has it."""

    colours: Image.Image
    alpha: Image.Image | None
    premultiplied: Image.Image | None = None


Split: TypeAlias = Callable[[Image.Image], Planes]
"""Splits a part of a picture."""


def keep_premultiplied(opened: Image.Image) -> None:
    """Make sure that an opened TIFF's colours are loaded as they are stored; call it before they are.

    Pillow divides colours by their alpha (associated alpha) and makes all black where that is 0, or skips an
    unspecified fourth channel, which libtiff's own viewers take for alpha.
    """
    opened.info.pop(_PREMULTIPLIED, None)  # of a page before
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


def splits(picture: Image.Image, strips: Iterable[Image.Image]) -> dict[str, Split]:
    """Return the ways to split a loaded picture, by name: one, but for 32-bit numbers.

    Args:
        picture: the whole.
        strips: all of it, in parts.
    """
    if picture.mode not in {"I", "F"}:
        return {"": _splitter(picture)}
    windows = _windows(picture.mode, strips, picture.width * picture.height)
    return {name: partial(_split_numbers, low=low, high=high) for name, (low, high) in windows.items()}


def _splitter(picture: Image.Image) -> Split:
    """Return the function that splits a part of the picture into colours and alpha."""
    if picture.mode in _DEEP_GREY:
        tags: Any = getattr(picture, "tag_v2", {})
        return partial(
            _split_deep_grey, depth=tags.get(_BITS_PER_SAMPLE, (16,))[0], kind=tags.get(_PHOTOMETRIC)
        )
    if picture.mode in {"RGBa", "La"} or picture.info.get(_PREMULTIPLIED):
        return _split_premultiplied
    return _split_transparent if picture.has_transparency_data else _split_opaque


def _split_opaque(strip: Image.Image) -> Planes:
    if strip.mode in _PLAIN_MODES:
        return Planes(strip, None)
    return Planes(strip.convert("L" if strip.mode == "1" else "RGB"), None)


def _split_transparent(strip: Image.Image) -> Planes:
    if strip.mode in {"LA", "L", "1"}:
        grey, alpha = strip.convert("LA").split()
        return Planes(grey, alpha)
    strip = strip.convert("RGBA")
    return Planes(strip.convert("RGB"), strip.getchannel("A"))


def _split_premultiplied(strip: Image.Image) -> Planes:
    stored = np.asarray(strip)
    if strip.mode == "La":
        straight, alpha = strip.convert("LA").split()
        return Planes(straight, alpha, Image.fromarray(np.ascontiguousarray(stored[..., 0])))
    divided = Image.frombytes("RGBa", strip.size, strip.tobytes()).convert("RGBA")
    colours = Image.fromarray(np.ascontiguousarray(stored[..., :3]))
    return Planes(divided.convert("RGB"), divided.getchannel("A"), colours)


def split_pixels(strip: Image.Image) -> Planes:
    """Split RGB or RGBA."""
    return _split_transparent(strip) if strip.mode == "RGBA" else Planes(strip, None)


def split_grey_pixels(strip: Image.Image) -> Planes:
    """Split RGB that holds grey only."""
    return Planes(strip.getchannel(0), None)


def _split_deep_grey(strip: Image.Image, depth: int, kind: int | None) -> Planes:
    """Return 16-bit (or a TIFF's 12-bit) grey scaled to 8 bit, where Pillow alone would clip it.

    The low byte is dropped, as Pillow does with 16-bit RGB.
    """
    grey = np.asarray(strip).astype(np.uint16)
    eight_bit = (grey >> max(depth - 8, 0)).clip(0, _WHITE).astype(np.uint8)
    if kind == _WHITE_IS_ZERO:
        eight_bit = _WHITE - eight_bit
    transparent = strip.info.get("transparency")
    if not isinstance(transparent, int):
        return Planes(Image.fromarray(eight_bit), None)
    alpha = np.where(grey == transparent, 0, _WHITE).astype(np.uint8)
    return Planes(Image.fromarray(eight_bit), Image.fromarray(alpha))


def _windows(mode: str, strips: Iterable[Image.Image], pixels: int) -> dict[str, tuple[float, float]]:
    """Return the numbers of a 32-bit integer or float picture that may be black and white.

    Files do not declare them. 0..1 is usual for floats, 0..255 and 0..65535 are widened bytes and words;
    other ranges are stretched: from the 1st to the 99th percentile, since a single pixel can be far outside,
    and from the least to the greatest number, as some viewers do.
    """
    low, high = np.inf, -np.inf
    kept = []
    drawn = np.random.default_rng(7)
    share = min(1.0, _SAMPLE_VALUES / max(pixels, 1))
    for strip in strips:
        values = np.asarray(strip, dtype=np.float64).ravel()
        finite = values[np.isfinite(values)]
        low, high = float(finite.min(initial=low)), float(finite.max(initial=high))
        kept.append(finite if share == 1.0 else finite[drawn.random(finite.size) < share])
    sample = np.concatenate(kept)
    if not sample.size:
        return {"": (0.0, 0.0)}
    inner_low, middle, inner_high = np.percentile(sample, (_LOW_PERCENT, 50, _HIGH_PERCENT))
    windows = {"": _widen(float(inner_low), float(inner_high)), "full range": _widen(low, high)}
    tops = _USUAL_TOPS if mode == "F" else _USUAL_TOPS[1:]
    windows |= {f"0 to {top:g}": (0.0, top) for top in tops if 0 < middle <= top < high}
    first = dict(reversed([(window, name) for name, window in windows.items()]))
    return {name: window for name, window in windows.items() if first[window] == name}


def _widen(low: float, high: float) -> tuple[float, float]:
    if low >= 0:
        return 0.0, next((top for top in _USUAL_TOPS if high <= top), high)
    return low, high


def _split_numbers(strip: Image.Image, low: float, high: float) -> Planes:
    """Return 32-bit integer or float grey with `low` as black; NaN and infinity become black and white."""
    values = np.asarray(strip, dtype=np.float64)
    span = (high - low) or 1.0
    shares = np.nan_to_num((values - low) / span, nan=0.0, posinf=1.0, neginf=0.0)
    return Planes(Image.fromarray(np.rint(shares * _WHITE).clip(0, _WHITE).astype(np.uint8)), None)
