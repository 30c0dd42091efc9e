"""Scores of a request's files by its models. Blocking; without HTTP and the shapes of answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from itertools import groupby
from typing import cast

from clipmod_cli.models.seam import LabelModel
from clipmod_cli.server.apis.classifier.labels import (
    Hit,
    LabelSearch,
    Scores,
    frame_number,
    highest_of,
    scores_of,
)
from clipmod_cli.server.apis.classifier.query import ClassifierRequest, LabelQuery
from clipmod_cli.server.apis.request_scan import RequestScan
from clipmod_cli.types import Evidence, Item

ByModel = Mapping[str, list[Hit]]


def score_files(request: ClassifierRequest, items: Iterable[Item], count: int) -> list[dict[str, Scores]]:
    """Return the scores of all labels for each file, by the caller's name of the model.

    Of an animation each label's highest score in any scored frame.
    """
    scan = request.scan()
    models = _models_of(request, scan)
    files: list[dict[str, Scores]] = []
    with closing(scan.frames(items, count)) as seen:
        for _, group in groupby(seen, key=lambda one: one.item.index):
            frames = [_scores(one, models) for one in group]
            files.append({name: highest_of(frame[name] for frame in frames) for name in models})
    return files


def search_files(
    request: ClassifierRequest, wanted: LabelQuery, items: Iterable[Item], count: int
) -> list[ByModel]:
    """Return the hits in each file, by the caller's name of the model.

    If the first hit ends the search, files are scanned one by one, so that the rest of a file is skipped.
    """
    scan = wanted.scan(request)
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
            _take(one, searches, models)
            if count == 1 and all(search.complete for search in searches.values()):
                break
        yield {name: search.hits for name, search in searches.items()}
        if count == 1:
            return


def _take(one: Evidence, searches: Mapping[str, LabelSearch], models: Mapping[str, LabelModel]) -> None:
    scores = _scores(one, models)
    for name, search in searches.items():
        search.take(frame_number(one), scores[name])


def _scores(one: Evidence, models: Mapping[str, LabelModel]) -> dict[str, Scores]:
    return {name: scores_of(one.seen[model.name], model.labels) for name, model in models.items()}


def _models_of(request: ClassifierRequest, scan: RequestScan) -> dict[str, LabelModel]:
    """Return the loaded models by the caller's names."""
    loaded = {member.model.name: cast("LabelModel", member.model) for member in scan.ensemble.members}
    return {one.name: loaded[request.classifiers.called(one)] for one in request.models}
