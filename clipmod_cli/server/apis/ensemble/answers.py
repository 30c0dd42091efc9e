"""Judged pictures as the documented answers. It judges, stores and sends nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from clipmod_cli.errors import ErrorCode
from clipmod_cli.judge.policy.values import Safety
from clipmod_cli.records import Record, write_name
from clipmod_cli.server.apis.ensemble.shapes import (
    EnsemblePrediction,
    Extras,
    FullEnsemblePrediction,
    FullResult,
    ShortResult,
    Summary,
)
from clipmod_cli.server.hosting.pictures import NotHosted
from clipmod_cli.server.problems import status_of
from clipmod_cli.server.request_info import RequestInfo
from clipmod_cli.server.service import JudgedItem
from clipmod_cli.types import Decision, Failure

METHOD: Final = "weighted_average"
_SAFETY: Final[Mapping[Decision | None, Safety | None]] = {"NSFW": "UNSAFE", "Safe": "SAFE", None: None}

_MESSAGES: Final[Mapping[ErrorCode, str]] = {
    "model_error": "The models failed on this picture",
    "non_finite_score": "The models gave no usable result for this picture",
    "internal_error": "Internal error",
    "decode_crash": "The decoder crashed on this file",
    "out_of_memory": "Not enough memory",
    "deadline": "The request's time was up",
    "read_error": "The file could not be read",
}
"""In place of messages that may name things of this machine."""

_INVALID: Final = {
    "unsupported_format", "empty_file", "file_too_large", "too_many_pixels", "not_an_image"
}  # fmt: skip

_FROM_RECORD: Final = (
    "final_decision", "confidence", "ensemble_category", "total_time_ms", "models_used", *Extras.model_fields
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class HostedLocation:
    """The id and URL of a hosted picture, or why it is not hosted."""

    image_id: str | None = None
    url: str | None = None
    not_hosted: NotHosted | None = None


def message_of(failure: Failure) -> str:
    """Return why a picture could not be judged, in the document's words."""
    if failure.code in _MESSAGES:
        return _MESSAGES[failure.code]
    if failure.code in _INVALID:
        return f"Invalid image file: {failure.message}"
    if failure.stage == "decode" and status_of(failure.code) == 400:
        return f"Could not decode image file: {failure.message}"
    return failure.message


def json_name(name: str) -> str:
    """Return a name as JSON can hold it."""
    return write_name(name)[0]


def cost_ms(record: Record) -> float:
    """Return what a picture cost: decoding it, and its share of the forward passes."""
    return round((record.decode_time_ms or 0.0) + (record.inference_time_ms or 0.0), 3)


def full_result(record: Record) -> FullResult:
    """Return the panel's result with all details."""
    fields = _fields_of(record)
    return FullResult(
        image_name=record.source,
        processing_time_ms=cost_ms(record),
        per_model_predictions=fields["per_model_predictions"],
        ensemble_prediction=FullEnsemblePrediction(
            predicted_category=fields["ensemble_category"],
            safety_decision=_SAFETY[record.final_decision],
            ensemble_method=METHOD,
            **{
                name: fields[name]
                for name in (
                    "confidence", "model_agreement", "category_ensemble_probabilities", "unsafe_score"
                )
            },
        ),
        **{name: fields[name] for name in ("final_decision", "confidence", "models_used")},
    )  # fmt: skip


def picture_fields(judged: JudgedItem, location: HostedLocation) -> dict[str, Any]:
    """Return the fields that the answers to one and to several pictures share."""
    record = judged.record
    fields = {**_fields_of(record), "total_time_ms": cost_ms(record), "latency_ms": judged.latency_ms}
    return {
        "image": record.source,
        "image_hosted": location.image_id is not None,
        "image_url": location.url,
        "image_id": location.image_id,
        "image_not_hosted": location.not_hosted,
        **{name: fields[name] for name in _FROM_RECORD},
    }


def prediction_fields(judged: JudgedItem, location: HostedLocation) -> dict[str, Any]:
    """Return the fields of one picture of several, for `Prediction` and its subclasses."""
    fields = _fields_of(judged.record)
    result = ShortResult(
        final_decision=fields["final_decision"],
        confidence=fields["confidence"],
        ensemble_prediction=EnsemblePrediction(
            predicted_category=fields["ensemble_category"],
            safety_decision=_SAFETY[judged.record.final_decision],
            confidence=fields["confidence"],
        ),
    )
    return {**picture_fields(judged, location), "results": {judged.panel.key: result}}


def whole(hours: float) -> int | float:
    """Return a number of hours without a fraction where there is none, as the document prints it."""
    return int(hours) if float(hours).is_integer() else hours


@dataclass
class RequestTotals:
    """The sums over all pictures of a request, and its errors."""

    info: RequestInfo
    images: int = 0
    nsfw: int = 0
    safe: int = 0
    total_ms: float = 0.0
    errors: list[str] = field(default_factory=list)

    def add(self, record: Record) -> None:
        """Count a judged picture."""
        self.images += 1
        self.nsfw += record.final_decision == "NSFW"
        self.safe += record.final_decision == "Safe"
        self.total_ms += cost_ms(record)

    @property
    def common_fields(self) -> dict[str, Any]:
        """The fields that all summaries share; the mean is 0 without pictures."""
        return {
            "total_time_ms": round(self.total_ms, 3),
            "average_time_per_image_ms": round(self.total_ms / self.images, 3) if self.images else 0.0,
            "wall_time_ms": self.info.wall_ms,
            "errors": self.errors or None,
        }

    @property
    def summary(self) -> Summary:
        """The summary of `/predict/multi` and `/predict/urls`."""
        return Summary(
            total_images=self.images, nsfw_images=self.nsfw, safe_images=self.safe, **self.common_fields
        )


def _fields_of(record: Record) -> dict[str, Any]:
    """Return a judged record's fields by name; those that answers need are not null."""
    return {name: getattr(record, name) for name in type(record).model_fields}
