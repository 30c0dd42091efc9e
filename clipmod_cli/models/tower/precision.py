"""Selects a tower's precision: the first candidate whose embeddings agree with float32's."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from clipmod_cli.errors import SettingsError
from clipmod_cli.models.device.device import dtype_name

log = logging.getLogger(__name__)

LEAST_COSINE = 0.9999
"""To float32's embedding, for each reference picture. float16 reaches 0.999999 and bfloat16 0.99999; an
overflow gives embeddings that are not finite or far off."""

CPU_PICTURES = 2
"""Reference pictures, from the end, whose float32 embeddings are compared with the CPU's on a device that is
not in `TRUSTED`. With all six the largest tower takes 3.2 TFLOP, 13 s on two cores."""

TRUSTED = {"cpu", "cuda", "meta"}
"""Kinds of devices whose float32 is the reference. On Metal an operator may be wrong in all precisions alike,
so that comparing them with each other shows nothing."""

Tower = TypeVar("Tower", bound=Callable[[torch.Tensor], torch.Tensor])

Reference = Callable[[torch.Tensor, torch.device], torch.Tensor]
"""Computes the float32 embeddings of pictures on a device: unit-length `(B, d)`, on the CPU."""


def choose_precision(
    candidates: Sequence[torch.dtype],
    *,
    build: Callable[[torch.dtype], Tower],
    pictures: torch.Tensor,
    reference: Reference,
    device: torch.device,
) -> Tower:
    """Return the tower in the first of these precisions that agrees with float32.

    The last one (float32, or the user's choice) is used in any case. A single 16-bit candidate is checked
    except on a CPU, where that would slow the start, and a warning tells if it is not precise enough.

    Args:
        candidates: best first.
        build: returns the tower in a precision.
        pictures: uint8 `(B, H, W, 3)`.
        reference: see `Reference`.
        device: of the tower.

    Raises:
        SettingsError: the device's float32 embeddings differ from the CPU's.
    """
    *tried, last = candidates
    if not tried:
        return _check_only_candidate(build(last), last, pictures, reference, device)
    expected = _reference_embeddings(pictures, reference, device)
    for dtype, following in zip(tried, candidates[1:], strict=True):
        tower = build(dtype)
        problem = find_problem(tower(pictures), expected)
        if problem is None:
            log.info("%s agrees with float32 on %d reference pictures", dtype_name(dtype), len(pictures))
            return tower
        log.warning(
            "%s is not precise enough for these weights (%s): using %s",
            dtype_name(dtype),
            problem,
            dtype_name(following),
        )
        del tower  # or two precisions would be in memory at once
    return build(last)


def _check_only_candidate(
    tower: Tower, dtype: torch.dtype, pictures: torch.Tensor, reference: Reference, device: torch.device
) -> Tower:
    """Return the tower; warn if its precision is not enough."""
    if dtype != torch.float32 and device.type not in {"cpu", "meta"}:
        problem = find_problem(tower(pictures), _reference_embeddings(pictures, reference, device))
        if problem is not None:
            log.warning(
                "--dtype %s is not precise enough for these weights (%s): use --dtype auto",
                dtype_name(dtype),
                problem,
            )
    return tower


def _reference_embeddings(pictures: torch.Tensor, reference: Reference, device: torch.device) -> torch.Tensor:
    """Return the pictures' float32 embeddings.

    Raises:
        SettingsError: the device's differ from the CPU's.
    """
    expected = reference(pictures, device)
    if device.type not in TRUSTED:
        on_cpu = reference(pictures[-CPU_PICTURES:], torch.device("cpu"))
        problem = find_problem(expected[-CPU_PICTURES:], on_cpu)
        if problem is not None:
            raise SettingsError(
                f"--device {device.type} computes other results than the CPU ({problem}): "
                "use --device cpu, or another version of torch"
            )
    return expected


def find_problem(vectors: torch.Tensor, expected: torch.Tensor) -> str | None:
    """Return how unit-length embeddings differ too much from the expected ones, None if they do not."""
    lost = int((~vectors.isfinite().all(dim=-1)).sum())
    if lost:
        return f"{lost} of {len(vectors)} embeddings are not finite"
    cosine = float((vectors * expected).sum(dim=-1).min())
    return None if cosine >= LEAST_COSINE else f"cosine {cosine:.6f}, at least {LEAST_COSINE} is required"


def reference_pictures(height: int, width: int) -> torch.Tensor:
    """Return fixed pictures, uint8 `(6, height, width, 3)`, from no contrast to full contrast.

    Black, white, a ramp, stripes, a checkerboard and coloured waves: overflows occur at the extremes.
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
