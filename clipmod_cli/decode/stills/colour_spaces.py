"""Which colours a picture file says that its numbers are, as ICC profiles.

Reads the profiles of all formats, and makes one of PNG's gAMA, cHRM and cICP, of the nclx of AVIF and HEIF,
and of a bitmap's calibration. What a file does not say is sRGB.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipmod_cli.decode.reading.boxes import IsoBox, Read, boxes
from clipmod_cli.decode.stills.mending import png_chunks
from clipmod_cli.decode.stills.profiles import MAX_PROFILE_BYTES

Chromaticities: TypeAlias = Sequence[float]
"""x and y of white, red, green and blue, as cHRM has them."""

_D65 = (0.3127, 0.3290)
_SRGB = (*_D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)

_PRIMARIES: dict[int, Chromaticities] = {
    1: _SRGB,
    2: _SRGB,
    4: (0.310, 0.316, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    7: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    8: (0.310, 0.316, 0.681, 0.319, 0.243, 0.692, 0.145, 0.049),
    9: (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    10: (1 / 3, 1 / 3, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0),
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    22: (*_D65, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077),
}
"""Colour primaries of ITU-T H.273; 2 is "unspecified"."""

_UNSPECIFIED = 2

_LIKE_SRGB = frozenset({1, 2, 6, 7, 11, 12, 13, 14, 15})
"""Transfer characteristics of H.273 that viewers show as sRGB's: cameras' curves, shown by a display's."""

_GAMMAS = {4: 2.2, 5: 2.8, 8: 1.0, 17: 2.6}
_LOG_DECADES = {9: 2.0, 10: 2.5}
PQ, HLG = 16, 18

_REFERENCE_WHITE_NITS = 203.0
"""What HDR shows paper as (ITU-R BT.2408): it becomes a picture's white, what is brighter is cut."""

_D50 = (0.9642, 1.0, 0.8249)
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]], np.float64
)

_PNG_COLOURS = frozenset({b"cICP", b"iCCP", b"gAMA", b"cHRM", b"tRNS"})
_PNG_INTENTS = frozenset({b"\0", b"\1", b"\2", b"\3"})
"""What sRGB can say; viewers ignore any other."""

_SIXTEEN_BIT_RGB = b"\x10\x02"
"""The depth and colour type of a PNG's header."""

_SAMPLE_ENTRY_BYTES = 78
"""Before the boxes in the description of a track's pictures."""

_TIFF_PROFILE = 34675
_TIFF_PLANES, _SEPARATE_PLANES = 284, 2
_TIFF_EXTRA_SAMPLES = 338
_GIF_PROFILE = b"\x21\xff\x0bICCRGBG1012"

Curve = NDArray[np.float64]
"""The share of light `(256,)` that each level stands for, 0..1."""


@dataclass(frozen=True, slots=True)
class ColourSpaces:
    """What a file says of its colours.

    Attributes:
        profiles: ICC profiles, the one that viewers prefer first; none for sRGB.
        unusable: whether the file says something that cannot be applied.
    """

    profiles: tuple[bytes, ...] = ()
    unusable: bool = False


def read_colour_spaces(opened: Image.Image, data: bytes, name: str) -> ColourSpaces:
    """Return what a file of the format `name` (Pillow's) says of the colours of its opened picture."""
    match name:
        case "PNG":
            return _of_png(data)
        case "AVIF" | "HEIF":
            return _join(_of_info(opened), _of_nclx(data))
        case "BMP":
            return _of_bitmap(data)
        case "GIF":
            return ColourSpaces(unusable=_GIF_PROFILE in data)
        case "TIFF":
            return _of_tiff(getattr(opened, "tag_v2", {}))
        case _:
            return _of_info(opened)


def _join(*parts: ColourSpaces) -> ColourSpaces:
    profiles = dict.fromkeys(profile for part in parts for profile in part.profiles)
    return ColourSpaces(tuple(profiles), any(part.unusable for part in parts))


