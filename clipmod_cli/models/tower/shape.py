"""Hyperparameters of open_clip's standard `VisionTransformer`, and its tensors by clipmod's names.

Decides which towers are supported; `tower.forward` computes with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

Activation = Literal["gelu", "quick_gelu"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TowerShape:
    """The hyperparameters of the forward pass, in types that JSON has.

    Attributes:
        layers: transformer blocks.
        heads: of attention; each is `width / heads` wide.
        width: of a token.
        image_height: of a crop in pixels; rows (and columns) that do not fill a patch are ignored.
        pool: the class token, or the mean of all others; the last norm is applied to it.
        norm_pre: there is a norm before the first block.
        eps: of all norms.
    """

    layers: int
    heads: int
    width: int
    mlp_width: int
    output_dim: int
    image_height: int
    image_width: int
    patch_height: int
    patch_width: int
    activation: Activation = "gelu"
    pool: Literal["tok", "avg"] = "tok"
    norm_pre: bool = True
    eps: float = 1e-5

    @property
    def grid(self) -> tuple[int, int]:
        """Patches in a column and in a row."""
        return self.image_height // self.patch_height, self.image_width // self.patch_width

    @property
    def tokens(self) -> int:
        """The patches and the class token."""
        return self.grid[0] * self.grid[1] + 1

    @property
    def flops(self) -> int:
        """Floating-point operations for an image; a multiplication with an addition counts as two."""
        patch = (self.tokens - 1) * 3 * self.patch_height * self.patch_width * self.width
        linears = self.tokens * (4 * self.width**2 + 2 * self.width * self.mlp_width)
        attention = 2 * self.tokens**2 * self.width
        return 2 * (patch + self.layers * (linears + attention) + self.width * self.output_dim)

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield name and dimensions of each tensor of such a tower."""
        yield "patch.weight", (self.width, 3, self.patch_height, self.patch_width)
        yield "class", (self.width,)
        yield "position", (self.tokens, self.width)
        yield "projection", (self.width, self.output_dim)
        for norm in ("norm_pre", "norm_post") if self.norm_pre else ("norm_post",):
            yield from _weight_and_bias(norm, self.width)
        for i in range(self.layers):
            yield from _weight_and_bias(f"blocks.{i}.norm1", self.width)
            yield from _weight_and_bias(f"blocks.{i}.norm2", self.width)
            yield from _weight_and_bias(f"blocks.{i}.qkv", 3 * self.width, self.width)
            yield from _weight_and_bias(f"blocks.{i}.out", self.width, self.width)
            yield from _weight_and_bias(f"blocks.{i}.up", self.mlp_width, self.width)
            yield from _weight_and_bias(f"blocks.{i}.down", self.width, self.mlp_width)


