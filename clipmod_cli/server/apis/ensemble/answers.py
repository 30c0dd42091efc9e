"""Judged pictures → the documented answers. Judges nothing, keeps nothing, sends nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from clipmod_cli.errors import ErrorCode
from clipmod_cli.judge.policy.values import Safety
from clipmod_cli.records import Record, write_name
from clipmod_cli.server.apis.ensemble.shapes import (
    EnsemblePrediction,
    FullEnsemblePrediction,
    FullResult,
    Prediction,
    ShortResult,
    Summary,
)
from clipmod_cli.server.problems import status_of
from clipmod_cli.server.request_limits import MB
from clipmod_cli.server.service import JudgedItem
from clipmod_cli.types import Failure

METHOD: Final = "weighted_average"

_OURS: Final[Mapping[ErrorCode, str]] = {
    "model_error": "The models failed on this picture",
    "non_finite_score": "The models gave no usable result for this picture",
    "internal_error": "Internal error",
    "decode_crash": "The decoder crashed on this file",
    "out_of_memory": "Not enough memory",
    "deadline": "The request's time was up",
    "read_error": "The file could not be read",
}
"""In place of messages that may tell of this machine."""


@dataclass(frozen=True, slots=True)
class HostedLocation:
    """Where a judged picture is kept; nowhere without an id."""

    image_id: str | None = None
    url: str | None = None


NOWHERE: Final = HostedLocation()


def sentence_of(failure: Failure) -> str:
    """Return why a picture could not be judged, as answers say it."""
    if failure.code in _OURS:
        return _OURS[failure.code]
    if failure.code in {
        "unsupported_format",
        "empty_file",
        "file_too_large",
        "too_many_pixels",
        "not_an_image",
    }:
        return f"Invalid image file: {failure.message}"
    if failure.stage == "decode" and status_of(failure.code) == 400:
        return f"Could not decode image file: {failure.message}"
    return failure.message


def shown(name: str) -> str:
    """Return a name as JSON can carry it."""
    return write_name(name)[0]


def safety_of(record: Record) -> Safety | None:
    """Return UNSAFE for NSFW, SAFE for Safe; None where the policy forbids nothing."""
    if record.final_decision is None:
        return None
    return "UNSAFE" if record.final_decision == "NSFW" else "SAFE"


def full_result(judged: JudgedItem) -> FullResult:
    """Return what the panel said, with all details."""
    told = _told(judged.record)
    return FullResult(
        image_name=judged.record.source,
        processing_time_ms=told["total_time_ms"],
        per_model_predictions=told["per_model_predictions"],
        ensemble_prediction=FullEnsemblePrediction(
            predicted_category=told["ensemble_category"],
            confidence=told["confidence"],
            safety_decision=safety_of(judged.record),
            ensemble_method=METHOD,
            model_agreement=told["model_agreement"],
            category_ensemble_probabilities=told["category_ensemble_probabilities"],
            unsafe_score=told["unsafe_score"],
        ),
        **{name: told[name] for name in ("final_decision", "confidence", "models_used")},
    )


def common_fields(judged: JudgedItem) -> dict[str, Any]:
    """Return the fields that the answers to one and to several pictures share."""
    told = _told(judged.record)
    names = (
        "final_decision", "confidence", "total_time_ms", "ensemble_category", "models_used", "needs_review",
        "degraded", "unsafe_score", "threshold", "policy", "kind", "truncated", "sha256", "width", "height",
        "format", "frames_scored", "models_skipped", "unsafe_score_bounds",
    )  # fmt: skip
    return {"image": judged.record.source, **{name: told[name] for name in names}}


def place_fields(place: HostedLocation) -> dict[str, Any]:
    """Return where the picture can be had."""
    return {
        "image_hosted": place.image_id is not None,
        "image_url": place.url,
        "image_id": place.image_id,
    }


def prediction_fields(judged: JudgedItem, place: HostedLocation) -> dict[str, Any]:
    """Return one picture of several, for `Prediction` and what is built on it."""
    record = judged.record
    told = _told(record)
    result = ShortResult(
        final_decision=record.final_decision,
        confidence=told["confidence"],
        ensemble_prediction=EnsemblePrediction(
            predicted_category=told["ensemble_category"],
            safety_decision=safety_of(record),
            confidence=told["confidence"],
        ),
    )
    return {**common_fields(judged), "results": {judged.panel.key: result}, **place_fields(place)}


def size_mb(record: Record) -> float:
    """Return the file's size, in millions of bytes."""
    return round((record.bytes or 0) / MB, 6)


def whole(hours: float) -> int | float:
    """Return a number of hours as the document prints it: without a fraction where there is none."""
    return int(hours) if float(hours).is_integer() else hours


@dataclass
class RequestTotals:
    """All pictures of a request together, one after the other."""

    images: int = 0
    nsfw: int = 0
    safe: int = 0
    total_ms: float = 0.0
    errors: list[str] = field(default_factory=list)

    def add(self, record: Record) -> None:
        """Count one that was judged."""
        self.images += 1
        self.nsfw += record.final_decision == "NSFW"
        self.safe += record.final_decision == "Safe"
        self.total_ms += record.total_time_ms or 0.0

    @property
    def mean_ms(self) -> float:
        """The mean of their own times, in milliseconds; 0 without any."""
        return round(self.total_ms / self.images, 3) if self.images else 0.0


def summary_of(predictions: Sequence[Prediction], errors: Sequence[str]) -> Summary:
    """Return the summary of several pictures, as `/predict/multi` and `/predict/urls` print it."""
    total_ms = sum(one.total_time_ms for one in predictions)
    return Summary(
        total_images=len(predictions),
        nsfw_images=sum(one.final_decision == "NSFW" for one in predictions),
        safe_images=sum(one.final_decision == "Safe" for one in predictions),
        total_time_ms=round(total_ms, 3),
        average_time_per_image_ms=round(total_ms / len(predictions), 3) if predictions else 0.0,
        errors=list(errors) or None,
    )


def _told(record: Record) -> dict[str, Any]:
    """Return a judged record's fields by name, untouched; none that answers need is null in it."""
    return {name: getattr(record, name) for name in type(record).model_fields}
