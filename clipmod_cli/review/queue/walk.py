"""The way through a queue: what is shown next, from the queue itself or from the draw. Writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from clipmod_cli.review.decisions import QueueOrder, QueueReason
from clipmod_cli.review.queue.contents import ContentTable, ReviewKind, kind_bits
from clipmod_cli.review.queue.order import Numbers, draws_of, least_of_stacks, priorities_of, sort
from clipmod_cli.review.queue.stacks import NearStacks


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewPlan:
    """What is shown, and in which order.

    Attributes:
        only: the kinds in the queue; the draw is of all that was judged.
        audit: the share of decisions that are drawn, 0..1.
        who: decides.
    """

    order: QueueOrder = "uncertain"
    only: Sequence[ReviewKind] = ("nsfw", "review")
    audit: float = 0.1
    who: str


@dataclass(frozen=True, slots=True)
class ShownContent:
    """A content that waits for a decision, and how it came there; see `ReviewDecision`."""

    number: int
    why: QueueReason
    probability: float


class QueueWalk:
    """Goes through contents once; what comes back goes first."""

    def __init__(
        self,
        table: ContentTable,
        plan: ReviewPlan,
        seed: str,
        is_missing: Callable[[int], bool],
        stacks: NearStacks,
    ) -> None:
        """Sort the queue and the draw.

        Near copies in the queue have the place of their first one, so that whatever the queue has reached of
        them was reached with it.

        Args:
            table: all that was judged.
            plan: which of it, and how.
            seed: of the draw.
            is_missing: whether no file of a content is there as it was judged; asked before it is shown.
            stacks: the near copies.
        """
        draws = draws_of(table, seed)
        own = priorities_of(table, plan.order, draws)
        queued = np.flatnonzero(np.frombuffer(bytes(table.kinds), np.uint8) & kind_bits(plan.only))
        priorities = least_of_stacks(own, queued, stacks)
        ties = least_of_stacks(draws, queued, stacks)
        self._plan = plan
        self._is_missing = is_missing
        self._queue = _Line(sort(queued, priorities, ties, own, draws))
        self._draw = _Line(np.argsort(draws, kind="stable"))
        self._priorities: dict[int, float] = dict(
            zip(queued.tolist(), priorities[queued].tolist(), strict=True)
        )
        self._closed = np.zeros(len(table), bool)  # decided, or missing
        self._back: list[ShownContent] = []
        self._taken = {"queue": 0, "audit": 0}
        self._near = 0  # of these, decided with a near copy
        self.left = len(queued)
        self.missing = 0

    @property
    def done(self) -> int:
        """How many were decided."""
        return sum(self._taken.values())

    def priority(self, number: int) -> float | None:
        """Return a content's place in the order of the queue; None if it is not in it."""
        return self._priorities.get(number)

    def take(self, number: int, why: QueueReason, *, is_near: bool) -> None:
        """Count a content as decided; `is_near`: with a near copy, so that no audit is due for it."""
        self._close(number)
        self._taken[why] += 1
        self._near += is_near

    def put_back(self, shown: Sequence[ShownContent]) -> None:
        """Let contents that were decided, or shown, come again, the first one next."""
        self._back += reversed(shown)

    def untake(self, number: int, why: QueueReason, *, is_near: bool) -> None:
        """Count a content as decided no more; what is not put back comes where it would have come."""
        self._closed[number] = False
        self.left += number in self._priorities
        self._taken[why] -= 1
        self._near -= is_near
        self._queue.begin = self._draw.begin = 0

    def next(self) -> ShownContent | None:
        """Return what is to be shown; None at the end."""
        while self._back:
            one = self._back.pop()
            if self._is_open(one.number):
                return one
        if self._is_audit_due() and (at := self._draw.seek(self._is_open)) is not None:
            return ShownContent(self._draw.at(at), "audit", (at + 1) / len(self._draw))
        at = self._queue.seek(self._is_open)
        return None if at is None else self._queued(at)

    def waiting(self, most: int) -> Iterator[ShownContent]:
        """Yield the next contents of the queue without those that are drawn, at most so many."""
        found = 0
        seen = set[int]()
        for one in self._all_waiting():
            if found >= most:
                return
            if one.number not in seen and self._is_open(one.number):
                seen.add(one.number)
                found += 1
                yield one

    def _all_waiting(self) -> Iterator[ShownContent]:
        yield from (one for one in reversed(self._back) if one.why == "queue")
        for at in range(self._queue.begin, len(self._queue)):
            yield self._queued(at)

    def _queued(self, at: int) -> ShownContent:
        probability = (at + 1) / len(self._queue) if self._plan.order == "random" else 1.0
        return ShownContent(self._queue.at(at), "queue", probability)

    def _is_audit_due(self) -> bool:
        return self._taken["audit"] + 1 <= self._plan.audit * (self.done - self._near + 1) + 1e-9

    def is_queued(self, number: int) -> bool:
        """Return whether a content is in the queue and can be shown."""
        return number in self._priorities and self._is_open(number)

    def is_decided(self, number: int) -> bool:
        """Return whether a content is decided, or missing."""
        return bool(self._closed[number])

    def _is_open(self, number: int) -> bool:
        """Return whether a content can be shown; notes those that are missing."""
        if self._closed[number]:
            return False
        if self._is_missing(number):
            self.missing += 1
            self._close(number)
            return False
        return True

    def _close(self, number: int) -> None:
        self.left -= not self._closed[number] and number in self._priorities
        self._closed[number] = True


class _Line:
    """Contents in an order, of which the first ones are gone through."""

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers
        self.begin = 0

    def __len__(self) -> int:
        return len(self._numbers)

    def at(self, place: int) -> int:
        """Return the content at a place."""
        return int(self._numbers[place])

    def seek(self, is_open: Callable[[int], bool]) -> int | None:
        """Go on to the first one that can be shown and return its place; None without one."""
        while self.begin < len(self) and not is_open(self.at(self.begin)):
            self.begin += 1
        return self.begin if self.begin < len(self) else None
