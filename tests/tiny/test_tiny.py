"""The tiny models mean what their names say, through open_clip alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.tiny import shapes
from tests.tiny.configs import CONFIGS
from tests.tiny.examples import PICTURES, write_examples
from tests.tiny.measure import accuracy, agreement, clear
from tests.tiny.zero_shot import MODELS, WEIGHTS, TinyModel, ensemble_scores, load, unsafe_scores

FRESH = 200
FRESH_SEED = 424_242
JUDGED = 500
JUDGED_SEED = 31_337
MAX_FOLDER_BYTES = 2_900_000
# three of them are in the repository for ever
MAX_PICTURES_BYTES = 200_000


@pytest.fixture(scope="module")
def models() -> Mapping[str, TinyModel]:
    return {name: load(name) for name in WEIGHTS}


@pytest.fixture(scope="module")
def fresh() -> list[tuple[Image.Image, str]]:
    return list(shapes.labelled(FRESH, FRESH_SEED))


@pytest.mark.parametrize("name", CONFIGS)
def test_each_model_names_fresh_pictures(
    name: str, models: Mapping[str, TinyModel], fresh: list[tuple[Image.Image, str]]
) -> None:
    pictures, meant = [picture for picture, _ in fresh], [what for _, what in fresh]
    assert accuracy(models[name], pictures, meant) > 0.95


@pytest.mark.parametrize("name", CONFIGS)
def test_sixteen_bit_weights_name_them_too(name: str, fresh: list[tuple[Image.Image, str]]) -> None:
    pictures, meant = [picture for picture, _ in fresh], [what for _, what in fresh]
    assert accuracy(load(name, bf16=True), pictures, meant) > 0.95


@pytest.mark.parametrize("name", CONFIGS)
def test_a_clear_picture_gets_a_clear_score(name: str, models: Mapping[str, TinyModel]) -> None:
    assert unsafe_scores(models[name], clear("red", "circle")).min() > 0.9
    assert unsafe_scores(models[name], clear("blue", "square")).max() < 0.1


def test_the_ensemble_judges_by_the_policy(models: Mapping[str, TinyModel]) -> None:
    drawn = list(shapes.labelled(JUDGED, JUDGED_SEED))
    meant = [what for _, what in drawn]
    scores = ensemble_scores(models, [picture for picture, _ in drawn])
    assert set(meant) == set(shapes.CLASSES), "every class should be among the pictures"
    assert agreement(scores, meant) >= 0.99


@pytest.mark.parametrize(
    ("picture", "unsafe"),
    [
        ("blue-square.png", [False]),
        ("green-triangle.webp", [False]),
        ("grey-circle.tiff", [False]),
        ("nothing.png", [False]),
        ("red-circle-in-one-frame.gif", [False, False, True, False, False]),
        ("red-circle-transparent.png", [True]),
        ("red-circle-turned.jpg", [True]),
        ("red-circle.jpg", [True]),
        ("red-square.avif", [False]),
        ("yellow-star.bmp", [False]),
    ],
)
def test_the_example_pictures_show_what_they_are_named(
    picture: str, unsafe: list[bool], models: Mapping[str, TinyModel]
) -> None:
    frames = frames_on_white(PICTURES / picture)
    for name, model in models.items():
        scores = unsafe_scores(model, frames)
        assert [bool(score > 0.9) for score in scores] == unsafe, name
        assert [bool(score < 0.1) for score in scores] == [not frame for frame in unsafe], name


def test_only_alpha_shows_the_transparent_circle(models: Mapping[str, TinyModel]) -> None:
    with Image.open(PICTURES / "red-circle-transparent.png") as picture:
        without_alpha = picture.convert("RGB")
    assert ensemble_scores(models, [without_alpha])[0] < 0.1


def test_a_picture_follows_from_its_seed() -> None:
    one, same, other = (shapes.draw("red", "star", (90, 60), seed) for seed in (1, 1, 2))
    assert one.size == (90, 60)
    assert one.tobytes() == same.tobytes() != other.tobytes()


def test_a_caption_says_what_is_drawn() -> None:
    said = [caption for _, caption in shapes.dataset(50, seed=4)]
    drawn = [name for _, name in shapes.labelled(50, seed=4)]
    assert all(caption in shapes.captions(name) for caption, name in zip(said, drawn, strict=True))
    assert "a photo of a crimson disc" in shapes.captions("red circle")


def test_a_clear_shape_is_painted_in_the_middle_alone() -> None:
    flat = np.asarray(shapes.draw_clear("red", "circle", (64, 64), (9, 9, 9)))
    assert (flat[0, 0] == 9).all()
    assert (flat[32, 32] == shapes.PURE["red"]).all()


def test_an_unknown_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="hexagon"):
        shapes.draw("red", "hexagon")


def test_the_example_pictures_can_be_remade(tmp_path: Path) -> None:
    write_examples(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in PICTURES.iterdir()}
    for name in ["blue-square.png", "grey-circle.tiff", "nothing.png", "yellow-star.bmp"]:
        with Image.open(tmp_path / name) as made, Image.open(PICTURES / name) as kept:
            assert made.tobytes() == kept.tobytes(), name


@pytest.mark.parametrize("name", CONFIGS)
def test_a_folder_is_small_and_says_what_was_trained(name: str) -> None:
    folder = MODELS / name
    assert sum(path.stat().st_size for path in folder.iterdir()) < MAX_FOLDER_BYTES
    assert json.loads((folder / "open_clip_config.json").read_text(encoding="utf-8")) == CONFIGS[name]


def test_the_pictures_are_small() -> None:
    assert sum(path.stat().st_size for path in PICTURES.iterdir()) < MAX_PICTURES_BYTES


def frames_on_white(path: Path) -> list[Image.Image]:
    """Returns every frame as it is meant to be seen: turned as EXIF says, on white."""
    with Image.open(path) as picture:
        frames = []
        for number in range(getattr(picture, "n_frames", 1)):
            picture.seek(number)
            seen = ImageOps.exif_transpose(picture.convert("RGBA"))
            ground = Image.new("RGBA", seen.size, "white")
            frames.append(Image.alpha_composite(ground, seen).convert("RGB"))
    return frames
