"""PDQ: the hashes of other programs, bit for bit, and what scaling and recompression leave of them."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from clipmod_cli.decode.stills.pdq import BITS, pdq_of
from clipmod_cli.decode.transforms import Pixels
from tests.decode.photographs import PHOTOGRAPHS, photograph

# By pdqhash 0.2.8, Python bindings of the reference implementation in C++.
OF_PHOTOGRAPHS = [
    ("astronaut.png", "2d6b1af3a956c529e79ca3d2526fa834d4196c81cedd04de0a26b855fc99b724", 100),
    ("brick.png", "bed7058ba2005a4b071bb8a4cc6278789fbc02cfcd30d1d73fa71673c67945d2", 100),
    ("camera.png", "dc9c9d3b746978f888f40ce6e5c3f70f7266623e8d989cb99f21f2010841e1c7", 100),
    ("chelsea.png", "5feb5321f01da156898e2bf629a5d3438412cdbd23f48942464526315db33ffd", 100),
    ("coffee.png", "8c629e779a663698b9a33866c026726c21a679f61eb6e1f8c79ba7e23c8299e0", 100),
    ("coins.png", "8ee552196df86aa552b514e6e505e0319aeb1aaea4a5d935dd4a675a1a56a555", 100),
    ("rocket.jpg", "8792786c87937064bf1bc0e43f1fc0e03f1cc2e33da4c2537cec821b2ce4f376", 100),
    ("moon.png", "131645cde366d981e1e371b264d8b25b9e4d13771d8c4f366d946ca57133d0c9", 83),
    ("text.png", "f46721c01b1bd9936bb5cde6660a8a12430c6c9d25d95e47cbe2a6b89d6e6786", 100),
    ("clock_motion.png", "26cc3ccc933373334c34d778acc94cccb326f3394c932666934cd99d25337674", 34),
    ("microaneurysms.png", "537ebc9160a955ff3f50f6b38480437ee77485036f95ac0b7d4a7397880241f8", 82),
]
OF_PATTERNS = [
    ((16, 17), "0000bbff69f8e8a19711e8af1ff19cb1660aceb56a0a4e35c40aa1ff840af4ff", 28),
    ((64, 64), "2dd5d9d5a395c6b51d25fa6ac4cb11caf715382a41d2bfa6504e8bb4f5482ab0", 100),
    ((63, 65), "2dd5db95a395c6a51d2d7a6ac4cb19caf7953c2a41d2afa6504e8bbcf4480ab0", 100),
    ((127, 129), "364a64dadd9a399ee33ece3e1c78f0fc83f81ff8fff80000bff0ff000000f540", 100),
    ((300, 40), "e1cf4f0f341e49fefff0c86031c6cf0e383ec3fcbff0c0003ff8c000bff8c200", 100),
    ((33, 1000), "9bea98ca1bae393d3fdd3cfb5f5578347b9bf076fbfdf081f932d00020000000", 100),
    ((1400, 2100), "63cdb8960b36d4a17a6db6c53b161b9682c2de8cd4a52b5619b516ad6acb6b84", 12),
]
ROUNDING = 2
"""Bits that may differ: sums of another order round a number near the median to its other side."""


def pattern(height: int, width: int) -> Pixels:
    y, x, channel = np.ogrid[:height, :width, :3]
    return np.asarray(((x * 3 + y * 5) * (channel + 1) // 2 + x * y // 7) % 256, dtype=np.uint8)


def pixels_of(picture: Image.Image) -> Pixels:
    return np.asarray(picture.convert("RGB"))


def distance(one: bytes, other: bytes) -> int:
    return (int.from_bytes(one) ^ int.from_bytes(other)).bit_count()


@pytest.mark.parametrize(("name", "digits", "quality"), OF_PHOTOGRAPHS)
def test_photographs_have_the_hash_that_others_give_them(name: str, digits: str, quality: int) -> None:
    made = pdq_of(pixels_of(photograph(name)))
    assert distance(made.bits, bytes.fromhex(digits)) <= ROUNDING
    assert abs(made.quality - quality) <= 1


@pytest.mark.parametrize(("size", "digits", "quality"), OF_PATTERNS)
def test_any_size_has_the_hash_that_others_give_it(size: tuple[int, int], digits: str, quality: int) -> None:
    made = pdq_of(pattern(*size))
    assert distance(made.bits, bytes.fromhex(digits)) <= ROUNDING
    assert abs(made.quality - quality) <= 1


@pytest.mark.parametrize("size", [(1, 1), (4, 900), (900, 4)])
def test_what_is_too_small_has_no_quality(size: tuple[int, int]) -> None:
    made = pdq_of(pattern(*size))
    assert (made.bits, made.quality) == (bytes(BITS // 8), 0)


def test_a_picture_of_one_colour_has_no_quality() -> None:
    assert pdq_of(np.full((300, 200, 3), 90, dtype=np.uint8)).quality == 0


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_scaled_and_recompressed_photographs_stay_near_and_others_far(name: str) -> None:
    picture = photograph(name)
    whole = pdq_of(pixels_of(picture)).bits
    smaller = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BICUBIC)
    for changed, quality in ((picture, 30), (smaller, 75)):
        file = BytesIO()
        changed.save(file, "JPEG", quality=quality)
        assert distance(whole, pdq_of(pixels_of(Image.open(file))).bits) <= 31
    others = [one for one in PHOTOGRAPHS if one != name]
    assert min(distance(whole, pdq_of(pixels_of(photograph(one))).bits) for one in others) > 90
