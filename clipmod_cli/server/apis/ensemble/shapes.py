"""The ensemble API's answers, about pictures and then about the service, as its document prints them.

Fields that the document lacks stand last. `answers` fills these from records.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from clipmod_cli.judge.policy.values import Safety
from clipmod_cli.records import PROBABILITIES, BankMatchRow, ModelPrediction
from clipmod_cli.results import DecidedBy
from clipmod_cli.server.apis.printed import example
from clipmod_cli.types import Decision, Kind, ReviewReason


def like(printed: Any) -> ConfigDict:
    """Return the configuration of a shape with this example."""
    return ConfigDict(json_schema_extra={"example": printed}, allow_inf_nan=False)


class ProblemAnswer(BaseModel):
    """Any error."""

    model_config = like({"detail": "File too large. Maximum size: 50MB"})

    detail: str = Field(description="A sentence for a person")


class EnsemblePrediction(BaseModel):
    """The models' result together, in short."""

    predicted_category: str = Field(description="The most probable category")
    safety_decision: Safety | None = Field(description="UNSAFE where the decision is NSFW")
    confidence: float = Field(description="Probability of the category, 0..1")


class FullEnsemblePrediction(EnsemblePrediction):
    """The models' result together."""

    ensemble_method: str
    model_agreement: float = Field(description="Share of the weight that agrees on the category, 0..1")
    category_ensemble_probabilities: dict[str, float] = Field(description=PROBABILITIES)
    unsafe_score: float = Field(
        description="Probability of the UNSAFE categories together (independent scoring: the highest), 0..1"
    )


class FullResult(BaseModel):
    """The result of one panel of models, with all details."""

    image_name: str
    final_decision: Decision | None
    confidence: float
    processing_time_ms: float
    models_used: list[str]
    per_model_predictions: dict[str, ModelPrediction]
    ensemble_prediction: FullEnsemblePrediction


class ShortResult(BaseModel):
    """The result of one panel of models, in short."""

    final_decision: Decision | None
    confidence: float
    ensemble_prediction: EnsemblePrediction


class PictureFields(BaseModel):
    """What the document prints for any picture."""

    image: str
    final_decision: Decision | None
    confidence: float
    ensemble_category: str
    total_time_ms: float
    models_used: list[str]
    image_hosted: bool
    image_url: str | None
    image_id: str | None


class Extras(BaseModel):
    """What clipmod adds for any picture."""

    needs_review: bool = Field(description="A person should look at it")
    degraded: bool = Field(description="Judged by fewer models than configured")
    unsafe_score: float = Field(description="NSFW at or over `threshold`, 0..1")
    threshold: float
    policy: str
    kind: Kind | None = Field(description="null where a bank decided; so are the sizes and views")
    truncated: bool | None = Field(description="The file ends early; the rest was judged")
    sha256: str
    width: int | None
    height: int | None
    format: str | None
    review_reasons: list[ReviewReason] = Field(
        description="Why, worst first; empty exactly where `needs_review` is false"
    )
    coverage: float | None = Field(description="Least share of the picture that any model was shown, 0..1")
    scale: float | None = Field(description="Displayed pixels for one pixel of a model's input in `view`")
    view: tuple[int, int, int, int] | None = Field(description="x, y, w, h of the part that decided, pixels")
    views_scored: int = Field(description="Parts that were scored, of all frames together")
    frames_scored: int | None = Field(default=None, description="Of an animation")
    frames_total: int | None = Field(default=None, description="Of an animation, scored or not")
    largest_gap_s: float | None = Field(
        default=None, description="Longest time between two frames that were looked at, seconds"
    )
    models_skipped: list[str] | None = Field(
        default=None, description="Models that were not run because they could not change the outcome"
    )
    unsafe_score_bounds: tuple[float, float] | None = Field(
        default=None, description="Lowest and highest unsafe score possible with the skipped models"
    )
    decided_by: DecidedBy = Field(
        default="models",
        description="`models`, or a bank of hashes, `deny` or `allow`: then no model was asked",
    )
    matches: list[BankMatchRow] | None = Field(
        default=None, description="The entries of the banks that decided"
    )


class Single(Extras, PictureFields):
    """The answer of `/predict/single`."""

    model_config = like(example("/predict/single"))

    results: dict[str, FullResult] = Field(description="By the panel that judged")
    prediction_file: str | None = Field(description="null where none are written")
    image_expires_hours: int | float | None
    image_size_mb: float


class Prediction(Extras, PictureFields):
    """One picture of several."""

    results: dict[str, ShortResult] = Field(description="By the panel that judged")


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
    errors: list[str] | None = Field(description="A sentence for each failure; null without any")


