"""Shares as people write them: `0.5%` or `0.005`."""

from __future__ import annotations

import math

from clipmod_cli.errors import UsageError


def read_share(text: str, option: str = "--prevalence", *, ends: bool = False) -> float:
    """Return the share in a text, over 0 and under 1; `ends` takes 0 and 1 too.

    Raises:
        UsageError: it is none; the message names the option.
    """
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = math.nan
    if 0 < value < 1 or (ends and value in {0.0, 1.0}):
        return value
    wanted = "from 0% to 100%" if ends else "over 0 and under 1, as 0.5% or 0.005"
    raise UsageError(f"{option} must be {wanted}, not {text!r}")
