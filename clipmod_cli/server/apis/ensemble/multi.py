"""`/predict/multi`: a few pictures at once. One that is none refuses the request before a model runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from fastapi import APIRouter, HTTPException, Request

from clipmod_cli.server.apis.ensemble.answers import prediction_fields, sentence_of, shown, summary_of
from clipmod_cli.server.apis.ensemble.judging import RequestKeeper, check_decoding, judge_uploads
from clipmod_cli.server.apis.ensemble.requests import (
    FORM_PROBLEM,
    PROBLEMS,
    Keeps,
    form_of,
    late,
    read_all,
    refusal_of,
    wanted_of,
    while_there,
)
from clipmod_cli.server.apis.ensemble.shapes import Multi, Prediction
from clipmod_cli.server.batching.fair_queue import Caller
from clipmod_cli.server.forms.spooled import SpooledPieces
from clipmod_cli.server.forms.streamed import Upload
from clipmod_cli.server.problems import problem, status_of
from clipmod_cli.server.state import Configured, Served
from clipmod_cli.settings import Settings
from clipmod_cli.types import Failure

router = APIRouter()

FIELD = "files"


@router.post(
    "/predict/multi",
    summary="Judge a few pictures",
    responses={**PROBLEMS, **FORM_PROBLEM},
    openapi_extra=form_of(FIELD, several=True),
)
async def predict_multi(request: Request, service: Served, settings: Configured, keeper: Keeps) -> Multi:
    """Judge the pictures in the form fields `files`.

    All of them are checked before the first is judged; one that is no picture, or too large, refuses
    the request. What a model fails on afterwards is in `summary.errors`.
    """
    limits = service.limits
    with SpooledPieces() as pile:
        wanted = wanted_of(service, settings, FIELD, limits.multi_files, limits.multi_bytes)
        uploads = await read_all(request, pile, wanted)
        _refuse([upload for upload in uploads if upload.fault is not None])
        with service.load.one():
            caller = service.caller_of()
            work = partial(_judge, keeper, settings, caller, uploads, pile)
            return await while_there(request, caller, work)


def _refuse(uploads: Sequence[Upload]) -> None:
    """Raise the documented refusal if any of these is at fault."""
    if uploads:
        complaints = [_complaint(u.name, too_large=_is_too_large(u)) for u in uploads]
        raise problem(400, f"File validation errors: {', '.join(complaints)}")


def _is_too_large(upload: Upload) -> bool:
    return upload.fault is not None and status_of(upload.fault[0]) == 413


def _complaint(name: str, *, too_large: bool) -> str:
    return f"{'File too large' if too_large else 'Invalid file'}: {shown(name)}"


def _judge(
    keeper: RequestKeeper, settings: Settings, caller: Caller, uploads: Sequence[Upload], pile: SpooledPieces
) -> Multi:
    """Return the answer; blocks.

    Raises:
        HTTPException: a file is no picture, the time was up, or nothing could be judged.
    """
    if failures := check_decoding(keeper.service, caller, uploads, pile):
        raise _refusal(failures, settings)
    predictions: list[Prediction] = []
    failed: list[Failure] = []
    for judged in _in_order(keeper, caller, uploads, pile, failed):
        predictions.append(judged)  # noqa: PERF402 - failures are gathered beside
    if len(predictions) + len(failed) < len(uploads):
        raise late()
    if failed and not predictions:
        raise refusal_of(failed[0], settings)
    errors = [f"Error processing {shown(one.item.source)}: {sentence_of(one)}" for one in failed]
    return Multi(predictions=predictions, summary=summary_of(predictions, errors))


def _in_order(
    keeper: RequestKeeper,
    caller: Caller,
    uploads: Sequence[Upload],
    pile: SpooledPieces,
    failed: list[Failure],
) -> Iterator[Prediction]:
    for _, judged in judge_uploads(keeper.service, caller, uploads, pile):
        if isinstance(judged.result, Failure):
            keeper.info.error = judged.result.code
            failed.append(judged.result)
        else:
            yield Prediction(**prediction_fields(judged, keeper.place(judged)))


def _refusal(failures: Sequence[Failure], settings: Settings) -> HTTPException:
    """Return why a request is refused whose files are not all to be decoded."""
    ours = next((one for one in failures if status_of(one.code) >= 500), None)
    if ours is not None:
        return refusal_of(ours, settings)
    complaints = [_complaint(one.item.source, too_large=status_of(one.code) == 413) for one in failures]
    return problem(400, f"File validation errors: {', '.join(complaints)}")
