"""A record says what the result said, on one line that anybody can check against the schema."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, get_args

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmod_cli.errors import ErrorCode, is_retryable
from clipmod_cli.records import Record, json_schema, read_name, to_line, to_record, write_name
from clipmod_cli.results import Result
from clipmod_cli.types import Failure, Item, Verdict
from tests.results import RUN, names, plain_animation, plain_failure, plain_verdict, results

PROMISED = [
    "schema",
    "source",
    "member",
    "kind",
    "status",
    "final_decision",
    "needs_review",
    "degraded",
    "confidence",
    "unsafe_score",
    "ensemble_category",
    "category_ensemble_probabilities",
    "model_agreement",
    "models_used",
    "per_model_predictions",
    "policy",
    "policy_hash",
    "threshold",
    "run_key",
    "sha256",
    "bytes",
    "mtime_ns",
    "width",
    "height",
    "format",
    "truncated",
    "total_time_ms",
    "error",
    "index",
    "run_id",
]
FURTHER = [
    "source_b64",
    "final_url",
    "duration_s",
    "frames_scored",
    "segments",
    "frames",
    "models_skipped",
    "unsafe_score_bounds",
    "unseen_categories",
]
VALIDATOR = jsonschema.Draft202012Validator(json_schema())


def refuse_constant(name: str) -> float:
    raise AssertionError(f"{name} is not JSON")


def parse(line: bytes) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(line, parse_constant=refuse_constant)
    return parsed


def test_the_fields_are_those_of_the_promise_and_in_its_order() -> None:
    line = parse(to_line(to_record(plain_verdict(), RUN)))
    assert list(line)[: len(PROMISED)] == PROMISED
    assert set(FURTHER) <= set(line)
    assert line["schema"] == "clipmod/1"


def test_the_schema_is_sound_asks_for_every_field_and_lets_later_ones_be() -> None:
    schema = json_schema()
    VALIDATOR.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert set(schema["required"]) == set(schema["properties"]) >= {*PROMISED, *FURTHER}
    assert schema["additionalProperties"] is True
    assert all("description" in field for field in schema["properties"].values())
    line = parse(to_line(to_record(plain_verdict(), RUN)))
    VALIDATOR.validate({**line, "of_tomorrow": 1})
    del line["truncated"]
    assert not VALIDATOR.is_valid(line)


@given(result=results, detail=st.booleans())
def test_every_result_becomes_one_valid_line_and_comes_back(result: Result, detail: bool) -> None:
    record = to_record(result, RUN, frames_detail=detail)
    line = to_line(record)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert not any(byte < 0x20 for byte in line[:-1])
    VALIDATOR.validate(parse(line))
    assert Record.model_validate_json(line) == record
    assert to_line(Record.model_validate_json(line)) == line


@given(result=results)
def test_a_failure_decides_nothing_and_a_verdict_is_no_error(result: Result) -> None:
    line = parse(to_line(to_record(result, RUN)))
    if isinstance(result, Verdict):
        assert (line["status"], line["error"]) == ("ok", None)
        assert line["final_decision"] == result.decision
        assert line["models_used"] == list(line["per_model_predictions"])
    elif isinstance(result, Failure):
        assert (line["status"], line["final_decision"], line["unsafe_score"]) == ("error", None, None)
        assert line["error"]["code"] == result.code
        assert line["error"]["retryable"] is result.retryable


@given(name=names)
def test_a_name_is_carried_whole(name: str) -> None:
    text, encoded = write_name(name)
    text.encode()
    assert (encoded is None) == (text == name)
    assert os.fsencode(read_name(text, encoded)) == os.fsencode(name)


def test_bytes_that_are_not_utf8_show_as_replacement_characters() -> None:
    item = Item(source=os.fsdecode(b"a\xff\n.zip"), index=0, member=os.fsdecode(b"\xe9.jpg"))
    line = parse(to_line(to_record(replace(plain_verdict(), item=item), RUN)))
    assert (line["source"], line["source_b64"]) == ("a\ufffd\n.zip", "Yf8KLnppcA==")
    assert (line["member"], line["member_b64"]) == ("\ufffd.jpg", "6S5qcGc=")


def test_half_a_utf16_pair_from_a_list_does_no_harm() -> None:
    record = to_record(replace(plain_failure(), item=Item(source="x\ud800", index=0), message="\udfff"), RUN)
    assert Record.model_validate_json(to_line(record)) == record
    assert "\ufffd" in record.source


@given(
    threshold=st.floats(0.0, 1.0),
    off_by=st.sampled_from([-1e-7, -1e-9, 0.0, 1e-9, 1e-7]) | st.floats(-1.0, 1.0),
)
def test_rounding_never_makes_a_record_contradict_its_decision(threshold: float, off_by: float) -> None:
    unsafe = min(max(threshold + off_by, 0.0), 1.0)
    verdict = replace(
        plain_verdict(unsafe=unsafe),
        decision="NSFW" if unsafe >= threshold else "Safe",
    )
    line = parse(to_line(to_record(verdict, replace(RUN, threshold=threshold))))
    assert (line["final_decision"] == "NSFW") == (line["unsafe_score"] >= line["threshold"])


@given(share=st.floats(0.0, 1.0))
def test_probabilities_are_written_in_millionths(share: float) -> None:
    line = parse(to_line(to_record(plain_verdict(unsafe=share), RUN)))
    written = line["category_ensemble_probabilities"]["female_present"]
    assert abs(written - share) <= 0.5e-6 + 1e-12
    assert written == round(written, 6)
    assert line["confidence"] == line["category_ensemble_probabilities"][line["ensemble_category"]]


def _with(verdict: Verdict, where: str, number: float) -> Verdict:
    if where == "total_ms":
        return replace(verdict, total_ms=number)
    if where == "peak":
        return replace(verdict, segments=[replace(verdict.segments[0], peak_unsafe_score=number)])
    deciding = verdict.deciding
    one = deciding.by_model["ViT-L-14"]
    changed = {
        "unsafe_score": replace(deciding, unsafe_score=number),
        "confidence": replace(deciding, confidence=number),
        "agreement": replace(deciding, agreement=number),
        "probability": replace(deciding, probabilities={"a": number}),
        "model": replace(deciding, by_model={"m": replace(one, confidence=number)}),
        "model_probability": replace(deciding, by_model={"m": replace(one, probabilities={"a": number})}),
        "forward_ms": replace(deciding, by_model={"m": replace(one, forward_ms=number)}),
    }
    if where == "frame":
        return replace(verdict, frames=[replace(deciding, unsafe_score=number)])
    return replace(verdict, deciding=changed[where])


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "where",
    [
        "total_ms",
        "peak",
        "unsafe_score",
        "confidence",
        "agreement",
        "probability",
        "model",
        "model_probability",
        "forward_ms",
        "frame",
    ],
)
def test_a_number_that_is_not_finite_is_refused(where: str, number: float) -> None:
    with pytest.raises(ValueError, match=r"photos/7\.jpg"):
        to_record(_with(plain_animation(7), where, number), RUN, frames_detail=True)


@pytest.mark.parametrize("line", [b"", b"{}", b"[1]", b'{"schema": "clipmod/1"', b"\xff\n", b"null"])
def test_what_is_no_record_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match="Record"):
        Record.model_validate_json(line)


def test_not_a_number_in_a_line_is_refused() -> None:
    line = to_line(to_record(plain_verdict(unsafe=0.75), RUN))
    with pytest.raises(ValueError, match="finite"):
        Record.model_validate_json(line.replace(b'"unsafe_score":0.75', b'"unsafe_score":NaN'))


def test_a_line_of_an_earlier_or_later_version_is_read() -> None:
    line = parse(to_line(to_record(plain_verdict(), RUN)))
    del line["unseen_categories"]
    record = Record.model_validate_json(json.dumps({**line, "of_tomorrow": 1}).encode())
    assert record == to_record(plain_verdict(), RUN)


@pytest.mark.parametrize("code", get_args(ErrorCode))
def test_every_code_makes_a_valid_record(code: ErrorCode) -> None:
    line = parse(to_line(to_record(plain_failure(code=code), RUN)))
    VALIDATOR.validate(line)
    assert line["error"] == {
        "code": code,
        "message": "no",
        "retryable": is_retryable(code),
        "http_status": None,
    }


def test_a_still_has_no_frames_and_an_animation_has_its_own() -> None:
    still = to_record(plain_verdict(), RUN, frames_detail=True)
    assert (still.frames_scored, still.segments, still.frames, still.duration_s) == (None, None, None, None)
    animation = to_record(plain_animation(), RUN, frames_detail=True)
    assert (animation.frames_scored, animation.duration_s) == (3, 1.5)
    assert [segment.start_s for segment in animation.segments or ()] == [0.0, 1.0]
    assert [frame.unsafe_score for frame in animation.frames or ()] == [0.9, 0.1, 0.8]
    assert to_record(plain_animation(), RUN).frames is None


def test_a_record_can_be_made_of_its_fields_alone() -> None:
    record = to_record(plain_verdict(), RUN)
    assert Record.model_validate(record.model_dump(by_alias=True)) == record


def _floats(value: Any) -> Iterator[float]:
    if isinstance(value, float):
        yield value
    elif isinstance(value, dict):
        yield from (number for one in value.values() for number in _floats(one))
    elif isinstance(value, list):
        yield from (number for one in value for number in _floats(one))


@given(seconds=st.floats(0.0, 1e5), share=st.floats(0.0, 1.0))
def test_no_number_has_more_than_six_digits_after_the_point(seconds: float, share: float) -> None:
    film = plain_animation()
    unmapped = {name: replace(one, unmapped_share=share) for name, one in film.deciding.by_model.items()}
    media = replace(film.media, duration_s=seconds, largest_gap_s=seconds / 3, coverage=share)
    frames = [replace(frame, time_s=seconds * number / 7) for number, frame in enumerate(film.frames)]
    segments = [replace(one, start_s=seconds / 9, peak_time_s=seconds / 7) for one in film.segments]
    deciding = replace(film.deciding, by_model=unmapped)
    verdict = replace(film, media=media, frames=frames, segments=segments, deciding=deciding)
    line = parse(to_line(to_record(verdict, RUN, frames_detail=True)))
    assert [number for number in _floats(line) if number != round(number, 6)] == []
