"""The fields of a record: their names, order, types and descriptions. Nothing is done here.

`clipmod_cli.records` fills them from results and carries them to bytes and back; import
everything from there.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from clipmod_cli.errors import ErrorCode
from clipmod_cli.types import Decision, Kind

SCHEMA_NAME: Final = "clipmod/1"


def _null(description: str) -> Any:
    return Field(default=None, description=description)


class _Row(BaseModel):
    # strict: a wrong type is our own mistake and must show; no NaN or infinity is ever accepted.
    model_config = ConfigDict(
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        serialize_by_alias=True,
        protected_namespaces=(),
        json_schema_serialization_defaults_required=True,
        json_schema_extra={"additionalProperties": True},
    )


class RecordError(_Row):
    """Why an input could not be judged."""

    code: ErrorCode = Field(description="One of a closed list")
    message: str = Field(description="A sentence for a person")
    retryable: bool = Field(description="The same input may well succeed later")
    http_status: int | None = _null("The status of the answer, with http_error")


class DetectionRow(_Row):
    """One thing that a detector saw."""

    label: str = Field(description="The detector's own label")
    score: float = Field(description="0..1")
    box: tuple[int, int, int, int] = Field(description="x, y, width, height in pixels of the original")


class ModelPrediction(_Row):
    """What one model said of the frame that decided."""

    predicted_category: str = Field(description="Its most probable category")
    confidence: float = Field(description="Probability of that category, 0..1")
    category_probabilities: dict[str, float] = Field(description="By category, 0..1, summing to 1")
    inference_time_ms: float = Field(
        description="Forward time of its batch divided by the pictures in it, milliseconds"
    )
    detections: list[DetectionRow] | None = _null("What a detector saw, by falling score")


class SegmentRow(_Row):
    """A run of consecutive scored frames at or over the threshold."""

    start_s: float = Field(description="Seconds from the start")
    end_s: float = Field(description="Seconds from the start")
    ensemble_category: str = Field(description="The category of its worst frame")
    peak_unsafe_score: float = Field(description="The highest unsafe score in it, 0..1")
    peak_time_s: float = Field(description="Where that was, seconds from the start")


class FrameRow(_Row):
    """The ensemble's scores for one frame."""

    frame: int = Field(description="Number of the frame, from 0")
    time_s: float = Field(description="When it is shown, seconds from the start")
    ensemble_category: str = Field(description="Its most probable category")
    confidence: float = Field(description="Probability of that category, 0..1")
    unsafe_score: float = Field(description="Probability summed over the UNSAFE categories, 0..1")
    category_ensemble_probabilities: dict[str, float] = Field(description="By category, 0..1, summing to 1")
    model_agreement: float = Field(description="Share of the weight that agrees on the category, 0..1")


class Record(_Row):
    """What became of one input. Every field is always there, null where it does not apply."""

    schema_: Literal["clipmod/1"] = Field(
        default=SCHEMA_NAME, alias="schema", description="Name and version of this shape"
    )
    source: str = Field(
        description="Path or URL as it was given; of an archive's member, the path of the archive. Bytes "
        "that are not UTF-8 show as U+FFFD, and `source_b64` has them all"
    )
    member: str | None = _null("Name inside the archive")
    kind: Kind | None = _null("null where it failed before this was known")
    status: Literal["ok", "error"] = Field(description="Judged, or not")
    final_decision: Decision | None = _null("null with an error, and where no category is UNSAFE")
    needs_review: bool | None = _null("A person should look at it")
    degraded: bool | None = _null("Less than the ensemble judged")
    confidence: float | None = _null("Ensemble probability of `ensemble_category`, 0..1")
    unsafe_score: float | None = _null(
        "Ensemble probability of the UNSAFE categories together, 0..1; NSFW at or over `threshold`"
    )
    ensemble_category: str | None = _null("The most probable category")
    category_ensemble_probabilities: dict[str, float] | None = _null("By category, 0..1, summing to 1")
    model_agreement: float | None = _null("Share of the weight that agrees on the category, 0..1")
    models_used: list[str] | None = _null("Names of the models that were asked")
    per_model_predictions: dict[str, ModelPrediction] | None = _null("By model, of the frame that decided")
    policy: str = Field(description="Name of the policy")
    policy_hash: str = Field(description="Identifies what the policy says")
    threshold: float = Field(description="The unsafe score from which it is NSFW, 0..1")
    run_key: str = Field(description="Identifies models, weights, policy and settings")
    sha256: str | None = _null("Of the bytes, lower-case hexadecimal")
    bytes: int | None = _null("Size in bytes")
    mtime_ns: int | None = _null("When a local file last changed, nanoseconds since 1970")
    width: int | None = _null("As displayed, pixels")
    height: int | None = _null("As displayed, pixels")
    format: str | None = _null("Format of the content, as JPEG")
    truncated: bool | None = _null("The bytes end early; what was there was decoded")
    total_time_ms: float | None = _null("Its own way through, milliseconds")
    error: RecordError | None = _null("null where it was judged")
    index: int = Field(description="Position in the input, from 0")
    run_id: str = Field(description="Identifies the run")
    source_b64: str | None = _null("Base64 of the source's bytes, where they are not UTF-8")
    member_b64: str | None = _null("Base64 of the member's bytes, where they are not UTF-8")
    final_url: str | None = _null("Where redirects led")
    duration_s: float | None = _null("Of a video or animation, seconds")
    frames_scored: int | None = _null("Of a video or animation")
    segments: list[SegmentRow] | None = _null("Of a video or animation, in order")
    frames: list[FrameRow] | None = _null("Of a video or animation, in order; with --frames-detail")
    models_skipped: list[str] | None = _null("Models that could not change the outcome and were not asked")
    unsafe_score_bounds: tuple[float, float] | None = _null(
        "Lowest and highest unsafe score that the skipped models could have led to"
    )
    unseen_categories: list[str] | None = _null("UNSAFE categories that no model could see")
