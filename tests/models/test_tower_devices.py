"""Towers on several devices, compiled ones, and what a placement says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from clipmod_cli.errors import SettingsError
from clipmod_cli.models.device import Placement, batch_for, place
from clipmod_cli.models.vision_tower import SplitTower, build_tower
from tests.models.vision_kit import CPU, MEAN, STD, apart, by_open_clip, crops, module, parts, tower


@pytest.mark.parametrize("count", [0, 1, 2, 5, 8])
def test_a_batch_is_split_and_comes_back_in_order(count: int) -> None:
    visual = module()
    one = tower(visual)
    split = SplitTower([one, tower(visual), tower(visual)])
    pictures = crops(count)
    assert torch.allclose(split(pictures), one(pictures), atol=1e-6)
    assert split(pictures).shape == (count, 32)
    assert split.dtype == torch.float32


def test_several_devices_have_a_tower_each() -> None:
    visual = module()
    shape, state = parts(visual)
    twice = Placement(CPU, torch.float32, more=(CPU,))
    built = build_tower(shape, state, mean=MEAN, std=STD, placement=twice)
    assert isinstance(built, SplitTower)
    assert apart(built(crops(3)), by_open_clip(visual, crops(3))) <= 1e-6


def test_an_error_on_one_device_reaches_the_caller() -> None:
    visual = module()
    full = tower(visual)

    class Exhausted:
        dtype = torch.float32

        def submit(self, pictures: torch.Tensor) -> Any:
            raise torch.OutOfMemoryError(f"no memory for {len(pictures)}")

    with pytest.raises(torch.OutOfMemoryError):
        SplitTower([full, Exhausted()])(crops(4))


@pytest.mark.slow
def test_a_compiled_tower_gives_the_same() -> None:
    visual = module(layers=2)
    ours = tower(visual, compile=True)
    for count in (1, 4, 6):
        assert apart(ours(crops(count)), by_open_clip(visual, crops(count))) <= 1e-6


def test_where_compiling_does_not_work_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def compiled(step: object) -> Any:
        def fail(*_: object) -> torch.Tensor:
            raise RuntimeError("no working C++ compiler\nand much more")

        return fail

    monkeypatch.setattr(torch, "compile", compiled)
    with pytest.raises(SettingsError, match=r"no working C\+\+ compiler\. torch\.compile needs"):
        tower(module(), compile=True)


@pytest.mark.parametrize(
    ("gigabytes", "pictures"),
    [(8, 64), (15.7, 64), (23.6, 64), (32, 128), (47.5, 192), (79.2, 256), (139, 256)],
)
def test_a_batch_grows_with_the_devices_memory(gigabytes: float, pictures: int) -> None:
    assert batch_for(int(gigabytes * (1 << 30))) == pictures


def test_a_cpu_computes_in_one_precision_without_a_check() -> None:
    placement = place("cpu", "auto")
    assert placement.candidates == (placement.dtype,)
    assert placement.devices == (CPU,)
    assert placement.batch_size == 8


def test_a_placement_tells_what_was_taken_in_the_end() -> None:
    asked = Placement(CPU, torch.bfloat16, (torch.float16, torch.bfloat16))
    taken = asked.settled(torch.float16)
    assert (taken.dtype_name, taken.candidates) == ("float16", (torch.float16,))
    assert replace(asked, checked=()).candidates == (torch.bfloat16,)


@pytest.mark.gpu
def test_a_gpu_gives_what_the_cpu_gives() -> None:
    visual = module(width=128)
    shape, state = parts(visual)
    pictures = crops(9)
    for dtype in ("auto", "float32", "bfloat16", "float16"):
        built = build_tower(shape, state, mean=MEAN, std=STD, placement=place("cuda", dtype))
        waiting = [built.submit(pictures) for _ in range(5)]
        for wait in waiting:
            assert apart(wait(), by_open_clip(visual, pictures)) <= 1e-4
