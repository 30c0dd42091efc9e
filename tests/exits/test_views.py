"""Pictures of which one view exited early and another one did not: their records say so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from clipmod_cli.judge.judging import judge
from clipmod_cli.records import to_record
from clipmod_cli.types import Evidence, Verdict
from tests.evidence import evidence, saw_unsafe
from tests.results import RUN
from tests.test_calibrated_policy import criteria


def views(*unsafe: Sequence[float]) -> list[Evidence]:
    """Return the views of one picture, by the scores of the models that were asked about each."""
    names = [one.name for one in criteria().judges]
    whole = evidence(*(saw_unsafe(0.0) for _ in names))
    return [
        replace(
            whole,
            last=number == len(unsafe) - 1,
            seen=dict(zip(names, map(saw_unsafe, scores), strict=False)),
            forward_ms=dict.fromkeys(names[: len(scores)], 1.0),
            skipped=tuple(names[len(scores) :]),
        )
        for number, scores in enumerate(unsafe)
    ]


def judged(*unsafe: Sequence[float]) -> Verdict:
    (found,) = judge(views(*unsafe), criteria())
    assert isinstance(found, Verdict)
    return found


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("score", [0.2, 0.9])
def test_a_view_that_exited_counts_though_another_one_decides(score: float, turned: bool) -> None:
    scores = [[0.01], [score, score]]
    found = judged(*reversed(scores) if turned else scores)
    first, last = (one.name for one in criteria().judges)
    record = to_record(found, RUN)
    assert record.final_decision == ("NSFW" if score > 0.4 else "Safe")
    assert record.unsafe_score == pytest.approx(score)
    assert record.nsfw_probability is None  # the first view's score could be higher
    assert record.models_used == [first, last]  # of the view that decided
    assert record.models_skipped == [last]
    low, high = record.unsafe_score_bounds or (0.0, 0.0)
    assert low == pytest.approx(score)
    assert high == pytest.approx(max(score, 0.6 * 0.01 + 0.4))


def test_where_all_were_asked_about_each_view_nothing_is_open() -> None:
    record = to_record(judged([0.01, 0.02], [0.2, 0.2]), RUN)
    assert (record.models_skipped, record.unsafe_score_bounds, record.decided_at) == (None, None, None)
    assert record.nsfw_probability is not None
