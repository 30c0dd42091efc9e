"""A declared role excuses a picture by all of its pixels, not by some that its maker chose."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from clipmod_cli.decode.contents.parts import Role
from clipmod_cli.decode.contents.resemblance import Likeness, is_excused
from tests.decode.containers import jpeg, png_with, red
from tests.decode.pictures import WHOLE, encode, frames, media

LARGE = 2048


def _primary() -> Image.Image:
    """Return a large grey ramp: so that the same picture can be declared a map or a preview."""
    return Image.linear_gradient("L").resize((LARGE, LARGE)).convert("RGB")


def _disguised(step: int) -> Image.Image:
    """Return a red circle whose every `step`-th pixel of every `step`-th row is the primary picture's."""
    pixels = np.array(red(LARGE))
    pixels[::step, ::step] = np.asarray(_primary())[::step, ::step]
    return Image.fromarray(pixels)


def _shows_red(pixels: NDArray[np.uint8]) -> bool:
    middle = pixels[len(pixels) // 2 + 1, len(pixels) // 2 + 1]
    return bool(middle[0] > 150 > 2 * middle[2])


@pytest.mark.parametrize("role", ["preview", "map"])
@pytest.mark.parametrize("step", [2, 3, 4, 8])
def test_a_few_crafted_pixels_excuse_nothing(role: Role, step: int) -> None:
    primary = Likeness.of(np.asarray(_primary()))
    assert not is_excused(np.asarray(_disguised(step)), role, primary)


def test_one_coloured_pixel_is_not_grey() -> None:
    pixels = np.full((LARGE, LARGE, 3), 77, np.uint8)
    primary = Likeness.of(np.asarray(red()))
    assert is_excused(pixels, "map", primary)
    pixels[1, 1] = 255, 0, 0
    assert not is_excused(pixels, "map", primary)


@pytest.mark.parametrize("role", ["preview", "map"])
def test_a_disguised_picture_in_a_file_is_a_frame(role: Role) -> None:
    inner = encode(_disguised(2), "PNG")
    data = png_with(_primary(), b"prVw", inner)
    if role == "map":
        data = jpeg(_primary(), (0xE1, b'x <Container:Item Item:Semantic="DepthMap"/>')) + inner
    found = frames(data)
    assert media(found[0]).unseen == ()
    assert [_shows_red(one.inputs[WHOLE]) for one in found] == [False, True]
