"""What thresholds are tuned on: the records of a scan, or stored evidence under a policy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from clipmod_cli.errors import UsageError
from clipmod_cli.evaluate.joining import LabelOptions, join, open_judged
from clipmod_cli.evaluate.matching import Matches
from clipmod_cli.evaluate.samples import JudgedInput, LabelledSet, same_facts
from clipmod_cli.evaluate.stored import join_evidence, sums_of_all
from clipmod_cli.evaluate.tuning.bounds import Scores
from clipmod_cli.evaluate.tuning.thresholds import check_persistence, sum_scores
from clipmod_cli.evaluate.tuning.tuned_policy import ScoredBy
from clipmod_cli.evidence.folder import EvidenceFolder, StoredInput, stored_inputs
from clipmod_cli.judge.criteria import Criteria


class TuningInputs(Protocol):
    """Judged inputs, and what gave them their scores."""

    @property
    def scored_by(self) -> ScoredBy:
        """The policy and the models."""

    def labelled(
        self, options: LabelOptions
    ) -> tuple[LabelledSet, Matches[JudgedInput] | Matches[StoredInput]]:
        """Return the labelled ones under the untuned policy, and how they and the labels met.

        Raises:
            UsageError: labels and inputs do not fit.
        """

    def sums(self) -> Scores:
        """Return what a threshold of the sum is compared with, of all inputs, labelled or not (`sum_scores`).

        Raises:
            UsageError: there are none, or they cannot tell what another threshold would have decided.
        """


@dataclass(frozen=True, slots=True)
class RecordInputs:
    """The records of a file."""

    name: str
    scored_by: ScoredBy

    def labelled(self, options: LabelOptions) -> tuple[LabelledSet, Matches[JudgedInput]]:
        """Return the labelled ones."""
        with open_judged([self.name]) as judged:
            joined = join(self.name, judged, replace(options, policy=self.scored_by.policy))
        return replace(joined.labelled, policy=self.scored_by.base), joined.matches

    def sums(self) -> Scores:
        """Return the score of each record."""
        with open_judged([self.name]) as records:
            judged = same_facts(records, self.name)
            scores = np.fromiter(sum_scores(judged, self.scored_by.base), dtype=np.float64)
        return _checked(scores, self.name)


@dataclass(frozen=True, slots=True)
class EvidenceInputs:
    """Stored evidence; `criteria` are of the untuned policy, with the threshold in force."""

    stored: EvidenceFolder
    criteria: Criteria
    scored_by: ScoredBy

    def labelled(self, options: LabelOptions) -> tuple[LabelledSet, Matches[StoredInput]]:
        """Return the labelled ones, judged with a threshold of 0, so that all have scores that can."""
        labelled, matches = join_evidence(self.stored, replace(self.criteria, threshold=0.0), options)
        return replace(labelled, threshold=self.criteria.threshold), matches

    def sums(self) -> Scores:
        """Return the score of each input."""
        if self.criteria.policy.persistence_s:
            self._check_films()
        parts = list(sums_of_all(self.stored, self.criteria))
        return _checked(np.concatenate(parts) if parts else np.zeros(0), str(self.stored.path))

    def _check_films(self) -> None:
        for one in stored_inputs(self.stored):
            check_persistence(one.name, one.kind, self.criteria.policy)


def _checked(scores: Scores, name: str) -> Scores:
    if not len(scores):
        raise UsageError(f"{name} holds no records")
    return scores
