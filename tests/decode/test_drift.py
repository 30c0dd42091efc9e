"""How far fast decoding may move pixels and scores: real photographs in every kind of JPEG, size and turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from clipmod_cli.decode.limits import Coverage
from clipmod_cli.ensemble.ensemble import Ensemble, Member
from clipmod_cli.judge.judging import judge
from clipmod_cli.judge.policy.reading import load_policy
from clipmod_cli.judge.prepare import prepare
from clipmod_cli.models.onnx.model import OnnxClassifier
from clipmod_cli.types import Frame, Geometry, Verdict
from tests.decode.photographs import TOWER
from tests.decode.pictures import CENTRE, encode, frame, frames
from tests.measuring import infer
from tests.models import backends
from tests.tiny.shapes import CLASSES, picture_of

SAMPLES = Path(__file__).parent.parent.parent / "sample_images"
NAMES = ("astronaut.jpg", "cat.png", "coffee.webp", "photographer.jpg", "rocket-rotated.jpg")

MAX_DIFFERENCE = 12
"""Grey levels of one pixel. Ten were measured, at the hard edges of a picture decoded at half size with
just twice the pixels of the view; full-size decoding gives one or two."""

MAX_MEAN = 0.45
MAX_UNSCALED_DIFFERENCE = 2
MAX_SCORE = 0.003

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "4:2:0": ("RGB", {"subsampling": 2}),
    "4:2:2": ("RGB", {"subsampling": 1}),
    "4:4:4": ("RGB", {"subsampling": 0}),
    "progressive": ("RGB", {"progressive": True}),
    "grey": ("L", {}),
    "CMYK": ("CMYK", {}),
}
SIZES = ((225, 224), (451, 677), (897, 899), (1283, 857), (2003, 999))
TINY = ("tiny-l", "tiny-h", "tiny-g")


@cache
def sample(name: str) -> Image.Image:
    with Image.open(SAMPLES / name) as picture:
        return ImageOps.exif_transpose(picture).convert("RGB")


@cache
def resized(name: str, size: tuple[int, int]) -> Image.Image:
    return sample(name).resize(size, Image.Resampling.LANCZOS)


KERNELS = [TOWER, replace(TOWER, fast="pillow")]


def differences(data: bytes, geometry: Geometry) -> NDArray[np.int64]:
    exact = frame(data, [geometry], exact=True).inputs[geometry].astype(np.int64)
    return np.asarray(np.abs(exact - frame(data, [geometry]).inputs[geometry]))


@pytest.mark.parametrize("geometry", KERNELS, ids=lambda geometry: geometry.fast)
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("kind", KINDS)
def test_pixels_move_little_in_every_kind_of_jpeg(
    kind: str, size: tuple[int, int], geometry: Geometry
) -> None:
    mode, settings = KINDS[kind]
    for name in NAMES:
        picture = resized(name, size).convert(mode)
        difference = differences(encode(picture, "JPEG", quality=90, **settings), geometry)
        assert difference.max() <= MAX_DIFFERENCE, name
        assert difference.mean() <= MAX_MEAN, name
        if min(size) < 2 * min(TOWER.size):  # too small to be decoded at half its size
            assert difference.max() <= MAX_UNSCALED_DIFFERENCE, name


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_torch_and_pillow_resize_alike(size: tuple[int, int]) -> None:
    for name in NAMES:
        seen = frame(encode(resized(name, size), "JPEG", quality=90), KERNELS).inputs
        by_torch, by_pillow = (seen[geometry].astype(np.int64) for geometry in KERNELS)
        assert np.abs(by_torch - by_pillow).max() <= 1, name


@pytest.mark.parametrize("coverage", [CENTRE, Coverage()], ids=["centre", "full"])
@pytest.mark.parametrize("size", [(640, 427), (897, 899), (1411, 1411), (2003, 1999), (4001, 2999)])
def test_open_nsfws_score_moves_by_less_than_promised(size: tuple[int, int], coverage: Coverage) -> None:
    model = backends.load_open_nsfw()
    jpegs = [encode(resized(name, size), "JPEG", quality=75) for name in NAMES]
    fast, exact = (
        [one.scores["nsfw"] for one in model.infer([_seen(data, model, coverage, exact) for data in jpegs])]
        for exact in (False, True)
    )
    assert np.abs(np.subtract(fast, exact)).max() <= MAX_SCORE


def _seen(data: bytes, model: OnnxClassifier, coverage: Coverage, exact: bool) -> Frame:
    return frames(data, [model.geometry], coverage=coverage, exact=exact)[0]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_move_little_whichever_way_a_scaled_picture_lies(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name in NAMES:
        picture = resized(name, (1501, 999))
        difference = differences(encode(picture, "JPEG", quality=90, exif=exif), TOWER)
        assert difference.max() <= MAX_DIFFERENCE, name
        assert difference.mean() <= MAX_MEAN, name


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory: pytest.TempPathFactory) -> Ensemble:
    cache = tmp_path_factory.mktemp("cache")
    members = [
        Member(backends.tiny_clip(name, cache), weight)
        for name, weight in zip(TINY, (0.4, 0.35, 0.25), strict=True)
    ]
    return Ensemble(members)


def unsafe_scores(ensemble: Ensemble, jpegs: Sequence[bytes], *, exact: bool) -> NDArray[np.float64]:
    policy = load_policy(str(Path(backends.TINY).parent / "shapes.toml"))
    criteria = prepare(ensemble, policy, threshold=0.5)
    frames = [frame(data, ensemble.geometries, exact=exact) for data in jpegs]
    verdicts = list(judge(infer(ensemble, [frames]), criteria))
    return np.array([v.deciding.unsafe_score for v in verdicts if isinstance(v, Verdict)])


@pytest.mark.parametrize("size", [(640, 427), (897, 899), (1280, 853), (4001, 2999)])
def test_the_score_that_decides_moves_by_less_than_promised(
    ensemble: Ensemble, size: tuple[int, int]
) -> None:
    # Their towers want 32 to 64 pixels, so a scaled picture is at its smallest for them.
    shapes = [picture_of(kind, (640, 427), seed=1) for kind in CLASSES]
    drawn = [*shapes[:: 1 if size[0] < 2000 else 7], *map(sample, NAMES)]
    jpegs = [encode(one.resize(size, Image.Resampling.BICUBIC), "JPEG", quality=90) for one in drawn]
    fast, exact = (unsafe_scores(ensemble, jpegs, exact=exact) for exact in (False, True))
    assert len(fast) == len(exact) == len(drawn)
    assert exact.max() > 0.9, "a red circle is among them"
    assert 0 < np.abs(fast - exact).max() <= MAX_SCORE
