"""Towers on several devices, and compiled ones."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from clipmod_cli.errors import SettingsError
from clipmod_cli.models.device.device import Placement, place
from clipmod_cli.models.tower import forward
from clipmod_cli.models.tower.forward import build_tower
from clipmod_cli.models.tower.model import SplitTower
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

        __call__ = submit

    with pytest.raises(torch.OutOfMemoryError):
        SplitTower([full, Exhausted()])(crops(4))


def capturing(seen: list[list[object]]) -> Callable[..., Any]:
    """Return a compiler that only notes the limit that holds in its thread and the sizes that it is given."""
    from torch._dynamo import config

    def note(graph: torch.fx.GraphModule, _: Sequence[object]) -> Callable[..., Any]:
        inputs = [node.meta["example_value"] for node in graph.graph.nodes if node.op == "placeholder"]
        sizes = [size for one in inputs if isinstance(one, torch.Tensor) for size in one.shape[1:]]
        seen.append([config.recompile_limit, *sizes])
        return graph.forward

    real = torch.compile
    return lambda step: real(step, backend=note)


def test_only_the_batch_is_of_any_size_in_a_second_compiled_tower(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[object]] = []
    monkeypatch.setattr(torch, "compile", capturing(seen))
    for width, heads in ((64, 4), (96, 6)):
        visual = module(width=width, heads=heads, layers=2)
        ours = tower(visual, compile=True)
        known = len(seen)
        for count in (1, 4, 6):
            assert apart(ours(crops(count)), by_open_clip(visual, crops(count))) <= 1e-6
        assert len(seen) == known  # nothing is left to compile once it is warm
    assert seen
    assert all(type(number) is int for sizes in seen for number in sizes)


def test_the_thread_that_looks_may_compile_as_often(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[object]] = []
    monkeypatch.setattr(torch, "compile", capturing(seen))
    step = forward.compiled(lambda x: x + 1)
    thread = threading.Thread(target=step, args=(torch.ones(3),))
    thread.start()
    thread.join()
    assert [limit for limit, *_ in seen] == [forward.VARIANTS]


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


def submit_several(device: str, dtype: str) -> None:
    """Give a tower several batches before any is waited for, and see that each comes back as itself."""
    visual = module(width=128)
    shape, state = parts(visual)
    built = build_tower(shape, state, mean=MEAN, std=STD, placement=place(device, dtype))
    batches = [crops(count) for count in (9, 1, 8, 5, 16)]
    waiting = [built.submit(batch) for batch in batches]
    for wait, batch in zip(waiting, batches, strict=True):
        computed = wait()
        assert apart(computed.result, by_open_clip(visual, batch)) <= 1e-4
        assert computed.seconds > 0.0


@pytest.mark.parametrize("dtype", ["auto", "float32", "bfloat16"])
def test_batches_that_wait_come_back_as_themselves(dtype: str) -> None:
    submit_several("cpu", dtype)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["auto", "float32", "bfloat16", "float16"])
def test_a_gpu_gives_what_the_cpu_gives(dtype: str) -> None:
    submit_several("cuda", dtype)
