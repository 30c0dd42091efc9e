"""`/predict/single` and `/predict/multi`: one picture in full detail, or a few, from a form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from fastapi import APIRouter, Request

from clipmod_cli.server.apis.ensemble.answers import (
    HostedLocation,
    RequestTotals,
    full_result,
    json_name,
    message_of,
    picture_fields,
    prediction_fields,
    whole,
)
from clipmod_cli.server.apis.ensemble.judging import check_decoding, judge_uploads
from clipmod_cli.server.apis.ensemble.requests import (
    FORM_PROBLEM,
    PROBLEMS,
    Keeps,
    RequestKeeper,
    form_of,
    late,
    read_all,
    refusal_of,
    while_connected,
)
from clipmod_cli.server.apis.ensemble.shapes import Multi, Prediction, Single
from clipmod_cli.server.configuration import MB
from clipmod_cli.server.device_thread import Caller
from clipmod_cli.server.forms.spooled import SpooledPieces
from clipmod_cli.server.forms.streamed import FormLimits, Upload
from clipmod_cli.server.problems import problem, status_of
from clipmod_cli.server.service import JudgedItem
from clipmod_cli.types import Failure

T = TypeVar("T")
Judge = Callable[[RequestKeeper, Caller, list[Upload], SpooledPieces], T]
"""Blocking code from uploads to an answer; raises HTTPException to refuse the request."""

router = APIRouter()


@router.post(
    "/predict/single",
    summary="Judge one picture",
    responses={**PROBLEMS, **FORM_PROBLEM},
    openapi_extra=form_of("file", several=False),
)
async def predict_single(request: Request, keeper: Keeps) -> Single:
    """Judge the picture in the form field `file`, with the details of each model."""
    limits = keeper.form_limits("file", 1, keeper.service.limits.image_bytes)
    return await _judge_form(request, keeper, limits, _judge_single)


@router.post(
    "/predict/multi",
    summary="Judge a few pictures",
    responses={**PROBLEMS, **FORM_PROBLEM},
    openapi_extra=form_of("files", several=True),
)
async def predict_multi(request: Request, keeper: Keeps) -> Multi:
    """Judge the pictures in the form fields `files`.

    All of them are checked before the first is judged; one that is no picture, or too large, refuses
    the request. So does one of which not all was looked at. What a model fails on is in `summary.errors`.
    """
    service = keeper.service.limits
    limits = keeper.form_limits("files", service.multi_files, service.multi_bytes)
    return await _judge_form(request, keeper, limits, _judge_multi)


async def _judge_form(request: Request, keeper: RequestKeeper, limits: FormLimits, judge: Judge[T]) -> T:
    with SpooledPieces() as spool:
        uploads = await read_all(request, spool, limits)
        async with keeper.service.load.turn():
            caller = keeper.service.caller_of()
            return await while_connected(request, caller, partial(judge, keeper, caller, uploads, spool))


def _judge_single(
    keeper: RequestKeeper, caller: Caller, uploads: list[Upload], spool: SpooledPieces
) -> Single:
    found = next(judge_uploads(keeper.service, caller, uploads, spool, keeper.panels), None)
    if found is None:
        raise late()
    upload, judged = found
    if isinstance(judged.result, Failure):
        keeper.info.error = judged.result.code
        raise refusal_of(judged.result, keeper.settings)
    if judged.refused:
        raise problem(400, f"Error processing image: {keeper.refuse(judged)}")
    location = keeper.host(judged, partial(spool.get, upload.pieces))
    return _write_prediction(keeper, _answer(keeper, judged, location))


def _answer(keeper: RequestKeeper, judged: JudgedItem, location: HostedLocation) -> Single:
    record = judged.record
    return Single(
        **picture_fields(judged, location),
        results={judged.panel.key: full_result(record)},
        prediction_file=None,
        image_expires_hours=None if location.image_id is None else whole(keeper.settings.image_expiry_hours),
        wall_time_ms=keeper.info.wall_ms,
        image_size_mb=round((record.bytes or 0) / MB, 6),
    )


def _write_prediction(keeper: RequestKeeper, answer: Single) -> Single:
    """Write the prediction file, and return the answer that names it."""
    predictions = keeper.storage.predictions
    if predictions is None:
        return answer
    name = predictions.name_for(answer.image, answer.image_id)
    named = answer.model_copy(update={"prediction_file": name})
    written = predictions.write_answer(name, named.model_dump_json(indent=2).encode(), keeper.pins)
    return named if written else answer


def _judge_multi(keeper: RequestKeeper, caller: Caller, uploads: list[Upload], spool: SpooledPieces) -> Multi:
    _check_all(keeper, caller, uploads, spool)
    predictions: list[Prediction] = []
    failed: list[Failure] = []
    refused: list[str] = []
    totals = RequestTotals(keeper.info)
    for upload, judged in judge_uploads(keeper.service, caller, uploads, spool, keeper.panels):
        name = json_name(judged.result.item.source)
        if isinstance(judged.result, Failure):
            keeper.info.error = judged.result.code
            failed.append(judged.result)
            totals.errors.append(f"Error processing {name}: {message_of(judged.result)}")
        elif judged.refused:
            refused.append(f"{name}: {keeper.refuse(judged)}")
        else:
            totals.add(judged.record)
            location = keeper.host(judged, partial(spool.get, upload.pieces))
            predictions.append(Prediction(**prediction_fields(judged, location)))
    if refused:
        raise problem(400, f"File validation errors: {', '.join(refused)}")
    if len(predictions) + len(failed) < len(uploads):
        raise late()
    if failed and not predictions:
        raise refusal_of(failed[0], keeper.settings)
    return Multi(predictions=predictions, summary=totals.summary)


def _check_all(
    keeper: RequestKeeper, caller: Caller, uploads: Sequence[Upload], spool: SpooledPieces
) -> None:
    """Refuse the request where a file is no picture, is too large or cannot be decoded."""
    if faults := [(one.name, status_of(one.fault[0])) for one in uploads if one.fault is not None]:
        raise _invalid(faults)
    if failures := check_decoding(keeper.service, caller, uploads, spool, keeper.panels):
        internal = next((one for one in failures if status_of(one.code) >= 500), None)
        if internal is not None:
            raise refusal_of(internal, keeper.settings)
        raise _invalid([(one.item.source, status_of(one.code)) for one in failures])


def _invalid(faults: Sequence[tuple[str, int]]) -> Exception:
    """Return the documented refusal of files, given by name and HTTP status."""
    complaints = [
        f"{'File too large' if status == 413 else 'Invalid file'}: {json_name(name)}"
        for name, status in faults
    ]
    return problem(400, f"File validation errors: {', '.join(complaints)}")
