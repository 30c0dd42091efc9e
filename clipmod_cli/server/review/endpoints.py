"""What the page of `clipmod review` asks for. A sharp picture is sent for what is shown, at each hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Path, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from clipmod_cli.review.queue.session import MUST_TYPE, ReviewSession
from clipmod_cli.review.queue.walk import ShownContent
from clipmod_cli.review.sheet import Finding
from clipmod_cli.review.words import hits_of, name_of, reasons_of, visible
from clipmod_cli.server.review.context import ReviewCategory, ReviewContext
from clipmod_cli.server.state import from_state, in_thread

AHEAD = 2
"""Contents that are decoded before they are shown, and blurred like all others."""

GRID = 30
BODY_BYTES = 64_000

router = APIRouter(prefix="/api")

Review = Annotated[ReviewContext, Depends(from_state("review"))]
Number = Annotated[int, Path(ge=0)]
PersonLabel = Literal["unsafe", "safe", "unsure"]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


Numbers = Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=1000)]


class DecisionBody(_Body):
    """A decision on what is shown.

    It is on those `near` copies too of which a small picture was on the page; `looked` at are those that were
    shown large.
    """

    id: int = Field(ge=0)
    near: Numbers = Field(default_factory=list)
    looked: Numbers = Field(default_factory=list)
    label: PersonLabel
    category: str | None = None
    seconds: float = Field(ge=0, allow_inf_nan=False)


class GridBody(_Body):
    """The same decision on several contents of the grid; `typed` is their number, as a person wrote it."""

    ids: Numbers
    label: PersonLabel
    category: str | None = None
    seconds: float = Field(ge=0, allow_inf_nan=False)
    typed: str = ""


class PictureBody(_Body):
    """A sharp frame that a person asks for by holding a key or a finger down."""

    id: int = Field(ge=0)
    frame: int = Field(ge=0)
    colour: bool


class WithheldBody(_Body):
    """A content that may show a minor; the person has confirmed it."""

    id: int = Field(ge=0)
    confirmed: Literal[True]
    seconds: float = Field(default=0.0, ge=0, allow_inf_nan=False)


@router.get("/state")
async def state(request: Request, review: Review) -> dict[str, Any]:
    """Return what is shown, how far the review is, and what keys there are."""
    return await in_thread(request, lambda: _state(review))


@router.post("/decide", max_body_size=BODY_BYTES)
async def decide(request: Request, review: Review, body: DecisionBody) -> dict[str, Any]:
    """Write a decision and return what is shown next."""
    _check_category(review, body.category, body.label)

    def work() -> dict[str, Any]:
        review.session.decide(
            body.id,
            body.label,
            category=body.category,
            seconds=body.seconds,
            near=body.near,
            looked=body.looked,
        )
        return _state(review)

    return await in_thread(request, work)


@router.post("/undo", max_body_size=BODY_BYTES)
async def undo(request: Request, review: Review) -> dict[str, Any]:
    """Take the last decision back and return what is shown then."""

    def work() -> dict[str, Any]:
        undone = review.session.undo()
        return {**_state(review), "undone": undone}

    return await in_thread(request, work)


@router.get("/grid")
async def grid(request: Request, review: Review) -> dict[str, Any]:
    """Return the next contents of the queue."""

    def work() -> dict[str, Any]:
        numbers = review.session.show_grid(GRID)
        review.pictures.prepare(numbers)
        return {"items": [_item(review, ShownContent(number, "queue", 1.0)) for number in numbers]}

    return await in_thread(request, work)


@router.post("/grid", max_body_size=BODY_BYTES)
async def decide_together(request: Request, review: Review, body: GridBody) -> dict[str, Any]:
    """Write the same decision on some of them."""
    _check_category(review, body.category, body.label)

    def work() -> dict[str, Any]:
        review.session.decide_together(
            body.ids, body.label, category=body.category, seconds=body.seconds, typed=body.typed
        )
        return _state(review)

    return await in_thread(request, work)


@router.get("/picture/{number}")
async def picture(request: Request, review: Review, number: Number) -> dict[str, Any]:
    """Return how many frames there are, and their times; waits until they are decoded."""
    _check_shown(review.session, number)
    found = await in_thread(request, lambda: review.pictures.get(number))
    return {"frames": [round(one.time_s, 2) for one in found.frames], "note": found.note}


@router.get("/blurred/{number}/{frame}")
async def blurred(
    request: Request, review: Review, number: Number, frame: Number, *, colour: bool = False
) -> Response:
    """Return a blurred frame, grey unless colour is asked for."""
    _check_shown(review.session, number)
    answer = await _jpeg(request, lambda: review.pictures.blurred(number, frame, colour=colour))
    return Response(status_code=204) if answer is None else answer


@router.post("/sharp", max_body_size=BODY_BYTES)
async def sharp(request: Request, review: Review, body: PictureBody) -> Response:
    """Return a frame without blur; a request for each time that a person holds the key."""
    _check_shown(review.session, body.id)
    answer = await _jpeg(request, lambda: review.pictures.sharp(body.id, body.frame, colour=body.colour))
    if answer is None:
        raise HTTPException(404, "there is no such frame")
    return answer


@router.post("/minor", max_body_size=BODY_BYTES)
async def withhold(request: Request, review: Review, body: WithheldBody) -> dict[str, Any]:
    """Withhold what may show a minor, with its near copies, and return what is shown next."""

    def work() -> dict[str, Any]:
        withheld = review.session.withhold(body.id, seconds=body.seconds)
        for number in withheld:
            review.pictures.forget(number)
        return {**_state(review), "withheld": withheld}

    return await in_thread(request, work)


@router.post("/minor/undo", max_body_size=BODY_BYTES)
async def undo_withheld(request: Request, review: Review, body: WithheldBody) -> dict[str, Any]:
    """Take that back, as a mistake."""

    def work() -> dict[str, Any]:
        review.session.undo_withheld(body.id)
        return _state(review)

    return await in_thread(request, work)


@router.post("/finish", max_body_size=BODY_BYTES)
async def finish(review: Review) -> dict[str, Any]:
    """End the command."""
    review.finish()
    return {"finished": True}


def _state(review: ReviewContext) -> dict[str, Any]:
    session: ReviewSession = review.session
    shown, counts = session.current, session.counts
    near = session.near_copies
    review.pictures.prepare([*([shown.number] if shown else []), *near, *session.upcoming(AHEAD)])
    return {
        "item": None if shown is None else _item(review, shown),
        "near": [_item(review, ShownContent(number, "queue", 1.0)) for number in near],
        "done": counts.done,
        "left": counts.left,
        "missing": counts.missing,
        "minutes": round(counts.seconds / 60, 1),
        "categories": [
            {"name": one.name, "text": visible(one.name.replace("_", " ")), "label": one.label}
            for one in review.categories
        ],
        "must_type": MUST_TYPE,
    }


def _item(review: ReviewContext, shown: ShownContent) -> dict[str, Any]:
    """Return what the page tells of a content; of one that was drawn not what the machine said."""
    table = review.session.table
    finding: Finding = table.finding(table.record(shown.number))
    about: dict[str, Any] = {
        "id": shown.number,
        "name": name_of(finding),
        "kind": finding.kind,
        "copies": table.copies(shown.number),
        "near_copies": review.session.count_near(shown.number),
        "drawn": shown.why == "audit",
    }
    if shown.why == "audit":
        return about
    return about | {
        "outcome": finding.outcome,
        "category": visible((finding.category or "").replace("_", " ")),
        "score": finding.score,
        "threshold": finding.threshold,
        "reasons": reasons_of(finding),
        "hits": hits_of(finding),
        "error": visible(str(finding.error["message"])) if finding.error else "",
    }


def _check_shown(session: ReviewSession, number: int) -> None:
    """Refuse pictures of what is not on the page: nothing is looked through from outside of the queue."""
    if not session.is_shown(number):
        raise HTTPException(409, "this is not what is shown now")


def _check_category(review: ReviewContext, category: str | None, label: PersonLabel) -> None:
    if category is not None and ReviewCategory(category, label) not in review.categories:  # type: ignore[arg-type]
        raise HTTPException(422, f"the policy has no category of this name that is {label}")


async def _jpeg(request: Request, make: Callable[[], bytes]) -> Response | None:
    """Return a picture; None if there is no such frame."""
    try:
        content = await in_thread(request, make)
    except IndexError:
        return None
    return Response(content, media_type="image/jpeg", headers={"Cache-Control": "no-store"})
