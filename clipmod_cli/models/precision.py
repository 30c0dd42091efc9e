"""Which precision a tower takes: the first candidate whose results agree with float32's.

Knows no architecture: whoever asks says how a tower is built and what float32 gives.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import torch

log = logging.getLogger(__name__)

LEAST_COSINE = 0.9999
"""To float32's embedding, for each reference picture. float16 reaches 0.999999 and bfloat16 0.99999;
what overflows is not finite or points elsewhere."""


class Embedder(Protocol):
    """What turns uint8 crops `(B, H, W, 3)` into unit-length float32 `(B, d)`."""

    def __call__(self, crops: torch.Tensor, /) -> torch.Tensor:
        """Return the crops' embeddings, on the CPU."""
        ...


Tower = TypeVar("Tower", bound=Embedder)


def settle(
    candidates: Sequence[torch.dtype],
    *,
    build: Callable[[torch.dtype], Tower],
    pictures: torch.Tensor,
    reference: Callable[[], torch.Tensor],
) -> Tower:
    """Return the tower in the first of these precisions that agrees with the reference.

    The last one is taken unseen, so that a single candidate costs no check.

    Args:
        candidates: best first.
        build: returns the tower in a precision.
        pictures: uint8 `(B, H, W, 3)`.
        reference: returns what float32 makes of the pictures: unit-length `(B, d)`.
    """
    *tried, last = candidates
    wanted = reference() if tried else None
    for dtype, following in zip(tried, candidates[1:], strict=True):
        tower = build(dtype)
        found = fault(tower(pictures), wanted)
        if found is None:
            log.info("%s agrees with float32 on %d reference pictures", dtype_name(dtype), len(pictures))
            return tower
        log.warning(
            "%s is not precise enough for these weights (%s): taking %s",
            dtype_name(dtype),
            found,
            dtype_name(following),
        )
        del tower  # or two precisions would be in memory at once
    return build(last)


def fault(vectors: torch.Tensor, wanted: torch.Tensor | None) -> str | None:
    """Return what is wrong with these unit-length embeddings beside the wanted ones, None if nothing is."""
    if wanted is None:
        return None
    lost = int((~vectors.isfinite().all(dim=-1)).sum())
    if lost:
        return f"{lost} of {len(vectors)} embeddings are not finite"
    least = float((vectors * wanted).sum(dim=-1).min())
    return None if least >= LEAST_COSINE else f"a cosine of {least:.6f}, and {LEAST_COSINE} is wanted"


def reference_pictures(height: int, width: int) -> torch.Tensor:
    """Return pictures that are the same everywhere, uint8 `(6, height, width, 3)`.

    Black, white, a ramp, stripes, a checkerboard and coloured waves: from none to all of the contrast
    there is, since what overflows does so at the extremes.
    """
    y = torch.arange(height).reshape(-1, 1, 1).expand(height, width, 3)
    x = torch.arange(width).reshape(1, -1, 1).expand(height, width, 3)
    colour = torch.arange(3).reshape(1, 1, 3).expand(height, width, 3)
    waves = ((x * (colour + 1) / 9).sin() + (y * (3 - colour) / 7).cos()) * 63 + 127
    pictures = [
        torch.zeros_like(x),
        torch.full_like(x, 255),
        (x * 255) // width,
        (y // 4 % 2) * 255,
        ((x // 8 + y // 8 + colour) % 2) * 255,
        waves,
    ]
    return torch.stack([picture.to(torch.uint8) for picture in pictures])


def dtype_name(dtype: torch.dtype) -> str:
    """Return a precision's name, as `bfloat16`."""
    return str(dtype).removeprefix("torch.")