class Multi(BaseModel):
    """The answer of `/predict/multi`."""

    model_config = like(example("/predict/multi"))

    predictions: list[Prediction]
    summary: Summary


class UrlMulti(BaseModel):
    """The answer of `/predict/urls`."""

    model_config = like(example("/predict/urls"))

    predictions: list[UrlPrediction]
    summary: Summary


class UrlRequest(BaseModel):
    """The body of a request to `/predict/urls`."""

    model_config = like({"urls": ["https://example.com/image1.jpg", "https://example.com/image2.png"]})

    urls: list[str] = Field(description="http or https")


class StreamProgress(BaseModel):
    """How far a stream is."""

    current: int = Field(description="Files with an answer, this one included")
    total: int = Field(description="Files that have arrived; exact once `total_is_final`")
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


class Root(BaseModel):
    """The answer of `/`."""

    model_config = like(example("/"))

    message: str
    version: str
    status: str
    models_available: list[str]
    endpoints: dict[str, str]


class EnsembleDetails(BaseModel):
    """The weighted set of models."""

    loaded: bool
    type: str
    models: list[str]
    weights: dict[str, str]
    classification_categories: list[str]
    ensemble_method: str


class ModelInfo(BaseModel):
    """A single model."""

    device: str
    model_name: str
    pretrained: str


class SingleDetails(BaseModel):
    """A single model that judges alone."""

    loaded: bool
    type: str
    model_info: ModelInfo


class Models(BaseModel):
    """The loaded models, and which of them judge."""

    status: dict[str, bool] = Field(description="Whether it is loaded, by the key in `results`")
    details: dict[str, EnsembleDetails | SingleDetails]
    total_enabled: int
    judging: str = Field(description="The key of the panel that judges now")


class Database(BaseModel):
    """The history store."""

    connected: bool
    ping_success: bool
    response_time_ms: float


class Configuration(BaseModel):
    """The settings that answers depend on, in `/health` and `/config`."""

    sensitivity_level: str
    nsfw_threshold: float = Field(description="Before the sensitivity is applied")
    effective_threshold: float = Field(description="The one in force")
    enable_image_hosting: bool
    image_expiry_hours: int | float
    max_image_size_mb: int
    policy: str


class System(BaseModel):
    """The program."""

    api_version: str
    python_version: str
    clipmod_version: str


class Health(BaseModel):
    """The answer of `/health`."""

    model_config = like(example("/health"))

    status: str = Field(description="healthy, or degraded: a model or the store is missing or failing")
    timestamp: str
    models: Models
    database: Database
    configuration: Configuration
    system: System


class WeightedModel(BaseModel):
    """A model and its weight."""

    name: str
    weight: float
    description: str


class CategoryInfo(BaseModel):
    """A category of the policy."""

    label: str
    safety: Safety
    description: str


class EnsembleConfig(BaseModel):
    """The weighted set of models, or the panel that judges in its place."""

    enabled: bool
    models: list[WeightedModel]
    classification_categories: dict[str, CategoryInfo]
    ensemble_method: str
    confidence_threshold: float
    agreement_threshold: float


class FallbackConfig(BaseModel):
    """The model that judges if the set cannot."""

    openclip_model_name: str
    openclip_pretrained: str
    enabled: bool


class LimitsInfo(BaseModel):
    """Limits of requests."""

    multi_files: int
    multi_size_mb: int
    urls: int
    url_timeout_s: float
    allowed_hosts: int = Field(description="Hosts of the operator's own that URLs may name")
    streaming_files: int
    streaming_size_mb: int
    deadline_s: float
    requests_at_once: int
    formats: list[str]


class Config(Configuration):
    """The answer of `/config`."""

    model_config = like(example("/config"))

    triple_model_ensemble: EnsembleConfig
    fallback_model: FallbackConfig
    max_total_request_size_mb: int
    database_connected: bool
    limits: LimitsInfo


class DatabaseStats(BaseModel):
    """Counts and size of the history store."""

    total_predictions_stored: int
    total_images_hosted: int
    database_size_mb: float


class PerformanceMetrics(BaseModel):
    """Duration of requests with pictures, in milliseconds."""

    p95_processing_time_ms: float
    p99_processing_time_ms: float
    max_concurrent_requests: int


class Stats(BaseModel):
    """The answer of `/stats`: all runs of `clipmod serve` over this store."""

    model_config = like(example("/stats"))

    total_requests: int
    total_images_processed: int
    nsfw_detections: int
    safe_detections: int
    average_confidence: float
    average_processing_time_ms: float
    models_usage: dict[str, int] = Field(description="Requests, by the panel that judged")
    error_rate: float = Field(description="Share of requests with a status of 400 or more")
    uptime_hours: float = Field(description="Of this process")
    database_stats: DatabaseStats
    performance_metrics: PerformanceMetrics
