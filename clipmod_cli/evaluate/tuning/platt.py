"""Platt's calibration of the NSFW score (Platt 1999), on labelled inputs that no threshold is chosen on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from clipmod_cli.errors import UsageError
from clipmod_cli.evaluate.intervals import Flags, Floats
from clipmod_cli.evaluate.measures.metrics import Calibration, calibration
from clipmod_cli.evaluate.samples import NSFW, Answers, LabelledSet
from clipmod_cli.judge.calibration import calibrated, log_odds
from clipmod_cli.judge.policy.tuning import PlattCalibration

ONE_IN: Final = 3
"""One in so many labelled inputs is for the calibration, the others are for the threshold."""

LEAST: Final = 20
"""Of both kinds, for the calibration: with fewer its two numbers are hardly known."""

_WITHOUT: Final = "Leave --calibrate out, or"


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationCheck:
    """How well scores and calibrated probabilities fit labels that took no part in the fit."""

    before: Calibration
    after: Calibration


def calibrate(labelled: LabelledSet, prevalence: float | None = None) -> tuple[PlattCalibration, LabelledSet]:
    """Return the calibration of the NSFW score on a part of the labels, and the other inputs.

    The targets are not 0 and 1 but Platt's, as if there were one more input of the other kind each. For
    another share of positives than that of the labels the log-odds are moved by the difference, which is
    right if scores of positives and of negatives come as they did.

    Args:
        labelled: of the inputs for the calibration those that could be judged count.
        prevalence: the share of positives in use, 0..1, ends excluded; None for that of the labels.

    Raises:
        UsageError: the labels are too few, or tell nothing that a calibration could be made of.
    """
    chosen, held = _split(labelled)
    judged = _judged(chosen)
    positives = int(judged.positive.sum())
    negatives = len(judged.positive) - positives
    _check_counts(labelled, positives, negatives)
    _check_overlap(judged.score, judged.positive)
    slope, intercept = _fit(log_odds(judged.score), judged.positive)
    if slope <= 0:
        raise UsageError(
            f"NSFW inputs do not score higher than the others (the slope of the calibration is {slope:.3g}): "
            f"the scores cannot be calibrated. {_WITHOUT} look at labels and policy: "
            "`clipmod eval` lists labels that may be wrong"
        )
    if prevalence is not None:
        intercept += float(log_odds(prevalence) - log_odds(positives / len(judged.positive)))
    found = PlattCalibration(
        slope=slope, intercept=intercept, positives=positives, negatives=negatives, prevalence=prevalence
    )
    return found, held


def check_on(labelled: LabelledSet, found: PlattCalibration) -> CalibrationCheck | None:
    """Return how a calibration fits labels that it was not fitted on; None without both kinds.

    Where it is for another prevalence, the labels are weighted to that.
    """
    judged = _judged(labelled)
    if not 0 < judged.positive.sum() < len(judged.positive):
        return None
    if found.prevalence is not None:
        judged = replace(judged, weight=_weights_for(judged.positive, found.prevalence))
    before = calibration(judged)
    after = calibration(replace(judged, score=calibrated(judged.score, found)))
    return CalibrationCheck(before=before, after=after) if before and after else None


def _split(labelled: LabelledSet) -> tuple[LabelledSet, LabelledSet]:
    """Return the inputs for the calibration, and those for the threshold; none is in both."""
    chosen = [labelled.part_of(pair.judged, ONE_IN, "calibration") == 0 for pair in labelled.pairs]
    pairs = list(zip(labelled.pairs, chosen, strict=True))
    fitted, held = ([pair for pair, one in pairs if one is wanted] for wanted in (True, False))
    return labelled.with_pairs(fitted), labelled.with_pairs(held)


def _judged(labelled: LabelledSet) -> Answers:
    answers = labelled.answers(NSFW)
    return answers.among(~answers.failed)


def _weights_for(positive: Flags, prevalence: float) -> Floats:
    """Return weights by which this share of the inputs is positive, `(n,)`."""
    share = float(positive.mean())
    return np.asarray(np.where(positive, prevalence / share, (1 - prevalence) / (1 - share)))


def _check_counts(labelled: LabelledSet, positives: int, negatives: int) -> None:
    if min(positives, negatives) >= LEAST:
        return
    raise UsageError(
        f"{positives} NSFW and {negatives} other inputs are too few for a calibration, which needs {LEAST} "
        f"of both that no threshold is chosen on. One in {ONE_IN} labelled inputs is for it, near-duplicates "
        f"together{labelled.largest_group}: some {ONE_IN * LEAST} of both are needed. {_WITHOUT} label more"
    )


def _check_overlap(scores: Floats, positive: Flags) -> None:
    if scores.min() == scores.max():
        raise UsageError(
            f"all inputs for the calibration score {scores[0]:g}, so nothing can be learnt. {_WITHOUT} look "
            "at policy and models"
        )
    if scores[positive].min() >= scores[~positive].max():
        raise UsageError(
            f"all {int(positive.sum())} NSFW inputs for the calibration score higher than all others, so "
            f"nothing tells how fast the probability rises between them. {_WITHOUT} label more inputs "
            "that are hard to tell"
        )


def _fit(odds: Floats, positive: Flags) -> tuple[float, float]:
    """Return slope and intercept of the logistic regression on Platt's targets."""
    from sklearn.linear_model import LogisticRegression

    count, positives = len(positive), int(positive.sum())
    target = np.where(positive, (positives + 1) / (positives + 2), 1 / (count - positives + 2))
    # each input counts as both kinds, by its target: that has the same likelihood
    model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000)
    model.fit(
        np.concatenate([odds, odds])[:, np.newaxis],
        np.repeat([1, 0], count),
        sample_weight=np.concatenate([target, 1 - target]),
    )
    return float(model.coef_[0, 0]), float(model.intercept_[0])
