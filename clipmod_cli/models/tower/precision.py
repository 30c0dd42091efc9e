"""Which precision a tower takes: the first candidate whose results agree with float32's.

Knows no architecture: whoever asks says how a tower is built and what float32 gives.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import torch

from clipmod_cli.errors import SettingsError

log = logging.getLogger(__name__)

LEAST_COSINE = 0.9999
"""To float32's embedding, for each reference picture. float16 reaches 0.999999 and bfloat16 0.99999;
what overflows is not finite or points elsewhere."""

CERTAIN_PICTURES = 2
"""Of the reference pictures, the last ones: what float32 makes of them is computed on the CPU too, where a
device's own float32 is not taken at its word. All six would take the largest tower, 3.2 TFLOP, 13 s on two
cores."""

TRUSTED = {"cpu", "cuda", "meta"}
"""Kinds of devices whose float32 is. On Metal an operator that is wrong may be so in all precisions alike,
and then comparing them with each other shows nothing."""


class Embedder(Protocol):
    """What turns uint8 crops `(B, H, W, 3)` into unit-length float32 `(B, d)`."""

    def __call__(self, crops: torch.Tensor, /) -> torch.Tensor:
        """Return the crops' embeddings, on the CPU."""
        ...


Tower = TypeVar("Tower", bound=Embedder)


Reference = Callable[[torch.Tensor, torch.device], torch.Tensor]
"""What float32 makes of pictures on a device: unit-length `(B, d)`, on the CPU."""


def choose_precision(
    candidates: Sequence[torch.dtype],
    *,
    build: Callable[[torch.dtype], Tower],
    pictures: torch.Tensor,
    reference: Reference,
    device: torch.device,
) -> Tower:
    """Return the tower in the first of these precisions that agrees with float32.

    The last one is taken whatever it gives: float32, or what the user named. On a CPU it is not looked at,
    so that a start costs no check; elsewhere it is said if 16 bits that were named are not precise enough.

    Args:
        candidates: best first.
        build: returns the tower in a precision.
        pictures: uint8 `(B, H, W, 3)`.
        reference: what float32 gives.
        device: where the tower computes.

    Raises:
        SettingsError: the device computes something else than the CPU, in float32.
    """
    *tried, last = candidates
    if not tried:
        return _named(build(last), last, pictures, reference, device)
    wanted = _wanted(pictures, reference, device)
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


def _named(
    tower: Tower, dtype: torch.dtype, pictures: torch.Tensor, reference: Reference, device: torch.device
) -> Tower:
    """Return the tower in the precision that the user named; say so if it is not precise enough."""
    if dtype != torch.float32 and device.type not in {"cpu", "meta"}:
        found = fault(tower(pictures), _wanted(pictures, reference, device))
        if found is not None:
            log.warning(
                "--dtype %s is not precise enough for these weights (%s): --dtype auto takes what is",
                dtype_name(dtype),
                found,
            )
    return tower


def _wanted(pictures: torch.Tensor, reference: Reference, device: torch.device) -> torch.Tensor:
    """Return what float32 makes of the pictures.

    Raises:
        SettingsError: it is something else on the device than on the CPU.
    """
    wanted = reference(pictures, device)
    if device.type not in TRUSTED:
        certain = reference(pictures[-CERTAIN_PICTURES:], torch.device("cpu"))
        found = fault(wanted[-CERTAIN_PICTURES:], certain)
        if found is not None:
            raise SettingsError(
                f"--device {device.type} computes something else than the CPU does ({found}): "
                "use --device cpu, or another version of torch"
            )
    return wanted


def fault(vectors: torch.Tensor, wanted: torch.Tensor) -> str | None:
    """Return what is wrong with these unit-length embeddings beside the wanted ones, None if nothing is."""
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
