"""A result beside an earlier one: a ratio for each figure, and what else is not the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from clipmod_cli.bench.report import Change, Comparison, Report, Stage

LEAST = 0.03
"""A smaller difference than this is no news, however steady the repeats were."""


def compare(now: Report, before: Report, file: Path) -> Comparison:
    """Return how much faster each stage and the whole line are now than in an earlier report."""
    changes = {
        name: _of_stage(before.stages[name], stage)
        for name, stage in now.stages.items()
        if name in before.stages
    }
    for name, model in now.forward.items():
        if name in before.forward:
            changes[f"forward {name}"] = _change(
                before.forward[name].ms, model.ms, overlap=False, falling=True
            )
    changes["end to end"] = _of_line(before, now)
    return Comparison(file=str(file), changes=changes, differences=list(_differences(now, before)))


def _of_stage(before: Stage, now: Stage) -> Change:
    overlap = before.low_ms <= now.high_ms and now.low_ms <= before.high_ms
    return _change(before.ms, now.ms, overlap=overlap, falling=True)


def _of_line(before: Report, now: Report) -> Change:
    old, new = before.end_to_end, now.end_to_end
    overlap = (
        min(old.runs, new.runs) > 1
        and old.low_images_per_s <= new.high_images_per_s
        and new.low_images_per_s <= old.high_images_per_s
    )
    return _change(old.images_per_s, new.images_per_s, overlap=overlap, falling=False)


def _change(before: float, now: float, *, overlap: bool, falling: bool) -> Change:
    """Return a change; `falling` figures are better the smaller they are."""
    worse, better = (now, before) if falling else (before, now)
    ratio = better / worse if worse else 1.0
    says: Literal["faster", "slower", "the same"] = "the same"
    if not overlap and abs(ratio - 1) >= LEAST:
        says = "faster" if ratio > 1 else "slower"
    return Change(before=before, now=now, ratio=ratio, says=says)


def _differences(now: Report, before: Report) -> Iterator[str]:
    for part, left, right in (("machine", before.machine, now.machine), ("setup", before.setup, now.setup)):
        old, new = left.model_dump(), right.model_dump()
        for name in new:
            if name != "peak_tflops" and old[name] != new[name]:
                yield f"{part}: {name} was {_say(old[name])}, now {_say(new[name])}"
    if now.version != before.version:
        yield f"clipmod was {before.version}, now {now.version}"


def _say(value: Any) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
