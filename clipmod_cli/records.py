"""The one public shape of a JSONL line, a store row and an HTTP answer, and its JSON Schema.

`to_record` turns a result into a `Record`; `to_line` and `from_line` carry it to bytes and
back. Nothing here judges, reads a clock or writes a file: `clipmod_cli.sinks` does the writing.
The fields themselves are in `clipmod_cli.record_shape`.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from clipmod_cli.record_shape import (
    SCHEMA_NAME,
    DetectionRow,
    FrameRow,
    ModelPrediction,
    Record,
    RecordError,
    SegmentRow,
)
from clipmod_cli.types import Detection, Failure, FrameScore, Media, ModelScore, Result, Segment, Verdict

__all__ = [
    "SCHEMA_NAME",
    "DetectionRow",
    "FrameRow",
    "ModelPrediction",
    "Record",
    "RecordError",
    "RunFacts",
    "SegmentRow",
    "from_line",
    "json_schema",
    "read_name",
    "to_line",
    "to_record",
    "write_name",
]

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


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a line."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:{SCHEMA_NAME.replace('/', ':')}",
        **Record.model_json_schema(mode="serialization"),
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
