"""Scores are those of the libraries' own recipes, on real photographs and the committed tiny CLIPs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import open_clip
import pytest
import torch
from nudenet import NudeDetector
from PIL import Image
from transformers import pipeline

from clipmod_cli.ensemble.ensemble import Ensemble, Member
from clipmod_cli.judge.criteria import mean_vectors
from clipmod_cli.judge.policy.reading import load_policy
from clipmod_cli.judge.policy.values import Policy
from clipmod_cli.judge.prepare import prepare
from clipmod_cli.models.seam import Model
from clipmod_cli.types import Detections, Evidence, LabelScores
from tests.measuring import infer
from tests.models import backends
from tests.tiny.shapes import CLASSES, picture_of

SHAPES = Path(__file__).parent.parent / "tiny" / "shapes.toml"


def judge_alone(model: Model, policy: Policy, paths: list[Path], *, exact: bool) -> list[list[float]]:
    """Return each picture's category probabilities by this model alone."""
    ensemble = Ensemble(members=[Member(model, 1.0)])
    criteria = prepare(ensemble, policy, threshold=0.5)
    rows = []
    for evidence in infer(ensemble, [backends.look(model, paths, exact=exact)]):
        assert isinstance(evidence, Evidence)
        rows.append(criteria.judges[0].reader.read(evidence.seen[model.name]).tolist())
    return rows


def open_clip_recipe(folder: Path, policy: Policy, paths: list[Path]) -> list[list[float]]:
    """Return the same by open_clip alone, as its README classifies."""
    name = f"local-dir:{folder}"
    model, _, preprocess = open_clip.create_model_and_transforms(name)
    model.eval()
    tokenizer = open_clip.get_tokenizer(name)
    with torch.inference_mode():
        columns = []
        for category in policy.categories:
            texts = [t.format(p) for p in category.prompts for t in policy.templates]
            mean = model.encode_text(tokenizer(texts), normalize=True).mean(dim=0)
            columns.append(mean / mean.norm())
        pixels = torch.stack([preprocess(Image.open(path)) for path in paths])
        logits = model.logit_scale.exp() * model.encode_image(pixels, normalize=True) @ torch.stack(columns).T
        rows: list[list[float]] = logits.softmax(dim=-1).tolist()
    return rows


@pytest.mark.parametrize("name", ["tiny-l", "tiny-h", "tiny-g"])
def test_tiny_clips_agree_with_open_clip(name: str, tmp_path: Path, pictures: list[Path]) -> None:
    policy = load_policy(str(SHAPES))
    ours = judge_alone(backends.tiny_clip(name, tmp_path / "cache"), policy, pictures, exact=True)
    theirs = open_clip_recipe(backends.TINY / name, policy, pictures)
    assert np.abs(np.array(ours) - np.array(theirs)).max() < 2e-3  # after the float16 grid


