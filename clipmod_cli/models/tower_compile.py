"""`--compile`: blocks through torch.compile, and a plain word where that cannot work."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch

from clipmod_cli.errors import SettingsError

WARM_UP = (2, 3, 1)
"""Batches before the first real one. After two sizes torch compiles for all of them but 1."""

VARIANTS = 64
"""Of one tower's compiled step: inner blocks and the last one, for each kind of batch, and again where
torch guards on something else (a thread's settings). Past torch's own limit of 8 it would go on uncompiled
without a word."""

_numbers = itertools.count()


def compiled(step: Callable[..., Any]) -> Callable[..., Any]:
    """Return a plain function compiled, apart from all others; nothing is compiled before it is first called.

    torch keeps what it compiled, and which numbers vary from call to call, by a function's code. Each tower
    has its own, or the widths and heads of a second one would have torch compile for widths of any size.
    """
    from torch._dynamo import config

    out = torch.compile(_apart(step))

    def call(*given: Any) -> Any:
        # Of the thread that calls: torch's settings are each thread's own since 2.15. (An argument for it
        # came with that version too.)
        if config.recompile_limit < VARIANTS:
            config.recompile_limit = VARIANTS
        return out(*given)

    return call


def _apart(step: Any) -> Callable[..., Any]:
    """Return the same function with code of its own; torch tells code apart by name and line."""
    name = f"{step.__name__}_{next(_numbers)}"
    code = step.__code__.replace(co_name=name)
    return FunctionType(code, step.__globals__, name, step.__defaults__, step.__closure__)


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
