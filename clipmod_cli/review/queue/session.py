"""One review: what is shown, decided, undone and withheld. Thread-safe; shows no picture itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Final

from clipmod_cli.errors import UsageError
from clipmod_cli.output.reading.withheld import change_withheld
from clipmod_cli.review.decisions import DecisionFile, DecisionLabel, ReviewDecision
from clipmod_cli.review.queue.contents import ContentTable
from clipmod_cli.review.queue.refusals import NearCopyNotSeenError, NotShownError
from clipmod_cli.review.queue.stacks import NearStacks
from clipmod_cli.review.queue.walk import QueueWalk, ReviewPlan, ShownContent
from clipmod_cli.review.sampling import new_seed

MUST_TYPE: Final = 20
"""Of more decisions at once, their number must be typed."""

MOST_NEAR: Final = MUST_TYPE - 1
"""Near copies beside what is shown that one decision is on, without a number typed; others come after."""

MOST_TOGETHER: Final = 100
MOST_SECONDS: Final = 600.0
"""That one decision is counted with: a page that stays open over night was not looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewCounts:
    """How far a review is.

    Attributes:
        done: decisions on what is in these outputs.
        left: in the queue.
        missing: passed over since the file is gone or has another size.
        seconds: that decisions took.
    """

    done: int
    left: int
    missing: int
    seconds: float


