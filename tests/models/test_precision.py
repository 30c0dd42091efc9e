"""Which precision a tower takes: float16 unless its numbers overflow, and never one that is wrong."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import torch

from clipmod_cli.errors import SettingsError
from clipmod_cli.models.device.device import Placement
from clipmod_cli.models.open_clip.architecture import RandomState
from clipmod_cli.models.tower.forward import VisionTower, build_tower
from clipmod_cli.models.tower.model import SplitTower
from clipmod_cli.models.tower.precision import (
    LEAST_COSINE,
    choose_precision,
    find_problem,
    reference_pictures,
)
from clipmod_cli.models.tower.shape import TowerShape

CPU = torch.device("cpu")
CUDA_CANDIDATES = (torch.float16, torch.bfloat16, torch.float32)
SHAPE = TowerShape(
    layers=2,
    heads=2,
    width=64,
    mlp_width=256,
    output_dim=32,
    image_height=32,
    image_width=32,
    patch_height=8,
    patch_width=8,
)


def build(
    change: Callable[[dict[str, torch.Tensor]], None] = lambda _: None,
    more: tuple[torch.device, ...] = (),
) -> VisionTower | SplitTower:
    """Return a tower that was free to choose as on CUDA, its numbers changed before."""
    state = dict(RandomState(SHAPE))
    change(state)
    placement = Placement(CPU, torch.bfloat16, CUDA_CANDIDATES, more)
    return build_tower(SHAPE, state, mean=(0.5,) * 3, std=(0.5,) * 3, placement=placement)


def overflow(state: dict[str, torch.Tensor]) -> None:
    """Have an MLP pass 65,504, the largest number of float16, on its way to ordinary results."""
    state["blocks.0.up.bias"] = torch.full((256,), 1e5)
    state["blocks.0.down.weight"] = state["blocks.0.down.weight"] / 1e5


def make_infinite_weights(state: dict[str, torch.Tensor]) -> None:
    """Have weights that float16 cannot hold."""
    state["blocks.1.qkv.weight"][0, 0] = 7e4


def test_float16_is_taken_where_it_is_precise(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="clipmod_cli.models.tower.precision"):
        assert build().dtype == torch.float16
    assert "float16 agrees with float32" in caplog.text


@pytest.mark.parametrize("change", [overflow, make_infinite_weights])
def test_bfloat16_is_taken_where_float16_overflows(
    change: Callable[[dict[str, torch.Tensor]], None], caplog: pytest.LogCaptureFixture
) -> None:
    tower = build(change)
    assert tower.dtype == torch.bfloat16
    assert "float16 is not precise enough for these weights" in caplog.text
    assert "not finite" in caplog.text
    assert "using bfloat16" in caplog.text
    assert tower(reference_pictures(32, 32)).isfinite().all()


def test_float32_is_the_last_resort(caplog: pytest.LogCaptureFixture) -> None:
    def overflow_without_digits(state: dict[str, torch.Tensor]) -> None:
        overflow(state)
        # Attention between a token and its neighbours is decided by tiny differences of large numbers.
        state["blocks.0.qkv.weight"] = state["blocks.0.qkv.weight"] * 20
        state["blocks.1.qkv.weight"] = state["blocks.1.qkv.weight"] * 20

    assert build(overflow_without_digits).dtype == torch.float32
    assert "using float32" in caplog.text


def test_all_devices_take_what_the_first_one_took() -> None:
    tower = build(overflow, more=(CPU,))
    assert isinstance(tower, SplitTower)
    assert [one.dtype for one in tower._towers] == [torch.bfloat16, torch.bfloat16]


def test_a_single_candidate_costs_no_check() -> None:
    def never(*_: object) -> torch.Tensor:
        raise AssertionError("a reference was computed")

    built: list[torch.dtype] = []

    def make(dtype: torch.dtype) -> Callable[[torch.Tensor], torch.Tensor]:
        built.append(dtype)
        return lambda crops: crops

    for dtype, device in ((torch.bfloat16, CPU), (torch.float32, torch.device("cuda"))):
        choose_precision([dtype], build=make, pictures=torch.zeros(1), reference=never, device=device)
    assert built == [torch.bfloat16, torch.float32]


PICTURES = reference_pictures(32, 32)
UNIT = torch.nn.functional.normalize(torch.randn(6, 32, generator=torch.Generator().manual_seed(0)), dim=-1)


def giving(vectors: torch.Tensor) -> Callable[[torch.dtype], Callable[[torch.Tensor], torch.Tensor]]:
    """Return what builds towers that see the same in everything."""
    return lambda _: lambda _: vectors


@pytest.mark.parametrize("kind", ["cuda", "mps"])
@pytest.mark.parametrize("precise", [True, False])
def test_a_named_precision_is_taken_and_its_faults_are_said(
    kind: str, precise: bool, caplog: pytest.LogCaptureFixture
) -> None:
    given = UNIT if precise else UNIT.flip(-1)
    tower = choose_precision(
        [torch.float16],
        build=giving(given),
        pictures=PICTURES,
        reference=lambda pictures, _: UNIT[-len(pictures) :],
        device=torch.device(kind),
    )
    assert torch.equal(tower(PICTURES), given)
    assert ("--dtype float16 is not precise enough" in caplog.text) is not precise


def test_the_cpu_has_the_last_word_on_what_metal_computes() -> None:
    asked: list[tuple[int, str]] = []

    def reference(pictures: torch.Tensor, device: torch.device) -> torch.Tensor:
        asked.append((len(pictures), device.type))
        return right[device.type][-len(pictures) :]

    def take() -> Callable[[torch.Tensor], torch.Tensor]:
        return choose_precision(
            [torch.float16, torch.float32],
            build=giving(right["mps"]),
            pictures=PICTURES,
            reference=reference,
            device=torch.device("mps"),
        )

    right = {"mps": UNIT, "cpu": UNIT}
    assert torch.equal(take()(PICTURES), UNIT)
    assert asked == [(6, "mps"), (2, "cpu")]
    right["cpu"] = UNIT.flip(-1)
    with pytest.raises(SettingsError, match=r"--device mps computes other results.*use --device cpu"):
        take()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda v: v, None),
        (lambda v: v * float("nan"), "6 of 6 embeddings are not finite"),
        (lambda v: torch.cat([v[:5], v[5:] / 0]), "1 of 6"),
        (lambda v: -v, "cosine -1.000000"),
        (lambda v: torch.cat([v[:5], v[5:].flip(-1)]), "cosine"),
        (torch.zeros_like, "cosine 0.000000"),
    ],
)
def test_one_wrong_embedding_is_enough(
    change: Callable[[torch.Tensor], torch.Tensor], said: str | None
) -> None:
    numbers = torch.randn(6, 32, generator=torch.Generator().manual_seed(0))
    wanted = torch.nn.functional.normalize(numbers, dim=-1)
    found = find_problem(change(wanted), wanted)
    assert found is None if said is None else found is not None and said in found


def test_a_cosine_just_below_the_limit_is_refused() -> None:
    wanted = torch.tensor([[1.0, 0.0]])
    for cosine, good in ((LEAST_COSINE + 1e-5, True), (LEAST_COSINE - 1e-5, False)):
        vector = torch.tensor([[cosine, (1 - cosine**2) ** 0.5]])
        assert (find_problem(vector, wanted) is None) is good


@pytest.mark.parametrize(("height", "width"), [(224, 224), (32, 48), (1, 1)])
def test_reference_pictures_are_the_same_each_time(height: int, width: int) -> None:
    pictures = reference_pictures(height, width)
    assert pictures.shape == (6, height, width, 3)
    assert pictures.dtype == torch.uint8
    assert torch.equal(pictures, reference_pictures(height, width))
    assert (int(pictures.min()), int(pictures.max())) == (0, 255)
    if height > 16:
        assert len({picture.numpy().tobytes() for picture in pictures}) == 6
