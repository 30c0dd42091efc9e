"""The report as one HTML file: no script, no remote address, every text escaped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from typing import Final

from clipmod_cli import __version__
from clipmod_cli.review.html import facts_list, head, now, text_of
from clipmod_cli.review.sheet import OUTCOMES, Finding, Outcome, Sheet
from clipmod_cli.review.thumbnails import DETAIL, Thumbnail
from clipmod_cli.review.words import (
    DECISIONS,
    HEADINGS,
    banks_of,
    hits_of,
    is_listable,
    name_of,
    reasons_of,
    visible,
)

WHOLE: Final = 0.98
"""A view of at least this share of the picture is not drawn."""

VIEWS: Final = (
    ("sheet", "Sheet", " checked"),
    ("ticked", "List: ticked", ""),
    ("others", "List: others", ""),
)


def page_of(sheet: Sheet, items: Iterable[tuple[Finding, Thumbnail]]) -> Iterator[str]:
    """Yield the pieces of the page.

    Args:
        sheet: counts and facts.
        items: its findings in their order, each with its thumbnail.
    """
    yield head(f"clipmod report: {', '.join(sheet.names)}", "clipmod_cli.review", "report.css")
    yield "<form autocomplete=off>"
    yield _summary(sheet)
    yield "<p class=hint>One path a line. Click the list to select it all, then copy.</p>"
    yield "<p class=nothing>Nothing is ticked yet.</p><main class=sheet>"
    yield from _sections(sheet, items)
    yield f"</main>{_bar()}{_foot()}</form></body></html>\n"


def _summary(sheet: Sheet) -> str:
    under = f"{', '.join(map(visible, sheet.names))} · {sheet.total:,} inputs · made {now()}"
    policies = [f"{name} ({digest}), NSFW from {threshold:g}" for name, digest, threshold in sheet.policies]
    runs = [
        f"{run['name']}: {run['new'] or 0:,} new, {run['gone'] or 0:,} gone"
        + (f", {run['moved']:,} moved" if run["moved"] else "")
        for run in sheet.last_runs
    ]
    facts = {"Policy": "; ".join(policies), "Models": ", ".join(sheet.models), "Last run": "; ".join(runs)}
    notes = "".join(f"<p class=note>{text_of(note)}</p>" for note in sheet.notes)
    counts = "".join(_count(sheet, outcome) for outcome in OUTCOMES)
    return (
        f"<header><h1>What clipmod found</h1><p class=under>{escape(under)}</p>{notes}"
        f"<div class=counts>{counts}</div>{facts_list(facts)}</header>"
    )


def _count(sheet: Sheet, outcome: Outcome) -> str:
    count = sheet.counts[outcome]
    if not count and outcome == "undecided":
        return ""
    share = f"{count / sheet.total:.1%}" if sheet.total else "0%"
    inner = f"<b>{count:,}</b><span>{DECISIONS[outcome]} · {share}</span>"
    if any(one.outcome == outcome for one in sheet.findings):
        return f'<a class={outcome} href="#{outcome}">{inner}</a>'
    return f"<div class={outcome}>{inner}</div>"


def _sections(sheet: Sheet, items: Iterable[tuple[Finding, Thumbnail]]) -> Iterator[str]:
    """Yield a section for each outcome that is listed."""
    current: Outcome | None = None
    for number, (finding, thumbnail) in enumerate(items, 1):
        if finding.outcome != current:
            if current is not None:
                yield f"</ul>{_rest(sheet, current)}</section>"
            current = finding.outcome
            yield (
                f"<section id={current}><h2>{HEADINGS[current]} <small>{sheet.counts[current]:,}</small></h2>"
                "<ul class=cards>"
            )
        yield _card(finding, thumbnail, number)
    if current is not None:
        yield f"</ul>{_rest(sheet, current)}</section>"


def _rest(sheet: Sheet, outcome: Outcome) -> str:
    left = sheet.left_out(outcome)
    if not left:
        return ""
    return f'<p class="rest under">{left:,} more are not shown (--limit). `clipmod list` prints them all.</p>'


def _card(finding: Finding, thumbnail: Thumbnail, number: int) -> str:
    listed = "" if is_listable(finding) else " unlisted"
    why = reasons_of(finding)
    more = "; ".join(filter(None, ("New" * finding.is_new, hits_of(finding), _found(finding))))
    return (
        f'<li class="card {finding.outcome}{listed}"><div class=picture>{_picture(finding, thumbnail)}</div>'
        f"<div class=text>{_decision(finding)}"
        f"<bdi class=path dir=ltr id=p{number}>{escape(name_of(finding))}</bdi>"
        + (f"<p class=why>{escape(why)}.</p>" if why else "")
        + (f"<p class=more>{escape(more)}</p>" if more else "")
        + f"</div>{_tick(finding, number)}</li>"
    )


def _decision(finding: Finding) -> str:
    if finding.error is not None:
        code = escape(str(finding.error["code"]).replace("_", " "))
        message = escape(visible(str(finding.error["message"])))
        return f"<p class=head><span class=decision>{code}</span></p><p class=more>{message}</p>"
    word = "NSFW: " if finding.outcome == "nsfw" else ""
    if banks := banks_of(finding):
        return f"<p class=head><span class=decision>{word}bank {escape(banks)}</span></p>"
    category = escape(visible((finding.category or "").replace("_", " ")))
    if finding.score is None:
        return f"<p class=head><span class=decision>{word}{category}</span></p>"
    return (
        f"<p class=head><span class=decision>{word}{category}</span>"
        f"<span class=score>{finding.score:.2f}</span></p>{_scale(finding.score, finding.threshold)}"
    )


def _scale(score: float, threshold: float | None) -> str:
    """Return a bar of the score with a mark at the threshold."""
    mark = "" if threshold is None else f"<rect class=mark x={threshold * 100:.2f} width=0.8 height=6 />"
    told = f"score {score:.2f}" + (f", NSFW from {threshold:g}" if threshold is not None else "")
    return (
        '<svg class="scale decision" viewBox="0 0 100 6" preserveAspectRatio=none role=img '
        f'aria-label="{told}">'
        f"<rect class=fill width={score * 100:.2f} height=6 />{mark}</svg>"
    )


def _found(finding: Finding) -> str:
    return ", ".join(f"{visible(label)} {score:.2f}" for label, score in finding.found)


def _picture(finding: Finding, thumbnail: Thumbnail) -> str:
    if not thumbnail.uri:
        return f"<span>No picture: {escape(visible(thumbnail.note))}</span>"
    return (
        f'<span class=frame><img src="{thumbnail.uri}" alt="blurred thumbnail" width={thumbnail.width} '
        f"height={thumbnail.height} loading=lazy>{_marks(finding)}</span>"
    )


def _marks(finding: Finding) -> str:
    """Return rectangles over the picture: the view that decided, if it is a part, and what was detected."""
    if finding.size is None:
        return ""
    width, height = finding.size
    marks = [("found", box) for box in finding.boxes]
    if finding.view and finding.view[2] * finding.view[3] < WHOLE * width * height:
        marks.append(("view", finding.view))
    rects = "".join(
        f'<rect class="{kind}" x={box[0]} y={box[1]} width={max(box[2], 0)} height={max(box[3], 0)} />'
        for one, box in marks
        for kind in ("under", one)  # a dark line below the light one: one of them is seen on any picture
    )
    return (
        f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio=none aria-hidden=true>{rects}</svg>'
        if rects
        else ""
    )


def _tick(finding: Finding, number: int) -> str:
    if is_listable(finding):
        return (
            f'<label class=tick><input type=checkbox aria-labelledby="t{number} p{number}">'
            f"<span id=t{number}>Tick</span></label>"
        )
    why = (
        "In an archive, without a path of its own"
        if finding.member is not None
        else "This name cannot be copied as text; `clipmod list -0` has it"
    )
    return f'<p class="tick none">{why}</p>'


def _bar() -> str:
    views = "".join(
        f"<label><input type=radio name=view value={value}{checked}>{text}</label>"
        for value, text, checked in VIEWS
    )
    return (
        f'<div class=bar><strong>ticked</strong><span class=views role=radiogroup aria-label="Show">{views}'
        "</span><button type=reset>Untick all</button></div>"
    )


def _foot() -> str:
    return (
        f"<footer><p>Made by clipmod {__version__}. Pictures were reduced to grey and to {DETAIL} pixels a "
        "side before they were put into this file, which has no script and needs no network. Dashed: the "
        "part of a picture that decided. Solid: what a detector found.</p></footer>"
    )
