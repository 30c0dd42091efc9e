"""The query parameters of a request, checked, and the scores of its files by its models."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from typing import Annotated, cast

from fastapi import Depends, Query

from clipmod_cli.decode.limits import FrameSampling
from clipmod_cli.models.seam import LabelModel
from clipmod_cli.server.apis.classifier.labels import (
    FoundLabel,
    LabelSearch,
    ScoredLabel,
    Scores,
    frame_number,
    highest_of,
    labels_answer,
    sampling_of,
    scores_of,
    wanted_of,
    with_reasons,
)
from clipmod_cli.server.apis.classifier.models import AllowedModel, Classifiers, Classifying
from clipmod_cli.server.apis.request_scan import RequestScan
from clipmod_cli.server.problems import problem
from clipmod_cli.server.request_info import RequestInfo
from clipmod_cli.server.service import Service
from clipmod_cli.server.state import Info, Served
from clipmod_cli.types import Evidence, Item

STEP_PERCENT = 5.0
"""The documented default of `skip_frames_percentage`."""

MOST_LABELS = 1000
NAME_CHARS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifierRequest:
    """The models of one request, and its deadline.

    Attributes:
        named: with `model_names`, so that answers are by model.
        until: the deadline by `time.monotonic()`.
    """

    service: Service
    classifiers: Classifiers
    models: Sequence[AllowedModel]
    named: bool
    until: float
    info: RequestInfo

    def scan(self, sampling: FrameSampling | None = None) -> RequestScan:
        """Return a scan with these models, which are loaded if they are not; blocks."""
        ensemble = self.classifiers.load(self.models, self.until)
        return RequestScan(service=self.service, ensemble=ensemble, until=self.until, sampling=sampling)


ModelName = Annotated[str, Query(max_length=NAME_CHARS)]


async def _classifier_request(
    service: Served,
    classifiers: Classifying,
    info: Info,
    model_name: Annotated[
        str | None,
        Query(
            max_length=NAME_CHARS,
            description="The model; one of those that this service allows. Default: DEFAULT_MODEL_NAME.",
            examples=["Falconsai/nsfw_image_detection"],
        ),
    ] = None,
    model_names: Annotated[
        list[ModelName] | None,
        Query(
            description="Several models, each looking at every file. The answer for a file then is a list "
            "with one object for each model: its name, and its own answer."
        ),
    ] = None,
) -> ClassifierRequest:
    several = [name for name in model_names or () if name]
    if model_name and several:
        raise problem(400, "Give either model_name or model_names")
    models = classifiers.resolve(several or ([model_name] if model_name else []))
    info.judged_by = ",".join(one.name for one in models)
    return ClassifierRequest(
        service=service,
        classifiers=classifiers,
        models=models,
        named=bool(several),
        until=time.monotonic() + service.deadline_s,
        info=info,
    )


Requested = Annotated[ClassifierRequest, Depends(_classifier_request)]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelQuery:
    """What the query endpoints search for.

    Attributes:
        labels: empty for all of each model's.
        score: the minimum.
        first: stop at the first hit.
        fast: score fewer frames of animations and videos.
    """

    labels: tuple[str, ...]
    score: float
    first: bool
    fast: bool
    step_percent: float

    def searches(self, models: Mapping[str, LabelModel]) -> dict[str, LabelSearch]:
        """Return a new search for each model, by its name.

        Raises:
            HTTPException: 400 if no model has any of the labels: no hits would read as "not there".
        """
        wanted = {name: wanted_of(self.labels, model.labels) for name, model in models.items()}
        if not any(wanted.values()):
            known = ", ".join(dict.fromkeys(label for one in models.values() for label in one.labels))
            raise problem(400, f"None of the labels is one of the model's. It has: {known}")
        return {
            name: LabelSearch(wanted=labels, least=self.score, first=self.first)
            for name, labels in wanted.items()
        }


async def _label_query(
    *,
    classifiers: Classifying,
    labels: Annotated[
        list[Annotated[str, Query(max_length=NAME_CHARS)]] | None,
        Query(
            description="Only these labels; repeatable. Default: all of the model's.", max_length=MOST_LABELS
        ),
    ] = None,
    score: Annotated[
        float | None, Query(ge=0, le=1, description="Only labels at or over it. Default: DEFAULT_SCORE, 0.7.")
    ] = None,
    return_on_first_matching_label: Annotated[
        bool, Query(description="Stop at the first label that is found, and answer with it alone.")
    ] = False,
    fast_mode: Annotated[
        bool,
        Query(description="Look at fewer frames of an animation or a video: see skip_frames_percentage."),
    ] = False,
    skip_frames_percentage: Annotated[
        float,
        Query(
            ge=0,
            le=100,
            description="In fast mode, how much of the length lies between two scored frames, in "
            "per cent: 5 looks at 21 frames, of a shorter animation at all. First and last are always in.",
        ),
    ] = STEP_PERCENT,
) -> LabelQuery:
    return LabelQuery(
        labels=tuple(label for label in labels or () if label),
        score=classifiers.default_score if score is None else score,
        first=return_on_first_matching_label,
        fast=fast_mode,
        step_percent=skip_frames_percentage,
    )


Searched = Annotated[LabelQuery, Depends(_label_query)]


ByModel = dict[str, list[FoundLabel]]


def score_files(
    request: ClassifierRequest, items: Iterable[Item], count: int
) -> list[dict[str, list[ScoredLabel]]]:
    """Return all labels with their scores for each file, by the caller's name of the model.

    Of an animation each label's highest score in any scored frame.
    """
    scan = request.scan()
    models = _models_of(request, scan)
    files: list[dict[str, list[ScoredLabel]]] = []
    with closing(scan.frames(items, count)) as seen:
        for _, group in groupby(seen, key=lambda one: one.item.index):
            frames = [(_scores(one, models), one.media.unseen_reasons) for one in group]
            unseen = frames[-1][1]
            highest = {name: highest_of(scores[name] for scores, _ in frames) for name in models}
            files.append({name: labels_answer(scores, unseen) for name, scores in highest.items()})
    return files


def search_files(
    request: ClassifierRequest, wanted: LabelQuery, items: Iterable[Item], count: int
) -> list[ByModel]:
    """Return the hits in each file, by the caller's name of the model.

    If the first hit ends the search, files are scanned one by one, so that the rest of a file is skipped.
    """
    scan = request.scan(sampling_of(fast=wanted.fast, step_percent=wanted.step_percent))
    models = _models_of(request, scan)
    wanted.searches(models)  # refuses unknown labels before anything is scanned
    files: list[ByModel] = []
    for part, size in _parts(items, count, alone=wanted.first or count == 1):
        with closing(scan.frames(part, size)) as seen:
            files += _search(seen, size, wanted, models)
    return files


def _parts(items: Iterable[Item], count: int, *, alone: bool) -> Iterator[tuple[Iterable[Item], int]]:
    if not alone:
        yield items, count
        return
    for item in items:
        yield [item], 1


def _search(
    seen: Iterable[Evidence], count: int, wanted: LabelQuery, models: Mapping[str, LabelModel]
) -> Iterator[ByModel]:
    """Yield the hits of each file; stop early if no more hits are possible and no file follows."""
    for _, group in groupby(seen, key=lambda one: one.item.index):
        searches = wanted.searches(models)
        for one in group:
            scores = _scores(one, models)
            for name, search in searches.items():
                search.take(frame_number(one), scores[name])
            if count == 1 and all(search.complete for search in searches.values()):
                break
        unseen = one.media.unseen_reasons
        yield {name: with_reasons(search.hits, unseen) for name, search in searches.items()}
        if count == 1:
            return


def _scores(one: Evidence, models: Mapping[str, LabelModel]) -> dict[str, Scores]:
    return {name: scores_of(one.seen[model.name], model.labels) for name, model in models.items()}


def _models_of(request: ClassifierRequest, scan: RequestScan) -> dict[str, LabelModel]:
    """Return the loaded models by the caller's names."""
    loaded = {member.model.name: cast("LabelModel", member.model) for member in scan.ensemble.members}
    return {one.name: loaded[request.classifiers.called(one)] for one in request.models}