class ReviewSession:
    """The queue over a table of contents and a file of decisions."""

    def __init__(
        self,
        table: ContentTable,
        decisions: DecisionFile,
        plan: ReviewPlan,
        *,
        stacks: NearStacks | None = None,
        is_missing: Callable[[int], bool] = lambda _: False,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Take in what is decided already, and choose what is shown first.

        Args:
            table: all that was judged.
            decisions: opened for writing.
            plan: which of it is shown, and how.
            stacks: near copies, which are decided together.
            is_missing: whether no file of a content is there as it was judged.
            now: the clock.

        Raises:
            OutputError: what decisions withhold cannot be written beside the outputs.
        """
        self.table = table
        self.plan = plan
        self._decisions = decisions
        self._now = now
        self._lock = threading.RLock()
        self._seed = decisions.state.seed or new_seed()
        self._stacks = stacks or NearStacks()
        self._walk = QueueWalk(table, plan, self._seed, is_missing, self._stacks)
        self._history: list[list[int]] = []
        self._grid: dict[int, ShownContent] = {}
        self._seconds = 0.0
        self._current: ShownContent | None = None
        self._near: list[int] = []
        for key, one in list(decisions.state.current.items()):
            if (number := table.numbers.get(key)) is not None:
                self._take_in(number, one)
                if one.label == "minor":
                    self._change_lists([number], withheld=True)
        self._go_on(self._walk.next())

    @property
    def current(self) -> ShownContent | None:
        """What is shown; None at the end."""
        with self._lock:
            return self._current

    @property
    def near_copies(self) -> list[int]:
        """What a decision on the content that is shown may be on too: near copies in the queue.

        At most `MOST_NEAR`, and none of what was drawn: that is decided alone, so that the probability with
        which it was drawn is its own.
        """
        with self._lock:
            return list(self._near)

    def count_near(self, number: int) -> int:
        """Return how many near copies of a content there are, in the queue or not."""
        return len(self._stacks.others(number))

    @property
    def counts(self) -> ReviewCounts:
        """How far it is."""
        with self._lock:
            walk = self._walk
            return ReviewCounts(
                done=walk.done, left=walk.left, missing=walk.missing, seconds=max(self._seconds, 0.0)
            )

    def is_shown(self, number: int) -> bool:
        """Return whether a content is on the page: in its own view, as a near copy of it, or in the grid."""
        with self._lock:
            current = [] if self._current is None else [self._current.number]
            return number in self._grid or number in current or number in self._near

    def upcoming(self, most: int) -> list[int]:
        """Return contents that are likely to be shown soon."""
        with self._lock:
            return [one.number for one in self._walk.waiting(most + 1)]

    def show_grid(self, most: int) -> list[int]:
        """Return the next contents of the queue, to be decided together."""
        with self._lock:
            first = [self._current] if self._current is not None and self._current.why == "queue" else []
            found = {one.number: one for one in [*first, *self._walk.waiting(most)]}
            self._grid = dict(list(found.items())[:most])
            return list(self._grid)

    def decide(
        self,
        number: int,
        label: DecisionLabel,
        *,
        category: str | None = None,
        seconds: float = 0.0,
        near: Iterable[int] = (),
        looked: Iterable[int] = (),
    ) -> None:
        """Write the decision on the content that is shown, and go on to the next.

        Args:
            number: the content.
            label: what it is.
            category: likewise.
            seconds: that it was shown.
            near: near copies, of which the person saw small pictures, and on which it is too.
            looked: near copies that were shown large.

        Raises:
            NotShownError: another one is shown, or one of `near` is not beside it.
            NearCopyNotSeenError: `safe`, and one of `near` that has another outcome was not looked at.
            OutputError: it cannot be written; then the same content is still shown.
        """
        with self._lock:
            if self._current is None or self._current.number != number:
                raise NotShownError
            chosen = list(dict.fromkeys(near))
            if not set(self._near) >= set(chosen):
                raise NotShownError
            if label == "safe" and not set(looked) >= set(self.differing(number, chosen)):
                raise NearCopyNotSeenError
            shown = [self._current, *(replace(self._current, number=one) for one in chosen)]
            self._write(shown, label, category, seconds, near_copy_of=self.table.keys[number])

    def differing(self, number: int, near: Iterable[int]) -> list[int]:
        """Return those of some near copies of a content which the machine judged otherwise."""
        outcomes = self.table.outcomes
        return [one for one in near if outcomes[one] != outcomes[number]]

    def decide_together(
        self,
        numbers: Iterable[int],
        label: DecisionLabel,
        *,
        category: str | None = None,
        seconds: float = 0.0,
        typed: str = "",
    ) -> None:
        """Write the same decision on some contents of the grid.

        Args:
            numbers: the contents.
            label: what they are.
            category: likewise.
            seconds: that the grid was shown.
            typed: their number, which a person typed.

        Raises:
            NotShownError: one of them is not in the grid.
            UsageError: they are over `MUST_TYPE` and another number was typed, or too many.
            OutputError: the decisions cannot be written.
        """
        with self._lock:
            chosen = list(dict.fromkeys(numbers))
            if not chosen or not self._grid.keys() >= set(chosen):
                raise NotShownError
            if len(chosen) > MOST_TOGETHER:
                raise UsageError(f"at most {MOST_TOGETHER} are decided together")
            if len(chosen) > MUST_TYPE and typed.strip() != str(len(chosen)):
                raise UsageError(f"to decide on {len(chosen)} at once, their number must be typed")
            self._write([self._grid[number] for number in chosen], label, category, seconds)

    def withhold(self, number: int, *, seconds: float = 0.0) -> list[int]:
        """Mark a content that is shown as one that may show a minor, and return what leaves every list.

        That is the content itself and all near copies that are not decided, in the queue or not.

        Raises:
            NotShownError: it is not shown.
            OutputError: it cannot be written.
        """
        with self._lock:
            current = self._current
            shown = current if current and current.number == number else self._grid.get(number)
            if shown is None:
                raise NotShownError
            decided = self._decisions.state.current
            near = [one for one in self._stacks.others(number) if self.table.keys[one] not in decided]
            numbers = [number, *near]
            self._change_lists(numbers, withheld=True)
            together = [replace(shown, number=one) for one in numbers]
            self._write(together, "minor", None, seconds, near_copy_of=self.table.keys[number])
            return numbers

    def undo(self) -> bool:
        """Take the last decision back, one on several contents as a whole; return whether there was one.

        What was decided is shown again, before what is shown now. What is withheld is not undone so.

        Raises:
            OutputError: it cannot be written.
        """
        with self._lock:
            if not self._history:
                return False
            self._take_back(self._history[-1])
            self._history.pop()
            return True

    def undo_withheld(self, number: int) -> None:
        """Take back that a content may show a minor, and its near copies too; it is shown again.

        Raises:
            UsageError: it was not marked so.
            OutputError: it cannot be written.
        """
        with self._lock:
            known = (
                self._decisions.state.current.get(self.table.keys[number])
                if number < len(self.table)
                else None
            )
            if known is None or known.label != "minor":
                raise UsageError("this is not withheld")
            near = [one for one in self._stacks.others(number) if self._is_withheld_with(one, known)]
            self._take_back([number, *near])
            self._change_lists([number, *near], withheld=False)

    def _is_withheld_with(self, number: int, marked: ReviewDecision) -> bool:
        """Return whether a content was withheld by the same key as a near copy."""
        one = self._decisions.state.current.get(self.table.keys[number])
        return one is not None and (one.label, one.near_copy_of, one.at) == ("minor", marked.key, marked.at)

    def _go_on(self, to: ShownContent | None) -> None:
        """Show a content, with its near copies in the queue."""
        self._current = to
        near: Iterator[int] = iter(())
        if to is not None and to.why == "queue":
            near = (one for one in self._stacks.others(to.number) if self._walk.is_queued(one))
        self._near = list(islice(near, MOST_NEAR))

    def _write(
        self,
        shown: Sequence[ShownContent],
        label: DecisionLabel,
        category: str | None,
        seconds: float,
        *,
        near_copy_of: str | None = None,
    ) -> None:
        """Write decisions, count them once they are on the disk, and go on.

        Args:
            shown: what they are on.
            label: what it is.
            category: likewise.
            seconds: that all were shown.
            near_copy_of: the key of the first one, if the others are its near copies.
        """
        each = min(max(seconds, 0.0) / len(shown), MOST_SECONDS)
        at = _timestamp(self._now())
        made = [
            self._decision(one, at).model_copy(
                update={
                    "label": label,
                    "category": category,
                    "seconds": round(each, 3),
                    "together": len(shown),
                    "near_copy_of": near_copy_of if place else None,
                }
            )
            for place, one in enumerate(shown)
        ]
        self._decisions.append(made)
        for one, decision in zip(shown, made, strict=True):
            self._take_in(one.number, decision)
            self._grid.pop(one.number, None)
        is_done = self._current is not None and self._walk.is_decided(self._current.number)
        self._go_on(self._walk.next() if is_done else self._current)

    def _decision(self, shown: ShownContent, at: str) -> ReviewDecision:
        table, number = self.table, shown.number
        record, *copies = table.records(number)
        stack = self._stacks.members(number)
        return ReviewDecision(
            **table.reviewed_file(record).model_dump(),
            at=at,
            who=self.plan.who,
            label="unsure",
            sha256=record["sha256"],
            copies=[table.reviewed_file(one) for one in copies],
            why=shown.why,
            order=self.plan.order,
            priority=self._walk.priority(number),
            probability=shown.probability,
            seed=self._seed,
            seconds=0.0,
            stack=table.keys[stack[0]] if stack else None,
            judged=table.judgement(record),
        )

    def _take_in(self, number: int, decision: ReviewDecision) -> None:
        """Count a decision; the history has those that were made together as one entry."""
        self._walk.take(number, decision.why, is_near=decision.near_copy_of is not None)
        self._seconds += decision.seconds
        if decision.label == "minor":
            return
        last = self._history[-1] if self._history else []
        before = self._decisions.state.current.get(self.table.keys[last[-1]]) if last else None
        if (
            before
            and decision.together > 1
            and (before.at, before.together) == (decision.at, decision.together)
        ):
            last.append(number)
        else:
            self._history.append([number])

    def _take_back(self, numbers: Sequence[int]) -> None:
        before = [self._decisions.state.current[self.table.keys[number]] for number in numbers]
        changes = {
            "label": "undo",
            "category": None,
            "at": _timestamp(self._now()),
            "who": self.plan.who,
            "seconds": 0.0,
        }
        self._decisions.append([one.model_copy(update=changes) for one in before])
        shown = []
        for number, one in zip(numbers, before, strict=True):
            is_near = one.near_copy_of is not None
            self._walk.untake(number, one.why, is_near=is_near)
            self._seconds -= one.seconds
            if not is_near or one.label != "minor":  # else it comes where it would have come
                shown.append(ShownContent(number, one.why, one.probability))
        self._walk.put_back([*shown, *([self._current] if self._current is not None else [])])
        self._go_on(self._walk.next())

    def _change_lists(self, numbers: Iterable[int], *, withheld: bool) -> None:
        """Add contents with all their names to the lists beside their outputs, or remove them."""
        facts = [
            {name: record[name] for name in ("sha256", "source", "source_b64", "member", "member_b64")}
            for number in numbers
            for record in self.table.records(number)
        ]
        for file in self.table.files:
            if file.name != "-":
                change_withheld(
                    Path(file.name), add=facts if withheld else (), remove=() if withheld else facts
                )


def _timestamp(now: datetime) -> str:
    return now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
