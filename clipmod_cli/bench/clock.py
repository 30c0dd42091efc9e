"""Times of repeats, and what is said of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

from clipmod_cli.bench.report import Stage


def time_it(work: Callable[[], object]) -> float:
    """Return how long it took, in seconds."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def repeat(work: Callable[[], object], *, images: int, repeats: int) -> Stage:
    """Return what several repeats of a work on so many images come to."""
    return stage_of([time_it(work) * 1000 / images for _ in range(repeats)])


def stage_of(ms: Sequence[float]) -> Stage:
    """Return what the repeats come to, each in milliseconds an image."""
    median = statistics.median(ms)
    return Stage(ms=median, low_ms=min(ms), high_ms=max(ms), images_per_s=1000 / median if median else 0.0)
