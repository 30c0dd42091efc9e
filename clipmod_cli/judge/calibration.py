"""Calibrated probabilities: what a NSFW score means on labelled inputs. They decide nothing.

Platt's calibration (Platt 1999) is a logistic regression on the log-odds of the score. Its slope is over 0:
a higher score never has a lower probability. `clipmod tune --calibrate platt` finds it. Arithmetic only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clipmod_cli.judge.policy.tuning import PlattCalibration
from clipmod_cli.judge.policy.values import DIGITS, Policy
from clipmod_cli.types import FrameScore

Floats: TypeAlias = NDArray[np.float64]

HALF_STEP: Final = 0.5 * 10.0**-DIGITS
"""Scores of 0 and 1 are rounded ones: they stand for this much more and less."""


def log_odds(scores: ArrayLike) -> Floats:
    """Return the log-odds of scores 0..1, finite, in the scores' shape."""
    inside = np.clip(np.asarray(scores, dtype=np.float64), HALF_STEP, 1 - HALF_STEP)
    return np.asarray(np.log(inside) - np.log1p(-inside))


def calibrated(scores: ArrayLike, calibration: PlattCalibration) -> Floats:
    """Return the probability, 0..1, that inputs of these scores 0..1 are NSFW, in the scores' shape."""
    odds = calibration.slope * log_odds(scores) + calibration.intercept
    return np.asarray(
        (0.5 + 0.5 * np.tanh(odds / 2)).round(DIGITS)
    )  # the logistic function, without overflow


def nsfw_probability(deciding: FrameScore, views: Sequence[FrameScore], policy: Policy) -> float | None:
    """Return the calibrated probability of the deciding score; None if not all models gave all scores.

    Args:
        deciding: one of the views.
        views: of the input, of all its frames; a model of another kind, or too few of them, gave scores of
            another meaning.
        policy: None is returned too where it has no calibration.
    """
    calibration = policy.tuned.calibration if policy.tuned else None
    if calibration is None or any(view.stand_in or view.skipped for view in views):
        return None
    return float(calibrated(deciding.unsafe_score, calibration))
