"""With which probability each decided content came to be decided: what makes rates on decisions unbiased.

A content is decided since the queue reached it, or since the draw did: all that was judged, in the order of a
hash of the content and a secret seed. A content that a sorted queue reached was certain to be decided. Any
other one was decided only because the draw got as far as it: with the share of all contents that the draw has
gone through. Both are kept in each decision (`priority`, `probability`), so that nothing else is needed here.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import defaultdict
from typing import Final

from clipmod_cli.review.decisions import DecisionState, QueueOrder, ReviewDecision

SORTED: Final[frozenset[QueueOrder]] = frozenset({"uncertain", "severity"})


def new_seed() -> str:
    """Return a seed for a new file of decisions: uploaders must not know what will be drawn."""
    return secrets.token_hex(8)


def draw_of(seed: str, key: str) -> float:
    """Return a content's place in the draw, 0..1: those with the smallest come first."""
    digest = hashlib.blake2b(key.encode(errors="surrogateescape"), key=seed.encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


def inclusion_probabilities(state: DecisionState) -> dict[str, float]:
    """Return by content the probability with which it came to be decided, over 0 and at most 1.

    What counts for a decision is how far the draw got from then on: among inputs that were judged later it
    begins again, and these do not count as reached before they were.
    """
    found = {}
    reach = _Reach()
    for key, one in reversed(state.current.items()):
        found[key] = reach.take(one)
    return found


class _Reach:
    """How far queue and draw got in the decisions from the one that is taken to the last."""

    def __init__(self) -> None:
        self._audit = self._random = 0.0
        self._passed: dict[QueueOrder, float] = defaultdict(lambda: float("-inf"))
        self._stacks = set[str | None]()  # of near copies, that the sorted queue reached

    def take(self, one: ReviewDecision) -> float:
        """Take a decision in, the last ones first, and return its probability."""
        if one.why == "audit":
            self._audit = max(self._audit, one.probability)
        elif one.order in SORTED:
            if one.priority is not None:
                self._passed[one.order] = max(self._passed[one.order], one.priority)
                self._stacks.add(one.stack)
            return 1.0
        else:
            self._random = max(self._random, one.probability)
        in_queue = one.priority is not None
        if in_queue and one.order in SORTED:
            if one.stack is not None and one.stack in self._stacks:
                return 1.0  # it would have been decided with its near copies
            if one.priority < self._passed[one.order]:  # type: ignore[operator]
                return 1.0  # the queue came by later on
        return max(self._audit, self._random) if in_queue and one.order == "random" else self._audit