def _weight_and_bias(name: str, *dimensions: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", dimensions
    yield f"{name}.bias", dimensions[:1]


def check_state(shape: TowerShape, state: Mapping[str, torch.Tensor]) -> None:
    """Check that a state has the tensors of this shape.

    Raises:
        ValueError: a tensor is missing or has other dimensions.
    """
    for name, dimensions in shape.tensors():
        if name not in state:
            raise ValueError(f"the weights lack {name}")
        if tuple(state[name].shape) != dimensions:
            raise ValueError(f"{name} is {tuple(state[name].shape)} and should be {dimensions}")


def shape_of(visual: nn.Module) -> TowerShape | None:
    """Return the shape of an open_clip model's `.visual`; None if it is not the standard transformer.

    None also for options of the standard one that no pretrained model has (layer scale, tanh GELU, a norm
    before the mean); the caller then uses open_clip's own module.
    """
    from open_clip.transformer import VisionTransformer

    tower: Any = visual
    if type(visual) is not VisionTransformer or not len(tower.transformer.resblocks):
        return None
    first = tower.transformer.resblocks[0]
    activation = _activation(first.mlp.gelu) if hasattr(first, "mlp") else None
    pools = {"tok", "avg"} if tower.final_ln_after_pool else {"tok"}
    if activation is None or tower.attn_pool is not None or tower.pool_type not in pools:
        return None
    shape = TowerShape(
        layers=len(tower.transformer.resblocks),
        heads=first.attn.num_heads,
        width=tower.conv1.out_channels,
        mlp_width=first.mlp.c_fc.out_features,
        output_dim=tower.proj.shape[1] if tower.proj is not None else 0,
        image_height=tower.image_size[0],
        image_width=tower.image_size[1],
        patch_height=tower.patch_size[0],
        patch_width=tower.patch_size[1],
        activation=activation,
        pool=tower.pool_type,
        norm_pre=not isinstance(tower.ln_pre, nn.Identity),
        eps=getattr(tower.ln_post, "eps", 0.0),
    )
    return shape if _is_standard(tower, shape) else None


def _activation(layer: nn.Module) -> Activation | None:
    from open_clip.transformer import QuickGELU

    if type(layer) is QuickGELU:
        return "quick_gelu"
    return "gelu" if type(layer) is nn.GELU and layer.approximate == "none" else None


def _is_standard(tower: Any, shape: TowerShape) -> bool:
    """Return whether all layers are of supported types and all tensors have the shape's dimensions."""
    blocks = list(tower.transformer.resblocks)
    norms = [tower.ln_post, *([tower.ln_pre] if shape.norm_pre else [])]
    norms += [norm for block in blocks for norm in (block.ln_1, block.ln_2)]
    return (
        tower.conv1.bias is None
        and all(_is_plain_block(block, shape) for block in blocks)
        and all(_is_plain_norm(norm, shape) for norm in norms)
        and {name: tuple(tensor.shape) for name, tensor in _tensors(tower, shape)} == dict(shape.tensors())
    )


def _is_plain_norm(norm: nn.Module, shape: TowerShape) -> bool:
    from open_clip.transformer import LayerNorm, LayerNormFp32

    # exact types, since a subclass may compute something else
    known = type(norm) in {nn.LayerNorm, LayerNorm, LayerNormFp32}
    return known and getattr(norm, "eps", None) == shape.eps and norm.bias is not None


def _is_plain_block(block: Any, shape: TowerShape) -> bool:
    from open_clip.transformer import ResidualAttentionBlock

    if type(block) is not ResidualAttentionBlock or hasattr(block, "ln_1_kv"):
        return False
    attention = block.attn
    return (
        type(attention) is nn.MultiheadAttention
        and attention.num_heads == shape.heads
        and attention.bias_k is None
        and not attention.add_zero_attn
        and type(block.ls_1) is type(block.ls_2) is nn.Identity
        and _activation(block.mlp.gelu) == shape.activation
        and list(dict(block.mlp.named_children())) == ["c_fc", "gelu", "c_proj"]
    )


def state_of(visual: nn.Module) -> dict[str, torch.Tensor]:
    """Return the tensors of a supported tower by clipmod's names; they are shared, not copied.

    Raises:
        ValueError: `shape_of` does not support the tower.
    """
    shape = shape_of(visual)
    if shape is None:
        raise ValueError("not a standard VisionTransformer of open_clip")
    return {name: tensor.detach() for name, tensor in _tensors(visual, shape)}


def _tensors(tower: Any, shape: TowerShape) -> Iterator[tuple[str, torch.Tensor]]:
    yield "patch.weight", tower.conv1.weight
    yield "class", tower.class_embedding
    yield "position", tower.positional_embedding
    if tower.proj is not None:
        yield "projection", tower.proj
    parts = [("norm_post", tower.ln_post), *([("norm_pre", tower.ln_pre)] if shape.norm_pre else [])]
    for i, block in enumerate(tower.transformer.resblocks):
        name = f"blocks.{i}"
        yield f"{name}.qkv.weight", block.attn.in_proj_weight
        yield f"{name}.qkv.bias", block.attn.in_proj_bias
        parts += [(f"{name}.norm1", block.ln_1), (f"{name}.norm2", block.ln_2)]
        parts += [(f"{name}.out", block.attn.out_proj), (f"{name}.up", block.mlp.c_fc)]
        parts += [(f"{name}.down", block.mlp.c_proj)]
    for name, part in parts:
        yield f"{name}.weight", part.weight
        yield f"{name}.bias", part.bias
