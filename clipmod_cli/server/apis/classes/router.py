"""`POST /classify/`: a picture, by file or by URL, over the caller's own classes."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request, UploadFile
from pydantic import BaseModel, Field

from clipmod_cli.ensemble.ensemble import Ensemble
from clipmod_cli.errors import ClipmodError
from clipmod_cli.judge.frame_scores import score_frame
from clipmod_cli.models.seam import LabelModel
from clipmod_cli.server.apis.classes.words import ALL_MODELS, DOCUMENTED_CLASSES, ClassVectors, read_classes
from clipmod_cli.server.apis.classifier.labels import Scores, highest_of, scores_of
from clipmod_cli.server.apis.classifier.models import AllowedModel, Classifiers, Classifying
from clipmod_cli.server.apis.downloading import DownloadRules, downloading
from clipmod_cli.server.apis.request_scan import RequestScan, refusal
from clipmod_cli.server.forms.strays import files_only_in
from clipmod_cli.server.forms.streamed import takes_heic
from clipmod_cli.server.forms.uploads import check_pictures, picture_items, upload_route
from clipmod_cli.server.problems import problem
from clipmod_cli.server.state import Configured, Info, Served, from_state, in_thread
from clipmod_cli.settings.definition import Settings
from clipmod_cli.sources.web.addresses import FetchRules
from clipmod_cli.types import Evidence, Failure, Item, UnseenReason

URL_CHARS = 8192

Scan = Callable[[Ensemble], list[Evidence]]
Vectors = Annotated[ClassVectors, Depends(from_state("class_vectors"))]
Image = Annotated[UploadFile | None, Field(description="The picture; or give location")]
Location = Annotated[str | None, Form(description="An http or https URL of it", max_length=URL_CHARS)]
ClassifierName = Annotated[
    str,
    Form(
        description="clip: the text-image models that are loaded. Or the name of one of them, or a "
        "model of the classifier API, which has labels of its own",
        max_length=300,
    ),
]
Classes = Annotated[
    str | None,
    Form(description=f"Comma-separated. Default: {DOCUMENTED_CLASSES}; for a classifier all of its labels"),
]


def make_state(_settings: Settings) -> dict[str, object]:
    """Return the vectors of classes, kept between requests."""
    return {"class_vectors": ClassVectors()}


class ClassifyPayload(BaseModel):
    """The request."""

    location: str | None = Field(description="The URL; null where a file came")
    classifier: str


class ClassifyResult(BaseModel):
    """The scores."""

    prediction: str = Field(description="The class with the highest probability", examples=["nudity"])
    label_probabilities: dict[str, float] = Field(examples=[{"nudity": 0.62, "gore": 0.38}])
    original_payload: ClassifyPayload
    review_reasons: list[UnseenReason] = Field(
        default=[], description="Why something of the picture was not looked at"
    )


class ClassifyAnswer(BaseModel):
    """The answer of `/classify/`."""

    result: ClassifyResult


router = APIRouter(
    route_class=upload_route(lambda limits: limits.image_bytes),
    dependencies=[Depends(files_only_in("image"))],
)


@router.post("/classify", include_in_schema=False)
@router.post(
    "/classify/",
    summary="One picture over the caller's own classes",
)
async def classify(
    request: Request,
    service: Served,
    classifiers: Classifying,
    words: Vectors,
    info: Info,
    rules: DownloadRules,
    settings: Configured,
    image: Image = None,
    location: Location = None,
    classifier: ClassifierName = ALL_MODELS,
    classes: Classes = None,
) -> ClassifyAnswer:
    """Of an animation: each class's highest probability in any scored frame."""
    file = image if image is not None and (image.filename or image.size) else None
    url = (location or "").strip() or None
    name = classifier.strip() or ALL_MODELS
    until = time.monotonic() + service.deadline_s
    unseen: list[UnseenReason] = []
    if file is not None and url is None:
        check_pictures([file], service.limits)
        items = picture_items([file])
    elif file is None and url is not None:
        fetch = partial(_fetch, url, rules, until, heic=takes_heic(settings))
        async with service.downloads.turn():
            items = iter([await in_thread(request, fetch, "download_threads")])
    else:
        raise problem(400, "Give either image (a file) or location (a URL)")

    def scan(ensemble: Ensemble) -> list[Evidence]:
        one = RequestScan(service=service, ensemble=ensemble, until=until)
        with closing(one.frames(items, 1)) as seen:
            frames = list(seen)
        unseen[:] = frames[-1].media.unseen_reasons
        return frames

    def work() -> Scores:
        text_models = words.models_of(service.panel.ensemble, name)
        if text_models is not None:
            return _by_words(text_models, words, classes, until, scan)
        return _by_labels(_find(classifiers, name), classifiers, classes, until, scan)

    async with service.load.turn():
        shares = await in_thread(request, work)
    info.images, info.judged_by = 1, name
    return _answer(shares, unseen, ClassifyPayload(location=url, classifier=name))


def _answer(shares: Scores, unseen: list[UnseenReason], payload: ClassifyPayload) -> ClassifyAnswer:
    result = ClassifyResult(
        prediction=max(shares, key=lambda name: shares[name]),
        label_probabilities=dict(shares),
        original_payload=payload,
        review_reasons=unseen,
    )
    return ClassifyAnswer(result=result)


def _find(classifiers: Classifiers, name: str) -> AllowedModel:
    if name == ALL_MODELS:
        raise problem(
            503,
            "No text-image model is loaded at this service, so it cannot take words. This brings some, for "
            "its next start with --models ensemble: clipmod models download ensemble",
        )
    if (one := classifiers.find(name)) is None:
        known = ", ".join([ALL_MODELS, *classifiers.allowed])
        raise problem(400, f"{name!r} is not a classifier of this service. It has: {known}")
    return one


def _by_words(
    ensemble: Ensemble, words: ClassVectors, classes: str | None, until: float, scan: Scan
) -> Scores:
    policy = read_classes((classes or "").strip() or DOCUMENTED_CLASSES)
    try:
        criteria = words.criteria(ensemble, policy, until)
    except ClipmodError as e:
        raise problem(503, "The classes cannot be read now: the model's text tower is missing") from e
    frames = []
    for one in scan(ensemble):
        scored = score_frame(one, criteria)
        if isinstance(scored, Failure):
            raise refusal(scored)
        frames.append(scored.probabilities)
    return highest_of(frames)


def _by_labels(
    one: AllowedModel, classifiers: Classifiers, classes: str | None, until: float, scan: Scan
) -> Scores:
    """Return the scores of a classifier's labels, or of the requested ones."""
    ensemble = classifiers.load([one], until)
    model: LabelModel = ensemble.members[0].model  # type: ignore[assignment]
    known = list(dict.fromkeys(model.labels))
    wanted = [word for part in (classes or "").split(",") if (word := part.strip())] or known
    if strange := [word for word in wanted if word not in known]:
        raise problem(400, f"{one.name} has no label {strange[0][:100]!r}. It has: {', '.join(known)}")
    shares = highest_of(scores_of(seen.seen[model.name], known) for seen in scan(ensemble))
    return {label: shares[label] for label in wanted}


def _fetch(url: str, rules: FetchRules, until: float, *, heic: bool) -> Item:
    """Download the picture at the URL."""
    with downloading([Item(source=url, index=0)], rules, heic=heic, until=until) as pictures:
        (found,) = pictures
    if isinstance(found, Failure):
        raise refusal(found)
    return found
