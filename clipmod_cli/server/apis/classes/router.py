"""`POST /classify/`: a picture, by file or by URL, over the caller's own classes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request, UploadFile
from pydantic import BaseModel, Field

from clipmod_cli.ensemble.ensemble import Ensemble
from clipmod_cli.errors import ClipmodError
from clipmod_cli.judge.judging import score_frame
from clipmod_cli.models.seam import LabelModel
from clipmod_cli.server.apis.classes.words import ALL_MODELS, DOCUMENTED_CLASSES, ClassVectors, read_classes
from clipmod_cli.server.apis.classifier.labels import Scores, highest_of, scores_of
from clipmod_cli.server.apis.classifier.models import Classifiers, Classifying
from clipmod_cli.server.apis.classifier.names import AllowedModel
from clipmod_cli.server.apis.request_scan import RequestScan, refusal, seconds_to
from clipmod_cli.server.forms.uploads import check_pictures, picture_items, upload_route
from clipmod_cli.server.problems import problem
from clipmod_cli.server.service import Service
from clipmod_cli.server.state import Admitted, Info, Served, from_state, in_thread
from clipmod_cli.settings import Settings
from clipmod_cli.sources.web.addresses import AddressRules
from clipmod_cli.sources.web.downloads import Downloads
from clipmod_cli.sources.web.fetch import FetchRules
from clipmod_cli.types import Evidence, Failure, Item

URL_CHARS = 8192
LEAST_S = 0.1
"""For a download, where a request's time is nearly up."""

ACCESS = AddressRules(private=False)
"""Where a request may have the service look: public addresses, the web's own ports."""


Vectors = Annotated[ClassVectors, Depends(from_state("class_vectors"))]


def make_state(_settings: Settings) -> dict[str, object]:
    """Return the vectors of classes, kept between requests."""
    return {"class_vectors": ClassVectors()}


class ClassifyPayload(BaseModel):
    """What was asked."""

    location: str | None = Field(description="The URL; null where a file came")
    classifier: str


class ClassifyResult(BaseModel):
    """What was seen."""

    prediction: str = Field(description="The class with the highest probability", examples=["nudity"])
    label_probabilities: dict[str, float] = Field(examples=[{"nudity": 0.62, "gore": 0.38}])
    original_payload: ClassifyPayload


class ClassifyAnswer(BaseModel):
    """The answer."""

    result: ClassifyResult


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """One request, its form checked."""

    service: Service
    classifiers: Classifiers
    words: ClassVectors
    image: UploadFile | None
    location: str | None
    classifier: str
    classes: str | None
    until: float


router = APIRouter(route_class=upload_route(lambda limits: limits.image_bytes))


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
    _: Admitted,
    image: Annotated[UploadFile | None, Field(description="The picture; or give location")] = None,
    location: Annotated[
        str | None, Form(description="An http or https URL of it", max_length=URL_CHARS)
    ] = None,
    classifier: Annotated[
        str,
        Form(
            description="clip: the text-image models that are loaded. Or the name of one of them, or a "
            "model of the classifier API, which has labels of its own",
            max_length=300,
        ),
    ] = ALL_MODELS,
    classes: Annotated[
        str | None,
        Form(
            description=f"Comma-separated. Default: {DOCUMENTED_CLASSES}; for a classifier all of its labels"
        ),
    ] = None,
) -> ClassifyAnswer:
    """Of an animation: each class's highest probability in any of the frames that are looked at."""
    file = image if image is not None and (image.filename or image.size) else None
    url = (location or "").strip() or None
    if (file is None) == (url is None):
        raise problem(400, "Give either image (a file) or location (a URL)")
    if file is not None:
        check_pictures([file], service.limits)
    asked = _Asked(
        service=service,
        classifiers=classifiers,
        words=words,
        image=file,
        location=url,
        classifier=classifier.strip() or ALL_MODELS,
        classes=(classes or "").strip() or None,
        until=time.monotonic() + service.deadline_s,
    )
    shares = await in_thread(request, lambda: _classify(asked))
    info.images, info.judged_by = 1, asked.classifier
    prediction = max(shares, key=lambda name: shares[name])
    payload = ClassifyPayload(location=url, classifier=asked.classifier)
    return ClassifyAnswer(
        result=ClassifyResult(
            prediction=prediction, label_probabilities=dict(shares), original_payload=payload
        )
    )


def _classify(asked: _Asked) -> Scores:
    text_models = asked.words.models_of(asked.service.panel.ensemble, asked.classifier)
    if text_models is not None:
        return _by_words(asked, text_models)
    if asked.classifier == ALL_MODELS:
        raise problem(
            503,
            "No text-image model is loaded at this service, so it knows no words. This brings some, for "
            "its next start with --models ensemble: clipmod models download ensemble",
        )
    one = asked.classifiers.find(asked.classifier)
    if one is None:
        known = ", ".join([ALL_MODELS, *asked.classifiers.allowed])
        raise problem(400, f"{asked.classifier!r} is not a classifier of this service. It has: {known}")
    return _by_labels(asked, one)


def _by_words(asked: _Asked, ensemble: Ensemble) -> Scores:
    classes = read_classes(asked.classes or DOCUMENTED_CLASSES)
    try:
        criteria = asked.words.criteria(ensemble, classes, asked.until)
    except ClipmodError as e:
        raise problem(503, "The classes cannot be read now: the model's text tower is missing") from e
    frames = []
    for one in _look(asked, ensemble):
        scored = score_frame(one, criteria)
        if isinstance(scored, Failure):
            raise refusal(scored)
        frames.append(scored.probabilities)
    return highest_of(frames)


def _by_labels(asked: _Asked, one: AllowedModel) -> Scores:
    """Return the labels of a classifier, or those of them that were asked for."""
    ensemble = asked.classifiers.load([one], asked.until)
    model: LabelModel = ensemble.members[0].model  # type: ignore[assignment]
    known = list(dict.fromkeys(model.labels))
    wanted = [word for part in (asked.classes or "").split(",") if (word := part.strip())] or known
    if strange := [word for word in wanted if word not in known]:
        raise problem(400, f"{one.name} has no label {strange[0][:100]!r}. It has: {', '.join(known)}")
    shares = highest_of(scores_of(seen.seen[model.name], known) for seen in _look(asked, ensemble))
    return {label: shares[label] for label in wanted}


def _look(asked: _Asked, ensemble: Ensemble) -> Sequence[Evidence]:
    look = RequestScan(service=asked.service, ensemble=ensemble, until=asked.until)
    items = picture_items([asked.image]) if asked.image is not None else iter([_fetch(asked)])
    with closing(look.at(items, 1)) as seen:
        return list(seen)


def _fetch(asked: _Asked) -> Item:
    """Return the picture behind the URL; never from an address that is not public."""
    url = asked.location or ""
    rules = FetchRules(
        access=ACCESS,
        max_bytes=asked.service.limits.image_bytes,
        total_s=max(min(FetchRules().total_s, seconds_to(asked.until)), LEAST_S),
    )
    (found,) = Downloads([Item(source=url, index=0)], rules)
    if isinstance(found, Failure):
        raise refusal(found)
    if found.spilled is not None:
        Path(found.spilled).unlink(missing_ok=True)
        raise problem(400, "What is at location is a video, where a picture is asked for")
    return found
