"""`--compile`: blocks through torch.compile, and a plain word where that cannot work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch

from clipmod_cli.errors import SettingsError

Step = TypeVar("Step", bound=Callable[..., Any])

WARM_UP = (2, 3, 1)
"""Batches before the first real one. After two sizes torch compiles for all of them but 1."""

VARIANTS = 64
"""Of a compiled block: for each width, with all tokens or the class token, for each kind of batch.
Past torch's own limit of 8 it would go on uncompiled without a word."""


def compiled(step: Step) -> Step:
    """Return the function compiled; nothing is compiled before it is first called."""
    from torch._dynamo import config

    config.recompile_limit = VARIANTS  # torch 2.10 has no argument for it
    out: Any = torch.compile(step)
    return cast("Step", out)


def warm_up(tower: Callable[[torch.Tensor], torch.Tensor], height: int, width: int) -> None:
    """Have a tower compile for all sizes of batches.

    Raises:
        SettingsError: if this machine lacks what torch.compile needs.
    """
    for size in WARM_UP:
        try:
            tower(torch.zeros(size, height, width, 3, dtype=torch.uint8))
        except torch.OutOfMemoryError:
            raise
        except Exception as e:
            first = str(e).strip().partition("\n")[0]
            raise SettingsError(
                f"--compile does not work here: {first}. torch.compile needs a C++ compiler for a CPU and "
                "Triton for a GPU; leave --compile out"
            ) from e
