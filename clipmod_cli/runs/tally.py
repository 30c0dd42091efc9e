"""Counts over all records of an output, and the exit code of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from clipmod_cli.errors import ExitCode
from clipmod_cli.records import Record
from clipmod_cli.settings.definition import FailOn, Wanted

Outcome: TypeAlias = Wanted | Literal["undecided"]


def kinds_of(decision: str | None, status: str, *, needs_review: bool) -> frozenset[Wanted]:
    """Return the kinds of a record, as `--only` and `--fail-on` name them."""
    if status == "error":
        return frozenset({"error"})
    named: dict[str | None, Wanted] = {"NSFW": "nsfw", "Safe": "safe"}
    kinds = {named[decision]} if decision in named else set()
    return frozenset(kinds | ({"review"} if needs_review else set()))


def _outcome_of(kinds: frozenset[Wanted]) -> Outcome:
    """Return the one of a record's kinds that its line begins with."""
    order: tuple[Wanted, ...] = ("error", "nsfw", "review", "safe")
    return next((kind for kind in order if kind in kinds), "undecided")


def _scored_by(record: Record) -> Collection[str]:
    """Return the models that scored it in this run; a cached score has no inference time."""
    predictions = (record.per_model_predictions or {}).items()
    return [name for name, one in predictions if one.inference_time_ms > 0.0]


@dataclass
class Tally:
    """Counts of an output, and of what this run added to it.

    Attributes:
        kinds: records by kind (nsfw, safe, review, error); one may be of two.
        outcomes: records by outcome; each has one: NSFW comes before review, and review before Safe.
        reasons: records by reason for review; one may have several.
        total: records.
        ok: records without an error.
        judged: records of this run, errors included.
        new: records that no earlier run had told of, and `new_kinds` those by kind.
        gone: records that do not count, since their inputs are gone.
        moved: likewise, since `clipmod apply` moved their inputs.
        pictures: frames scored in this run.
        scored_by: frames that each model scored in this run.
        skipped_by: frames that each model skipped (early exit) in this run.
        cached: pictures of this run whose scores were all cached.
        bytes: read in this run.
        banks: records that banks decided, by `deny` and `allow`.
    """

    kinds: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    categories: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    banks: Counter[str] = field(default_factory=Counter)
    scored_by: Counter[str] = field(default_factory=Counter)
    skipped_by: Counter[str] = field(default_factory=Counter)
    total: int = 0
    ok: int = 0
    judged: int = 0
    new: int = 0
    new_kinds: Counter[str] = field(default_factory=Counter)
    gone: int = 0
    moved: int = 0
    pictures: int = 0
    cached: int = 0
    bytes: int = 0

    def add_done(self, record: dict[str, Any], *, is_new: bool = False) -> None:
        """Count a record that an earlier run wrote; new if that run did not come to tell of it."""
        error = record["error"]
        self._count(
            kinds_of(record["final_decision"], record["status"], needs_review=bool(record["needs_review"])),
            record["ensemble_category"],
            error["code"] if error else None,
            record["review_reasons"] or (),
            is_new=is_new,
            decided_by=record["decided_by"],
        )

    def add(self, record: Record) -> frozenset[Wanted]:
        """Count a record of this run; return its kinds."""
        kinds = kinds_of(record.final_decision, record.status, needs_review=bool(record.needs_review))
        code = record.error.code if record.error else None
        self._count(
            kinds,
            record.ensemble_category,
            code,
            record.review_reasons or (),
            is_new=not record.known,
            decided_by=record.decided_by,
        )
        self.judged += 1
        self.bytes += record.bytes or 0
        if record.decided_by == "models":
            frames = record.frames_scored or 1
            self.pictures += frames
            if models := _scored_by(record):
                self.scored_by.update(dict.fromkeys(models, frames))
                self.skipped_by.update(dict.fromkeys(record.models_skipped or (), frames))
            else:
                self.cached += 1
        return kinds

    def _count(
        self,
        kinds: frozenset[Wanted],
        category: str | None,
        code: str | None,
        reasons: Iterable[str],
        *,
        is_new: bool,
        decided_by: str | None,
    ) -> None:
        self.total += 1
        if is_new:
            self.new += 1
            self.new_kinds.update(kinds)
        self.kinds.update(kinds)
        self.outcomes[_outcome_of(kinds)] += 1
        self.reasons.update(reasons)
        if code is not None:
            self.codes[code] += 1
            return
        self.ok += 1
        if decided_by in {"deny", "allow"}:
            self.banks[decided_by] += 1
        else:
            self.categories[category or ""] += 1

    def add_review(self, reason: str, count: int, unreviewed: int, renewed: int) -> None:
        """Count Safe records that have a further reason for review.

        Args:
            reason: for which they need it.
            count: of these records.
            unreviewed: of these, the ones that needed none before.
            renewed: of these, the ones of earlier runs that are new now.
        """
        if not count:
            return
        self.kinds["review"] += unreviewed
        self.outcomes["safe"] -= unreviewed
        self.outcomes["review"] += unreviewed
        self.reasons[reason] += count
        self.new += renewed

    def counts(self) -> dict[str, int]:
        """Return the counts by kind over the whole output."""
        return {
            "inputs": self.total,
            **{kind: self.kinds[kind] for kind in ("nsfw", "safe", "review", "error")},
        }

    def run_counts(self) -> dict[str, int]:
        """Return the counts of the run card: by kind over the whole output, and what this run did."""
        return {
            **self.counts(),
            "new": self.new,
            "new_nsfw": self.new_kinds["nsfw"],
            "gone": self.gone,
            "moved": self.moved,
            "written": self.judged,
        }

    def exit_code(
        self, fail_on: Collection[FailOn], skipped_media: Callable[[], bool] = lambda: False
    ) -> ExitCode:
        """Return the exit code of a finished run, over the whole output.

        `skipped_media` tells whether pictures, films or archives were there that were no inputs.
        """
        if not self.ok and (self.total or skipped_media()):
            return ExitCode.NOTHING_JUDGED
        found = self.kinds | Counter({"new-nsfw": self.new_kinds["nsfw"]})
        if any(found[kind] for kind in fail_on):
            return ExitCode.FOUND
        return ExitCode.SOME_FAILED if self.codes else ExitCode.OK
