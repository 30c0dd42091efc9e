"""The record of one input (a line of JSON, a database row, an HTTP answer) and its JSON Schema.

Nothing here judges, reads a clock or writes a file. Columns are derived from `Record` in
`clipmod_cli.output.columns`.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Literal

from pydantic import BaseModel, Field

from clipmod_cli.records.parts import (
    PROBABILITIES,
    BankMatchRow,
    FrameRow,
    ModelPrediction,
    RecordError,
    RowModel,
    SegmentRow,
    null,
)
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


class Record(RowModel):
    """The outcome of one input. Every field is always present, null if it does not apply."""

    schema_: Literal["clipmod/1"] = Field(
        default=SCHEMA_NAME, alias="schema", description="Name and version of this schema"
    )
    source: str = Field(
        description="Path or URL as it was given; for a member of an archive, the archive's. Bytes that are "
        "not UTF-8 are replaced by U+FFFD; `source_b64` is exact"
    )
    member: str | None = null("Name inside the archive")
    kind: Kind | None = null("null if it failed before this was known")
    status: Literal["ok", "error"] = Field(description="Whether it could be judged")
    final_decision: Decision | None = null("null with an error, and if no category is UNSAFE")
    needs_review: bool | None = null("A person should check it")
    degraded: bool | None = null("Judged by less than the whole ensemble")
    confidence: float | None = null("Ensemble probability of `ensemble_category`, 0..1")
    unsafe_score: float | None = null(
        "Ensemble probability of the UNSAFE categories together (independent scoring: of the highest), 0..1; "
        "NSFW at or over `threshold` (or if `matched_categories` has any)"
    )
    ensemble_category: str | None = null("The most probable category")
    category_ensemble_probabilities: dict[str, float] | None = null(PROBABILITIES)
    model_agreement: float | None = null("Share of the weight that agrees on the category, 0..1")
    models_used: list[str] | None = null("Names of the models that judged it")
    per_model_predictions: dict[str, ModelPrediction] | None = null(
        "By model, for the frame that decided the verdict"
    )
    policy: str = Field(description="Name of the policy")
    policy_hash: str = Field(description="Identifies the content of the policy")
    threshold: float = Field(description="Unsafe score from which an input is NSFW, 0..1")
    run_key: str = Field(description="Identifies models, weights, policy and settings")
    sha256: str | None = null("SHA-256 of the bytes, lower-case hexadecimal")
    bytes: int | None = null("Size in bytes")
    mtime_ns: int | None = null("Modification time of a local file, nanoseconds since 1970")
    width: int | None = null("As displayed, pixels")
    height: int | None = null("As displayed, pixels")
    format: str | None = null("Format of the content, as JPEG")
    truncated: bool | None = null("The bytes end early; the part that exists was decoded")
    total_time_ms: float | None = null(
        "Latency including queueing, milliseconds. Not its cost, which is `decode_time_ms` and "
        "`inference_time_ms` together"
    )
    error: RecordError | None = null("null if it was judged")
    index: int = Field(description="Position in the input, from 0")
    run_id: str = Field(description="Identifies the run")
    review_reasons: list[ReviewReason] | None = null(
        "Why, worst first; empty exactly where `needs_review` is false. Not looked at: truncated, coverage, "
        "unsampled, other_content, colour, unmapped_labels, unseen_category. Looked at, unsure: "
        "low_agreement, review_margin, short_hit, fallback_model, early_exit"
    )
    coverage: float | None = null("Least share of the displayed pixels that any model was shown, 0..1")
    scale: float | None = null("Displayed pixels for one pixel of a model's input in the deciding view")
    view: tuple[int, int, int, int] | None = null("x, y, w, h of the deciding view, displayed pixels")
    views_scored: int | None = null("Views that were scored, of all frames together")
    source_b64: str | None = null("Base64 of the source's bytes, if they are not UTF-8")
    member_b64: str | None = null("Base64 of the member's bytes, if they are not UTF-8")
    final_url: str | None = null("URL after redirects")
    duration_s: float | None = null("Duration of a video or animation, seconds")
    frames_scored: int | None = null("Scored frames of the file, if it has several")
    frames_total: int | None = null("All frames that are in the file, scored or not")
    largest_gap_s: float | None = null(
        "Longest time between two frames of a video or animation that were looked at, with others between "
        "them, seconds"
    )
    frames_sampling: str | None = null(
        "How frames were chosen, as --frames; `auto, key` where time ran short and only key frames were "
        "taken from then on; `until a hit` where the rest was not scored (--stop-on-hit)"
    )
    segments: list[SegmentRow] | None = null("Segments of a video or animation, in order")
    frames: list[FrameRow] | None = null(
        "Scores by frame of a video or animation, in order; with --frames-detail"
    )
    models_skipped: list[str] | None = null(
        "With early exit: models that were not asked about this picture, or not about each view of it"
    )
    unsafe_score_bounds: tuple[float, float] | None = null(
        "Lowest and highest unsafe score possible with the skipped models"
    )
    unseen_categories: list[str] | None = null("UNSAFE categories that no model can see")
    known: bool = Field(
        default=False,
        description="An earlier run wrote the same outcome for the same bytes of this input to the same "
        "output; false for what is new",
    )
    row: int | None = null("Of `clipmod urls`: position in its list as the file has it, from 0")
    columns: dict[str, str | None] | None = null("Columns of its row, as text (--keep-columns)")
    decode_time_ms: float | None = null("Time to read and decode it, milliseconds")
    inference_time_ms: float | None = null(
        "Forward time of all its views by all models, milliseconds; 0 if all came from the cache"
    )
    category_scores: dict[str, float] | None = null(
        "By UNSAFE category, 0..1, what its own threshold is compared with: the highest probability of all "
        "views and frames that count, a label that stands for several categories in full for each"
    )
    matched_categories: list[str] | None = null(
        "Categories at or over their own thresholds, from mild to severe; null if the policy has no such "
        "thresholds"
    )
    nsfw_probability: float | None = null(
        "Calibrated probability that the input is NSFW, 0..1 (`clipmod tune --calibrate`); it decides "
        "nothing. null if the policy has no calibration, or not all models and frames were asked"
    )
    decided_by: DecidedBy | None = null(
        "`models`, or a bank of hashes, `deny` or `allow` (then all scores are null); null with an error"
    )
    matches: list[BankMatchRow] | None = null("The entries of the banks that decided")
    decided_at: str | None = null(
        "With early exit: the model after which no other one was asked about this picture or a view of it"
    )
    exit_audit: int | None = null(
        "With --early-exit calibrated, of a picture that exited early: the audits before it"
    )
    pdq: str | None = null("PDQ hash of a still, if banks compare it; empty if none is good enough")


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
    values["models_skipped"] = [write_name(name)[0] for name in verdict.skipped] or None
    values |= {"unsafe_score_bounds": verdict.bounds, "views_scored": verdict.views_scored}
    values["decided_at"] = verdict.decided_at and write_name(verdict.decided_at)[0]
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
