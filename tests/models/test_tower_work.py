"""Our forward pass takes no more operations than its architecture asks for, in batches of all sizes."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import open_clip
import pytest
import torch
from open_clip.transformer import VisionTransformer
from torch.utils.flop_counter import FlopCounterMode

from clipmod_cli.models.device.device import Placement
from clipmod_cli.models.tower import layers as tower_linear
from clipmod_cli.models.tower.forward import build_tower
from tests.models.vision_kit import MEAN, STD, apart, by_open_clip, crops, module, operations, parts, tower

COPIES = ("aten::copy_", "aten::clone", "aten::contiguous", "aten::_to_copy")
PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "mkldnn::_linear_pointwise")

CAN_PACK = (
    platform.machine() in {"x86_64", "AMD64"}
    and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
)
"""Asked of oneDNN itself, so that tests notice if we no longer pack."""


def some(names: Sequence[str], counted: Counter[str]) -> dict[str, int]:
    """Return the counts of these operations."""
    return {name: counted[name] for name in names}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_batch_takes_as_many_operations_as_a_picture(dtype: torch.dtype) -> None:
    ours = tower(module(), dtype)
    ours(crops(1))
    one, eight = operations(ours, crops(1)), operations(ours, crops(8))
    # The last layer takes the class tokens out of a batch, which copies them where there are several.
    assert all(eight[name] - one[name] <= 2 for name in COPIES), (one, eight)
    assert some(PRODUCTS, eight) == some(PRODUCTS, one)
    # Patches, projection, four a layer, and one more since the last layer has its queries apart.
    assert eight["aten::linear"] + eight["mkldnn::_linear_pointwise"] == 2 + 4 * 3 + 1
    assert eight["aten::bmm"] == eight["aten::baddbmm"] == 0
    assert eight["aten::scaled_dot_product_attention"] == 3


def test_the_count_shows_the_trap_that_it_guards_against() -> None:
    visual = module()

    def look(pictures: torch.Tensor) -> None:
        with autocast():
            by_open_clip(visual, pictures)

    # At a batch of 2 and more, 16-bit products over three dimensions copy their weights for each row.
    assert some(PRODUCTS, operations(look, crops(8))) != some(PRODUCTS, operations(look, crops(1)))


@contextmanager
def autocast() -> Iterator[None]:
    """Compute as a program does that has autocast on for all it calls."""
    with torch.autocast("cpu", torch.bfloat16):
        yield


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_around_it_changes_nothing(dtype: torch.dtype) -> None:
    visual = module()
    ours, pictures = tower(visual, dtype), crops(4)
    plain, counted = ours(pictures), operations(ours, pictures)
    with autocast():
        assert torch.equal(ours(pictures), plain)
        assert operations(ours, pictures) == counted
        assert torch.equal(tower(visual, dtype)(pictures), plain)


@pytest.mark.parametrize(("arch", "gflop"), [("ViT-L-14", 162), ("ViT-H-14", 335), ("ViT-g-14", 534)])
def test_the_work_is_what_the_architecture_asks_for(arch: str, gflop: float) -> None:
    config = open_clip.get_model_config(arch)["vision_cfg"]
    width, layers = config["width"], config["layers"]
    with torch.device("meta"):
        visual = VisionTransformer(
            image_size=224,
            patch_size=14,
            width=width,
            layers=layers,
            heads=width // config.get("head_width", 64),
            mlp_ratio=config.get("mlp_ratio", 4.0),
            output_dim=1024,
        )
        pictures = torch.empty(2, 224, 224, 3, dtype=torch.uint8)
    shape, state = parts(visual)
    assert shape.flops == pytest.approx(gflop * 1e9, rel=0.01)
    meta = Placement(torch.device("meta"), torch.bfloat16)
    built = build_tower(shape, state, mean=MEAN, std=STD, placement=meta)
    with FlopCounterMode(display=False) as counter:
        built(pictures)
    # In the last layer all but keys and values is computed for the class token alone.
    saved = 2 * (shape.tokens - 1) * (2 * width**2 + 2 * width * shape.mlp_width + 2 * shape.tokens * width)
    assert counter.get_total_flops() / 2 == pytest.approx(shape.flops - saved, rel=0.001)
    assert 0.01 < saved / shape.flops < 0.05


def test_packed_matrices_give_what_plain_ones_give(monkeypatch: pytest.MonkeyPatch) -> None:
    visual, pictures = module(), crops(4)
    ours = tower(visual, torch.bfloat16)
    packed = ours(pictures)
    if CAN_PACK:
        assert operations(ours, pictures)["mkldnn::_linear_pointwise"] == 4 * 3 + 1
    monkeypatch.setattr(tower_linear, "can_pack", lambda: False)
    plain = tower(visual, torch.bfloat16)
    assert operations(plain, pictures)["mkldnn::_linear_pointwise"] == 0
    assert apart(packed, plain(pictures)) <= 1e-5


@pytest.mark.skipif(not CAN_PACK, reason="oneDNN has no bfloat16 for this CPU")
def test_matrices_are_packed_where_the_cpu_can() -> None:
    assert tower_linear.can_pack()
    weight = torch.ones(96, 64, dtype=torch.bfloat16)
    assert isinstance(tower_linear.make_linear(weight, None, packed=True), tower_linear.PackedLinear)
    assert isinstance(tower_linear.make_linear(weight, None, packed=False), tower_linear.PlainLinear)


@pytest.mark.parametrize(
    "broken",
    [AttributeError("no such operator"), torch.zeros(2, 5, 96, dtype=torch.bfloat16)],
    ids=["missing", "wrong"],
)
def test_packing_that_does_not_work_is_left_alone(
    broken: Exception | torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def multiply(*_: object) -> torch.Tensor:
        if isinstance(broken, Exception):
            raise broken
        return broken

    assert tower_linear.can_pack.__wrapped__() or not CAN_PACK
    monkeypatch.setattr(tower_linear.PackedLinear, "__call__", multiply)
    assert not tower_linear.can_pack.__wrapped__()
