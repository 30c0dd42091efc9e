"""Values in the record of an input, as JSON."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from clipmod_cli.errors import ErrorCode


def null(description: str) -> Any:
    """Return a field that is null if it does not apply."""
    return Field(default=None, description=description)


class RowModel(BaseModel):
    """The base of records and of the values in them."""

    # strict: a wrong type is a bug and must raise.
    model_config = ConfigDict(
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        serialize_by_alias=True,
        protected_namespaces=(),
        json_schema_serialization_defaults_required=True,
        json_schema_extra={"additionalProperties": True},
    )


class RecordError(RowModel):
    """Why an input could not be judged."""

    code: ErrorCode = Field(description="One of a closed list")
    message: str = Field(description="What happened, for people")
    retryable: bool = Field(description="The same input may succeed later")
    http_status: int | None = null("HTTP status of the answer, with http_error")


PROBABILITIES: Final = "By category, 0..1, summing to 1; by independent scoring the best SAFE one has 0.5"


class DetectionRow(RowModel):
    """One detection."""

    label: str = Field(description="The detector's own label")
    score: float = Field(description="0..1")
    box: tuple[int, int, int, int] = Field(description="x, y, width, height in pixels of the original")


class ModelPrediction(RowModel):
    """What one model predicted for the frame that decided the verdict."""

    predicted_category: str = Field(description="Its most probable category")
    confidence: float = Field(description="Probability of that category, 0..1")
    category_probabilities: dict[str, float] = Field(description=PROBABILITIES)
    inference_time_ms: float = Field(
        description="Forward time of its batch divided by the pictures in it, milliseconds"
    )
    detections: list[DetectionRow] | None = null("Detections, highest score first")
    unmapped_share: float | None = null(
        "Of a classifier: share of its scores for labels that no category has, 0..1"
    )


class SegmentRow(RowModel):
    """A run of consecutive scored frames at or over a threshold."""

    start_s: float = Field(description="Seconds from the start")
    end_s: float = Field(description="Seconds from the start")
    ensemble_category: str = Field(description="The category of its worst frame")
    peak_unsafe_score: float = Field(description="Highest unsafe score of its frames, 0..1")
    peak_time_s: float = Field(description="Time of that frame, seconds from the start")


class FrameRow(RowModel):
    """The ensemble's scores for one frame."""

    frame: int = Field(description="Number of the frame, from 0")
    time_s: float = Field(description="When it is shown, seconds from the start")
    ensemble_category: str = Field(description="Its most probable category")
    confidence: float = Field(description="Probability of that category, 0..1")
    unsafe_score: float = Field(
        description="Probability summed over the UNSAFE categories, 0..1 (independent scoring: the highest)"
    )
    category_ensemble_probabilities: dict[str, float] = Field(description=PROBABILITIES)
    model_agreement: float = Field(description="Share of the weight that agrees on the category, 0..1")


class BankMatchRow(RowModel):
    """An entry of a bank that has the hash of the input."""

    bank: str = Field(description="Name of the bank")
    type: str | None = null("What the entry says that it is")
    note: str | None = null("Further text of the entry")
