"""What would change between two policies, from stored evidence: scores alone, no records."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.evidence.compare import Change, RecordChanges
from clipmod_cli.evidence.folder import EvidenceFolder, EvidencePart, read_rows
from clipmod_cli.evidence.scores import PartScores, score_parts
from clipmod_cli.judge.criteria import Criteria
from clipmod_cli.records import read_name


class _Changed(NamedTuple):
    """An input whose outcome changes, in the order in which changes are listed."""

    size: float
    place: int
    part: EvidencePart
    row: int
    before: str
    after: str
    score_before: float
    score_after: float
    category: str


def compare_policies(
    stored: EvidenceFolder, before: Criteria, after: Criteria, *, show: int
) -> RecordChanges:
    """Return what would change if `after` judged in place of `before`; `show` is how many changes to list.

    Inputs that could not be judged are errors under both.

    Raises:
        EvidenceError: a part is damaged, or its embeddings are missing.
    """
    counts: Counter[tuple[str, str]] = Counter()
    largest: list[_Changed] = []
    for old, new in zip(score_parts(stored, before), score_parts(stored, after), strict=True):
        outcomes = _outcomes(old, before), _outcomes(new, after)
        counts.update(zip(*(outcome.tolist() for outcome in outcomes), strict=True))
        found = _changes(old, new, outcomes, after, place=counts.total())
        largest = heapq.nlargest(show, [*largest, *found], key=lambda one: (one.size, -one.place))
    return RecordChanges(
        same=sum(count for (old, new), count in counts.items() if old == new),
        counts=[(old, new, count) for (old, new), count in counts.most_common() if old != new],
        changes=[_named(one) for one in largest],
        only_before=0,
        only_after=0,
    )


def _outcomes(scores: PartScores, criteria: Criteria) -> NDArray[np.str_]:
    """Return the outcome of each input as `RecordChanges` names it, `(n,)`."""
    safe = "Safe" if criteria.unsafe.any() else "undecided"
    decided = np.where(scores.nsfw, "NSFW", safe)
    outcome = np.where(np.isnan(scores.unsafe), "error", decided)
    return np.char.add(outcome, np.where(scores.review, " (review)", ""))


def _changes(
    old: PartScores,
    new: PartScores,
    outcomes: tuple[NDArray[np.str_], NDArray[np.str_]],
    after: Criteria,
    *,
    place: int,
) -> Iterator[_Changed]:
    for at in np.flatnonzero(outcomes[0] != outcomes[1]).tolist():
        scores = float(old.unsafe[at]), float(new.unsafe[at])
        yield _Changed(
            size=abs(scores[1] - scores[0]),
            place=place + at,
            part=old.part,
            row=int(old.rows[at]),
            before=str(outcomes[0][at]),
            after=str(outcomes[1][at]),
            score_before=scores[0],
            score_after=scores[1],
            category=after.names[new.category[at]],
        )


def _named(changed: _Changed) -> Change:
    names = ("source", "source_b64", "member", "member_b64")
    (row,) = read_rows(changed.part, names, rows=[changed.row])
    member = row["member"]
    return Change(
        source=read_name(row["source"], row["source_b64"]),
        member=None if member is None else read_name(member, row["member_b64"]),
        before=changed.before,
        after=changed.after,
        score_before=changed.score_before,
        score_after=changed.score_after,
        category=changed.category,
    )
