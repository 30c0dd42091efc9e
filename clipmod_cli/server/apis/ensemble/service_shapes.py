"""The ensemble API's answers about the service, as its document prints them.

Fields that the document lacks stand last.
"""

from __future__ import annotations

from pydantic import BaseModel, Field

from clipmod_cli.judge.policy.values import Safety
from clipmod_cli.server.apis.ensemble.hosted import KeptFilesInfo
from clipmod_cli.server.apis.ensemble.shapes import like
from clipmod_cli.server.apis.printed import example


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
    videos_size_mb: int
    deadline_s: float
    requests_at_once: int
    requests_at_once_per_caller: int | None = Field(
        description="null: three quarters of all, and all at a loopback address"
    )
    requests_a_minute: int | None = Field(description="Of one caller; null without a limit")
    bodies_size_mb: int = Field(description="Of all requests under way together")
    formats: list[str]


class Config(Configuration):
    """The answer of `/config`."""

    model_config = like(example("/config"))

    triple_model_ensemble: EnsembleConfig
    fallback_model: FallbackConfig
    max_total_request_size_mb: int
    database_connected: bool
    coverage: str = Field(description="How much of a picture is shown to the models: full, centre or tiles=N")
    allowed_policies: list[str] = Field(
        description="Policies that a request may ask for (?policy=); the first judges without it"
    )
    allowed_parameters: list[str] = Field(description="What a request may ask for in its query")
    limits: LimitsInfo
    kept: KeptFilesInfo


class DatabaseStats(BaseModel):
    """Counts and size of the history store."""

    total_predictions_stored: int = Field(description="The same as `total_images_processed`")
    total_images_hosted: int
    database_size_mb: float


class PerformanceMetrics(BaseModel):
    """Times in milliseconds: what pictures cost, and how long requests with pictures took."""

    p95_processing_time_ms: float
    p99_processing_time_ms: float
    max_concurrent_requests: int = Field(description="That were judged at once")
    average_latency_ms: float = Field(description="Of requests, from first byte to last")
    p95_latency_ms: float
    p99_latency_ms: float


class Stats(BaseModel):
    """The answer of `/stats`: all runs of `clipmod serve` over this store."""

    model_config = like(example("/stats"))

    total_requests: int
    total_images_processed: int = Field(
        description="That have a decision: `nsfw_detections` and `safe_detections` together"
    )
    nsfw_detections: int
    safe_detections: int
    average_confidence: float
    average_processing_time_ms: float = Field(
        description="Of a picture: decoding it, and its share of the forward passes"
    )
    models_usage: dict[str, int] = Field(description="Requests, by the panel that judged")
    error_rate: float = Field(description="Share of requests with a status of 500 or more")
    uptime_hours: float = Field(description="Of this process")
    database_stats: DatabaseStats
    performance_metrics: PerformanceMetrics
