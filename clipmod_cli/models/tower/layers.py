"""The layers of a vision transformer with their weights, converted for a device and a precision.

Pixel normalisation and quick GELU's factor are folded into the matrices. No tensor lies in a
mapped file, since a later write to the file would change the tower.
"""

from __future__ import annotations

import functools
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

import torch
from torch.nn import functional

from clipmod_cli.models.tower.mapped import owned
from clipmod_cli.models.tower.shape import TowerShape

log = logging.getLogger(__name__)

State = Mapping[str, torch.Tensor]

QUICK_GELU: Final = 1.702
"""quick GELU is `x * sigmoid(1.702 x) = silu(1.702 x) / 1.702`: the factors go into the matrices before and
after it, and one operator remains."""

MIDDLE_GREY: Final = 128
"""Subtracted from each pixel: pixels stay integers, exact in 16 bits, and the matrix's rounding error is
multiplied by numbers half as large."""

ACTIVATIONS: Final[Mapping[str, Callable[[torch.Tensor], torch.Tensor]]] = {
    "gelu": torch.ops.aten.gelu_,
    "quick_gelu": lambda x: functional.silu(x, inplace=True),
}
"""In place: at a batch of 8 the array has 34 MB, and new memory pages cost as much as the arithmetic."""


PACKED_ERROR: Final = 0.02
"""The largest accepted difference between a packed product and a plain one of numbers about 1: bfloat16's own
rounding is below 0.01, a wrong layout gives differences of about 1."""

Linear = Callable[[torch.Tensor], torch.Tensor]
"""Maps `(..., n)` to `(..., m)`, with the bias added."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Numerics:
    """Device and precisions of a tower.

    Attributes:
        dtype: of matrices and their inputs.
        residual: of the residual stream and of norms.
        packed: keep matrices in oneDNN's layout if that works.
        int8: multiply the blocks' matrices in 8 bits; `dtype` is that of what goes in and comes out.
    """

    device: torch.device
    dtype: torch.dtype
    residual: torch.dtype = torch.float32
    packed: bool = False
    int8: bool = False


@dataclass(frozen=True, slots=True)
class LayerNorm:
    """A layer norm over the last dimension."""

    weight: torch.Tensor
    bias: torch.Tensor
    eps: float

    def __call__(self, x: torch.Tensor, /) -> torch.Tensor:
        """Return `(..., width)` normalised, in the precision it came in."""
        return functional.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerBlock:
    """Attention and MLP, each added to the residual stream.

    Attributes:
        query: only in the last block of a tower that pools the class token; `qkv` lacks these rows then.
    """

    norm1: LayerNorm
    query: Linear | None
    qkv: Linear
    out: Linear
    norm2: LayerNorm
    up: Linear
    activate: Callable[[torch.Tensor], torch.Tensor]
    down: Linear
    heads: int
    dtype: torch.dtype

    def __call__(self, x: torch.Tensor, /) -> torch.Tensor:
        """Return `(B, tokens, width)`, or `(B, 1, width)` with `query`; overwrites its input."""
        normed = self.norm1(x).to(self.dtype)
        if self.query is None:
            q, k, v = self._heads(self.qkv(normed), 3)
        else:
            x, first = x[:, :1].contiguous(), normed[:, :1].contiguous()
            (q,), (k, v) = self._heads(self.query(first), 1), self._heads(self.qkv(normed), 2)
        attended = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x.add_(self.out(attended))
        return x.add_(self.down(self.activate(self.up(self.norm2(x).to(self.dtype)))))

    def _heads(self, x: torch.Tensor, count: int) -> tuple[torch.Tensor, ...]:
        """Return `count` views `(B, heads, tokens, d)` of `(B, tokens, count * heads * d)`."""
        batch, tokens, width = x.shape
        split = x.view(batch, tokens, count, self.heads, width // (count * self.heads))
        return tuple(split.permute(2, 0, 3, 1, 4).unbind())


@dataclass(frozen=True, slots=True, kw_only=True)
class StemAndHead:
    """Patch embedding before the blocks; pooling and projection after them.

    Attributes:
        patch: from a patch's pixels minus `MIDDLE_GREY` to a token, without bias.
        position: position embeddings of the patches plus the patches' bias, `(tokens - 1, width)`.
        class_token: plus its position embedding, `(width,)`.
        projection: `(output_dim, width)`; it and the last norm are float32 in every precision.
    """

    shape: TowerShape
    numerics: Numerics
    patch: Linear
    position: torch.Tensor
    class_token: torch.Tensor
    norm_pre: LayerNorm | None
    norm_post: LayerNorm
    projection: torch.Tensor

    def stem(self, crops: torch.Tensor) -> torch.Tensor:
        """Return the tokens `(B, tokens, width)` of uint8 crops `(B, H, W, 3)`."""
        patches = self.patch(self._patches(crops)) + self.position
        tokens = torch.cat([self.class_token.expand(len(crops), 1, -1), patches], dim=1)
        return tokens if self.norm_pre is None else self.norm_pre(tokens)

    def head(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the unit-length float32 embeddings `(B, output_dim)` of the last block's tokens."""
        pooled = tokens[:, 0].float() if self.shape.pool == "tok" else tokens[:, 1:].float().mean(dim=1)
        return functional.normalize(functional.linear(self.norm_post(pooled), self.projection), dim=-1)

    def _patches(self, crops: torch.Tensor) -> torch.Tensor:
        """Return `(B, patches, patch_height * patch_width * 3)`."""
        (rows, columns), high, wide = self.shape.grid, self.shape.patch_height, self.shape.patch_width
        used = crops[:, : rows * high, : columns * wide].reshape(-1, rows, high, columns, wide, 3)
        patches = used.transpose(2, 3).reshape(len(crops), rows * columns, high * wide * 3)
        return patches.to(self.numerics.dtype).sub_(MIDDLE_GREY)


