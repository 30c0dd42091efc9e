"""The pictures in `sample_images/` are what their names and the attribution file promise."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image, ImageOps, ImageSequence

from tests.make_samples import (
    EXIF_ORIENTATION,
    MAKERS,
    PAN_FRAMES,
    QUARTER_TURN,
    SAMPLES,
    make_all,
    photograph,
)

ATTRIBUTION = SAMPLES / "ATTRIBUTION.md"
LARGEST_BYTES = 300_000
LARGEST_ALL_BYTES = 1_500_000
FREE_LICENCES = {"public domain", "CC0"}
# Another release of Pillow may pack a picture a little differently; this is far below what an eye sees.
NEAR = 3.0


class Promise(NamedTuple):
    format: str
    mode: str
    size: tuple[int, int]


PROMISED = {
    "astronaut-pan.gif": Promise("GIF", "P", (200, 200)),
    "astronaut.jpg": Promise("JPEG", "RGB", (512, 512)),
    "cat.png": Promise("PNG", "RGB", (451, 300)),
    "clock.tiff": Promise("TIFF", "L", (400, 300)),
    "coffee.webp": Promise("WEBP", "RGB", (600, 400)),
    "color-chart.png": Promise("PNG", "RGB", (256, 256)),
    "galaxies.avif": Promise("AVIF", "RGB", (500, 436)),
    "horse.bmp": Promise("BMP", "1", (400, 328)),
    "photographer.jpg": Promise("JPEG", "L", (512, 512)),
    "rocket-rotated.jpg": Promise("JPEG", "RGB", (427, 640)),
}
every_sample = pytest.mark.parametrize("name", sorted(PROMISED))


def pictures() -> list[Path]:
    return sorted(p for p in SAMPLES.iterdir() if p != ATTRIBUTION)


def table_rows() -> list[list[str]]:
    lines = ATTRIBUTION.read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return rows[2:]  # below the head and its rule


def frames_of(path: Path) -> list[np.ndarray]:
    """Every frame as it is to be seen, (H, W, 3) of floats."""
    with Image.open(path) as picture:
        shown = [ImageOps.exif_transpose(frame).convert("RGB") for frame in ImageSequence.Iterator(picture)]
    return [np.asarray(frame, dtype=np.float64) for frame in shown]


def test_the_folder_holds_the_promised_files_and_no_others() -> None:
    assert {p.name for p in pictures()} == set(PROMISED) == set(MAKERS)


@every_sample
def test_a_sample_opens_as_what_its_name_says(name: str) -> None:
    with Image.open(SAMPLES / name) as picture:
        picture.load()
        assert Promise(picture.format or "", picture.mode, picture.size) == PROMISED[name]


def test_only_the_animation_has_more_than_one_frame() -> None:
    frames = {p.name: len(frames_of(p)) for p in pictures()}
    assert {name for name, count in frames.items() if count > 1} == {"astronaut-pan.gif"}
    assert frames["astronaut-pan.gif"] == PAN_FRAMES


def test_every_frame_of_the_animation_differs_from_the_one_before() -> None:
    frames = frames_of(SAMPLES / "astronaut-pan.gif")
    assert all(not np.array_equal(a, b) for a, b in itertools.pairwise(frames))


def test_only_the_rocket_must_be_turned_and_then_it_stands_upright() -> None:
    orientations = {}
    for path in pictures():
        with Image.open(path) as picture:
            orientations[path.name] = picture.getexif().get(EXIF_ORIENTATION, 1)
    assert {name: o for name, o in orientations.items() if o != 1} == {"rocket-rotated.jpg": QUARTER_TURN}
    (upright,) = frames_of(SAMPLES / "rocket-rotated.jpg")
    assert np.abs(upright - np.asarray(photograph("rocket"))).mean() < NEAR


@pytest.mark.parametrize("name", sorted(set(PROMISED) - {"rocket-rotated.jpg"}))
def test_no_other_sample_carries_metadata(name: str) -> None:
    with Image.open(SAMPLES / name) as picture:
        assert not picture.info.keys() & {"exif", "xmp", "comment", "icc_profile"}


def test_sizes_stay_small_enough_for_a_repository() -> None:
    sizes = {p.name: p.stat().st_size for p in pictures()}
    assert max(sizes.values()) <= LARGEST_BYTES
    assert sum(sizes.values()) <= LARGEST_ALL_BYTES


def test_attribution_names_every_file_once_and_no_other() -> None:
    named = [row[0] for row in table_rows()]
    assert sorted(named) == [f"`{p.name}`" for p in pictures()]


def test_attribution_gives_author_source_and_a_free_licence_for_each_file() -> None:
    for _, what, author, source, licence in table_rows():
        assert what
        assert author
        assert re.search(r"`(skimage\.data\.\w+|astronaut\.jpg|tests/make_samples\.py)`", source)
        assert licence in FREE_LICENCES


def test_the_script_makes_every_sample_anew(tmp_path: Path) -> None:
    make_all(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == set(PROMISED)
    for name in PROMISED:
        for kept, made in zip(frames_of(SAMPLES / name), frames_of(tmp_path / name), strict=True):
            assert np.abs(kept - made).mean() < NEAR, name


def labels_seen(*frames: np.ndarray) -> list[set[str]]:
    """What the detector of the nudenet package sees in each frame."""
    detector = pytest.importorskip("nudenet").NudeDetector()
    as_bgr = (frame[:, :, ::-1].astype(np.uint8).copy() for frame in frames)
    return [{found["class"] for found in detector.detect(frame)} for frame in as_bgr]


def test_the_detector_sees_a_woman_a_man_and_nobody() -> None:
    names = ("astronaut.jpg", "photographer.jpg", "cat.png", "coffee.webp")
    seen = labels_seen(*(frames_of(SAMPLES / name)[0] for name in names))
    assert seen == [{"FACE_FEMALE"}, {"FACE_MALE"}, set(), set()]


def test_the_detector_sees_the_face_at_the_end_of_the_animation_but_not_at_its_start() -> None:
    frames = frames_of(SAMPLES / "astronaut-pan.gif")
    assert labels_seen(frames[0], frames[-1]) == [set(), {"FACE_FEMALE"}]


def test_the_color_chart_is_the_false_alarm_that_it_is_said_to_be() -> None:
    (seen,) = labels_seen(*frames_of(SAMPLES / "color-chart.png"))
    assert seen == {"BUTTOCKS_EXPOSED"}