@pytest.fixture(scope="module")
def vit_b_32(random_vit_b_32: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The model of that folder; it embeds each prompt once, which takes it seconds."""
    return backends.load_folder(random_vit_b_32, tmp_path_factory.mktemp("cache"))


def test_vit_b_32_agrees_with_open_clip(vit_b_32: Model, random_vit_b_32: Path, pictures: list[Path]) -> None:
    policy = load_policy("nsfw")
    ours = np.array(judge_alone(vit_b_32, policy, pictures, exact=True))
    theirs = np.array(open_clip_recipe(random_vit_b_32, policy, pictures))
    assert np.abs(ours - theirs).max() < 1e-3
    assert np.ptp(ours, axis=0).max() > 1e-3  # the pictures are told apart, so agreement means something


def test_a_category_vector_is_the_mean_over_templates_and_prompts(tmp_path: Path) -> None:
    policy = load_policy(str(SHAPES))
    model = backends.tiny_clip("tiny-l", tmp_path)
    texts = [text for category in policy.categories for text in policy.texts_of(category)]
    vectors = mean_vectors(dict(zip(texts, model.embed(texts), strict=True)), policy)
    clip = open_clip.create_model(f"local-dir:{backends.TINY / 'tiny-l'}").eval()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{backends.TINY / 'tiny-l'}")
    for category, vector in zip(policy.categories, vectors, strict=True):
        theirs = open_clip.build_zero_shot_classifier(
            clip, tokenizer, [""], [text.replace("{", "{{") for text in policy.texts_of(category)]
        )
        assert vector == pytest.approx(theirs[:, 0].numpy(), abs=1e-5)


@pytest.mark.parametrize(
    "processor",
    [
        {},
        {"resample": 3},
        {"size": {"shortest_edge": 110}, "do_center_crop": True, "crop_size": {"height": 96, "width": 96}},
        {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.2]},
    ],
    ids=["plain", "bicubic", "cropped", "mean and std"],
)
def test_classifiers_agree_with_the_pipeline(
    processor: dict[str, Any], tmp_path: Path, pictures: list[Path]
) -> None:
    folder = backends.save_random_vit(tmp_path / "vit", **processor)
    model = backends.load_vit(folder)
    assert model.geometry.fit != "whole"
    ours = model.submit(backends.look(model, pictures))().seen
    theirs = pipeline("image-classification", model=str(folder), device="cpu")
    for seen, path in zip(ours, pictures, strict=True):
        expected = {row["label"]: row["score"] for row in theirs(str(path), top_k=None)}
        assert isinstance(seen, LabelScores)
        assert dict(seen.scores) == pytest.approx(expected, abs=1e-3)


def test_the_detector_agrees_with_its_package(pictures: list[Path]) -> None:
    model = backends.load_nudenet()
    theirs = NudeDetector()
    found = 0
    for seen, path in zip(model.submit(backends.look(model, pictures))().seen, pictures, strict=True):
        assert isinstance(seen, Detections)
        expected = sorted(theirs.detect(cv2.imread(str(path))), key=lambda d: -d["score"])
        assert [d.label for d in seen.found] == [d["class"] for d in expected]
        assert [d.score for d in seen.found] == pytest.approx([d["score"] for d in expected], abs=0.01)
        assert [list(d.box) for d in seen.found] == [pytest.approx(d["box"], abs=2) for d in expected]
        found += len(expected)
    assert found > 0


def _save(pictures: dict[str, Image.Image], size: tuple[int, int], folder: Path) -> list[Path]:
    """Write the pictures as JPEGs of this size, and return their paths."""
    paths = []
    for title, picture in pictures.items():
        paths.append(folder / f"{title}-{size[0]}.jpg")
        picture.resize(size, Image.Resampling.BICUBIC).save(paths[-1], quality=90)
    return paths


@pytest.mark.parametrize("name", ["tiny-l", "tiny-h", "tiny-g"])
def test_fast_decoding_moves_scores_little(name: str, tmp_path: Path) -> None:
    # On drawn shapes, since on photographs these models' scores mean nothing.
    policy = load_policy(str(SHAPES))
    model = backends.tiny_clip(name, tmp_path / "cache")
    drawn = {kind: picture_of(kind, (640, 427), seed=1) for kind in CLASSES}
    paths = _save(drawn, (1280, 853), tmp_path)
    fast = np.array(judge_alone(model, policy, paths, exact=False))
    exact = np.array(judge_alone(model, policy, paths, exact=True))
    assert np.abs(fast - exact).max() < 0.02


@pytest.mark.parametrize("size", [(1280, 853), (4000, 3000)], ids=["web", "12 megapixels"])
def test_fast_decoding_moves_vit_b_32_by_less_than_promised(
    size: tuple[int, int], vit_b_32: Model, tmp_path: Path
) -> None:
    policy = load_policy("nsfw")
    paths = _save(backends.photographs(), size, tmp_path)
    fast = np.array(judge_alone(vit_b_32, policy, paths, exact=False))
    exact = np.array(judge_alone(vit_b_32, policy, paths, exact=True))
    assert 0 < np.abs(fast - exact).max() < 0.003
