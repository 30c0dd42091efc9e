"""The `[tuned]` table of a policy: thresholds that `clipmod tune` found on labels, and what they promise.

It stands at the end of a copy of the policy that the labelled inputs were judged by, and goes before the
thresholds there. Its thresholds hold for the models that gave the scores, and for no others. A calibration in
it is for people: no decision depends on it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final, Literal, TypeAlias

PromisedRate: TypeAlias = Literal["recall", "precision", "flagged"]

HEADING: Final = "# Added by `clipmod tune`. Delete all from here on to have the policy as it was.\n"

SAME_WEIGHT: Final = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class TunedModel:
    """A model that gave the scores: its spec, the revision of its weights, its share of the ensemble."""

    spec: str
    revision: str
    weight: float

    @property
    def _identity(self) -> tuple[str, str]:
        return self.spec, self.revision

    def is_like(self, other: TunedModel) -> bool:
        """Return whether the other one gives the same scores and counts as much."""
        return self._identity == other._identity and abs(self.weight - other.weight) <= SAME_WEIGHT


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """One threshold, and what it promises with confidence 1 - `delta`.

    Attributes:
        category: whose own threshold it is; None for that of the unsafe score.
        rate: what is promised: that recall or precision is at least, or the share of flagged inputs at most,
            `target`.
        prevalence: the share of positives in use at which a precision is promised.
        bound: what the rate is at least or at most, by the labels.
        positives: how many of the labelled inputs it was found on must be flagged.
        inputs: how many it was found on.
    """

    threshold: float
    rate: PromisedRate
    target: float
    delta: float
    bound: float
    positives: int
    inputs: int
    category: str | None = None
    prevalence: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlattCalibration:
    """From the NSFW score to a probability: the logistic function of `slope` * log-odds + `intercept`.

    Attributes:
        slope: over 0, so that a higher score never has a lower probability.
        positives: how many of the labelled inputs it was fitted on must be flagged; none of them is among
            those of a promise.
        negatives: how many of the others it was fitted on.
        prevalence: the share of positives in use for which the probabilities hold; None for that of the
            labels.
    """

    slope: float
    intercept: float
    positives: int
    negatives: int
    prevalence: float | None = None
    kind: Literal["platt"] = "platt"

    def to_toml(self) -> list[str]:
        """Return the lines of the table."""
        lines = ["[tuned.calibration]", f'kind = "{self.kind}"']
        lines += [f"slope = {self.slope!r}", f"intercept = {self.intercept!r}"]
        if self.prevalence is not None:
            lines.append(f"prevalence = {self.prevalence!r}")
        return [*lines, f"positives = {self.positives}", f"negatives = {self.negatives}"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """Where the thresholds of a tuned policy come from.

    Attributes:
        base_hash: of the policy without the table.
        tuned_on: the day.
        labels: SHA-256 of the labels, hexadecimal; None where there were none.
        calibration: of the NSFW score; None for none.
    """

    base_hash: str
    tuned_on: date
    models: Sequence[TunedModel]
    promises: Sequence[Promise]
    labels: str | None = None
    calibration: PlattCalibration | None = None

    def threshold_of(self, category: str | None) -> float | None:
        """Return the threshold of a category, or with None that of the sum; None if it was not tuned."""
        return next((one.threshold for one in self.promises if one.category == category), None)

    def difference(self, models: Iterable[TunedModel]) -> str | None:
        """Return how models that are to judge differ from those of the scores; None if they do not."""
        now, then = list(models), list(self.models)
        if [one.spec for one in now] != [one.spec for one in then]:
            return f"it was tuned for {_named(then)}, and is to be used with {_named(now)}"
        for one, other in zip(now, then, strict=True):
            if one.revision != other.revision:
                return f"it was tuned for {one.spec} at {other.revision[:12]}, not at {one.revision[:12]}"
            if not one.is_like(other):
                return f"it was tuned for {one.spec} with the weight {other.weight:g}, not {one.weight:g}"
        return None

    def to_toml(self) -> str:
        """Return the table as TOML, to be put at the end of the policy."""
        lines = [
            HEADING + "[tuned]",
            f'base_hash = "{self.base_hash}"',
            f"date = {self.tuned_on.isoformat()}",
        ]
        if self.labels is not None:
            lines.append(f'labels_sha256 = "{self.labels}"')
        if self.calibration is not None:
            lines += ["", *self.calibration.to_toml()]
        for model in self.models:
            lines += ["", "[[tuned.models]]", f"spec = {_text(model.spec)}"]
            lines += [f"revision = {_text(model.revision)}", f"weight = {model.weight!r}"]
        for promise in self.promises:
            lines += ["", "[[tuned.promises]]"]
            if promise.category is not None:
                lines.append(f"category = {_text(promise.category)}")
            lines += [f"threshold = {promise.threshold!r}", f'rate = "{promise.rate}"']
            lines += [f"target = {promise.target!r}", f"delta = {promise.delta!r}"]
            if promise.prevalence is not None:
                lines.append(f"prevalence = {promise.prevalence!r}")
            lines += [
                f"bound = {promise.bound!r}",
                f"positives = {promise.positives}",
                f"inputs = {promise.inputs}",
            ]
        return "\n".join(lines) + "\n"


def _named(models: Sequence[TunedModel]) -> str:
    return ", ".join(one.spec for one in models)


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
