"""What files of decisions come to: how many, how long, and how often people agree with the machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any, Final

from clipmod_cli.review.decisions import DecisionState, ReviewDecision

DECISION_STATS: Final = "clipmod-decision-stats/1"
MACHINE: Final = {"NSFW": "unsafe", "Safe": "safe"}


def count_decisions(states: Iterable[DecisionState]) -> dict[str, Any]:
    """Return counts over the decisions that hold; what is withheld is counted and not named.

    `agreement` is of decisions that are unsafe or safe, on what the machine called NSFW or Safe, by whether
    the queue or the draw brought them.
    """
    found = [one for state in states for one in state.current.values()]
    labels = Counter(one.label for one in found)
    return {
        "schema": DECISION_STATS,
        "decisions": len(found),
        "files": sum(len(one.files) for one in found),
        "unsafe": labels["unsafe"],
        "safe": labels["safe"],
        "unsure": labels["unsure"],
        "withheld": labels["minor"],
        "minutes": round(sum(one.seconds for one in found) / 60, 1),
        "median_seconds": round(median(one.seconds for one in found), 1) if found else None,
        "reviewers": dict(Counter(one.who for one in found).most_common()),
        "agreement": {
            why: _agreement([one for one in found if one.why == why]) for why in ("queue", "audit")
        },
    }


def _agreement(decisions: Sequence[ReviewDecision]) -> dict[str, int]:
    pairs = Counter(
        (MACHINE[one.judged.final_decision], one.label)
        for one in decisions
        if one.judged.final_decision and one.label in {"unsafe", "safe"}
    )
    return {
        "decisions": pairs.total(),
        "agree": pairs["unsafe", "unsafe"] + pairs["safe", "safe"],
        "nsfw_but_safe": pairs["unsafe", "safe"],
        "safe_but_unsafe": pairs["safe", "unsafe"],
    }
