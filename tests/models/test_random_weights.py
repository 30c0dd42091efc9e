"""Architectures with random numbers: the right amount of work, finite outputs, nothing downloaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from clipmod_cli.errors import SpecError
from clipmod_cli.models.open_clip import architecture
from clipmod_cli.models.open_clip.architecture import count, flops_of
from clipmod_cli.models.specs import parse_spec
from clipmod_cli.models.tower.model import ModuleTower
from clipmod_cli.types import Embedding
from tests.models import backends

TINY = parse_spec(f"open_clip:local-dir:{backends.TINY / 'tiny-l'}")


@pytest.mark.parametrize(
    ("spec", "gflop"),
    [
        ("open_clip:ViT-L-14/laion2b_s32b_b82k", 162.0),
        ("open_clip:ViT-H-14/laion2b_s32b_b79k", 334.6),
        ("open_clip:ViT-g-14/laion2b_s34b_b88k", 534.1),
    ],
)
def test_the_ensemble_is_as_much_work_as_its_table_says(spec: str, gflop: float) -> None:
    flops = flops_of(parse_spec(spec))
    assert flops is not None
    assert flops / 1e9 == pytest.approx(gflop, abs=0.1)


def test_the_formula_and_the_counter_agree() -> None:
    spec = parse_spec("open_clip:ViT-B-32/laion2b_s34b_b79k")
    assert flops_of(spec) == count(architecture.architecture_of(spec).visual, 224, 224)


def test_other_towers_are_counted(tmp_path: Path) -> None:
    flops = flops_of(parse_spec("open_clip:RN50/openai"))
    assert flops is not None
    assert flops / 1e9 == pytest.approx(12.2, abs=0.1)
    assert flops_of(parse_spec(f"hf:{backends.save_random_vit(tmp_path / 'vit')}"))
    assert flops_of(parse_spec(f"hf:{tmp_path / 'nothing'}")) is None
    assert flops_of(parse_spec("nudenet")) is None


def test_outputs_are_finite_and_the_same_each_time(pictures: list[Path]) -> None:
    first, again = (architecture.load(TINY, name="tiny", placement=backends.PLACEMENT) for _ in range(2))
    assert first.kind == "text-image"
    frames = backends.look(first, pictures)
    for one, other in zip(first.submit(frames)().seen, again.submit(frames)().seen, strict=True):
        assert isinstance(one, Embedding)
        assert isinstance(other, Embedding)
        assert np.linalg.norm(one.vector) == pytest.approx(1, abs=1e-5)
        assert np.array_equal(one.vector, other.vector)
    texts = first.embed(["a", "b", "c"])
    assert texts.shape == (3, first.width)
    assert np.linalg.norm(texts, axis=1) == pytest.approx([1, 1, 1], abs=1e-5)


def test_a_tower_of_another_kind_is_computed_by_open_clip() -> None:
    tower = architecture.load(
        parse_spec("open_clip:RN50/openai"), name="x", placement=backends.PLACEMENT
    )._tower
    assert isinstance(tower, ModuleTower)
    vectors = tower(torch.randint(0, 255, (1, 224, 224, 3), dtype=torch.uint8))
    assert bool(torch.isfinite(vectors).all())


def test_what_has_no_architecture_of_open_clip_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="random weights are for open_clip"):
        architecture.architecture_of(parse_spec("nudenet"))
    with pytest.raises(SpecError, match="has no architecture"):
        architecture.architecture_of(parse_spec("open_clip:nothing/none"))
    (tmp_path / "open_clip_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(SpecError, match="does not describe"):
        architecture.architecture_of(parse_spec(f"open_clip:local-dir:{tmp_path}"))
