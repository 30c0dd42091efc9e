"""Texts of a report: reasons in plain words, names that cannot deceive, times. HTML is escaped elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from clipmod_cli.review.sheet import Finding, Outcome

DECISIONS: Final[dict[Outcome, str]] = {
    "nsfw": "NSFW",
    "review": "to review",
    "error": "errors",
    "undecided": "no decision",
    "safe": "Safe",
}
HEADINGS: Final[dict[Outcome, str]] = {
    "nsfw": "NSFW",
    "review": "To review",
    "error": "Not judged",
    "undecided": "Without a decision",
    "safe": "Safe",
}
REASONS: Final[Mapping[str, str]] = {
    "truncated": "the file is cut short",
    "coverage": "not all of the picture was looked at",
    "unsampled": "parts of it were not looked at",
    "other_content": "the file holds something that was not read",
    "colour": "its colours cannot be read for certain",
    "unmapped_labels": "a model saw what the policy does not name",
    "unseen_category": "a model cannot see a category of the policy",
    "low_agreement": "the models disagree",
    "review_margin": "the score is near the threshold",
    "short_hit": "the hit is short",
    "fallback_model": "one model judged alone",
    "early_exit": "not all models were asked, and early exit was switched off soon after",
}


def reasons_of(finding: Finding) -> str:
    """Return why it needs review as one sentence without its full stop; empty if it does not."""
    text = "; ".join(REASONS.get(reason) or reason.replace("_", " ") for reason in finding.reasons)
    return text[:1].upper() + text[1:]


def banks_of(finding: Finding) -> str:
    """Return which banks decided, with what their entries say; empty if models did."""
    return ", ".join(
        f"{visible(match['bank'])}{f' ({said})' if (said := _said(match)) else ''}"
        for match in finding.matches
    )


def _said(match: Mapping[str, str | None]) -> str:
    return ": ".join(visible(text) for text in (match["type"], match["note"]) if text)


def visible(text: str) -> str:
    """Return text with control characters, marks that turn its direction, and lone surrogates escaped."""
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    if 0xDC80 <= ord(character) <= 0xDCFF:  # a byte that is not UTF-8, as `os.fsdecode` gives it
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape", "surrogatepass").decode()


def name_of(finding: Finding) -> str:
    """Return the visible path or URL, and the name in the archive."""
    member = f" > {visible(finding.member)}" if finding.member is not None else ""
    return visible(finding.source) + member


def is_listable(finding: Finding) -> bool:
    """Return whether its path can be copied as a line of text, and is one."""
    return finding.member is None and visible(finding.source) == finding.source


def clock(seconds: float) -> str:
    """Return a time in a film as m:ss or h:mm:ss."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def hits_of(finding: Finding, most: int = 3) -> str:
    """Return where in a film the hits are, and the worst of them; empty if there are none."""
    if finding.peak_s is None:
        return ""
    spans = [_span(one["start_s"], one["end_s"]) for one in finding.segments]
    more = f" and {len(spans) - most} more" if len(spans) > most else ""
    length = f" of {clock(finding.duration_s)}" if finding.duration_s else ""
    worst = f", worst at {clock(finding.peak_s)}" if len(spans) > 1 or "to" in spans[0] else ""
    return f"{'Hit' if len(spans) == 1 else 'Hits'} {', '.join(spans[:most])}{more}{length}{worst}"


def _span(start_s: float, end_s: float) -> str:
    start, end = clock(start_s), clock(end_s)
    return f"at {start}" if start == end else f"{start} to {end}"
