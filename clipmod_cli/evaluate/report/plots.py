"""Plots as SVG inside the page: its style sheet colours them, and each is described in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from clipmod_cli.evaluate.intervals import Estimate
from clipmod_cli.evaluate.measures.curves import Curves
from clipmod_cli.evaluate.measures.metrics import Calibration

SIDE: Final = 200
"""Of the square that is plotted in, in units of the view box."""

LEFT, TOP, RIGHT, BOTTOM = 34, 8, 10, 34
TICKS: Final = (0.0, 0.25, 0.5, 0.75, 1.0)


def roc(curves: Curves, recall: Estimate, false_alarms: Estimate) -> str:
    """Return the ROC curve, with the point at the threshold in force."""
    marks = [_diagonal(), _line(curves.roc), _point(false_alarms.value, recall.value)]
    told = "Recall over false-alarm rate. The dot is the threshold in force; the dashed line is chance."
    return _plot("ROC", "false-alarm rate", "recall", marks, told)


def precision_recall(curves: Curves, recall: Estimate, precision: Estimate) -> str:
    """Return precision over recall, with the point at the threshold in force."""
    marks = [_line(curves.precision_recall), _point(recall.value, precision.value)]
    told = "Precision over recall, at the labels' own mix. The dot is the threshold in force."
    return _plot("Precision and recall", "recall", "precision", marks, told)


def reliability(calibration: Calibration) -> str:
    """Return the share of positives over the score, with intervals."""
    bins = calibration.bins
    marks = [
        _diagonal(),
        *(_whisker(one.mean_score, one.positives) for one in bins),
        _line((one.mean_score, one.positives.value or 0.0) for one in bins),
        *(_point(one.mean_score, one.positives.value) for one in bins),
    ]
    told = (
        "Share of positives over the mean score of each tenth. On the dashed line scores are probabilities."
    )
    return _plot("Reliability", "score", "positives", marks, told)


def histogram(curves: Curves, threshold: float | None, positive: str) -> str:
    """Return the scores of both labels, as shares of each, with the threshold."""
    most = max((*curves.positives, *curves.negatives)) or 1.0
    marks = [_bars(curves.negatives, most, "negatives"), _bars(curves.positives, most, "positives")]
    if threshold is not None:
        x = LEFT + threshold * SIDE
        marks.append(f"<line class=mark x1={x:.1f} y1={TOP} x2={x:.1f} y2={TOP + SIDE} />")
    told = f"Red: scores of {positive}; green: of the others; each as shares of its own."
    if threshold is not None:
        told += " The line is the threshold in force."
    return _plot("Scores", "score", f"share (to {most:.0%})", marks, told, y_ticks=())


def bar(estimate: Estimate) -> str:
    """Return a share as a bar from 0 to 1 with its interval; empty without one."""
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return ""
    low, value, high = (100 * one for one in (estimate.low, estimate.value, estimate.high))
    return (
        '<svg class=bar viewBox="0 0 100 10" preserveAspectRatio=none aria-hidden=true>'
        f"<rect class=span x={low:.2f} width={max(high - low, 0.6):.2f} y=2 height=6 />"
        f"<rect class=at x={min(value, 99.2):.2f} width=0.8 height=10 /></svg>"
    )


def _plot(
    title: str,
    across: str,
    up: str,
    marks: Iterable[str],
    told: str,
    *,
    y_ticks: Sequence[float] = TICKS,
) -> str:
    width, height = LEFT + SIDE + RIGHT, TOP + SIDE + BOTTOM
    axes = [
        f"<text class=tick x={LEFT + one * SIDE:.0f} y={TOP + SIDE + 13} text-anchor=middle>{one:g}</text>"
        for one in TICKS
    ]
    for one in y_ticks:
        y = TOP + (1 - one) * SIDE
        axes.append(f"<line class=grid x1={LEFT} x2={LEFT + SIDE} y1={y:.1f} y2={y:.1f} />")
        axes.append(f"<text class=tick x={LEFT - 5} y={y + 3.5:.1f} text-anchor=end>{one:g}</text>")
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>"
        f'<svg class=plot viewBox="0 0 {width} {height}" role=img aria-label="{escape(told)}">'
        f"{''.join(axes)}<rect class=frame x={LEFT} y={TOP} width={SIDE} height={SIDE} />{''.join(marks)}"
        f"<text class=axis x={LEFT + SIDE / 2:.0f} y={height - 5} text-anchor=middle>{escape(across)}</text>"
        f'<text class=axis transform="translate(9 {TOP + SIDE / 2:.0f}) rotate(-90)" text-anchor=middle>'
        f"{escape(up)}</text></svg><p class=told>{escape(told)}</p></figure>"
    )


def _xy(x: float, y: float) -> str:
    return f"{LEFT + x * SIDE:.1f} {TOP + (1 - y) * SIDE:.1f}"


def _line(points: Iterable[tuple[float, float]]) -> str:
    return f'<path class=curve d="M{" L".join(_xy(x, y) for x, y in points)}" />'


def _diagonal() -> str:
    return f'<path class=chance d="M{_xy(0, 0)} L{_xy(1, 1)}" />'


def _point(x: float | None, y: float | None) -> str:
    if x is None or y is None:
        return ""
    return f"<circle class=dot cx={LEFT + x * SIDE:.1f} cy={TOP + (1 - y) * SIDE:.1f} r=3.5 />"


def _whisker(x: float, share: Estimate) -> str:
    if share.low is None or share.high is None:
        return ""
    return f'<path class=whisker d="M{_xy(x, share.low)} L{_xy(x, share.high)}" />'


def _bars(shares: Sequence[float], most: float, name: str) -> str:
    width = SIDE / len(shares)
    return "".join(
        f"<rect class={name} x={LEFT + number * width:.1f} width={width:.1f} "
        f"y={TOP + (1 - share / most) * SIDE:.1f} height={share / most * SIDE:.1f} />"
        for number, share in enumerate(shares)
        if share
    )