def _of_info(opened: Image.Image) -> ColourSpaces:
    """Return the profile that Pillow found; it says None where the pieces of a JPEG's do not fit together."""
    profile = opened.info.get("icc_profile", b"")
    return ColourSpaces((profile,) if profile else (), unusable=profile is None)


def _of_tiff(tags: Any) -> ColourSpaces:
    """Return a TIFF's colours; Pillow cannot keep those under alpha that multiplies a plane of its own."""
    profile = tags.get(_TIFF_PROFILE)
    lost = tags.get(_TIFF_PLANES) == _SEPARATE_PLANES and 1 in tags.get(_TIFF_EXTRA_SAMPLES, ())
    return ColourSpaces((bytes(profile),) if profile else (), unusable=lost)


def _of_png(data: bytes) -> ColourSpaces:
    """Return a PNG's colours; where a chunk is there twice, both count.

    Viewers ignore sRGB or a profile behind the palette or the pixels: it does not overrule the calibration.
    A transparent colour of 16 bits a channel is unusable: of both Pillow keeps half.
    """
    chunks: dict[bytes, list[bytes]] = {}
    is_early, is_overruled = True, False
    for kind, start, end in png_chunks(data):
        is_early = is_early and kind not in {b"PLTE", b"IDAT"}
        if is_early and (kind == b"iCCP" or (kind == b"sRGB" and data[start:end] in _PNG_INTENTS)):
            is_overruled = True
        if kind in _PNG_COLOURS:
            chunks.setdefault(kind, []).append(data[start:end])
    parts = [_of_chunk(kind, body) for kind in (b"cICP", b"iCCP") for body in chunks.get(kind, ())]
    if not is_overruled:
        parts.append(_calibrated(chunks))
    blurred = b"tRNS" in chunks and data[24:26] == _SIXTEEN_BIT_RGB
    return _join(*parts, ColourSpaces(unusable=blurred))


def _of_chunk(kind: bytes, body: bytes) -> ColourSpaces:
    try:
        if kind == b"cICP":
            return _of_codes(body[0], body[1], full_range=bool(body[3]))
        name_end = body.index(b"\0")
        profile = zlib.decompressobj().decompress(body[name_end + 2 :], MAX_PROFILE_BYTES + 1)
    except (IndexError, ValueError, zlib.error):
        return ColourSpaces(unusable=True)
    return ColourSpaces((profile,), unusable=not profile)


def _calibrated(chunks: Mapping[bytes, Sequence[bytes]]) -> ColourSpaces:
    """Return the colours of gAMA and cHRM; viewers ignore those that cannot be."""
    gammas = [int.from_bytes(body, "big") / 100_000 for body in chunks.get(b"gAMA", ()) if len(body) == 4]
    corners = [struct.unpack(">8i", body) for body in chunks.get(b"cHRM", ()) if len(body) == 32]
    curves = [(np.arange(256) / 255.0) ** (1 / gamma) for gamma in gammas if gamma]
    if not curves and not corners:
        return ColourSpaces()
    profiles = []
    for curve in curves or [linear_light(_UNSPECIFIED)]:
        for points in corners or [tuple(100_000 * point for point in _SRGB)]:
            try:
                profiles.append(matrix_profile([point / 100_000 for point in points], [curve] * 3))
            except (ArithmeticError, ValueError):
                profiles.append(matrix_profile(_SRGB, [curve] * 3))
    return ColourSpaces(tuple(profiles))