def make_stem_and_head(
    shape: TowerShape, state: State, numerics: Numerics, mean: Sequence[float], std: Sequence[float]
) -> StemAndHead:
    """Return stem and head; the normalisation by `mean` and `std` is folded into the patches.

    The model's input is `(u / 255 - mean) / std` for a pixel `u`. With `v = u - 128` that is
    `v / (255 std) + (128 / 255 - mean) / std`: a factor of the weights, and a bias.
    """
    device = numerics.device
    weight = state["patch.weight"].to(device).float().permute(0, 2, 3, 1)  # (width, height, width, 3)
    means, deviations = torch.tensor([list(mean), list(std)], device=device)
    bias = (weight * ((MIDDLE_GREY / 255 - means) / deviations)).sum(dim=(1, 2, 3))
    position = state["position"].to(device).float()
    flat = (weight / (255 * deviations)).flatten(1).to(numerics.dtype).contiguous()
    return StemAndHead(
        shape=shape,
        numerics=numerics,
        patch=make_linear(flat, None, packed=False),
        position=(position[1:] + bias).to(numerics.residual),
        class_token=(position[0] + state["class"].to(device).float()).to(numerics.residual),
        norm_pre=_norm(state, "norm_pre", shape, device, numerics.residual) if shape.norm_pre else None,
        norm_post=_norm(state, "norm_post", shape, device, torch.float32),
        projection=owned(state["projection"].to(device).float().T.contiguous()),
    )


def make_block(shape: TowerShape, state: State, numerics: Numerics, number: int) -> TransformerBlock:
    """Return the block of this number; the last one computes only the tokens that are pooled."""
    name = f"blocks.{number}"
    device, dtype, width = numerics.device, numerics.residual, shape.width
    only_class = shape.pool == "tok" and number == shape.layers - 1
    factor = QUICK_GELU if shape.activation == "quick_gelu" else 1.0
    qkv = f"{name}.qkv"
    return TransformerBlock(
        norm1=_norm(state, f"{name}.norm1", shape, device, dtype),
        query=_linear(state, qkv, numerics, rows=slice(0, width)) if only_class else None,
        qkv=_linear(state, qkv, numerics, rows=slice(width if only_class else 0, None)),
        out=_linear(state, f"{name}.out", numerics),
        norm2=_norm(state, f"{name}.norm2", shape, device, dtype),
        up=_linear(state, f"{name}.up", numerics, before=factor),
        activate=ACTIVATIONS[shape.activation],
        down=_linear(state, f"{name}.down", numerics, after=factor),
        heads=shape.heads,
        dtype=numerics.dtype,
    )


def _norm(state: State, name: str, shape: TowerShape, device: torch.device, dtype: torch.dtype) -> LayerNorm:
    weight, bias = (owned(state[f"{name}.{part}"].to(device).to(dtype)) for part in ("weight", "bias"))
    return LayerNorm(weight, bias, shape.eps)


def _linear(
    state: State,
    name: str,
    numerics: Numerics,
    *,
    rows: slice = slice(None),
    before: float = 1.0,
    after: float = 1.0,
) -> Linear:
    """Return rows of a matrix; `before` multiplies its outputs, `after` divides by a factor of its inputs."""
    weight, bias = (state[f"{name}.{part}"][rows].to(numerics.device) for part in ("weight", "bias"))
    if before != 1 or after != 1:  # in float32
        weight, bias = weight.float() * (before / after), bias.float() * before
    if numerics.int8:
        return Int8Linear.of(weight.float(), bias.float())
    return make_linear(weight.to(numerics.dtype), bias.to(numerics.dtype), packed=numerics.packed)


