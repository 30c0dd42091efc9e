"""Exact views equal what the libraries' own transforms give, to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from clipmod_cli.decode.transforms import Picture, make_input
from clipmod_cli.types import Geometry
from tests.decode.photographs import DETECTOR, photograph


def exactly(picture: Image.Image, geometry: Geometry) -> NDArray[np.uint8]:
    return make_input(Picture(pixels=np.array(picture), size=picture.size[::-1]), geometry, exact=True)


def open_clips(picture: Image.Image, **config: Any) -> NDArray[np.uint8]:
    """Return what open_clip's own transform gives before it becomes a tensor."""
    from open_clip.transform import PreprocessCfg, image_transform_v2

    for step in image_transform_v2(PreprocessCfg(**config), is_train=False).transforms[:-2]:
        picture = step(picture)
    return np.array(picture)


SIZES = [
    (512, 512),
    (640, 427),
    (427, 640),
    (225, 224),
    (224, 224),
    (100, 37),
    (1283, 700),
    (300, 2000),
    (500, 3),
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("resample", ["bicubic", "bilinear"])
@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("side", [224, 336])
def test_exact_views_are_open_clips_to_the_bit(
    side: int, mode: Any, resample: Any, size: tuple[int, int]
) -> None:
    picture = photograph("astronaut.png", size)
    crop = None if mode == "squash" else (side, side)
    geometry = Geometry(fit=mode, size=(side, side), crop=crop, resample=resample, fill=128)
    expected = open_clips(picture, size=side, resize_mode=mode, interpolation=resample, fill_color=128)
    assert np.array_equal(exactly(picture, geometry), expected)


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
def test_exact_views_of_unequal_sides_are_open_clips(mode: Any) -> None:
    picture = photograph("coffee.png")
    crop = None if mode == "squash" else (384, 224)
    geometry = Geometry(fit=mode, size=(384, 224), crop=crop)
    assert np.array_equal(exactly(picture, geometry), open_clips(picture, size=(384, 224), resize_mode=mode))


@pytest.mark.parametrize("size", [*SIZES, (227, 512), (229, 300)])
@pytest.mark.parametrize("resample", ["bicubic", "bilinear"])
def test_exact_views_are_those_of_transformers_to_the_bit(resample: Any, size: tuple[int, int]) -> None:
    transformers = pytest.importorskip("transformers")
    picture = photograph("chelsea.png", size)
    plain = {"do_rescale": False, "do_normalize": False, "resample": Image.Resampling[resample.upper()]}
    squash = transformers.ViTImageProcessor(size={"height": 224, "width": 224}, **plain)
    geometry = Geometry(fit="squash", size=(224, 224), resample=resample, engine="torchvision")
    assert np.array_equal(exactly(picture, geometry), processed(squash, picture))
    if min(size) > 3:
        crop = transformers.CLIPImageProcessor(
            size={"shortest_edge": 256}, crop_size={"height": 224, "width": 224}, **plain
        )
        geometry = Geometry(
            fit="shortest", size=(256, 256), crop=(224, 224), resample=resample, engine="torchvision"
        )
        assert np.array_equal(exactly(picture, geometry), processed(crop, picture))


def processed(processor: Any, picture: Image.Image) -> NDArray[np.uint8]:
    tensor = processor(images=picture, return_tensors="pt")["pixel_values"][0]
    result: NDArray[np.uint8] = tensor.permute(1, 2, 0).numpy()
    return result


def test_the_exact_torchvision_resize_is_torchvisions() -> None:
    import torch
    from torchvision.transforms.v2 import functional

    picture = photograph("rocket.jpg")
    tensor = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    for target, geometry in [
        ([224], Geometry(fit="shortest", size=(224, 224), resample="bilinear", engine="torchvision")),
        ([200, 300], Geometry(fit="squash", size=(200, 300), resample="bilinear", engine="torchvision")),
    ]:
        expected = functional.resize(tensor, target, antialias=True).permute(1, 2, 0).numpy()
        assert np.array_equal(exactly(picture, geometry), expected)


@pytest.mark.parametrize("size", [(640, 427), (427, 640), (320, 320), (1283, 701), (100, 50), (319, 321)])
def test_the_exact_detector_view_is_nudenets(size: tuple[int, int]) -> None:
    nudenet = pytest.importorskip("nudenet.nudenet")
    picture = photograph("astronaut.png", size)
    blue_first = np.ascontiguousarray(np.array(picture)[..., ::-1])
    blob = nudenet._read_image(blue_first)[0]  # (1, 3, 320, 320), 0..1, its channels in the order it wants
    expected = blob[0][::-1].transpose(1, 2, 0) * 255
    geometry = exactly(picture, DETECTOR).astype(np.float32)
    assert geometry.shape == expected.shape
    assert np.abs(geometry - expected).max() <= 0.5