def _of_nclx(data: bytes) -> ColourSpaces:
    """Return the colours that an AVIF or HEIF declares of its primary picture, and of its tracks."""

    def read(at: int, count: int) -> bytes:
        return data[at : at + count]

    found = [*_primary_properties(read, len(data))]
    for entries in _at_path(read, 0, len(data), b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd"):
        for entry in boxes(read, entries.body + 8, entries.end):
            found += boxes(read, entry.body + _SAMPLE_ENTRY_BYTES, entry.end)
    codes = [
        struct.unpack_from(">HH", data, box.body + 4)
        for box in found
        if box.kind == b"colr" and read(box.body, 4) == b"nclx" and box.end - box.body >= 8
    ]
    return _join(*(_of_codes(primaries, transfer) for primaries, transfer in codes))


def _primary_properties(read: Read, length: int) -> Iterator[IsoBox]:
    """Yield the properties that belong to the primary picture (ISO/IEC 23008-12, 9.3; 14496-12, 8.11.4)."""
    listed = _at_path(read, 0, length, b"meta", b"iprp", b"ipco")
    properties = [box for one in listed for box in boxes(read, one.body, one.end)]
    primary = None
    for box in _at_path(read, 0, length, b"meta", b"pitm"):
        wide = 4 if any(read(box.body, 1)) else 2
        primary = int.from_bytes(read(box.body + 4, wide), "big")
    for box in _at_path(read, 0, length, b"meta", b"iprp", b"ipma"):
        for item, index in associations(read(box.body, box.end - box.body)):
            if item == primary and 0 < index <= len(properties):
                yield properties[index - 1]


def _at_path(read: Read, start: int, end: int, *path: bytes) -> Iterator[IsoBox]:
    """Yield each box at a path of types."""
    for box in boxes(read, start, end):
        if box.kind == path[0] and len(path) == 1:
            yield box
        elif box.kind == path[0]:
            yield from _at_path(read, box.body + (4 if box.kind == b"meta" else 0), box.end, *path[1:])


def associations(body: bytes) -> Iterator[tuple[int, int]]:
    """Yield (item, number of a property from 1) of an `ipma` box."""
    id_bytes = 4 if body[:1] > b"\0" else 2
    index_bytes = 2 if int.from_bytes(body[1:4], "big") & 1 else 1
    at = 8
    while at + id_bytes < len(body):
        item, count = int.from_bytes(body[at : at + id_bytes], "big"), body[at + id_bytes]
        at += id_bytes + 1
        end = at + count * index_bytes
        for index in range(at, min(end, len(body)), index_bytes):
            essential = 0x8000 if index_bytes == 2 else 0x80
            yield item, int.from_bytes(body[index : index + index_bytes], "big") % essential
        at = end


@lru_cache(maxsize=64)
def _of_codes(primaries: int, transfer: int, *, full_range: bool = True) -> ColourSpaces:
    """Return the colours of H.273's code points; those of narrow range are 16 to 235."""
    corners = _PRIMARIES.get(primaries)
    try:
        curve = linear_light(transfer)
    except ValueError:
        curve = None
    if corners is None or curve is None:
        return ColourSpaces(unusable=True)
    if not full_range:
        curve = np.interp((np.arange(256) - 16) / 219 * 255, np.arange(256), curve)
    elif corners is _SRGB and transfer in _LIKE_SRGB:
        return ColourSpaces()
    return ColourSpaces((matrix_profile(corners, [curve] * 3),))


def linear_light(transfer: int) -> Curve:
    """Return the light of 256 levels under one of H.273's transfer characteristics, 1 for white.

    The formulas of PQ and HLG are those of ITU-R BT.2100, tables 4 and 5. Raises ValueError for an unknown
    code.
    """
    level = np.arange(256) / 255.0
    if transfer in _LIKE_SRGB:
        return np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
    if transfer in _GAMMAS:
        return level ** _GAMMAS[transfer]
    if transfer in _LOG_DECADES:
        return np.where(level > 0, 10 ** (_LOG_DECADES[transfer] * (level - 1)), 0.0)
    if transfer == PQ:
        power = level ** (1 / 78.84375)
        light = (np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)) ** (1 / 0.1593017578125)
        return np.clip(light * 10_000 / _REFERENCE_WHITE_NITS, 0, 1)
    if transfer == HLG:
        low, high = level**2 / 3, (np.exp((level - 0.55991073) / 0.17883277) + 0.28466892) / 12
        light = np.where(level <= 0.5, low, high) ** 1.2
        return np.clip(light * 1000 / _REFERENCE_WHITE_NITS, 0, 1)
    raise ValueError(f"no transfer characteristics are numbered {transfer}")


