"""The shapes of the classifier API's answers, as its document prints them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from pydantic import BaseModel, Field

from clipmod_cli.server.apis.classifier.labels import Hit, Scores, ranked
from clipmod_cli.server.apis.printed import load


class ScoredLabel(BaseModel):
    """One of the model's labels."""

    score: float = Field(description="0..1", examples=[0.9998])
    label: str = Field(examples=["porn"])


class FoundLabel(BaseModel):
    """A label that was found, and its first frame."""

    frame: int | None = Field(
        default=None,
        description="The first frame with this label. Animations count from 0, videos from 1; not there for "
        "a still picture.",
        examples=[174],
    )
    label: str = Field(examples=["hentai"])
    score: float = Field(description="0..1", examples=[0.9852])


ByModel = list[dict[str, list[ScoredLabel]]]
FoundByModel = list[dict[str, list[FoundLabel]]]
Labels = list[ScoredLabel] | ByModel
Found = list[FoundLabel] | FoundByModel
LabelsOfMany = list[dict[str, list[ScoredLabel] | ByModel]]
FoundInMany = list[dict[str, list[FoundLabel] | FoundByModel]]

One = TypeVar("One")


def labels_answer(scores: Scores) -> list[ScoredLabel]:
    """Return all labels, highest score first."""
    return [ScoredLabel(score=score, label=label) for label, score in ranked(scores)]


def found_answer(hits: Iterable[Hit]) -> list[FoundLabel]:
    """Return the hits, in frame order."""
    return [FoundLabel(frame=hit.frame, label=hit.label, score=hit.score) for hit in hits]


def by_model(answers: Mapping[str, list[One]], *, named: bool) -> list[One] | list[dict[str, list[One]]]:
    """Return one model's answer as it is; with `named` each model's answer under its name."""
    if named:
        return [{name: answer} for name, answer in answers.items()]
    (only,) = answers.values()
    return only


def by_index(answers: Sequence[One]) -> list[dict[str, One]]:
    """Return the answers for several files, each under its index."""
    return [{str(index): answer} for index, answer in enumerate(answers)]


_PRINTED = {one["section"]: one["answer"] for one in load("classifier")["examples"]}

LABELS_EXAMPLE = _PRINTED["Multi Image Classification"]
FOUND_IN_MANY_EXAMPLE = _PRINTED["Multi Image with Query Parameters"]
FOUND_EXAMPLE = FOUND_IN_MANY_EXAMPLE[0]["0"]
VIDEO_EXAMPLE = _PRINTED["Video with Query Parameters"]
