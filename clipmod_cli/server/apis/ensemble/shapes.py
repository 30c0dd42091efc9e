"""The answers of the ensemble API, field by field as its document prints them.

Fields that the document does not have stand last. `answers` fills these from records.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from clipmod_cli.judge.policy.values import Safety
from clipmod_cli.records import ModelPrediction
from clipmod_cli.server.apis.ensemble import examples
from clipmod_cli.types import Decision, Kind


def _like(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"example": example}, protected_namespaces=(), allow_inf_nan=False)


class ProblemAnswer(BaseModel):
    """Any error."""

    model_config = _like(examples.PROBLEM)

    detail: str = Field(description="A sentence for a person")


class FullEnsemblePrediction(BaseModel):
    """What the models said together."""

    model_config = ConfigDict(protected_namespaces=())

    predicted_category: str = Field(description="The most probable category")
    confidence: float = Field(description="Its probability, 0..1")
    safety_decision: Safety | None = Field(description="UNSAFE where the decision is NSFW")
    ensemble_method: str
    model_agreement: float = Field(description="Share of the weight that agrees on the category, 0..1")
    category_ensemble_probabilities: dict[str, float] = Field(description="By category, summing to 1")
    unsafe_score: float = Field(description="Probability of the UNSAFE categories together, 0..1")


class FullResult(BaseModel):
    """What one panel of models said, with all details."""

    model_config = ConfigDict(protected_namespaces=())

    image_name: str
    final_decision: Decision | None
    confidence: float
    processing_time_ms: float
    models_used: list[str]
    per_model_predictions: dict[str, ModelPrediction]
    ensemble_prediction: FullEnsemblePrediction


class EnsemblePrediction(BaseModel):
    """What the models said together, in short."""

    predicted_category: str
    safety_decision: Safety | None
    confidence: float


class ShortResult(BaseModel):
    """What one panel of models said, in short."""

    final_decision: Decision | None
    confidence: float
    ensemble_prediction: EnsemblePrediction


class Extras(BaseModel):
    """What clipmod knows beyond the document."""

    model_config = ConfigDict(protected_namespaces=())

    needs_review: bool = Field(description="A person should look at it")
    degraded: bool = Field(description="Less than the models that were asked for judged")
    unsafe_score: float = Field(description="NSFW at or over `threshold`, 0..1")
    threshold: float
    policy: str
    kind: Kind
    truncated: bool = Field(description="The file ends early; what was there was judged")
    sha256: str
    width: int
    height: int
    format: str
    frames_scored: int | None = Field(default=None, description="Of an animation")
    models_skipped: list[str] | None = Field(
        default=None, description="Models that could not change the outcome and were not asked"
    )
    unsafe_score_bounds: tuple[float, float] | None = Field(
        default=None, description="Lowest and highest unsafe score that the skipped models could have led to"
    )


class SingleFields(BaseModel):
    """What the document prints for one picture."""

    model_config = ConfigDict(protected_namespaces=())

    image: str
    results: dict[str, FullResult] = Field(description="By who judged")
    final_decision: Decision | None
    confidence: float
    total_time_ms: float
    ensemble_category: str
    models_used: list[str]
    prediction_file: str | None = Field(description="null where none are written")
    image_hosted: bool
    image_url: str | None
    image_id: str | None
    image_expires_hours: int | float | None
    image_size_mb: float


class Single(Extras, SingleFields):
    """The answer of `/predict/single`."""

    model_config = _like(examples.SINGLE)


class PredictionFields(BaseModel):
    """What the document prints for one picture of several."""

    model_config = ConfigDict(protected_namespaces=())

    image: str
    results: dict[str, ShortResult] = Field(description="By who judged")
    final_decision: Decision | None
    confidence: float
    ensemble_category: str
    total_time_ms: float
    models_used: list[str]
    image_hosted: bool
    image_url: str | None
    image_id: str | None


class Prediction(Extras, PredictionFields):
    """One picture of several."""


class UrlPrediction(Prediction):
    """One picture of several, by its URL."""

    url: str


class Summary(BaseModel):
    """All pictures of a request together."""

    total_images: int = Field(description="That were judged")
    nsfw_images: int
    safe_images: int
    total_time_ms: float = Field(description="The sum of their own times")
    average_time_per_image_ms: float
    errors: list[str] | None = Field(description="A sentence for each that failed; null without any")


class Multi(BaseModel):
    """The answer of `/predict/multi`."""

    model_config = _like(examples.MULTI)

    predictions: list[Prediction]
    summary: Summary


class UrlMulti(BaseModel):
    """The answer of `/predict/urls`."""

    model_config = _like(examples.URLS)

    predictions: list[UrlPrediction]
    summary: Summary


class UrlRequest(BaseModel):
    """What `/predict/urls` takes."""

    model_config = _like(examples.URL_REQUEST)

    urls: list[str] = Field(description="http or https")


class StreamProgress(BaseModel):
    """How far a stream is."""

    current: int = Field(description="How many files have an answer, this one among them")
    total: int = Field(description="How many files have arrived; exact once `total_is_final`")
    total_is_final: bool = Field(description="The whole request has arrived")


class StreamedPrediction(Prediction):
    """One line of `/predict/streaming`."""

    progress: StreamProgress


class StreamedError(BaseModel):
    """One line of `/predict/streaming` for a file that could not be judged."""

    type: Literal["error"] = "error"
    image: str | None = Field(description="null where the request itself is at fault")
    error: str
    progress: StreamProgress


class StreamedSummary(BaseModel):
    """The last line of `/predict/streaming`."""

    type: Literal["summary"] = "summary"
    total_processed: int = Field(description="Without the failures")
    nsfw_count: int
    safe_count: int
    total_time_ms: float
    average_time_per_image_ms: float
    errors: list[str] | None
