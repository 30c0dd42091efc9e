"""`POST /v1/moderations`: pictures in OpenAI's shape. `GET /v1/models`: who judges them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Request

from clipmod_cli.server.apis.downloading import DownloadRules, download_complaint, downloading
from clipmod_cli.server.apis.ensemble.answers import message_of
from clipmod_cli.server.apis.ensemble.judging import judge_uploads
from clipmod_cli.server.apis.ensemble.requests import Keeps, RequestKeeper, late, while_connected
from clipmod_cli.server.apis.moderations.answers import result_of
from clipmod_cli.server.apis.moderations.errors import picture_refusal, refusal
from clipmod_cli.server.apis.moderations.reading import BODY_BYTES, AskedInput, InputReader
from clipmod_cli.server.apis.moderations.shapes import (
    REQUEST,
    ModelEntry,
    ModelList,
    Moderations,
    problems,
)
from clipmod_cli.server.apis.request_scan import seconds_to
from clipmod_cli.server.device_thread import Caller
from clipmod_cli.server.forms.spooled import SpooledPieces
from clipmod_cli.server.service import JudgedItem
from clipmod_cli.server.state import Served, from_state
from clipmod_cli.settings.definition import Settings
from clipmod_cli.sources.web.addresses import FetchRules
from clipmod_cli.types import Failure, Item

Parsing = Annotated[asyncio.Lock, Depends(from_state("moderation_parsing"))]

router = APIRouter()


def make_state(_settings: Settings) -> dict[str, object]:
    """Return what lets one large body be parsed at a time."""
    return {"moderation_parsing": asyncio.Lock()}


@router.post(
    "/v1/moderations",
    summary="Moderate pictures, as OpenAI's API does",
    responses=problems(),
    openapi_extra=REQUEST,
)
async def create_moderation(
    request: Request, keeper: Keeps, rules: DownloadRules, parsing: Parsing
) -> Moderations:
    """Judge the pictures of one input together; their URLs are `data:` or are downloaded.

    Text is not judged: it is 400, also beside a picture unless the service runs with `--v1-ignore-text`. A
    picture that could not be judged is an error of the whole request.
    """
    service, policy = keeper.service, keeper.panels.panel.policy
    if not policy.unsafe:
        message = f"The policy {policy.name} of this service flags nothing, so it cannot moderate"
        raise refusal(400, message, "policy_flags_nothing")
    largest = max(BODY_BYTES, -(-service.limits.image_bytes // 3) * 4)
    limits = keeper.form_limits("input", service.limits.multi_files, largest)
    with SpooledPieces() as spool:
        reader = InputReader(limits=limits, spool=spool, ignore_text=keeper.settings.v1_ignore_text)
        asked = await reader.read(request, parsing)
        first = service.caller_of()
        if any(one.is_remote for one in asked.pictures):
            async with service.downloads.turn():
                fetch = partial(_download, keeper, first, asked, reader, rules)
                await while_connected(request, first, fetch, "download_threads")
        async with service.load.turn():
            caller = service.caller_of(deadline_s=seconds_to(first.deadline))
            work = partial(_judge, keeper, caller, asked, reader.spool)
            judged = await while_connected(request, caller, work)
    reviews_flag = service.unseen != "safe"
    return Moderations(
        id=f"modr-{keeper.info.id}",
        model=_model_of(judged),
        results=[result_of(judged, reviews_flag=reviews_flag, has_text=asked.has_text)],
    )


@router.get("/v1/models", summary="The model that moderates", responses=problems(400, 401, 429, 500))
async def list_models(service: Served) -> ModelList:
    """List the panel of models that judges, as OpenAI's API lists models."""
    return ModelList(data=[ModelEntry(id=f"clipmod/{service.panel.key}", created=int(service.started))])


def _judge(
    keeper: RequestKeeper, caller: Caller, asked: AskedInput, spool: SpooledPieces
) -> list[JudgedItem]:
    """Return one result for each picture, in order; blocks.

    Raises:
        HTTPException: one could not be judged, or the time was up.
    """
    found: list[JudgedItem] = []
    uploads = [one.upload for one in asked.pictures]
    for upload, judged in judge_uploads(keeper.service, caller, uploads, spool, keeper.panels):
        param = asked.pictures[upload.index].param
        if isinstance(judged.result, Failure):
            keeper.info.error = judged.result.code
            raise picture_refusal(judged.result.code, message_of(judged.result), param)
        if judged.refused:
            message = f"The image cannot be called safe: {keeper.refuse(judged)}"
            raise refusal(400, message, "invalid_image", param)
        keeper.count(judged)
        found.append(judged)
    if len(found) < len(asked.pictures):
        raise late()
    return found


def _download(
    keeper: RequestKeeper, caller: Caller, asked: AskedInput, reader: InputReader, rules: FetchRules
) -> None:
    """Give the uploads that are URLs their bytes; blocks.

    Raises:
        HTTPException: one could not be downloaded, or is no picture.
    """
    remote = {one.upload.index: one for one in asked.pictures if one.is_remote}
    items = [Item(source=one.upload.name, index=index) for index, one in remote.items()]
    with downloading(items, rules, heic=reader.limits.heic, until=caller.deadline) as pictures:
        for item in pictures:
            if caller.cancelled:
                raise late()
            if isinstance(item, Failure):
                keeper.info.error = item.code
                param = remote[item.item.index].param
                raise picture_refusal(item.code, download_complaint(item), param, downloading=True)
            one = remote[item.index]
            reader.fill(one.upload, item.data or b"", one.param)


def _model_of(judged: Sequence[JudgedItem]) -> str:
    """Return who judged: the fallback where it judged any of them."""
    panel = next((one.panel for one in judged if one.panel.stand_in), judged[0].panel)
    return f"clipmod/{panel.key}"
