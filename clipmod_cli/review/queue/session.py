"""One review: what is shown, decided, undone and withheld. Thread-safe; shows no picture itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from clipmod_cli.errors import UsageError
from clipmod_cli.output.reading.withheld import change_withheld
from clipmod_cli.review.decisions import DecisionFile, DecisionLabel, ReviewDecision
from clipmod_cli.review.queue.contents import ContentTable
from clipmod_cli.review.queue.walk import QueueWalk, ReviewPlan, ShownContent
from clipmod_cli.review.sampling import new_seed

MUST_TYPE: Final = 20
"""Of more decisions at once, their number must be typed."""

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


class NotShownError(UsageError):
    """What was decided on is not what is shown: a second window, or a key that was pressed twice."""

    http_status = 409

    def __init__(self) -> None:
        """Say so."""
        super().__init__("this is not what is shown now")


class ReviewSession:
    """The queue over a table of contents and a file of decisions."""

    def __init__(
        self,
        table: ContentTable,
        decisions: DecisionFile,
        plan: ReviewPlan,
        *,
        is_missing: Callable[[int], bool] = lambda _: False,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Take in what is decided already, and choose what is shown first.

        Args:
            table: all that was judged.
            decisions: opened for writing.
            plan: which of it is shown, and how.
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
        self._walk = QueueWalk(table, plan, self._seed, is_missing)
        self._history: list[list[int]] = []
        self._grid: dict[int, ShownContent] = {}
        self._seconds = 0.0
        self._current: ShownContent | None = None
        for key, one in list(decisions.state.current.items()):
            if (number := table.numbers.get(key)) is not None:
                self._take_in(number, one)
                if one.label == "minor":
                    self._change_lists(number, withheld=True)
        self._current = self._walk.next()

    @property
    def current(self) -> ShownContent | None:
        """What is shown; None at the end."""
        with self._lock:
            return self._current

    @property
    def counts(self) -> ReviewCounts:
        """How far it is."""
        with self._lock:
            walk = self._walk
            return ReviewCounts(
                done=walk.done, left=walk.left, missing=walk.missing, seconds=max(self._seconds, 0.0)
            )

    def is_shown(self, number: int) -> bool:
        """Return whether a content is on the page: in its own view or in the grid."""
        with self._lock:
            return number in self._grid or (self._current is not None and self._current.number == number)

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
        self, number: int, label: DecisionLabel, *, category: str | None = None, seconds: float = 0.0
    ) -> None:
        """Write the decision on the content that is shown, and go on to the next.

        Raises:
            NotShownError: another one is shown.
            OutputError: it cannot be written; then the same content is still shown.
        """
        with self._lock:
            if self._current is None or self._current.number != number:
                raise NotShownError
            self._write([self._current], label, category, seconds)

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

    def withhold(self, number: int, *, seconds: float = 0.0) -> None:
        """Mark a content that is shown as one that may show a minor: it leaves every list.

        Raises:
            NotShownError: it is not shown.
            OutputError: it cannot be written.
        """
        with self._lock:
            current = self._current
            shown = current if current and current.number == number else self._grid.get(number)
            if shown is None:
                raise NotShownError
            self._change_lists(number, withheld=True)
            self._write([shown], "minor", None, seconds)

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
        """Take back that a content may show a minor; it is shown again.

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
            self._take_back([number])
            self._change_lists(number, withheld=False)

    def _write(
        self, shown: Sequence[ShownContent], label: DecisionLabel, category: str | None, seconds: float
    ) -> None:
        """Write decisions, count them once they are on the disk, and go on."""
        each = min(max(seconds, 0.0) / len(shown), MOST_SECONDS)
        at = _timestamp(self._now())
        made = [
            self._decision(one, at).model_copy(
                update={
                    "label": label,
                    "category": category,
                    "seconds": round(each, 3),
                    "together": len(shown),
                }
            )
            for one in shown
        ]
        self._decisions.append(made)
        for one, decision in zip(shown, made, strict=True):
            self._take_in(one.number, decision)
            self._grid.pop(one.number, None)
        if self._current is not None and self._current.number in {one.number for one in shown}:
            self._current = self._walk.next()

    def _decision(self, shown: ShownContent, at: str) -> ReviewDecision:
        table, number = self.table, shown.number
        record, *copies = table.records(number)
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
            judged=table.judgement(record),
        )

    def _take_in(self, number: int, decision: ReviewDecision) -> None:
        """Count a decision; the history has those that were made together as one entry."""
        self._walk.take(number, decision.why)
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
            self._walk.untake(number, one.why)
            self._seconds -= one.seconds
            shown.append(ShownContent(number, one.why, one.probability))
        self._walk.put_back([*shown, *([self._current] if self._current is not None else [])])
        self._current = self._walk.next()

    def _change_lists(self, number: int, *, withheld: bool) -> None:
        """Add a content with all its names to the lists beside its outputs, or remove it."""
        facts = [
            {name: record[name] for name in ("sha256", "source", "source_b64", "member", "member_b64")}
            for record in self.table.records(number)
        ]
        for file in self.table.files:
            if file.name != "-":
                change_withheld(
                    Path(file.name), add=facts if withheld else (), remove=() if withheld else facts
                )


def _timestamp(now: datetime) -> str:
    return now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
