"""Curves for plots: ROC, precision over recall, and the scores of both labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from clipmod_cli.evaluate.samples import Answers

MOST_POINTS: Final = 200
"""Of a curve; a plot of 300 px shows no more."""

HISTOGRAM_BINS: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """What the plots show; failed inputs are left out.

    Attributes:
        roc: false-alarm rate and recall, as the threshold falls.
        precision_recall: recall and precision, likewise.
        positives: share of the positives by score, in bins of equal width from 0 to 1.
        negatives: likewise.
    """

    roc: list[tuple[float, float]]
    precision_recall: list[tuple[float, float]]
    positives: list[float]
    negatives: list[float]


def curves(answers: Answers) -> Curves | None:
    """Return the curves; None without both kinds of labels."""
    from sklearn.metrics import precision_recall_curve, roc_curve

    judged = answers.among(~answers.failed)
    positive, score, weight = judged.positive, judged.score, judged.weight
    if not 0 < positive.sum() < len(positive):
        return None
    alarms, caught, _ = roc_curve(positive, score, sample_weight=weight)
    precision, recall, _ = precision_recall_curve(positive, score, sample_weight=weight)
    histograms = [
        np.histogram(
            score[chosen], HISTOGRAM_BINS, (0, 1), weights=None if weight is None else weight[chosen]
        )[0]
        for chosen in (positive, ~positive)
    ]
    return Curves(
        roc=_points(alarms, caught),
        precision_recall=_points(recall[::-1], precision[::-1]),
        positives=(histograms[0] / histograms[0].sum()).tolist(),
        negatives=(histograms[1] / histograms[1].sum()).tolist(),
    )


def _points(x: np.ndarray, y: np.ndarray) -> list[tuple[float, float]]:
    """Return the points, of many only some, the ends among them."""
    chosen = np.unique(np.linspace(0, len(x) - 1, min(len(x), MOST_POINTS)).round().astype(int))
    return list(zip(x[chosen].tolist(), y[chosen].tolist(), strict=True))
