"""Numbers as people read them, in the summary and in the report."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from clipmod_cli.evaluate.intervals import Estimate
from clipmod_cli.evaluate.measures.comparing import ALPHA, McNemar

Shown: TypeAlias = Callable[[float | None], str]

NOTHING: Final = "-"
AREAS: Final = frozenset({"auroc", "average_precision"})
"""Metrics that are no shares of inputs, and so not told as per cent."""


def percent(value: float | None) -> str:
    """Return a share as per cent."""
    return NOTHING if value is None else f"{100 * value:.1f} %"


def signed_percent(value: float | None) -> str:
    """Return a difference of shares as per cent, with its sign."""
    return NOTHING if value is None else f"{100 * value:+.1f} %"


def number(value: float | None) -> str:
    """Return a number from 0 to 1."""
    return NOTHING if value is None else f"{value:.3f}"


def signed(value: float | None) -> str:
    """Return a difference of such numbers, with its sign."""
    return NOTHING if value is None else f"{value:+.3f}"


def count(value: float | None) -> str:
    """Return a whole number with separators."""
    return NOTHING if value is None else f"{value:,.0f}"


def interval(one: Estimate, shown: Shown) -> str:
    """Return an interval, with its unit once; empty without one."""
    if one.low is None or one.high is None:
        return ""
    return f"{shown(one.low).removesuffix(' %')} to {shown(one.high)}"


def verdict_of(test: McNemar) -> str:
    """Return what a test says."""
    return "a difference" if test.p < ALPHA else "may be chance"


def metric(name: str) -> str:
    """Return the name of a metric for people."""
    return {"auroc": "AUROC", "false_alarm_rate": "false-alarm rate"}.get(name, name.replace("_", " "))