@dataclass(frozen=True, slots=True)
class PlainLinear:
    """A matrix `(m, n)` in torch's layout."""

    weight: torch.Tensor
    bias: torch.Tensor | None

    def __call__(self, x: torch.Tensor, /) -> torch.Tensor:
        """Return the product, with the bias added."""
        return functional.linear(x, self.weight, self.bias)


@dataclass(frozen=True, slots=True)
class PackedLinear:
    """A matrix in oneDNN's layout; the original is not kept."""

    weight: torch.Tensor
    bias: torch.Tensor | None

    def __call__(self, x: torch.Tensor, /) -> torch.Tensor:
        """Return the product, with the bias added."""
        out: torch.Tensor = torch.ops.mkldnn._linear_pointwise(  # noqa: SLF001 — no public operator
            x, self.weight, self.bias, "none", [], ""
        )
        return out


@dataclass(frozen=True, slots=True)
class Int8Linear:
    """A matrix in 8 bits with a scale for each row, times inputs that are rounded to 8 bits in each call.

    Attributes:
        packed: the matrix and the bias in the layout of torch's quantised products.
        reduced: inputs have 7 bits: without VNNI two products of 8 bits overflow the 16 bits of their sum.
    """

    packed: torch.ScriptObject
    reduced: bool

    @classmethod
    def of(cls, weight: torch.Tensor, bias: torch.Tensor) -> Self:
        """Return the product by a float32 matrix `(m, n)`.

        Raises:
            RuntimeError: this build of torch has no quantised products for this processor.
        """
        rows = len(weight)
        scales = (weight.abs().amax(dim=1) / 127).double().clamp_min(torch.finfo(torch.float32).tiny)
        zeros = torch.zeros(rows, dtype=torch.long)
        with warnings.catch_warnings():
            # what a torch without it does: see can_multiply_int8
            warnings.filterwarnings("ignore", "torch.quantize_per_tensor.* are deprecated")
            rounded = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
        reduced = not torch.cpu.get_capabilities().get("avx512_vnni", False)
        return cls(torch.ops.quantized.linear_prepack(rounded, bias), reduced)

    def __call__(self, x: torch.Tensor, /) -> torch.Tensor:
        """Return the product, with the bias added, float32."""
        out: torch.Tensor = torch.ops.quantized.linear_dynamic(x, self.packed, self.reduced)
        return out


def make_linear(weight: torch.Tensor, bias: torch.Tensor | None, *, packed: bool) -> Linear:
    """Return a linear of a matrix `(m, n)`, packed if it is bfloat16 and packing works on this machine."""
    own_bias = None if bias is None else owned(bias)
    if packed and weight.dtype == torch.bfloat16 and can_pack():
        return PackedLinear(_pack(weight), own_bias)
    return PlainLinear(owned(weight), own_bias)


def _pack(weight: torch.Tensor) -> torch.Tensor:
    out: torch.Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())  # noqa: SLF001
    return out


@functools.cache
def can_pack() -> bool:
    """Return whether packed bfloat16 matrices give the same results as plain ones on this machine."""
    generator = torch.Generator().manual_seed(0)
    weight = (torch.randn(96, 64, generator=generator) / 8).bfloat16()
    bias = torch.randn(96, generator=generator).bfloat16()
    x = torch.randn(2, 5, 64, generator=generator).bfloat16()
    try:
        out = PackedLinear(_pack(weight), bias)(x)
        expected = functional.linear(x.float(), weight.float(), bias.float())
        difference = float((out.float() - expected).abs().max())
    except (RuntimeError, AttributeError, TypeError) as e:
        log.debug("torch cannot pack matrices on this machine: %s", e)
        return False
    return difference < PACKED_ERROR


INT8_ERROR: Final = 0.05
"""The largest accepted relative error of a product in 8 bits; rounding gives 0.01 to 0.02."""


@functools.cache
def can_multiply_int8() -> bool:
    """Return whether products in 8 bits are those in float32, but for rounding, on this machine."""
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(96, 64, generator=generator) / 8, torch.randn(96, generator=generator)
    x = torch.randn(2, 5, 64, generator=generator)
    try:
        out = Int8Linear.of(weight, bias)(x)
    except (RuntimeError, AttributeError, TypeError) as e:
        log.debug("torch cannot multiply in 8 bits on this machine: %s", e)
        return False
    expected = functional.linear(x, weight, bias)
    return float((out - expected).norm() / expected.norm()) < INT8_ERROR
