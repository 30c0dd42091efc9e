"""Our forward pass of a vision transformer gives what open_clip's own gives."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.transformer import QuickGELU, VisionTransformer

from clipmod_cli.models.device.device import Placement
from clipmod_cli.models.tower.forward import build_tower
from clipmod_cli.models.tower.shape import TowerShape, shape_of, state_of
from tests.models.vision_kit import (
    CPU,
    MEAN,
    SMALL,
    STD,
    apart,
    by_open_clip,
    crops,
    crops_for,
    module,
    parts,
    tower,
)

OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "plain": {},
    "quick gelu": {"act_layer": QuickGELU},
    "no norm before": {"no_ln_pre": True},
    "norm after the mean": {"pool_type": "avg", "final_ln_after_pool": True},
    "norm after the class token": {"final_ln_after_pool": True},
    "fixed positions": {"pos_embed_type": "sin_cos_2d"},
    "an edge that fills no patch": {"image_size": 70},
    "not square": {"image_size": (48, 80), "patch_size": (16, 8)},
    "another eps": {"norm_layer": partial(torch.nn.LayerNorm, eps=1e-3)},
    "an odd MLP": {"mlp_ratio": 4.3637},
    "tokens too": {"output_tokens": True},
    "dropped patches in training": {"patch_dropout": 0.5},
    "one layer": {"layers": 1},
}
OTHERS: Mapping[str, Mapping[str, Any]] = {
    "attention pools": {"attentional_pool": True},
    "tanh gelu": {"act_layer": partial(torch.nn.GELU, approximate="tanh")},
    "layer scale": {"ls_init_value": 0.3},
    "norm before the mean": {"pool_type": "avg"},
    "no pooling": {"pool_type": "none"},
    "norms of queries": {"qk_norm": True},
    "cosine attention": {"scaled_cosine_attn": True},
    "a norm in the MLP": {"scale_fc": True},
    "another activation": {"act_layer": torch.nn.ReLU},
    "no layers": {"layers": 0},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_each_option_gives_what_open_clip_gives(options: Mapping[str, Any]) -> None:
    visual = module(**options)
    pictures = crops_for(visual)
    ours = tower(visual)(pictures)
    assert apart(ours, by_open_clip(visual, pictures)) <= 1e-6
    assert ours.dtype == torch.float32
    assert torch.allclose(ours.norm(dim=-1), torch.ones(len(ours)))


@pytest.mark.parametrize("options", OTHERS.values(), ids=OTHERS)
def test_what_is_not_computed_here_is_left_to_open_clip(options: Mapping[str, Any]) -> None:
    visual = module(**options)
    assert shape_of(visual) is None
    with pytest.raises(ValueError, match="not a standard"):
        state_of(visual)


def test_a_tower_of_another_kind_is_left_to_open_clip() -> None:
    assert shape_of(torch.nn.Linear(2, 2)) is None
    changed = module()
    changed.transformer.resblocks[1].attn.add_zero_attn = True
    assert shape_of(changed) is None
    changed = module()
    changed.transformer.resblocks[2].ln_2.eps = 1e-3
    assert shape_of(changed) is None


@settings(max_examples=25)
@given(
    layers=st.integers(1, 3),
    heads=st.integers(1, 4),
    head=st.sampled_from([8, 22, 32]),
    patch=st.integers(5, 16),
    patches=st.integers(1, 4),
    count=st.integers(1, 4),
    pool=st.sampled_from(["tok", "avg"]),
)
def test_sizes_of_all_kinds(
    layers: int, heads: int, head: int, patch: int, patches: int, count: int, pool: str
) -> None:
    sizes = {"layers": layers, "heads": heads, "width": heads * head, "patch_size": patch}
    visual = module(**sizes, image_size=patch * patches + 1, pool_type=pool, final_ln_after_pool=True)
    pictures = crops_for(visual, count)
    assert apart(tower(visual)(pictures), by_open_clip(visual, pictures)) <= 1e-6


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-6), (torch.bfloat16, 2e-5)])
def test_a_vit_l_14_gives_what_open_clip_gives(dtype: torch.dtype, most: float) -> None:
    torch.manual_seed(0)
    visual = open_clip.create_model("ViT-L-14").eval().visual
    pictures = crops(4, 224, 224)
    assert apart(tower(visual, dtype)(pictures), by_open_clip(visual, pictures)) <= most


@pytest.mark.parametrize(
    ("dtype", "most"), [(torch.bfloat16, 2e-5), (torch.float16, 5e-6), (torch.int8, 3e-4)]
)
def test_fewer_bits_stay_near(dtype: torch.dtype, most: float) -> None:
    torch.manual_seed(0)
    visual = VisionTransformer(**{**SMALL, "width": 256, "layers": 12, "output_dim": 128}).eval()
    pictures = crops(8)
    assert apart(tower(visual, dtype)(pictures), by_open_clip(visual, pictures)) <= most


def test_a_picture_is_seen_alike_in_any_batch() -> None:
    ours = tower(module())
    pictures = crops(7)
    alone = torch.cat([ours(one[None]) for one in pictures])
    assert torch.allclose(ours(pictures), alone, atol=1e-6)
    assert ours(pictures[:0]).shape == (0, 32)


@pytest.mark.parametrize(
    "pictures",
    [
        torch.zeros(1, 1, 1, 3, dtype=torch.uint8),
        torch.zeros(1, 3, 64, 64, dtype=torch.uint8),
        crops(1).float(),
    ],
    ids=["too small", "channels first", "not uint8"],
)
def test_crops_of_another_form_are_refused(pictures: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"the tower takes uint8 \(64, 64, 3\)"):
        tower(module())(pictures)


def test_a_shape_is_plain_values_and_names_every_tensor() -> None:
    visual = module()
    shape, state = parts(visual)
    assert TowerShape(**json.loads(json.dumps(asdict(shape)))) == shape
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == dict(shape.tensors())
    assert sum(tensor.numel() for tensor in state.values()) == sum(p.numel() for p in visual.parameters())


def test_a_state_that_does_not_fit_is_refused() -> None:
    visual = module()
    shape, state = parts(visual)
    build = partial(build_tower, shape, mean=MEAN, std=STD, placement=Placement(CPU, torch.float32))
    with pytest.raises(ValueError, match="lack class"):
        build({name: tensor for name, tensor in state.items() if name != "class"})
    with pytest.raises(ValueError, match=r"position is \(3, 64\)"):
        build({**state, "position": state["position"][:3]})


def test_tensors_that_were_converted_are_let_go() -> None:
    visual = module()
    shape, state = parts(visual)
    state = {name: tensor.half() for name, tensor in state.items()}
    kept = [weakref.ref(tensor.untyped_storage()) for tensor in state.values()]
    built = build_tower(shape, state, mean=MEAN, std=STD, placement=Placement(CPU, torch.bfloat16))
    state.clear()
    gc.collect()
    assert [ref() for ref in kept if ref() is not None] == []
    assert built(crops(1)).isfinite().all()
