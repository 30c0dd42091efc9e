"""The one public shape of a JSONL line, a store row and an HTTP answer, and its JSON Schema.

`to_record` turns a result into a `Record`; `to_line` and `from_line` carry it to bytes and
back. Nothing here judges, reads a clock or writes a file. Columns follow from `Record` in
`clipmod_cli.output.columns`.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from clipmod_cli.errors import ErrorCode
from clipmod_cli.types import (
    Decision,
    Detection,
    Failure,
    FrameScore,
    Kind,
    Media,
    ModelScore,
    Result,
    Segment,
    Verdict,
)

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
    total_time_ms: float | None = _null("Latency including queueing, milliseconds")
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


STEPS: Final = 1e6
# Probabilities are written in steps of a millionth, which a person can still read. What a decision was
# taken on (unsafe scores, the threshold, agreement) is written in full: rounded, 0.4999999 would
# become 0.5 and the record would contradict its own decision.
STEPS_MS: Final = 1e3  # Times are written to the microsecond; clocks tell no more.


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What all records of a run have in common.

    Attributes:
        run_key: identifies models, weights, policy and all else that moves a score.
        run_id: identifies this one run.
    """

    policy: str
    policy_hash: str
    threshold: float
    run_key: str
    run_id: str


def to_record(result: Result, run: RunFacts, *, frames_detail: bool = False) -> Record:
    """Return the record of a result.

    Raises:
        ValueError: a number is not finite; the caller should have made it a Failure.
    """
    item = result.item
    source, source_b64 = write_name(item.source)
    member, member_b64 = write_name(item.member) if item.member is not None else (None, None)
    fields: dict[str, Any] = {
        "source": source,
        "source_b64": source_b64,
        "member": member,
        "member_b64": member_b64,
        "index": item.index,
        "final_url": item.final_url,
        "policy": run.policy,
        "policy_hash": run.policy_hash,
        "threshold": run.threshold,
        "run_key": run.run_key,
        "run_id": run.run_id,
    }
    try:
        if result.media is not None:
            _add_media(fields, result.media)
        if isinstance(result, Failure):
            _add_failure(fields, result)
        else:
            _add_verdict(fields, result, frames_detail=frames_detail)
        return Record.model_validate(fields)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"no record can be made of input {item.index}, {source!r}: {error}") from error


def to_line(record: Record) -> bytes:
    """Return the record as one line of UTF-8 JSON, newline included."""
    # what `model_dump_json` does, without making text of bytes that are made bytes again
    return record.__pydantic_serializer__.to_json(record) + b"\n"


def from_line(line: bytes) -> Record:
    """Return the record in a line of JSON; fields of later versions are left out.

    Raises:
        ValueError: it is no JSON, or no record.
    """
    return Record.model_validate_json(line)


def json_schema(model: type[Record] = Record) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a record's line."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:{SCHEMA_NAME.replace('/', ':')}",
        **model.model_json_schema(mode="serialization"),
    }


def write_name(name: str) -> tuple[str, str | None]:
    """Return a name as Unicode can say it, and in base64 where that loses something."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raw = _name_bytes(name)
        return raw.decode(errors="replace"), base64.b64encode(raw).decode("ascii")
    return name, None


def read_name(text: str, encoded: str | None) -> str:
    """Return the name that `write_name` was given, as `os.fsdecode` gives names."""
    return text if encoded is None else base64.b64decode(encoded).decode(errors="surrogateescape")


def _name_bytes(name: str) -> bytes:
    try:
        return name.encode(errors="surrogateescape")
    except UnicodeEncodeError:  # half a UTF-16 pair, from a list in JSON or a file name on Windows
        return name.encode(errors="surrogatepass")


def _add_media(fields: dict[str, Any], media: Media) -> None:
    fields["kind"] = media.kind
    fields["sha256"] = media.sha256
    fields["bytes"] = media.bytes
    fields["mtime_ns"] = media.mtime_ns
    fields["width"] = media.width
    fields["height"] = media.height
    fields["format"] = media.format
    fields["truncated"] = media.truncated
    fields["duration_s"] = media.duration_s


def _add_failure(fields: dict[str, Any], failure: Failure) -> None:
    fields["status"] = "error"
    fields["error"] = {
        "code": failure.code,
        "message": write_name(failure.message)[0],
        "retryable": failure.retryable,
        "http_status": failure.http_status,
    }


def _add_verdict(fields: dict[str, Any], verdict: Verdict, *, frames_detail: bool) -> None:
    deciding = verdict.deciding
    fields["status"] = "ok"
    fields["final_decision"] = verdict.decision
    fields["needs_review"] = verdict.needs_review
    fields["degraded"] = verdict.degraded
    fields["confidence"] = _round(deciding.confidence)
    fields["unsafe_score"] = float(deciding.unsafe_score)
    fields["ensemble_category"] = deciding.category
    fields["category_ensemble_probabilities"] = _round_all(deciding.probabilities)
    fields["model_agreement"] = float(deciding.agreement)
    predictions = {write_name(name)[0]: _prediction(score) for name, score in deciding.by_model.items()}
    fields["models_used"] = list(predictions)
    fields["per_model_predictions"] = predictions
    fields["models_skipped"] = [write_name(name)[0] for name in deciding.skipped] or None
    fields["unsafe_score_bounds"] = deciding.bounds
    fields["total_time_ms"] = _round_ms(verdict.total_ms)
    fields["unseen_categories"] = list(verdict.unseen_categories) or None
    if verdict.media.kind != "image":
        fields["frames_scored"] = len(verdict.frames)
        fields["segments"] = [_segment(segment) for segment in verdict.segments]
        fields["frames"] = [_frame(frame) for frame in verdict.frames] if frames_detail else None


def _prediction(score: ModelScore) -> dict[str, Any]:
    return {
        "predicted_category": score.category,
        "confidence": _round(score.confidence),
        "category_probabilities": _round_all(score.probabilities),
        "inference_time_ms": _round_ms(score.forward_ms),
        "detections": None if score.detections is None else _detections(score.detections),
    }


def _detections(found: Sequence[Detection]) -> list[dict[str, Any]]:
    return [{"label": one.label, "score": _round(one.score), "box": tuple(one.box)} for one in found]


def _segment(segment: Segment) -> dict[str, Any]:
    return {
        "start_s": float(segment.start_s),
        "end_s": float(segment.end_s),
        "ensemble_category": segment.category,
        "peak_unsafe_score": float(segment.peak_unsafe_score),
        "peak_time_s": float(segment.peak_time_s),
    }


def _frame(frame: FrameScore) -> dict[str, Any]:
    return {
        "frame": frame.number,
        "time_s": float(frame.time_s),
        "ensemble_category": frame.category,
        "confidence": _round(frame.confidence),
        "unsafe_score": float(frame.unsafe_score),
        "category_ensemble_probabilities": _round_all(frame.probabilities),
        "model_agreement": float(frame.agreement),
    }


def _round(probability: float) -> float:
    return int(probability * STEPS + 0.5) / STEPS


def _round_all(probabilities: Mapping[str, float]) -> dict[str, float]:
    return {name: int(value * STEPS + 0.5) / STEPS for name, value in probabilities.items()}


def _round_ms(time_ms: float) -> float:
    return int(time_ms * STEPS_MS + 0.5) / STEPS_MS
