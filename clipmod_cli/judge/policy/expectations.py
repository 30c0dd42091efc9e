"""The `[[tests]]` of a policy: pictures, and what their results must be. They change no verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

from clipmod_cli.types import Verdict

ExpectedOutcome: TypeAlias = Literal["NSFW", "review", "Safe"]
EXPECTED_OUTCOMES: Final[tuple[ExpectedOutcome, ...]] = get_args(ExpectedOutcome)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyTest:
    """A picture or film, and what its result must be. What is None is not tested.

    Attributes:
        picture: its path, relative to the folder of the policy.
        decision: the outcomes that are right.
        category: the most probable one.
        matched: all categories that are at or over their own thresholds, in any order.
        score_at_least: of the unsafe score, 0..1.
        score_at_most: likewise.
    """

    picture: str
    decision: tuple[ExpectedOutcome, ...] | None = None
    category: str | None = None
    matched: tuple[str, ...] | None = None
    score_at_least: float | None = None
    score_at_most: float | None = None


def outcome_of(verdict: Verdict) -> ExpectedOutcome | None:
    """Return NSFW, else review if a person should look at it, else Safe; None without a decision."""
    return "review" if verdict.needs_review and verdict.decision != "NSFW" else verdict.decision


def unmet(test: PolicyTest, verdict: Verdict) -> Iterator[str]:
    """Yield a clause for each expectation of the test that the verdict does not meet."""
    if test.decision is not None and outcome_of(verdict) not in test.decision:
        yield f"must be {' or '.join(test.decision)}"
    if test.category not in {None, verdict.deciding.category}:
        yield f"the category must be {test.category}"
    matched = verdict.matched_categories or ()
    if test.matched is not None and set(test.matched) != set(matched):
        yield f"must match {_listed(test.matched)}, matches {_listed(matched)}"
    score = verdict.deciding.unsafe_score
    if test.score_at_least is not None and score < test.score_at_least:
        yield f"the score must be at least {test.score_at_least:g}, is {score:g}"
    if test.score_at_most is not None and score > test.score_at_most:
        yield f"the score must be at most {test.score_at_most:g}, is {score:g}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"
