"""What a report shows of some outputs: counts, and the worst inputs first. Opens no picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, get_args

from clipmod_cli.output.reading.cards import RunCards
from clipmod_cli.output.reading.records import RecordReader
from clipmod_cli.records import read_name

Outcome: TypeAlias = Literal["nsfw", "review", "error", "undecided", "safe"]
OUTCOMES: Final[tuple[Outcome, ...]] = get_args(Outcome)
"""From the most severe: NSFW, to review, errors, without a decision, Safe."""

SHOWN: Final[tuple[Outcome, ...]] = ("nsfw", "review", "error")
DETECTIONS: Final = 3
"""The best of a detector that are named."""

_OUTCOME: Final = """
    CASE WHEN status = 'error' THEN 'error' WHEN final_decision = 'NSFW' THEN 'nsfw'
        WHEN needs_review THEN 'review' WHEN final_decision = 'Safe' THEN 'safe' ELSE 'undecided' END
"""
_GROUPS: Final = f"""
    SELECT {_OUTCOME} AS outcome, policy, policy_hash, threshold, models_used, count(*) AS inputs
    FROM records GROUP BY ALL ORDER BY inputs DESC
"""  # noqa: S608
_ITEMS: Final = f"""
    SELECT * EXCLUDE (frames, category_ensemble_probabilities), {_OUTCOME} AS outcome FROM records
    WHERE list_contains(?, outcome)
    ORDER BY list_position(?, outcome), unsafe_score DESC NULLS LAST, error.code, source, member
    LIMIT ?
"""  # noqa: S608


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One input of a report, as its record tells it.

    Attributes:
        source: the path as seen from here, or the URL; a name that is not UTF-8 holds surrogate escapes.
        is_new: the last of several runs found it.
        peak_s: where in a film its worst frame is, in seconds; None if no segment tells it.
        view: x, y, width, height of the deciding view, in pixels of the picture of `size`.
        boxes: likewise of what a detector found.
        size: (width, height) as displayed; None if it is not known.
        found: what detectors found, best first: label and score.
        moved_to: where `clipmod apply` moved it; None if it did not.
        matches: the entries of the banks that decided.
    """

    outcome: Outcome
    source: str
    member: str | None
    kind: str | None
    score: float | None
    threshold: float | None
    category: str | None
    reasons: Sequence[str]
    error: Mapping[str, Any] | None
    sha256: str | None
    bytes: int | None
    mtime_ns: int | None
    size: tuple[int, int] | None
    view: tuple[int, ...] | None
    boxes: Sequence[tuple[int, ...]]
    found: Sequence[tuple[str, float]]
    segments: Sequence[Mapping[str, Any]]
    duration_s: float | None
    is_new: bool = False
    moved_to: str | None = None
    matches: Sequence[Mapping[str, Any]] = ()

    @property
    def peak_s(self) -> float | None:
        """Return when the worst frame of its segments is shown, in seconds."""
        worst = max(self.segments, key=lambda one: one["peak_unsafe_score"], default=None)
        return None if worst is None else float(worst["peak_time_s"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """All that a report tells.

    Attributes:
        names: of the outputs.
        counts: inputs by outcome.
        policies: name, hash and threshold of each that judged; None where the records do not tell it.
        models: names, the most used first.
        findings: the worst first.
        notes: what was left out of the outputs.
        last_runs: what the run cards tell of new and gone inputs.
    """

    names: Sequence[str]
    counts: Mapping[Outcome, int]
    policies: Sequence[tuple[str, str, float]]
    models: Sequence[str]
    findings: Sequence[Finding]
    notes: Sequence[str]
    last_runs: Sequence[Mapping[str, Any]] = ()

    @property
    def total(self) -> int:
        """How many inputs there are."""
        return sum(self.counts.values())

    def left_out(self, outcome: Outcome) -> int:
        """Return how many inputs of this outcome are counted only."""
        return self.counts[outcome] - sum(one.outcome == outcome for one in self.findings)


def read_sheet(reader: RecordReader, *, limit: int, outcomes: Sequence[Outcome] = SHOWN) -> Sheet:
    """Return the sheet of all records.

    Args:
        reader: the records.
        limit: the most inputs to list.
        outcomes: of the inputs to list.

    Raises:
        UsageError: a record cannot be read.
        OutputError: no temporary file can be written.
    """
    counts: Counter[Outcome] = Counter(dict.fromkeys(OUTCOMES, 0))
    policies: dict[tuple[str, str, float], None] = {}
    models: Counter[str] = Counter()
    for group in reader.rows(_GROUPS):
        counts[group["outcome"]] += group["inputs"]
        if group["policy"] is not None:
            policies[group["policy"], group["policy_hash"], group["threshold"]] = None
        models.update(dict.fromkeys(group["models_used"] or (), group["inputs"]))
    rows = reader.rows(_ITEMS, [list(outcomes), list(OUTCOMES), limit])
    return Sheet(
        names=[Path(file.name).name if file.name != "-" else "stdin" for file in reader.files],
        counts=counts,
        policies=list(policies),
        models=[name for name, _ in models.most_common()],
        findings=[finding_of(row, reader.cards) for row in rows],
        notes=reader.notes,
        last_runs=reader.cards.last_counts(),
    )


def finding_of(row: Mapping[str, Any], cards: RunCards) -> Finding:
    """Return the finding of a record's fields by name and its `outcome`."""
    detections = _detections(row["per_model_predictions"])
    source = read_name(row["source"], row["source_b64"])
    return Finding(
        outcome=row["outcome"],
        source=cards.path_of(source, row["run_id"]),
        moved_to=cards.moved_to(source, row["run_id"], row["sha256"]),
        is_new=row["run_id"] in cards.newest and not row["known"],
        member=None if row["member"] is None else read_name(row["member"], row["member_b64"]),
        kind=row["kind"],
        score=row["unsafe_score"],
        threshold=row["threshold"],
        category=row["ensemble_category"],
        reasons=row["review_reasons"] or (),
        error=row["error"],
        sha256=row["sha256"],
        bytes=row["bytes"],
        mtime_ns=row["mtime_ns"],
        size=(row["width"], row["height"]) if row["width"] and row["height"] else None,
        view=tuple(row["view"]) if row["view"] and len(row["view"]) == len(("x", "y", "w", "h")) else None,
        boxes=[tuple(one["box"]) for one in detections if one["box"]],
        found=[(one["label"], one["score"]) for one in detections],
        segments=row["segments"] or (),
        duration_s=row["duration_s"],
        matches=row["matches"] or (),
    )


def _detections(predictions: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    found = [one for model in (predictions or {}).values() for one in model["detections"] or ()]
    return sorted(found, key=lambda one: -one["score"])[:DETECTIONS]
