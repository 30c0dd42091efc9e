"""From evidence to labels with scores, and to the answers that the document prints. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any, TypeVar

from pydantic import BaseModel, Field

from clipmod_cli.decode.limits import MAX_SCORED_FRAMES, FrameSampling
from clipmod_cli.server.apis.printed import load
from clipmod_cli.types import Detections, Evidence, Kind, LabelScores, Seen, UnseenReason

Scores = Mapping[str, float]


def _reasons() -> Any:
    text = "Why something of the file was not looked at; not there where all was"
    return Field(default=None, description=text)


class ScoredLabel(BaseModel):
    """One of the model's labels."""

    score: float = Field(description="0..1", examples=[0.9998])
    label: str = Field(examples=["porn"])
    review_reasons: list[UnseenReason] | None = _reasons()


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
    review_reasons: list[UnseenReason] | None = _reasons()


def scores_of(seen: Seen, labels: Sequence[str]) -> dict[str, float]:
    """Return the score of each label; of a detector the highest, 0 for labels that it did not find."""
    match seen:
        case LabelScores(scores=scores):
            return dict(scores)
        case Detections(found=found):
            highest = dict.fromkeys(labels, 0.0)
            for one in found:
                highest[one.label] = max(highest[one.label], one.score)
            return highest
    raise TypeError(f"a classifier gives scores of labels, not {type(seen).__name__}")


def highest_of(frames: Iterable[Scores]) -> dict[str, float]:
    """Return each label's highest score in any frame: a mean would hide labels of few frames."""
    highest: dict[str, float] = {}
    for scores in frames:
        for label, score in scores.items():
            highest[label] = max(highest.get(label, score), score)
    return highest


def ranked(scores: Scores) -> list[tuple[str, float]]:
    """Return all labels with their scores, the highest first."""
    return sorted(scores.items(), key=lambda pair: -pair[1])


def frame_number(evidence: Evidence) -> int | None:
    """Return a frame's number in answers: animations from 0, videos from 1, None for stills."""
    first: dict[Kind, int] = {"animation": 0, "video": 1}
    kind = evidence.media.kind
    return first[kind] + evidence.number if kind in first else None


def wanted_of(labels: Sequence[str], known: Sequence[str]) -> frozenset[str]:
    """Return the requested labels that the model has; all of them if none are named."""
    named = frozenset(labels)
    return frozenset(known) & named if named else frozenset(known)


@dataclass
class LabelSearch:
    """One model's search through the frames of one file.

    Attributes:
        wanted: the requested labels.
        least: the minimum score.
        first: stop at the first hit; of several in one frame, the highest.
        hits: by frame, then by falling score.
    """

    wanted: frozenset[str]
    least: float
    first: bool
    hits: list[FoundLabel] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether further frames can add no hits."""
        return bool(self.first and self.hits) or len(self.hits) == len(self.wanted)

    def take(self, frame: int | None, scores: Scores) -> None:
        """Search the next frame."""
        if self.complete:
            return
        found = {hit.label for hit in self.hits}
        new = [
            FoundLabel(frame=frame, label=label, score=score)
            for label, score in ranked(scores)
            if label in self.wanted and label not in found and score >= self.least
        ]
        self.hits += new[:1] if self.first else new


def sampling_of(*, fast: bool, step_percent: float) -> FrameSampling:
    """Return which frames are scored: all; with `fast` one every `step_percent` of the length, and the last.

    At most `MAX_SCORED_FRAMES`. A step of 5 scores 21 frames, or all of a shorter animation.
    """
    if not fast or step_percent <= 0:
        return FrameSampling(mode="dense")
    count = min(100 / step_percent + 1, MAX_SCORED_FRAMES)
    return FrameSampling(mode="max", value=max(ceil(count), 2))


ByModel = list[dict[str, list[ScoredLabel]]]
FoundByModel = list[dict[str, list[FoundLabel]]]
Labels = list[ScoredLabel] | ByModel
Found = list[FoundLabel] | FoundByModel
LabelsOfMany = list[dict[str, list[ScoredLabel] | ByModel]]
FoundInMany = list[dict[str, list[FoundLabel] | FoundByModel]]

One = TypeVar("One")
AnyLabel = TypeVar("AnyLabel", ScoredLabel, FoundLabel)


def labels_answer(scores: Scores, unseen: Sequence[UnseenReason]) -> list[ScoredLabel]:
    """Return all labels, highest score first."""
    found = [ScoredLabel(score=score, label=label) for label, score in ranked(scores)]
    return with_reasons(found, unseen)


def with_reasons(labels: Sequence[AnyLabel], unseen: Sequence[UnseenReason]) -> list[AnyLabel]:
    """Return the labels with the reasons why something of their file was not looked at."""
    return [one.model_copy(update={"review_reasons": list(unseen) or None}) for one in labels]


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
