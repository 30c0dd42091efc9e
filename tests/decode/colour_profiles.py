"""ICC profiles made by code, ordinary and odd."""

from __future__ import annotations

import struct

import numpy as np
from PIL import ImageCms

from clipmod_cli.decode.stills.colour_spaces import linear_light, matrix_profile
from clipmod_cli.decode.stills.profiles import _print

D65 = (0.3127, 0.3290)
SRGB_CORNERS = (*D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
LEVEL = np.arange(256) / 255
SRGB_CURVE = linear_light(13)
PERMUTED = (np.arange(256) * 97 + 31) % 256
"""Of each level, the level that it stands for."""

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
DISPLAY_P3 = matrix_profile((*D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060), [SRGB_CURVE] * 3)
ADOBE_RGB = matrix_profile((*D65, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06), [LEVEL ** (563 / 256)] * 3)
SWAPPED = matrix_profile((*D65, 0.15, 0.06, 0.30, 0.60, 0.64, 0.33), [SRGB_CURVE] * 3)
SCRAMBLED = matrix_profile(SRGB_CORNERS, [SRGB_CURVE[PERMUTED]] * 3)
STEEP = matrix_profile(SRGB_CORNERS, [LEVEL**50] * 3)


def grey_profile(curve: np.ndarray[tuple[int], np.dtype[np.float64]]) -> bytes:
    """Return a profile for grey pictures."""
    profile = bytearray(matrix_profile(SRGB_CORNERS, [curve] * 3))
    profile[16:20] = b"GRAY"
    return bytes(profile).replace(b"rTRC", b"kTRC", 1)


def cmyk_profile(*, swap_inks: bool = False) -> bytes:
    """Return a profile of offset printing's inks, as a table from CMYK to Lab of two points a side."""
    inks = np.array([[c, m, y, k] for c in (0, 255) for m in (0, 255) for y in (0, 255) for k in (0, 255)])
    if swap_inks:
        inks = inks[:, [2, 1, 0, 3]]
    lab = [_lab(colour) for colour in _print(inks.astype(np.uint8))]
    identity = bytes(range(256))
    body = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + struct.pack(">9i", *np.eye(3, dtype=int).ravel() << 16)
    body += identity * 4 + bytes(np.array(lab, np.uint8).ravel()) + identity * 3
    return _with_tags(b"prtrCMYKLab ", [(b"A2B0", body)])


def two_faced_profile() -> bytes:
    """Return a profile whose curves are sRGB's, and whose table makes everything red."""
    body = b"mft1" + bytes(4) + bytes((3, 3, 2, 0)) + struct.pack(">9i", *np.eye(3, dtype=int).ravel() << 16)
    body += bytes(range(256)) * 3 + bytes((0x80, 0xFF, 0xC0)) * 8 + bytes(range(256)) * 3
    plain = matrix_profile(SRGB_CORNERS, [SRGB_CURVE] * 3)
    tags = [
        (plain[at : at + 4], plain[offset : offset + length])
        for at in range(132, 132 + 12 * 7, 12)
        for offset, length in [struct.unpack(">II", plain[at + 4 : at + 12])]
    ]
    return _with_tags(b"mntrRGB Lab ", [tag for tag in tags if tag[0] != b"wtpt"] + [(b"A2B0", body)])


def _with_tags(kinds: bytes, tags: list[tuple[bytes, bytes]]) -> bytes:
    at = 132 + 12 * len(tags)
    table, bodies = struct.pack(">I", len(tags)), b""
    for name, body in tags:
        table += name + struct.pack(">II", at + len(bodies), len(body))
        bodies += body + bytes(-len(body) % 4)
    header = struct.pack(">I4xI", at + len(bodies), 0x02400000) + kinds + bytes(12) + b"acsp"
    header = header.ljust(68, b"\0") + struct.pack(">3i", *(round(v * 65536) for v in (0.9642, 1, 0.8249)))
    return header.ljust(128, b"\0") + table + bodies


def _lab(colour: np.ndarray[tuple[int], np.dtype[np.float64]]) -> list[int]:
    """Return CIE L*a*b* of an sRGB colour, as 8-bit tables hold it."""
    linear = np.interp(colour, np.arange(256), SRGB_CURVE)
    to_d50 = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
    x, y, z = np.cbrt(np.maximum(to_d50 @ linear / (0.9642, 1, 0.8249), 0.0088565))
    return [round(255 * (116 * y - 16) / 100), round(500 * (x - y)) + 128, round(200 * (y - z)) + 128]
