"""One short line of text for a record, for a terminal."""

from __future__ import annotations

from clipmod_cli.cli.terminal.stdout import plain
from clipmod_cli.records import Record

COLOURS = {"NSFW": "1;31", "review": "33", "error": "35", "Safe": "32", "-": "36"}
WIDTHS = (7, 16)


def decision_of(record: Record) -> str:
    """Return NSFW, review, error, Safe, or - if there is no decision."""
    if record.status == "error":
        return "error"
    if record.final_decision == "NSFW":
        return "NSFW"
    return "review" if record.needs_review else record.final_decision or "-"


def line_of(record: Record, *, colour: bool) -> str:
    """Return `decision  reasons: category  score  model: its result  source`, without a newline."""
    word = decision_of(record)
    shown = f"{word:<{WIDTHS[0]}}"
    if colour:
        shown = f"\x1b[{COLOURS[word]}m{shown}\x1b[0m"
    if record.error is not None:
        detail = f"{record.error.code:<{WIDTHS[1]}}  {plain(record.error.message)}"
        return f"{shown} {detail}  {_name(record)}"
    reasons = f"{', '.join(record.review_reasons)}: " if record.review_reasons else ""
    score = record.unsafe_score if record.final_decision is not None else record.confidence
    category = f"{plain(record.ensemble_category or ''):<{WIDTHS[1]}}"
    found = f"{category}  {score or 0:.2f}  {_by_model(record)}"
    return f"{shown} {reasons}{found}  {_name(record)}{_position(record)}"


def _name(record: Record) -> str:
    member = f" > {plain(record.member)}" if record.member is not None else ""
    return plain(record.source) + member


def _position(record: Record) -> str:
    hits = record.segments or []
    return f"  at {hits[0].peak_time_s:.1f} s" if hits else ""


def _by_model(record: Record) -> str:
    """Return each model's best detections, or its category and score."""
    parts = []
    for name, prediction in (record.per_model_predictions or {}).items():
        if prediction.detections:
            found = ", ".join(f"{plain(d.label)} {d.score:.2f}" for d in prediction.detections[:3])
        elif prediction.detections is not None:
            found = "nothing"
        else:
            found = f"{plain(prediction.predicted_category)} {prediction.confidence:.2f}"
        parts.append(f"{plain(name)}: {found}")
    return "; ".join(parts)
