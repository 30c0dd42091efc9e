"""Matrices as a device multiplies them fastest: plain, or in the layout that oneDNN wants on a CPU.

The layout is reached through operators that torch keeps for itself. They are tried once in a process
and left alone where they are missing or give something else.
"""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass
from typing import Protocol

import torch
from torch.nn import functional

from clipmod_cli.models.mapped import owned

log = logging.getLogger(__name__)

PACKED_ERROR = 0.02
"""The largest difference between a packed product and a plain one, of numbers about 1: bfloat16's own
rounding is below 0.01, while a layout that was misunderstood gives differences of about 1."""


class Linear(Protocol):
    """What maps `(..., n)` to `(..., m)`."""

    def __call__(self, x: torch.Tensor, /) -> torch.Tensor:
        """Return the product, with the bias added."""
        ...


@dataclass(frozen=True, slots=True)
class PlainLinear:
    """A matrix `(m, n)` as it is."""

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
        out: torch.Tensor = torch.ops.mkldnn._linear_pointwise(  # noqa: SLF001 — there is no public one
            x, self.weight, self.bias, "none", [], ""
        )
        return out


def make_linear(weight: torch.Tensor, bias: torch.Tensor | None, *, packed: bool) -> Linear:
    """Return the product with a matrix `(m, n)`, packed if it is bfloat16 and that works here.

    It keeps no memory of a mapped file.
    """
    own_bias = None if bias is None else owned(bias)
    if packed and weight.dtype == torch.bfloat16 and can_pack():
        return PackedLinear(_pack(weight), own_bias)
    return PlainLinear(owned(weight), own_bias)


def _pack(weight: torch.Tensor) -> torch.Tensor:
    out: torch.Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())  # noqa: SLF001
    return out


@functools.cache
def can_pack() -> bool:
    """Return whether packed bfloat16 matrices give here what plain ones give."""
    generator = torch.Generator().manual_seed(0)
    weight = (torch.randn(96, 64, generator=generator) / 8).bfloat16()
    bias = torch.randn(96, generator=generator).bfloat16()
    x = torch.randn(2, 5, 64, generator=generator).bfloat16()
    try:
        out = PackedLinear(_pack(weight), bias)(x)
        wanted = functional.linear(x.float(), weight.float(), bias.float())
        difference = float((out.float() - wanted).abs().max())
    except (RuntimeError, AttributeError, TypeError) as e:
        log.debug("torch cannot pack matrices here: %s", e)
        return False
    return difference < PACKED_ERROR
