"""`/predict/single`: one picture, with all that the models said of it."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Request

from clipmod_cli.server.apis.ensemble.answers import common_fields, full_result, place_fields, size_mb, whole
from clipmod_cli.server.apis.ensemble.judging import RequestKeeper, judge_uploads
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
from clipmod_cli.server.apis.ensemble.shapes import Single
from clipmod_cli.server.batching.fair_queue import Caller
from clipmod_cli.server.forms.spooled import SpooledPieces
from clipmod_cli.server.forms.streamed import Upload
from clipmod_cli.server.service import JudgedItem
from clipmod_cli.server.state import Configured, Served
from clipmod_cli.settings import Settings
from clipmod_cli.types import Failure

router = APIRouter()

FIELD = "file"


@router.post(
    "/predict/single",
    summary="Judge one picture",
    responses={**PROBLEMS, **FORM_PROBLEM},
    openapi_extra=form_of(FIELD, several=False),
)
async def predict_single(request: Request, service: Served, settings: Configured, keeper: Keeps) -> Single:
    """Judge the picture in the form field `file`, with the details of each model."""
    with SpooledPieces() as pile:
        wanted = wanted_of(service, settings, FIELD, 1, service.limits.image_bytes)
        (upload,) = await read_all(request, pile, wanted)
        with service.load.one():
            caller = service.caller_of()
            work = partial(_judge, keeper, settings, caller, upload, pile)
            return await while_there(request, caller, work)


def _judge(
    keeper: RequestKeeper, settings: Settings, caller: Caller, upload: Upload, pile: SpooledPieces
) -> Single:
    """Return the answer; blocks.

    Raises:
        HTTPException: the picture cannot be judged.
    """
    judged = next((j for _, j in judge_uploads(keeper.service, caller, [upload], pile)), None)
    if judged is None:
        raise late()
    if isinstance(judged.result, Failure):
        keeper.info.error = judged.result.code
        raise refusal_of(judged.result, settings)
    return _keep_prediction(keeper, _answer(keeper, settings, judged))


def _answer(keeper: RequestKeeper, settings: Settings, judged: JudgedItem) -> Single:
    place = keeper.place(judged)
    return Single(
        **common_fields(judged),
        results={judged.panel.key: full_result(judged)},
        prediction_file=None,
        **place_fields(place),
        image_expires_hours=None if place.image_id is None else whole(settings.image_expiry_hours),
        image_size_mb=size_mb(judged.record),
    )


def _keep_prediction(keeper: RequestKeeper, answer: Single) -> Single:
    predictions = keeper.storage.predictions
    if predictions is None:
        return answer
    named = answer.model_copy(update={"prediction_file": predictions.name_for(answer.image)})
    kept = predictions.write(str(named.prediction_file), named.model_dump_json(indent=2).encode())
    return named if kept else answer
