"""Results as the line could give them: a plain one of each kind, and strategies for all others."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import get_args

from hypothesis import strategies as st

from clipmod_cli.errors import ErrorCode
from clipmod_cli.records import RunFacts
from clipmod_cli.results import Result
from clipmod_cli.types import (
    Box,
    Detection,
    Failure,
    FrameScore,
    Item,
    Media,
    ModelScore,
    ReviewReason,
    Segment,
    Verdict,
    View,
)

RUN = RunFacts(
    policy="female-presence", policy_hash="9f2c41d0", threshold=0.5, run_key="k" * 16, run_id="r" * 32
)
CATEGORIES = ("no_person", "male_only", "female_present")


def plain_score(unsafe: float = 0.92, number: int = 0) -> FrameScore:
    """Return a frame's scores by two models that agree."""
    probabilities = {"no_person": 0.0, "male_only": 1 - unsafe, "female_present": unsafe}
    category = max(probabilities, key=lambda name: probabilities[name])
    one = ModelScore(
        category=category, confidence=probabilities[category], probabilities=probabilities, forward_ms=42.1
    )
    return FrameScore(
        number=number,
        time_s=number / 2,
        view=View(box=Box(0, 0, 512, 384), scale=1.714),
        category=category,
        confidence=probabilities[category],
        unsafe_score=unsafe,
        probabilities=probabilities,
        agreement=1.0,
        by_model={"ViT-L-14": one, "ViT-H-14": one},
        hit=unsafe >= RUN.threshold,
        category_scores={"female_present": unsafe},
    )


def plain_verdict(index: int = 0, *, unsafe: float = 0.92, source: str | None = None) -> Verdict:
    """Return the judgement of a still."""
    score = plain_score(unsafe)
    media = Media(
        started=0.0,
        sha256=f"{index:064x}",
        bytes=79155,
        mtime_ns=17 * 10**17,
        width=512,
        height=384,
        format="JPEG",
    )
    return Verdict(
        item=Item(source=source or f"photos/{index}.jpg", index=index),
        media=media,
        decision="NSFW" if unsafe >= RUN.threshold else "Safe",
        review_reasons=(),
        degraded=False,
        deciding=score,
        frames=[score],
        views_scored=1,
        segments=[],
        unseen_categories=(),
        inference_ms=84.2,
        total_ms=61.0,
        category_scores=score.category_scores,
    )


def plain_animation(index: int = 0) -> Verdict:
    """Return the judgement of an animation with two segments."""
    frames = [plain_score(unsafe, number) for number, unsafe in enumerate((0.9, 0.1, 0.8))]
    segments = [
        Segment(start_s=at, end_s=at, category="female_present", peak_unsafe_score=0.9, peak_time_s=at)
        for at in (0.0, 1.0)
    ]
    still = plain_verdict(index)
    media = replace(still.media, kind="animation", format="GIF", duration_s=1.5)
    return replace(still, media=media, deciding=frames[0], frames=frames, segments=segments)


def plain_failure(index: int = 0, code: ErrorCode = "decode_error") -> Failure:
    """Return an input that could not be judged."""
    return Failure(
        item=Item(source=f"photos/{index}.jpg", index=index), stage="decode", code=code, message="no"
    )


# A name comes from the system, with any bytes in it, or from a list, with any characters.
names = st.binary(min_size=1, max_size=30).map(os.fsdecode) | st.text(min_size=1, max_size=30)
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
whole = st.integers(min_value=0, max_value=2**62)
small = st.integers(min_value=-(2**31), max_value=2**31 - 1)
shares = st.floats(min_value=0.0, max_value=1.0)
times = st.floats(min_value=0.0, max_value=1e6)
probabilities = st.dictionaries(words, shares, max_size=3)

items = st.builds(Item, source=names, index=st.integers(0, 10**9), member=st.none() | names)
medias = st.builds(
    Media,
    started=times,
    kind=st.sampled_from(["image", "animation", "video"]),
    sha256=st.none() | st.binary(min_size=32, max_size=32).map(bytes.hex),
    bytes=st.none() | whole,
    mtime_ns=st.none() | whole,
    width=st.none() | st.integers(1, 30_000),
    height=st.none() | st.integers(1, 30_000),
    format=st.none() | words,
    truncated=st.booleans(),
    duration_s=st.none() | times,
    decode_time_ms=st.none() | times,
)
detections = st.builds(Detection, label=words, score=shares, box=st.tuples(small, small, small, small))
model_scores = st.builds(
    ModelScore,
    category=words,
    confidence=shares,
    probabilities=probabilities,
    forward_ms=times,
    detections=st.none() | st.lists(detections, max_size=2).map(tuple),
)
views = st.builds(View, box=st.tuples(small, small, small, small).map(lambda box: Box(*box)), scale=times)
frame_scores = st.builds(
    FrameScore,
    number=whole,
    time_s=times,
    view=views,
    category=words,
    confidence=shares,
    unsafe_score=shares,
    probabilities=probabilities,
    agreement=shares,
    by_model=st.dictionaries(words, model_scores, max_size=2),
    hit=st.booleans(),
)
segments = st.builds(
    Segment, start_s=times, end_s=times, category=words, peak_unsafe_score=shares, peak_time_s=times
)
verdicts = st.builds(
    Verdict,
    item=items,
    media=medias,
    decision=st.sampled_from(["NSFW", "Safe", None]),
    review_reasons=st.lists(st.sampled_from(get_args(ReviewReason)), unique=True),
    degraded=st.booleans(),
    deciding=frame_scores,
    frames=st.lists(frame_scores, max_size=2),
    views_scored=st.integers(1, 1024),
    segments=st.lists(segments, max_size=3),
    unseen_categories=st.lists(words, max_size=2),
    inference_ms=times,
    total_ms=times,
    category_scores=probabilities,
    matched_categories=st.none() | st.lists(words, max_size=2),
    nsfw_probability=st.none() | shares,
)
failures = st.builds(
    Failure,
    item=items,
    stage=st.sampled_from(["source", "decode", "infer", "judge"]),
    code=st.sampled_from(get_args(ErrorCode)),
    message=names,
    media=st.none() | medias,
    http_status=st.none() | st.integers(100, 599),
)
results: st.SearchStrategy[Result] = verdicts | failures
