"""The five endpoints of the classifier API: check files, score them in a thread, shape the answer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from fastapi import APIRouter, Depends, Request, UploadFile

from clipmod_cli.server.apis.classifier import labels as answers
from clipmod_cli.server.apis.classifier.labels import Found, FoundInMany, Labels, LabelsOfMany
from clipmod_cli.server.apis.classifier.models import classifiers_of
from clipmod_cli.server.apis.classifier.query import (
    ByModel,
    ClassifierRequest,
    LabelQuery,
    Requested,
    Searched,
    score_files,
    search_files,
)
from clipmod_cli.server.configuration import RequestLimits, documented_environment
from clipmod_cli.server.forms.strays import files_only_in
from clipmod_cli.server.forms.uploads import (
    check_pictures,
    check_video,
    picture_items,
    upload_route,
    video_item,
)
from clipmod_cli.server.problems import problem
from clipmod_cli.server.state import Admitted, Served, in_thread
from clipmod_cli.settings.definition import Settings

_file, _files = Depends(files_only_in("file")), Depends(files_only_in("files", several=True))
_one = APIRouter(route_class=upload_route(lambda limits: limits.image_bytes), dependencies=[_file])
_many = APIRouter(route_class=upload_route(lambda limits: limits.multi_bytes), dependencies=[_files])
_video = APIRouter(route_class=upload_route(lambda limits: limits.video_bytes), dependencies=[_file])


def make_state(settings: Settings) -> dict[str, object]:
    """Return the classifiers that the operator allows, kept between requests."""
    return {"classifiers": classifiers_of(settings, documented_environment())}


def _like(example: Any) -> dict[int | str, dict[str, Any]]:
    printed = {"content": {"application/json": {"example": example}}}
    return {200: {"description": "As the document prints it", **printed}}


@_one.post(
    "/api/image-classification",
    summary="All labels of one picture, the highest score first",
    response_model_exclude_none=True,
    responses=_like(answers.LABELS_EXAMPLE),
)
async def image_classification(
    request: Request, service: Served, models: Requested, file: UploadFile, _: Admitted
) -> Labels:
    """Of an animation: each label's highest score in any scored frame."""
    check_pictures([file], service.limits)
    return (await _classify(request, models, [file]))[0]


@_many.post(
    "/api/multi-image-classification",
    summary="All labels of each of several pictures",
    response_model_exclude_none=True,
    responses=_like([{"0": answers.LABELS_EXAMPLE}]),
)
async def multi_image_classification(
    request: Request, service: Served, models: Requested, files: list[UploadFile], _: Admitted
) -> LabelsOfMany:
    """A file that cannot be judged refuses the request, and is named."""
    _check_many(files, service.limits)
    return answers.by_index(await _classify(request, models, files))


@_one.post(
    "/api/image-query-classification",
    summary="The labels of one picture that reach a score",
    response_model_exclude_none=True,
    responses=_like(answers.FOUND_EXAMPLE),
)
async def image_query_classification(
    request: Request, service: Served, models: Requested, wanted: Searched, file: UploadFile, _: Admitted
) -> Found:
    """One entry a label; in an animation with its first frame, counted from 0."""
    check_pictures([file], service.limits)
    return (await _search(request, models, wanted, [file]))[0]


@_many.post(
    "/api/multi-image-query-classification",
    summary="The labels of each of several pictures that reach a score",
    response_model_exclude_none=True,
    responses=_like(answers.FOUND_IN_MANY_EXAMPLE),
)
async def multi_image_query_classification(
    request: Request,
    service: Served,
    models: Requested,
    wanted: Searched,
    files: list[UploadFile],
    _: Admitted,
) -> FoundInMany:
    """A file that cannot be judged refuses the request, and is named."""
    _check_many(files, service.limits)
    return answers.by_index(await _search(request, models, wanted, files))


@_video.post(
    "/api/video-classification",
    summary="The labels of a video that reach a score",
    response_model_exclude_none=True,
    responses=_like(answers.VIDEO_EXAMPLE),
)
async def video_classification(
    request: Request, service: Served, models: Requested, wanted: Searched, file: UploadFile, _: Admitted
) -> Found:
    """One entry a label, with its first frame, counted from 1.

    At most 1,024 frames are scored, 256 of an animation: in a longer one evenly spaced frames, and those
    where something changes.
    """
    check_video(file, service.limits)
    found = await in_thread(request, partial(_search_video, models, wanted, file))
    return _found(found, models)


def _search_video(models: ClassifierRequest, wanted: LabelQuery, file: UploadFile) -> ByModel:
    with video_item(file) as item:
        (found,) = search_files(models, wanted, [item], 1)
    return found


def _check_many(files: Sequence[UploadFile], limits: RequestLimits) -> None:
    if len(files) > limits.multi_files:
        raise problem(400, f"At most {limits.multi_files} files may be in one request")
    check_pictures(files, limits)


async def _classify(request: Request, models: ClassifierRequest, files: Sequence[UploadFile]) -> list[Labels]:
    """Return the answer of each picture."""
    scored = await in_thread(request, partial(score_files, models, picture_items(files), len(files)))
    models.info.images += len(files)
    return [answers.by_model(one, named=models.named) for one in scored]


async def _search(
    request: Request, models: ClassifierRequest, wanted: LabelQuery, files: Sequence[UploadFile]
) -> list[Found]:
    """Return the answer of each picture."""
    work = partial(search_files, models, wanted, picture_items(files), len(files))
    return [_found(found, models) for found in await in_thread(request, work)]


def _found(hits: ByModel, models: ClassifierRequest) -> Found:
    models.info.images += 1
    return answers.by_model(hits, named=models.named)


router = APIRouter()
for _part in (_one, _many, _video):
    router.include_router(_part)
