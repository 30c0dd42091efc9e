"""The ensemble API's answers about pictures, as its document prints them.

Fields that the document lacks stand last. `answers` fills these from records.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, FailFast, Field

from clipmod_cli.errors import ErrorCode
from clipmod_cli.judge.policy.values import Safety
from clipmod_cli.records.parts import PROBABILITIES, BankMatchRow, ModelPrediction
from clipmod_cli.results import DecidedBy
from clipmod_cli.server.apis.ensemble.hosted import HostingFields
from clipmod_cli.server.apis.printed import example
from clipmod_cli.types import Decision, Kind, ReviewReason


def like(printed: Any) -> ConfigDict:
    """Return the configuration of a shape with this example."""
    return ConfigDict(json_schema_extra={"example": printed}, allow_inf_nan=False)


COST: Final = "Its own cost: decoding it, and its share of the forward passes. Waiting is in `latency_ms`"
WALL: Final = "Of the whole request, from its first byte to this answer, milliseconds"

NOT_LOOKED_AT: Final = "not_looked_at"
"""The code of a picture that would be Safe and of which not all was looked at (`--unseen error`)."""

FailureCode: TypeAlias = ErrorCode | Literal["not_looked_at"]


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
    total_time_ms: float = Field(description=COST)
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
    policy_hash: str = Field(description="Identifies the content of the policy")
    kind: Kind | None = Field(description="null where a bank decided; so are the sizes and views")
    truncated: bool | None = Field(description="The file ends early; the rest was judged")
    latency_ms: float = Field(
        description="From when its bytes were there to its verdict, waiting included, milliseconds"
    )
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


class Single(HostingFields, Extras, PictureFields):
    """The answer of `/predict/single`."""

    model_config = like(example("/predict/single"))

    results: dict[str, FullResult] = Field(description="By the panel that judged")
    prediction_file: str | None = Field(description="null where none are written")
    image_expires_hours: int | float | None
    image_size_mb: float
    wall_time_ms: float = Field(description=WALL)


class Prediction(HostingFields, Extras, PictureFields):
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
    total_time_ms: float = Field(description="The sum of those of the pictures")
    average_time_per_image_ms: float
    wall_time_ms: float = Field(description=WALL)
    errors: list[str] | None = Field(description="A sentence for each failure; null without any")


class Multi(BaseModel):
    """The answer of `/predict/multi`."""

    model_config = like(example("/predict/multi"))

    predictions: list[Prediction]
    summary: Summary


class UrlError(BaseModel):
    """A URL that could not be judged."""

    url: str
    code: FailureCode = Field(description="One of a closed list (docs/errors.md), or not_looked_at")
    message: str = Field(description="As in `errors`, without the URL")


class UrlSummary(Summary):
    """All URLs of a request together."""

    error_details: list[UrlError] | None = Field(description="As `errors`, with a code; null without any")


class UrlMulti(BaseModel):
    """The answer of `/predict/urls`."""

    model_config = like(example("/predict/urls"))

    predictions: list[UrlPrediction]
    summary: UrlSummary


class UrlRequest(BaseModel):
    """The body of a request to `/predict/urls`."""

    model_config = {
        **like({"urls": ["https://example.com/image1.jpg", "https://example.com/image2.png"]}),
        "extra": "forbid",  # a URL under a wrong name is not passed over
    }

    urls: Annotated[list[str], FailFast()] = Field(description="http or https")


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
    code: FailureCode | None = Field(
        description="As in `error_details` of /predict/urls; null where the request itself is at fault"
    )
    progress: StreamProgress


class StreamedSummary(BaseModel):
    """The last line of `/predict/streaming`."""

    type: Literal["summary"] = "summary"
    total_processed: int = Field(description="Without the failures")
    nsfw_count: int
    safe_count: int
    total_time_ms: float = Field(description="The sum of those of the pictures")
    average_time_per_image_ms: float
    wall_time_ms: float = Field(description=WALL)
    errors: list[str] | None