def _of_bitmap(data: bytes) -> ColourSpaces:
    """Return the colours of a bitmap whose second header has version 4 or 5."""
    size = int.from_bytes(data[14:18], "little")
    if size < 108:
        return ColourSpaces()
    kind = data[70:74][::-1]
    if kind == b"MBED" and size >= 124:
        at, length = struct.unpack_from("<II", data, 126)
        profile = data[14 + at : 14 + at + length]
        return ColourSpaces((profile,) if profile else (), unusable=not profile)
    if kind == b"LINK":
        return ColourSpaces(unusable=True)
    if kind != bytes(4):
        return ColourSpaces()
    corners = np.array(struct.unpack_from("<9i", data, 74)) / (1 << 30)  # X, Y, Z of red, green, blue
    gammas = np.array(struct.unpack_from("<3I", data, 110)) / (1 << 16)
    if not corners.any() and not gammas.any():  # many writers leave it all zero
        return ColourSpaces()
    level = np.arange(256) / 255.0
    curves = [level**gamma if gamma else linear_light(_UNSPECIFIED) for gamma in gammas]
    try:
        return ColourSpaces((_profile(corners.reshape(3, 3).T, curves),))
    except (ArithmeticError, ValueError):
        return ColourSpaces((matrix_profile(_SRGB, curves),))


def matrix_profile(corners: Chromaticities, curves: Sequence[Curve]) -> bytes:
    """Return an ICC profile of these primaries and the curves of red, green and blue.

    Raises:
        ArithmeticError, ValueError: no colours have such primaries.
    """
    with np.errstate(divide="raise", invalid="raise"):
        points = np.array(corners, np.float64).reshape(4, 2)
        xyz = np.stack([points[:, 0], points[:, 1], 1 - points.sum(axis=1)])
        white, primaries = xyz[:, 0] / points[0, 1], xyz[:, 1:]
        try:
            return _profile(primaries * np.linalg.solve(primaries, white), curves)
        except np.linalg.LinAlgError as error:
            raise ValueError("the primaries lie on a line") from error


def _profile(colorants: NDArray[np.float64], curves: Sequence[Curve]) -> bytes:
    """Return a profile of the XYZ of red, green and blue (columns), adapted to D50 (ICC.1, annex E)."""
    with np.errstate(divide="raise", invalid="raise"):
        cones = _BRADFORD @ colorants
        scales = (_BRADFORD @ _D50) / cones.sum(axis=1)
    colorants = np.linalg.solve(_BRADFORD, scales[:, None] * cones)
    if not (np.abs(colorants) < 1 << 15).all():
        raise ValueError("primaries that no number can hold")
    tags = [(b"wtpt", _xyz(_D50))]
    for position, channel in enumerate(b"rgb"):
        tags.append((bytes([channel]) + b"XYZ", _xyz(colorants[:, position])))
        words = np.rint(np.clip(curves[position], 0, 1) * 65535).astype(">u2").tobytes()
        tags.append((bytes([channel]) + b"TRC", b"curv" + struct.pack(">II", 0, 256) + words))
    table, bodies, at = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for kind, body in tags:
        table += kind + struct.pack(">II", at + len(bodies), len(body))
        bodies += body
    size = at + len(bodies)
    header = struct.pack(">I4xI", size, 0x02400000) + b"mntrRGB XYZ " + bytes(12) + b"acsp"
    header = header.ljust(68, b"\0") + _xyz(_D50)[8:]
    return header.ljust(128, b"\0") + table + bodies


def _xyz(values: Sequence[float] | NDArray[np.float64]) -> bytes:
    return b"XYZ " + struct.pack(">I3i", 0, *(round(float(value) * 65536) for value in values))
