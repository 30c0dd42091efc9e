"""Decisions as a person makes them."""

from __future__ import annotations

from typing import Any

from clipmod_cli.review.decisions import DecisionLabel, ReviewDecision


def decided(name: str, label: DecisionLabel = "unsafe", **changes: Any) -> ReviewDecision:
    """Return a decision on the file of this name, whose hash is made of it."""
    facts: dict[str, Any] = {
        "at": "2026-01-02T03:04:05.678Z",
        "who": "ana",
        "label": label,
        "sha256": name.encode(errors="replace").hex().ljust(64, "0")[:64],
        "why": "queue",
        "order": "uncertain",
        "priority": 0.1,
        "probability": 1.0,
        "seed": "5eed",
        "seconds": 2.5,
    }
    member = changes.pop("member", None)
    return ReviewDecision.of(name, member, f"/home/ana/{name}", **(facts | changes))
