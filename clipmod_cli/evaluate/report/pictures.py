"""The blurred grey thumbnails of a report's lists."""

from __future__ import annotations

from clipmod_cli.evaluate.measures.evaluation import Evaluation
from clipmod_cli.evaluate.measures.misjudged import ListedInput
from clipmod_cli.evaluate.report.page import Pictures
from clipmod_cli.evaluate.report.tables import LISTED
from clipmod_cli.output.reading.cards import RunCards
from clipmod_cli.review.sheet import Finding
from clipmod_cli.review.thumbnails import thumbnails_of


def thumbnails(one: Evaluation, cards: RunCards) -> Pictures:
    """Return the thumbnails of all listed inputs, by source and member.

    Args:
        one: what was measured.
        cards: of the records; they tell which folder paths are relative to.
    """
    lists = (one.misjudged.missed, one.misjudged.reviewed, one.misjudged.false_alarms, one.suspect_labels)
    names = {(listed.source, listed.member): listed for found in lists for listed in found[:LISTED]}
    shown = thumbnails_of(_finding(listed, cards) for listed in names.values())
    return {name: thumbnail for name, (_, thumbnail) in zip(names, shown, strict=True)}


def _finding(listed: ListedInput, cards: RunCards) -> Finding:
    peak = {"peak_unsafe_score": 1.0, "peak_time_s": listed.peak_s}
    return Finding(
        outcome="nsfw",
        source=cards.path_of(listed.source, listed.run_id),
        member=listed.member,
        kind=listed.kind,
        score=listed.score,
        threshold=None,
        category=listed.category,
        reasons=(),
        error=None if listed.error is None else {"code": listed.error, "message": ""},
        sha256=listed.sha256,
        bytes=None,
        mtime_ns=None,
        size=None,
        view=None,
        boxes=(),
        found=(),
        segments=() if listed.peak_s is None else (peak,),
        duration_s=None,
    )
