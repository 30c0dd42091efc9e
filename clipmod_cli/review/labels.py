"""Decisions as a table of labels, for `eval`, `tune` and other programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from pydantic import Field

from clipmod_cli.records.parts import RowModel
from clipmod_cli.review.decisions import DecisionState, ReviewDecision
from clipmod_cli.review.sampling import inclusion_probabilities


class ExportedLabel(RowModel):
    """One decided content."""

    sha256: str | None = Field(description="SHA-256 of the bytes")
    source: str = Field(description="As in the record")
    member: str | None = Field(description="Name inside the archive")
    label: str = Field(description="The category that was chosen, else unsafe or safe")
    decision: str = Field(description="unsafe or safe")
    probability: float = Field(description="With which it came to be decided, 0..1")
    why: str = Field(description="queue or audit")
    at: str = Field(description="When, ISO 8601 in UTC")
    who: str = Field(description="Who decided")
    seconds: float = Field(description="How long it was shown")
    copies: int = Field(description="Files with the same bytes")
    final_decision: str | None = Field(description="What the machine had said: NSFW or Safe")
    unsafe_score: float | None = Field(description="Likewise, 0..1")
    near_copy_of: str | None = Field(description="SHA-256 of the near copy that it was decided with")
    source_b64: str | None = Field(description="Base64 of the source's bytes, if they are not UTF-8")
    member_b64: str | None = Field(description="Base64 of the member's bytes, if they are not UTF-8")


def labels_of(state: DecisionState) -> Iterator[ExportedLabel]:
    """Yield the labels; undecided and withheld inputs have none."""
    probabilities = inclusion_probabilities(state)
    for key, one in state.current.items():
        if one.label in {"unsafe", "safe"}:
            yield _label(one, probabilities[key])


def count_left_out(state: DecisionState) -> Counter[str]:
    """Return how many decisions are no labels: `unsure` and `minor`."""
    return Counter(one.label for one in state.current.values() if one.label in {"unsure", "minor"})


def _label(one: ReviewDecision, probability: float) -> ExportedLabel:
    return ExportedLabel(
        sha256=one.sha256,
        source=one.source,
        member=one.member,
        label=one.category or one.label,
        decision=one.label,
        probability=probability,
        why=one.why,
        at=one.at,
        who=one.who,
        seconds=one.seconds,
        copies=len(one.files),
        final_decision=one.judged.final_decision,
        unsafe_score=one.judged.unsafe_score,
        near_copy_of=one.near_copy_of,
        source_b64=one.source_b64,
        member_b64=one.member_b64,
    )
