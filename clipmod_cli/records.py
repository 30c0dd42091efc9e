"""The record of one input (a line of JSON, a database row, an HTTP answer) and its JSON Schema.

Nothing here judges, reads a clock or writes a file. Columns are derived from `Record` in
`clipmod_cli.output.columns`.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from clipmod_cli.errors import ErrorCode
from clipmod_cli.results import BankVerdict, DecidedBy, Result
from clipmod_cli.types import (
    Decision,
    Failure,
    FrameScore,
    Kind,
    Media,
    ModelScore,
    ReviewReason,
    Segment,
    Verdict,
)

SCHEMA_NAME: Final = "clipmod/1"


def _null(description: str) -> Any:
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
    http_status: int | None = _null("HTTP status of the answer, with http_error")


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
    detections: list[DetectionRow] | None = _null("Detections, highest score first")
    unmapped_share: float | None = _null(
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
    type: str | None = _null("What the entry says that it is")
    note: str | None = _null("Further text of the entry")


class Record(RowModel):
    """The outcome of one input. Every field is always present, null if it does not apply."""

    schema_: Literal["clipmod/1"] = Field(
        default=SCHEMA_NAME, alias="schema", description="Name and version of this schema"
    )
    source: str = Field(
        description="Path or URL as it was given; for a member of an archive, the archive's. Bytes that are "
        "not UTF-8 are replaced by U+FFFD; `source_b64` is exact"
    )
    member: str | None = _null("Name inside the archive")
    kind: Kind | None = _null("null if it failed before this was known")
    status: Literal["ok", "error"] = Field(description="Whether it could be judged")
    final_decision: Decision | None = _null("null with an error, and if no category is UNSAFE")
    needs_review: bool | None = _null("A person should check it")
    degraded: bool | None = _null("Judged by less than the whole ensemble")
    confidence: float | None = _null("Ensemble probability of `ensemble_category`, 0..1")
    unsafe_score: float | None = _null(
        "Ensemble probability of the UNSAFE categories together (independent scoring: of the highest), 0..1; "
        "NSFW at or over `threshold` (or if `matched_categories` has any)"
    )
    ensemble_category: str | None = _null("The most probable category")
    category_ensemble_probabilities: dict[str, float] | None = _null(PROBABILITIES)
    model_agreement: float | None = _null("Share of the weight that agrees on the category, 0..1")
    models_used: list[str] | None = _null("Names of the models that judged it")
    per_model_predictions: dict[str, ModelPrediction] | None = _null(
        "By model, for the frame that decided the verdict"
    )
    policy: str = Field(description="Name of the policy")
    policy_hash: str = Field(description="Identifies the content of the policy")
    threshold: float = Field(description="Unsafe score from which an input is NSFW, 0..1")
    run_key: str = Field(description="Identifies models, weights, policy and settings")
    sha256: str | None = _null("SHA-256 of the bytes, lower-case hexadecimal")
    bytes: int | None = _null("Size in bytes")
    mtime_ns: int | None = _null("Modification time of a local file, nanoseconds since 1970")
    width: int | None = _null("As displayed, pixels")
    height: int | None = _null("As displayed, pixels")
    format: str | None = _null("Format of the content, as JPEG")
    truncated: bool | None = _null("The bytes end early; the part that exists was decoded")
    total_time_ms: float | None = _null(
        "Latency including queueing, milliseconds. Not its cost, which is `decode_time_ms` and "
        "`inference_time_ms` together"
    )
    error: RecordError | None = _null("null if it was judged")
    index: int = Field(description="Position in the input, from 0")
    run_id: str = Field(description="Identifies the run")
    review_reasons: list[ReviewReason] | None = _null(
        "Why, worst first; empty exactly where `needs_review` is false. Not looked at: truncated, coverage, "
        "unsampled, other_content, colour, unmapped_labels, unseen_category. Looked at, unsure: "
        "low_agreement, review_margin, short_hit, fallback_model"
    )
    coverage: float | None = _null("Least share of the displayed pixels that any model was shown, 0..1")
    scale: float | None = _null("Displayed pixels for one pixel of a model's input in the deciding view")
    view: tuple[int, int, int, int] | None = _null("x, y, w, h of the deciding view, displayed pixels")
    views_scored: int | None = _null("Views that were scored, of all frames together")
    source_b64: str | None = _null("Base64 of the source's bytes, if they are not UTF-8")
    member_b64: str | None = _null("Base64 of the member's bytes, if they are not UTF-8")
    final_url: str | None = _null("URL after redirects")
    duration_s: float | None = _null("Duration of a video or animation, seconds")
    frames_scored: int | None = _null("Scored frames of the file, if it has several")
    frames_total: int | None = _null("All frames that are in the file, scored or not")
    largest_gap_s: float | None = _null(
        "Longest time between two frames of a video or animation that were looked at, with others between "
        "them, seconds"
    )
    frames_sampling: str | None = _null(
        "How frames were chosen, as --frames; `auto, key` where time ran short and only key frames were "
        "taken from then on; `until a hit` where the rest was not scored (--stop-on-hit)"
    )
    segments: list[SegmentRow] | None = _null("Segments of a video or animation, in order")
    frames: list[FrameRow] | None = _null(
        "Scores by frame of a video or animation, in order; with --frames-detail"
    )
    models_skipped: list[str] | None = _null(
        "Models that were skipped because they could not change the outcome"
    )
    unsafe_score_bounds: tuple[float, float] | None = _null(
        "Lowest and highest unsafe score possible with the skipped models"
    )
    unseen_categories: list[str] | None = _null("UNSAFE categories that no model can see")
    known: bool = Field(
        default=False,
        description="An earlier run wrote the same outcome for the same bytes of this input to the same "
        "output; false for what is new",
    )
    row: int | None = _null("Of `clipmod urls`: position in its list as the file has it, from 0")
    columns: dict[str, str | None] | None = _null("Columns of its row, as text (--keep-columns)")
    decode_time_ms: float | None = _null("Time to read and decode it, milliseconds")
    inference_time_ms: float | None = _null(
        "Forward time of all its views by all models, milliseconds; 0 if all came from the cache"
    )
    category_scores: dict[str, float] | None = _null(
        "By UNSAFE category, 0..1, what its own threshold is compared with: the highest probability of all "
        "views and frames that count, a label that stands for several categories in full for each"
    )
    matched_categories: list[str] | None = _null(
        "Categories at or over their own thresholds, from mild to severe; null if the policy has no such "
        "thresholds"
    )
    nsfw_probability: float | None = _null(
        "Calibrated probability that the input is NSFW, 0..1 (`clipmod tune --calibrate`); it decides "
        "nothing. null if the policy has no calibration, or not all models and frames were asked"
    )
    decided_by: DecidedBy | None = _null(
        "`models`, or a bank of hashes, `deny` or `allow` (then all scores are null); null with an error"
    )
    matches: list[BankMatchRow] | None = _null("The entries of the banks that decided")
    pdq: str | None = _null("PDQ hash of a still, if banks compare it; empty if none is good enough")


STEPS: Final = 1e6
# Of probabilities and seconds, so that runs can be compared. What a decision is based on was rounded before
# it was compared (`judge.policy.values.DIGITS`): 0.4999999 shown as 0.5 would contradict the decision.
STEPS_MS: Final = 1e3  # Times are rounded to the microsecond; clocks are not more precise.


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """Fields with the same value in all records of a run.

    Attributes:
        run_key: identifies models, weights, policy and all other settings that change a score.
        run_id: identifies this run.
    """

    policy: str
    policy_hash: str
    threshold: float
    run_key: str
    run_id: str


_RUN_FIELDS: Final = tuple(f.name for f in fields(RunFacts))
_MEDIA_FIELDS: Final = tuple(f.name for f in fields(Media) if f.name in Record.model_fields)
_UNDECODED_FIELDS: Final = ("sha256", "bytes", "mtime_ns", "format", "pdq")


def to_record(result: Result, run: RunFacts, *, frames_detail: bool = False, known: bool = False) -> Record:
    """Return the record of a result; `known`: an earlier run had the same outcome for the same bytes.

    Raises:
        ValueError: a number is not finite; the caller should have returned a Failure.
    """
    item = result.item
    source, source_b64 = write_name(item.source)
    member, member_b64 = write_name(item.member) if item.member is not None else (None, None)
    values: dict[str, Any] = {
        "source": source,
        "source_b64": source_b64,
        "member": member,
        "member_b64": member_b64,
        "index": item.index,
        "row": item.row,
        "columns": item.columns,
        "known": known,
        "final_url": item.final_url,
        **{name: getattr(run, name) for name in _RUN_FIELDS},
    }
    try:
        if result.media is not None:
            names = _UNDECODED_FIELDS if isinstance(result, BankVerdict) else _MEDIA_FIELDS
            values.update({name: _round_any(getattr(result.media, name)) for name in names})
        if isinstance(result, Failure):
            _add_failure(values, result)
        elif isinstance(result, BankVerdict):
            _add_bank_verdict(values, result)
        else:
            _add_verdict(values, result, frames_detail=frames_detail)
        return Record.model_validate(values)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"no record can be made of input {item.index}, {source!r}: {error}") from error


def to_line(record: Record) -> bytes:
    """Return the record as one line of UTF-8 JSON, newline included."""
    # as `model_dump_json`, without decoding the bytes in between
    return record.__pydantic_serializer__.to_json(record) + b"\n"


def json_schema(model: type[BaseModel] = Record, name: str = SCHEMA_NAME) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a record's line."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:{name.replace('/', ':')}",
        **model.model_json_schema(mode="serialization"),
    }


def write_name(name: str) -> tuple[str, str | None]:
    """Return a name as valid Unicode, and in base64 if that is not exact."""
    try:
        name.encode()
    except UnicodeEncodeError:
        try:
            raw = name.encode(errors="surrogateescape")
        except UnicodeEncodeError:  # half a UTF-16 pair, from a list in JSON or a file name on Windows
            raw = name.encode(errors="surrogatepass")
        return raw.decode(errors="replace"), base64.b64encode(raw).decode("ascii")
    return name, None


def read_name(text: str, encoded: str | None) -> str:
    """Return the name that `write_name` was called with, as `os.fsdecode` returns names."""
    return text if encoded is None else base64.b64decode(encoded).decode(errors="surrogateescape")


def _add_failure(values: dict[str, Any], failure: Failure) -> None:
    values["status"] = "error"
    values["error"] = {
        "code": failure.code,
        "message": write_name(failure.message)[0],
        "retryable": failure.retryable,
        "http_status": failure.http_status,
    }


def _add_bank_verdict(values: dict[str, Any], verdict: BankVerdict) -> None:
    values |= {"status": "ok", "final_decision": verdict.decision, "decided_by": verdict.by.decided_by}
    values |= {"needs_review": False, "review_reasons": []}
    values["total_time_ms"] = None if verdict.total_ms is None else _round_ms(verdict.total_ms)
    rows = (asdict(match) for match in verdict.by.matches)
    values["matches"] = [{name: text and write_name(text)[0] for name, text in row.items()} for row in rows]


def _add_verdict(values: dict[str, Any], verdict: Verdict, *, frames_detail: bool) -> None:
    deciding = verdict.deciding
    values |= {"status": "ok", "decided_by": "models", "final_decision": verdict.decision}
    values |= {"needs_review": verdict.needs_review, "review_reasons": list(verdict.review_reasons)}
    values |= {"degraded": verdict.degraded, "confidence": _round(deciding.confidence)}
    values |= {"unsafe_score": float(deciding.unsafe_score), "ensemble_category": deciding.category}
    values["category_ensemble_probabilities"] = _round_all(deciding.probabilities)
    values |= {"model_agreement": float(deciding.agreement), "nsfw_probability": verdict.nsfw_probability}
    predictions = {write_name(name)[0]: _prediction(score) for name, score in deciding.by_model.items()}
    values |= {"models_used": list(predictions), "per_model_predictions": predictions}
    values["models_skipped"] = [write_name(name)[0] for name in deciding.skipped] or None
    values |= {"unsafe_score_bounds": deciding.bounds, "views_scored": verdict.views_scored}
    values |= {"view": tuple(deciding.view.box), "scale": _round(deciding.view.scale)}
    values["total_time_ms"] = _round_ms(verdict.total_ms)
    values["inference_time_ms"] = _round_ms(verdict.inference_ms)
    values["unseen_categories"] = list(verdict.unseen_categories) or None
    values["category_scores"] = dict(verdict.category_scores) or None
    matched = verdict.matched_categories
    values["matched_categories"] = None if matched is None else list(matched)
    if verdict.media.kind != "image":
        values["segments"] = [_segment(segment) for segment in verdict.segments]
    if verdict.media.kind != "image" or len(verdict.frames) > 1:
        values["frames_scored"] = len(verdict.frames)
        values["frames"] = [_frame(frame) for frame in verdict.frames] if frames_detail else None


def _prediction(score: ModelScore) -> dict[str, Any]:
    return {
        "predicted_category": score.category,
        "confidence": _round(score.confidence),
        "category_probabilities": _round_all(score.probabilities),
        "inference_time_ms": _round_ms(score.forward_ms),
        "detections": None
        if score.detections is None
        else [
            {"label": one.label, "score": _round(one.score), "box": tuple(one.box)}
            for one in score.detections
        ],
        "unmapped_share": _round_any(score.unmapped_share),
    }


def _segment(segment: Segment) -> dict[str, Any]:
    return {
        "start_s": _round(segment.start_s),
        "end_s": _round(segment.end_s),
        "ensemble_category": segment.category,
        "peak_unsafe_score": float(segment.peak_unsafe_score),
        "peak_time_s": _round(segment.peak_time_s),
    }


def _frame(frame: FrameScore) -> dict[str, Any]:
    return {
        "frame": frame.number,
        "time_s": _round(frame.time_s),
        "ensemble_category": frame.category,
        "confidence": _round(frame.confidence),
        "unsafe_score": float(frame.unsafe_score),
        "category_ensemble_probabilities": _round_all(frame.probabilities),
        "model_agreement": float(frame.agreement),
    }


def _round(value: float) -> float:
    return int(value * STEPS + 0.5) / STEPS


def _round_any(value: Any) -> Any:
    return _round(value) if isinstance(value, float) else value


def _round_all(probabilities: Mapping[str, float]) -> dict[str, float]:
    return {name: int(value * STEPS + 0.5) / STEPS for name, value in probabilities.items()}


def _round_ms(time_ms: float) -> float:
    return int(time_ms * STEPS_MS + 0.5) / STEPS_MS
