"""From files to what the asked models say of each. Blocking; knows no HTTP and no answer's shape."""

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


def score_files(asking: ClassifierRequest, items: Iterable[Item], count: int) -> list[dict[str, Scores]]:
    """Return the scores of all labels for each file, by what the caller calls the model.

    Of an animation it is each label's highest score in any frame that was looked at.
    """
    look = asking.look_with()
    models = _models_of(asking, look)
    files: list[dict[str, Scores]] = []
    with closing(look.at(items, count)) as seen:
        for _, group in groupby(seen, key=lambda one: one.item.index):
            frames = [_scores(one, models) for one in group]
            files.append({name: highest_of(frame[name] for frame in frames) for name in models})
    return files


def search_files(
    asking: ClassifierRequest, wanted: LabelQuery, items: Iterable[Item], count: int
) -> list[ByModel]:
    """Return the hits in each file, by what the caller calls the model.

    Where the first label ends the search, files are looked at one after the other, so that what comes after
    it in a file is left alone.
    """
    look = wanted.look_of(asking)
    models = _models_of(asking, look)
    wanted.searches(models)  # refused before anything is looked at
    files: list[ByModel] = []
    for part, size in _parts(items, count, alone=wanted.first or count == 1):
        with closing(look.at(part, size)) as seen:
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
    """Yield the hits of each file; leaves off where nothing more can be found and no file follows."""
    for _, group in groupby(seen, key=lambda one: one.item.index):
        searches = wanted.searches(models)
        for one in group:
            _take(one, searches, models)
            if count == 1 and all(search.over for search in searches.values()):
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


def _models_of(asking: ClassifierRequest, look: RequestScan) -> dict[str, LabelModel]:
    """Return the loaded models by what the caller calls them."""
    loaded = {member.model.name: cast("LabelModel", member.model) for member in look.ensemble.members}
    return {one.name: loaded[asking.classifiers.called(one)] for one in asking.models}
