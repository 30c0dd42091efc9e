"""One short readable line for a record, for a person at a terminal."""

from __future__ import annotations

from clipmod_cli.cli.terminal.stdout import plain
from clipmod_cli.records import Record

STYLES = {"NSFW": "bold red", "review": "yellow", "error": "magenta", "Safe": "green", "-": "cyan"}
WIDTHS = (7, 16)


def word_of(record: Record) -> str:
    """Return the one word for a record: NSFW, review, error, Safe, or - where nothing is decided."""
    if record.status == "error":
        return "error"
    if record.final_decision == "NSFW":
        return "NSFW"
    return "review" if record.needs_review else record.final_decision or "-"


def line_of(record: Record, *, colour: bool) -> str:
    """Return `decision  category  score  model: what it saw  source`, without a newline."""
    word = word_of(record)
    shown = f"{word:<{WIDTHS[0]}}"
    if colour:
        shown = _coloured(shown, STYLES[word])
    if record.error is not None:
        detail = f"{record.error.code:<{WIDTHS[1]}}  {plain(record.error.message)}"
        return f"{shown} {detail}  {_name(record)}"
    score = record.unsafe_score if record.final_decision is not None else record.confidence
    category = f"{plain(record.ensemble_category or ''):<{WIDTHS[1]}}"
    return f"{shown} {category}  {score or 0:.2f}  {_by_model(record)}  {_name(record)}{_where(record)}"


def _name(record: Record) -> str:
    member = f" > {plain(record.member)}" if record.member is not None else ""
    return plain(record.source) + member


def _where(record: Record) -> str:
    hits = record.segments or []
    return f"  at {hits[0].peak_time_s:.1f} s" if hits else ""


def _by_model(record: Record) -> str:
    """Return what each model saw: its best detections, or its own category and score."""
    parts = []
    for name, seen in (record.per_model_predictions or {}).items():
        if seen.detections:
            said = ", ".join(f"{plain(d.label)} {d.score:.2f}" for d in seen.detections[:3])
        elif seen.detections is not None:
            said = "nothing"
        else:
            said = f"{plain(seen.predicted_category)} {seen.confidence:.2f}"
        parts.append(f"{plain(name)}: {said}")
    return "; ".join(parts)


def _coloured(text: str, style: str) -> str:
    codes = {"bold": "1", "red": "31", "yellow": "33", "magenta": "35", "green": "32", "cyan": "36"}
    return f"\x1b[{';'.join(codes[word] for word in style.split())}m{text}\x1b[0m"
